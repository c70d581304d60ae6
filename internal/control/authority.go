package control

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"tulle.dev/tulle/internal/ca"
	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/attest"
	"tulle.dev/tulle/internal/control/push"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/signer"
)

// signs is the signer that has a key of the CA; nil when all keys are here.
type signs struct {
	client *signer.Client
	at     string
	public crypto.PublicKey
}

func (s *signs) close() {
	if s != nil {
		s.client.Close()
	}
}

// check asks whether it is there.
func (s *signs) check(ctx context.Context) []client.Check {
	if s == nil {
		return nil
	}
	c := client.Check{Category: "identity", Description: "the CA's signer answers and has the key", Result: client.Success}
	if err := s.client.Has(ctx, s.public); err != nil {
		c.Result, c.Error = client.Failure, err.Error()
		c.Hint = "start it: tulle-signer --socket " + strings.TrimPrefix(s.at, SignerPrefix) + " …; until then no certificate is issued or renewed, and those that there are hold"
	}
	return []client.Check{c}
}

// openCA opens the CA with what was brought along. signs is nil when there is no
// signer.
func (c *Control) openCA() (*ca.CA, *signs, error) {
	keys, err := c.caKeys(filepath.Join(c.config.DataDir, "ca"))
	if err != nil {
		return nil, nil, err
	}
	config := ca.Config{TrustDomain: identity.TrustDomain(c.config.TrustDomain), Log: c.config.Log, Keys: keys}
	f := c.config.CAFiles.named()
	switch {
	case f.IssuerChain != "":
		return c.openIssuer(config)
	case f.Root == "":
		authority, err := ca.Open(config)
		return authority, nil, err
	}
	certificates, err := identity.ReadCertificates(f.Root)
	if err == nil && len(certificates) != 1 {
		err = fmt.Errorf("%s has %d certificates, want one: the root", f.Root, len(certificates))
	}
	if err != nil {
		return nil, nil, fmt.Errorf("--ca-root: %w", err)
	}
	key, s, err := c.keyOf("--ca-root-key", f.RootKey, certificates[0])
	if err != nil {
		return nil, nil, err
	}
	config.Root = &ca.Given{Certificate: certificates[0], Key: key, Elsewhere: s != nil}
	authority, err := ca.Open(config)
	return authority, s, err
}

func (c *Control) openIssuer(config ca.Config) (*ca.CA, *signs, error) {
	f := c.config.CAFiles.named()
	chain, err := identity.ReadCertificates(f.IssuerChain)
	if err != nil {
		return nil, nil, fmt.Errorf("--ca-issuer: %w", err)
	}
	roots, err := identity.ReadCertificates(f.Roots)
	if err != nil {
		return nil, nil, fmt.Errorf("--ca-roots: %w", err)
	}
	key, s, err := c.keyOf("--ca-key", f.IssuerKey, chain[0])
	if err != nil {
		return nil, nil, err
	}
	if len(c.config.Etcd.Endpoints) > 0 {
		config.Keys = nil // several control planes agree on what they are given, not on what each remembers
	}
	authority, err := ca.OpenIssuer(config, ca.Issuer{Key: key, Chain: chain, Roots: roots})
	return authority, s, err
}

// keyOf is the key of a certificate: in a file, or with the signer.
func (c *Control) keyOf(flag, file string, certificate []byte) (crypto.Signer, *signs, error) {
	if file != "" {
		key, err := identity.ReadKey(file)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", flag, err)
		}
		return key, nil, nil
	}
	cert, err := x509.ParseCertificate(certificate)
	if err != nil {
		return nil, nil, fmt.Errorf("--ca-signer: its certificate: %w", err)
	}
	s := &signs{client: signer.NewClient(strings.TrimPrefix(c.config.CAFiles.Signer, SignerPrefix)), at: c.config.CAFiles.Signer, public: cert.PublicKey}
	key, err := s.client.Key(cert.PublicKey)
	return key, s, err
}

// caKeys is where the CA's keys lie: encrypted, when there is something to do that
// with.
func (c *Control) caKeys(dir string) (ca.Keys, error) {
	path := c.config.WrappingKey
	if path == "" {
		path = ca.Credential(os.Getenv)
	}
	if path != "" {
		w, err := ca.ReadWrapping(path)
		return ca.WrappedFiles{Files: ca.Files{Dir: dir}, Wrapping: w}, err
	}
	if encrypted, err := ca.Encrypted(dir); err != nil || encrypted {
		return nil, errors.Join(err, fmt.Errorf("the CA's keys in %s are encrypted: give --ca-wrapping-key FILE, or the systemd credential %s", dir, ca.CredentialName))
	}
	return ca.Files{Dir: dir}, nil
}

// attestor is who is asked about service account tokens; nil when nobody is.
func (c *Control) attestor(domain identity.TrustDomain) (push.Attestor, func(), error) {
	k := c.config.Kubernetes
	if k.URL == "" {
		return nil, func() {}, nil
	}
	a, err := attest.NewKubernetes(attest.Config{URL: k.URL, CAFile: k.CAFile, TokenFile: k.TokenFile, TrustDomain: domain})
	if err != nil {
		return nil, nil, fmt.Errorf("--kubernetes-api: %w", err)
	}
	return a, a.Close, nil
}
