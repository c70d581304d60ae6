package control

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"tulle.dev/tulle/internal/ca"
	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/identity"
)

// This file is a CA from a mounted Secret of type kubernetes.io/tls, as cert-manager
// writes one: a directory whose files change when the certificate is renewed.

// The files of such a directory.
const (
	secretChain = "tls.crt"
	secretKey   = "tls.key"
	secretRoots = "ca.crt"
)

// secretEvery is how often the directory is looked at. The kubelet takes up to a
// minute to change it.
const secretEvery = 10 * time.Second

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// named returns the flags with a directory's files named.
func (f *CAFiles) named() *CAFiles {
	out := *f
	take := func(to *string, dir, name string) {
		if *to == "" {
			*to = filepath.Join(dir, name)
		}
	}
	if dir := f.IssuerChain; dir != "" && isDir(dir) {
		out.IssuerChain = filepath.Join(dir, secretChain)
		take(&out.Roots, dir, secretRoots)
		if f.Signer == "" {
			take(&out.IssuerKey, dir, secretKey)
		}
	}
	if dir := f.Root; dir != "" && isDir(dir) {
		out.Root = filepath.Join(dir, secretChain)
		if f.Signer == "" {
			take(&out.RootKey, dir, secretKey)
		}
	}
	return &out
}

// secret watches the directory of --ca-issuer. Safe for concurrent use.
type secret struct {
	dir   string
	roots string // --ca-roots, where that is a file of its own
	offer func(ca.Issuer) error
	log   *slog.Logger
	// problem is why what is there can't be taken; nil when it was.
	problem atomic.Pointer[error]
}

// secretOf is the watch over what the flags name, nil when that isn't a directory
// with a key.
func (f *CAFiles) secretOf(offer func(ca.Issuer) error, log *slog.Logger) *secret {
	if !isDir(f.IssuerChain) || f.Signer != "" || f.IssuerKey != "" {
		return nil
	}
	return &secret{dir: f.IssuerChain, roots: f.Roots, offer: offer, log: log}
}

// run offers what is there to the CA whenever it changed, until the context ends.
func (s *secret) run(ctx context.Context) {
	if s == nil {
		return
	}
	t := time.NewTicker(secretEvery)
	defer t.Stop()
	var taken, refused [sha256.Size]byte
	for {
		taken, refused = s.look(taken, refused)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// look takes what is there if it isn't what was taken before. What can't be taken is
// tried again each time, and complained of once.
func (s *secret) look(taken, refused [sha256.Size]byte) (_, _ [sha256.Size]byte) {
	i, sum, err := s.read()
	if err == nil && sum == taken {
		s.problem.Store(nil)
		return taken, refused
	}
	if err == nil {
		err = s.offer(i)
	}
	if err == nil {
		s.problem.Store(nil)
		return sum, [sha256.Size]byte{}
	}
	s.problem.Store(&err)
	if said := sha256.Sum256(append(sum[:], err.Error()...)); said != refused {
		s.log.Warn("the issuing certificate can't be taken, the present one stays", "dir", s.dir, "error", err)
		refused = said
	}
	return taken, refused
}

// read reads all files of one moment: the kubelet changes all at once, by another
// directory behind the link ..data.
func (s *secret) read() (i ca.Issuer, sum [sha256.Size]byte, err error) {
	dir := s.dir
	if link, err := filepath.EvalSymlinks(filepath.Join(dir, "..data")); err == nil {
		dir = link
	}
	roots := s.roots
	if roots == "" {
		roots = filepath.Join(dir, secretRoots)
	}
	chain, key := filepath.Join(dir, secretChain), filepath.Join(dir, secretKey)
	if i.Chain, err = identity.ReadCertificates(chain); err != nil {
		return i, sum, err
	}
	if i.Roots, err = identity.ReadCertificates(roots); err != nil {
		return i, sum, err
	}
	if i.Key, err = identity.ReadKey(key); err != nil {
		return i, sum, err
	}
	return i, sha256.Sum256(bytes.Join(append(append([][]byte{}, i.Chain...), i.Roots...), []byte{0})), nil
}

// check says whether what is there was taken.
func (s *secret) check(context.Context) []client.Check {
	if s == nil {
		return nil
	}
	c := client.Check{Category: "identity", Description: "the issuing certificate in " + s.dir + " was taken", Result: client.Success}
	if p := s.problem.Load(); p != nil {
		c.Result, c.Error = client.Failure, (*p).Error()
		c.Hint = "the present one goes on issuing until it ends; in cert-manager look at the Certificate (isCA, duration, nameConstraints) and its issuer"
		if errors.Is(*p, ca.ErrBusy) {
			c.Result, c.Hint = client.Warning, "it is taken when every proxy has followed the change before: tulle trust"
		}
	}
	return []client.Check{c}
}
