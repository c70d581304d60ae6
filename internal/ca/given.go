package ca

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"slices"

	"tulle.dev/tulle/internal/identity"
)

// This file is how a root that was made elsewhere becomes the CA's own.

// Given is a root that was brought along.
type Given struct {
	Certificate []byte // DER
	Key         crypto.Signer
	// Elsewhere says that the key stays where it is (behind a signer): it isn't
	// saved, and the root must be given at each start.
	Elsewhere bool
}

// check says what is wrong with a root, and which trust domain it is of: that it
// names, or the one that is wanted.
func (g *Given) check(wanted identity.TrustDomain) (*signer, identity.TrustDomain, error) {
	s, err := loadSigner(g.Key, [][]byte{g.Certificate})
	if err != nil {
		return nil, "", err
	}
	c := s.cert
	if err := c.CheckSignatureFrom(c); err != nil {
		return nil, "", fmt.Errorf("certificate %q isn't signed with its own key, so it is no root: an issuing certificate is given with --ca-issuer", c.Subject.CommonName)
	}
	if c.MaxPathLen == 0 {
		return nil, "", fmt.Errorf("certificate %q allows no certificate authority below it (path length 0): want 1 or more, or no limit", c.Subject.CommonName)
	}
	domain, err := domainFor(c, wanted)
	if err != nil {
		return nil, "", err
	}
	return s, domain, nil
}

// domainFor is the trust domain of a certificate authority that was brought along:
// that it names, or else the one that is wanted.
func domainFor(c *x509.Certificate, wanted identity.TrustDomain) (identity.TrustDomain, error) {
	domain := wanted
	for _, u := range c.URIs {
		if u.Scheme != "spiffe" {
			continue
		}
		// X.509-SVID, 4.1: a signing certificate's id has no path.
		named, err := domainOf(c)
		if err != nil {
			return "", err
		}
		if wanted != "" && wanted != named {
			return "", fmt.Errorf("certificate %q is of trust domain %s, not %s", c.Subject.CommonName, named, wanted)
		}
		domain = named
	}
	if domain == "" {
		domain = "mesh.local"
	}
	return domain, nil
}

// take makes a given root the CA's, unless it is already.
func (ca *CA) take(g *Given) error {
	s, domain, err := g.check(ca.domain)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(g.Certificate)
	pin := hex.EncodeToString(sum[:])
	_, chain, err := ca.keys.Load(ca.trust.Signing)
	switch {
	case errors.Is(err, fs.ErrNotExist) && ca.trust.Elsewhere == pin && g.Elsewhere:
	case errors.Is(err, fs.ErrNotExist) && ca.trust.Elsewhere == "" && ca.trust.Version == 1:
		t := ca.trust
		t.Domain = domain
		if g.Elsewhere {
			t.Elsewhere = pin
		} else if err := ca.keys.Save(rootName, g.Key, [][]byte{g.Certificate}); err != nil {
			return err
		}
		if err := saveTrust(ca.keys, t); err != nil {
			return err
		}
		ca.trust = t
	case err == nil && len(chain) > 0 && bytes.Equal(chain[0], g.Certificate) && !g.Elsewhere:
		// Taken at an earlier start. After a crash in between the note is missing.
		if ca.trust.Domain == "" {
			ca.trust.Domain = domain
			if err := saveTrust(ca.keys, ca.trust); err != nil {
				return err
			}
		}
	case err == nil || ca.trust.Elsewhere != "":
		return errors.New("the data directory has a CA with another root already: leave --ca-root out to go on with that, or use another data directory for a new mesh")
	default:
		return err
	}
	if g.Elsewhere {
		ca.root, ca.elsewhere = s, true
	}
	return nil
}

// nameOf is the trust domain of a root: that it names, or the one it was taken for.
func (ca *CA) nameOf(c *x509.Certificate) (identity.TrustDomain, error) {
	spiffe := func(u *url.URL) bool { return u.Scheme == "spiffe" }
	if ca.trust.Domain != "" && !slices.ContainsFunc(c.URIs, spiffe) {
		return ca.trust.Domain, nil
	}
	return domainOf(c)
}
