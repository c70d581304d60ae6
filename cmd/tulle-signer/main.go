// Command tulle-signer holds a CA's private keys, or reaches them in a hardware
// token (PKCS #11), and signs for the control plane over a Unix socket: so the
// control plane never has them.
//
// It is built in two ways: without cgo it knows key files, with the build tag
// pkcs11 (make signer) tokens too.
package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"tulle.dev/tulle/internal/ca"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/signer"
)

// version is set by the build.
var version = "dev"

// flags is the command line.
type flags struct {
	socket      string
	files       fileFlags
	token       tokenFlags
	uid         int
	rate        int
	list        bool
	root        string
	domain      string
	showVersion bool
}

// fileFlags are NAME=FILE, one for each --key.
type fileFlags []string

func (f *fileFlags) String() string     { return strings.Join(*f, " ") }
func (f *fileFlags) Set(s string) error { *f = append(*f, s); return nil }

// tokenFlags say where a hardware token is.
type tokenFlags struct {
	module, label, pinFile string
}

func parse(args []string, out io.Writer) (*flags, error) {
	f := &flags{}
	set := flag.NewFlagSet("tulle-signer", flag.ContinueOnError)
	set.SetOutput(out)
	set.StringVar(&f.socket, "socket", "", "Unix socket `path` where the control plane asks (made with mode 0600)")
	set.Var(&f.files, "key", "`NAME=FILE`: a key of that name in a PEM file; may be given several times")
	set.StringVar(&f.token.module, "pkcs11-module", "", "`library` of a hardware token, such as /usr/lib/softhsm/libsofthsm2.so")
	set.StringVar(&f.token.label, "token", "", "`label` of the token; all its keys that can sign are offered")
	set.StringVar(&f.token.pinFile, "pin-file", "", "`file` with the token's PIN")
	set.IntVar(&f.uid, "for-uid", os.Getuid(), "user `id` that may ask; another one than our own needs root")
	set.IntVar(&f.rate, "rate", signer.DefaultRate, "signatures a second, at most")
	set.BoolVar(&f.list, "list", false, "print the keys that there are, as PEM, and exit")
	set.StringVar(&f.root, "certify-root", "", "print a root certificate of the key of this `name`, signed with itself, and exit")
	set.StringVar(&f.domain, "trust-domain", "mesh.local", "trust `domain` of --certify-root")
	set.BoolVar(&f.showVersion, "version", false, "print the version and exit")
	if err := set.Parse(args); err != nil {
		return nil, err
	}
	if set.NArg() > 0 {
		return nil, fmt.Errorf("%q: only flags are taken", set.Arg(0))
	}
	return f, nil
}

func main() {
	f, err := parse(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		err = run(ctx, f, os.Stdout, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tulle-signer:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, f *flags, out io.Writer, log *slog.Logger) error {
	if f.showVersion {
		fmt.Fprintln(out, version)
		return nil
	}
	if f.rate < 1 || f.uid < 0 {
		return errors.New("--rate and --for-uid: want numbers, 1 and 0 or more")
	}
	keys, closeKeys, err := open(f)
	if err != nil {
		return err
	}
	defer closeKeys()
	switch {
	case f.list:
		return list(out, keys)
	case f.root != "":
		return certify(out, keys, f.root, f.domain)
	case f.socket == "":
		return errors.New("--socket is missing: say where the control plane asks")
	}
	l, err := signer.Listen(f.socket, uint32(f.uid))
	if err != nil {
		return err
	}
	for _, k := range keys {
		id, err := signer.KeyID(k.Public())
		if err != nil {
			return err
		}
		log.Info("key", "name", k.Name, "type", fmt.Sprintf("%T", k.Public()), "id", id)
	}
	log.Info("signer ready", "socket", f.socket, "uid", f.uid)
	return signer.Serve(ctx, l, signer.Config{Keys: keys, UID: uint32(f.uid), Rate: f.rate, Log: log})
}

// open opens all keys.
func open(f *flags) ([]signer.Key, func(), error) {
	var keys []signer.Key
	for _, s := range f.files {
		name, path, ok := strings.Cut(s, "=")
		if !ok || name == "" || path == "" {
			return nil, nil, fmt.Errorf("--key %q: want NAME=FILE", s)
		}
		info, err := os.Stat(path)
		if err != nil {
			return nil, nil, fmt.Errorf("--key %s: %w", name, err)
		}
		if info.Mode().Perm()&0o077 != 0 {
			return nil, nil, fmt.Errorf("--key %s: %s can be read by others (%s): chmod 600 it", name, path, info.Mode().Perm())
		}
		key, err := identity.ReadKey(path)
		if err != nil {
			return nil, nil, fmt.Errorf("--key %s: %w", name, err)
		}
		keys = append(keys, signer.Key{Name: name, Signer: key})
	}
	closeAll := func() {}
	if f.token.module != "" {
		more, closeToken, err := openToken(f.token)
		if err != nil {
			return nil, nil, err
		}
		keys, closeAll = append(keys, more...), closeToken
	}
	if len(keys) == 0 {
		closeAll()
		return nil, nil, errors.New("there is no key: give --key NAME=FILE, or --pkcs11-module with a token that has keys")
	}
	return keys, closeAll, nil
}

// list prints public keys, each with its name.
func list(out io.Writer, keys []signer.Key) error {
	for _, k := range keys {
		der, err := x509.MarshalPKIXPublicKey(k.Public())
		if err != nil {
			return fmt.Errorf("key %s: %w", k.Name, err)
		}
		if err := pem.Encode(out, &pem.Block{Type: "PUBLIC KEY", Headers: map[string]string{"Name": k.Name}, Bytes: der}); err != nil {
			return err
		}
	}
	return nil
}

// certify prints a root certificate of a key.
func certify(out io.Writer, keys []signer.Key, name, domain string) error {
	if _, err := identity.ParseTrustDomain(domain); err != nil {
		return fmt.Errorf("--trust-domain: %w", err)
	}
	for _, k := range keys {
		if k.Name != name {
			continue
		}
		now := time.Now()
		t := &x509.Certificate{
			Subject:   pkix.Name{CommonName: "Root of " + domain},
			URIs:      []*url.URL{{Scheme: "spiffe", Host: domain}},
			NotBefore: now.Add(-time.Minute), NotAfter: now.Add(ca.RootLife),
			IsCA: true, BasicConstraintsValid: true, MaxPathLen: 1,
			KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}
		der, err := x509.CreateCertificate(rand.Reader, t, t, k.Public(), crypto.Signer(k))
		if err != nil {
			return fmt.Errorf("key %s: %w", name, err)
		}
		return pem.Encode(out, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	return fmt.Errorf("--certify-root %s: there is no key of that name; --list shows them", name)
}
