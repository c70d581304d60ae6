package ca

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"tulle.dev/tulle/internal/identity"
)

const throwAwayName = "ca"

// ThrowAway opens the CA of an identity directory for proxies that run from
// state files alone, and makes it (ca.pem, ca-key.pem) and bundle.pem when they
// are missing. Its one certificate signs directly. It is for trying and
// testing: the key lies where the identities do.
func ThrowAway(dir string, domain identity.TrustDomain) (*CA, error) {
	c := Config{TrustDomain: domain, Keys: Files{Dir: dir}}
	fill(&c)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the identity directory: %w", err)
	}
	key, chain, err := c.Keys.Load(throwAwayName)
	var s *signer
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if s, err = newSigner(domain, "throw-away CA", RootLife, 0, nil, c.Now()); err == nil {
			err = c.Keys.Save(throwAwayName, s.key, s.chain)
		}
	case err == nil:
		s, err = loadSigner(key, chain)
	}
	if err != nil {
		return nil, fmt.Errorf("the throw-away CA in %s: %w", dir, err)
	}
	have, err := domainOf(s.cert)
	if err != nil {
		return nil, fmt.Errorf("the throw-away CA in %s: %w", dir, err)
	}
	if have != domain {
		return nil, fmt.Errorf("the throw-away CA in %s is of trust domain %s, not %s: use another directory, or remove ca.pem and ca-key.pem there", dir, have, domain)
	}
	ca := &CA{domain: domain, keys: c.Keys, now: c.Now, log: c.Log, root: s, issuer: s,
		roots: []*x509.Certificate{s.cert}, limits: Limits{Burst: issueBurst, Every: issueEvery}}
	return ca, identity.WriteCertificates(filepath.Join(dir, identity.BundleFile), ca.Roots())
}

// WriteIdentity puts a new key and SVID for id into an identity directory, as
// NAME-key.pem and NAME.pem.
func (ca *CA) WriteIdentity(dir, name string, id identity.ID, ttl time.Duration) error {
	key, err := identity.NewKey()
	if err != nil {
		return err
	}
	chain, err := ca.Issue(key.Public(), id, ttl)
	if err != nil {
		return err
	}
	return Files{Dir: dir}.Save(name, key, chain)
}

// Credentials returns a fresh key and SVID for id, kept in memory, with the
// bundle: what the control plane shows to proxies.
func (ca *CA) Credentials(id identity.ID, ttl time.Duration) (*identity.SVID, *identity.Bundle, error) {
	key, err := identity.NewKey()
	if err != nil {
		return nil, nil, err
	}
	chain, err := ca.Issue(key.Public(), id, ttl)
	if err != nil {
		return nil, nil, err
	}
	s, err := identity.NewSVID(chain, key)
	if err != nil {
		return nil, nil, err
	}
	b, err := identity.NewBundle(map[identity.TrustDomain][][]byte{ca.domain: ca.Roots()})
	return s, b, err
}
