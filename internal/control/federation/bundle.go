package federation

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"tulle.dev/tulle/internal/ca"
	"tulle.dev/tulle/internal/control/jwtsvid"
	"tulle.dev/tulle/internal/identity"
)

const (
	// Path is where a control plane serves its bundle, on its TLS port.
	Path = "/.well-known/spiffe/bundle"
	// Hint is how soon whoever uses our bundle should look at it again.
	Hint = time.Minute
	// maxRoots and maxRoot bound a foreign bundle, as views do.
	maxRoots = 32
	maxRoot  = 16 << 10
	// maxJWTKeys bounds its keys of JWT-SVIDs.
	maxJWTKeys = jwtsvid.MaxKeys
)

// Bundle is one trust domain's roots, and its keys of JWT-SVIDs.
type Bundle struct {
	Roots [][]byte // DER
	// JWTKeys are by their ids (kid).
	JWTKeys  map[string]crypto.PublicKey
	Sequence uint64
	// Hint is how soon it should be looked at again; 0 says nothing.
	Hint time.Duration
}

// Parse reads a SPIFFE bundle document (JWKS), or PEM certificates. What a proxy
// wouldn't take is refused here.
func Parse(domain identity.TrustDomain, data []byte) (*Bundle, error) {
	out := &Bundle{}
	if trimmed := bytes.TrimSpace(data); bytes.HasPrefix(trimmed, []byte("-----BEGIN")) {
		for len(trimmed) > 0 {
			var block *pem.Block
			if block, trimmed = pem.Decode(trimmed); block == nil {
				return nil, errors.New("after the certificates comes something that isn't PEM")
			}
			if block.Type != "CERTIFICATE" {
				return nil, fmt.Errorf("holds %q, want CERTIFICATE", block.Type)
			}
			out.Roots = append(out.Roots, block.Bytes)
			trimmed = bytes.TrimSpace(trimmed)
		}
	} else {
		td, err := spiffeid.TrustDomainFromString(string(domain))
		if err != nil {
			return nil, err
		}
		doc, err := spiffebundle.Parse(td, data)
		if err != nil {
			return nil, fmt.Errorf("it isn't a SPIFFE bundle document: %w", err)
		}
		out.Sequence, _ = doc.SequenceNumber()
		out.Hint, _ = doc.RefreshHint()
		for _, c := range doc.X509Authorities() {
			out.Roots = append(out.Roots, c.Raw)
		}
		out.JWTKeys = doc.JWTAuthorities()
		// What isn't public isn't passed on: nobody is to verify with a secret that
		// everybody can read.
		maps.DeleteFunc(out.JWTKeys, func(_ string, k crypto.PublicKey) bool { return !public(k) })
	}
	switch {
	case len(out.JWTKeys) > maxJWTKeys:
		return nil, fmt.Errorf("it has %d keys of JWT-SVIDs, want at most %d", len(out.JWTKeys), maxJWTKeys)
	case len(out.Roots) == 0:
		return nil, errors.New("it has no root for X.509-SVIDs")
	case len(out.Roots) > maxRoots:
		return nil, fmt.Errorf("it has %d roots, want at most %d", len(out.Roots), maxRoots)
	}
	for i, der := range out.Roots {
		if len(der) > maxRoot {
			return nil, fmt.Errorf("root %d has %d bytes, want at most %d", i, len(der), maxRoot)
		}
	}
	if _, err := identity.NewBundle(map[identity.TrustDomain][][]byte{domain: out.Roots}); err != nil {
		return nil, err
	}
	return out, nil
}

// public says that a key is a public one with which JWT-SVIDs may be signed (JWT-SVID, 2.1).
func public(k crypto.PublicKey) bool {
	switch k.(type) {
	case *ecdsa.PublicKey, *rsa.PublicKey:
		return true
	}
	return false
}

// Document writes a bundle as a SPIFFE bundle document.
func (b *Bundle) Document(domain identity.TrustDomain) ([]byte, error) {
	td, err := spiffeid.TrustDomainFromString(string(domain))
	if err != nil {
		return nil, err
	}
	doc := spiffebundle.New(td)
	for _, der := range b.Roots {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		doc.AddX509Authority(c)
	}
	doc.SetJWTAuthorities(b.JWTKeys)
	doc.SetSequenceNumber(b.Sequence)
	if b.Hint > 0 {
		doc.SetRefreshHint(b.Hint)
	}
	return doc.Marshal()
}

// Own is our own bundle: a CA's roots and the keys of JWT-SVIDs, which may be nil.
func Own(authority *ca.CA, tokens *jwtsvid.Authority) *Bundle {
	b := authority.Bundle()
	out := &Bundle{Roots: b.Domains[0].Roots, Sequence: b.Version, Hint: Hint}
	if tokens == nil {
		return out
	}
	keys, changes := tokens.Bundle()
	out.JWTKeys = map[string]crypto.PublicKey{}
	for _, k := range keys {
		out.JWTKeys[k.ID] = k.Public
	}
	out.Sequence += changes
	return out
}

// Endpoint serves our own bundle. Anybody may read it: it holds no secret.
type Endpoint struct {
	CA *ca.CA
	// Tokens has the keys of JWT-SVIDs; nil without.
	Tokens *jwtsvid.Authority
	// Next answers everything else.
	Next http.Handler
	last atomic.Int64 // when the bundle was last asked for, Unix seconds
	keys atomic.Int64 // and the keys of JWT-SVIDs alone
}

// ServeHTTP implements http.Handler.
func (e *Endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var document func() ([]byte, error)
	life := "no-store"
	switch r.URL.Path {
	case Path:
		document = func() ([]byte, error) { return Own(e.CA, e.Tokens).Document(e.CA.TrustDomain()) }
	case DiscoveryPath:
		document = e.discovery
	case KeysPath:
		document, life = e.keySet, "max-age=60"
	}
	if document == nil || r.URL.Path != Path && !e.discovered() {
		e.Next.ServeHTTP(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "the trust bundle is read only", http.StatusMethodNotAllowed)
		return
	}
	doc, err := document()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if r.URL.Path == Path {
		e.last.Store(time.Now().Unix())
	} else {
		e.KeysFollowed()
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", life)
	_, _ = w.Write(doc)
}

// watched is how long somebody counts as following our bundle who has asked once.
const watched = 24 * time.Hour

// KeysFollowed notes that somebody looks at our keys of JWT-SVIDs every minute.
func (e *Endpoint) KeysFollowed() { e.keys.Store(time.Now().Unix()) }

// Dwell is how long each step of a change of our root must last so that those who
// follow our bundle have seen it; 0 when nobody does.
func (e *Endpoint) Dwell() time.Duration { return dwell(e.last.Load()) }

// Notice is the same for a change of the keys of JWT-SVIDs.
func (e *Endpoint) Notice() time.Duration { return dwell(max(e.last.Load(), e.keys.Load())) }

func dwell(last int64) time.Duration {
	if time.Since(time.Unix(last, 0)) > watched {
		return 0
	}
	return 2*Hint + Hint/2
}
