package identity

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"
)

// SVID is a workload's certificate chain and its key. It is immutable.
type SVID struct {
	ID ID
	// Leaf is the first certificate of the chain.
	Leaf *x509.Certificate
	// Certificate is the same for crypto/tls.
	Certificate *tls.Certificate
}

// NewSVID checks that a chain (DER, leaf first) is an X.509-SVID and belongs to
// key. It doesn't check who signed it, nor when it is valid.
func NewSVID(chain [][]byte, key crypto.Signer) (*SVID, error) {
	if len(chain) == 0 {
		return nil, errors.New("the certificate chain is empty")
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, fmt.Errorf("parse the certificate: %w", err)
	}
	id, err := CheckLeaf(leaf)
	if err != nil {
		return nil, err
	}
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(leaf.PublicKey) {
		return nil, fmt.Errorf("the certificate of %s is for another key", id)
	}
	return &SVID{
		ID:          id,
		Leaf:        leaf,
		Certificate: &tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: leaf},
	}, nil
}

// Life is how long the SVID is valid in all.
func (s *SVID) Life() time.Duration { return s.Leaf.NotAfter.Sub(s.Leaf.NotBefore) }

// RootKeyID names the root that the chain leads to: the authority key id of its
// last certificate (RFC 5280, 4.2.1.1).
func (s *SVID) RootKeyID() []byte { return RootKeyID(s.Certificate.Certificate) }

// RootKeyID is the same of a chain, DER, leaf first; nil when it can't be read.
func RootKeyID(chain [][]byte) []byte {
	if len(chain) == 0 {
		return nil
	}
	c, err := x509.ParseCertificate(chain[len(chain)-1])
	if err != nil {
		return nil
	}
	return c.AuthorityKeyId
}

// Key is the private key.
func (s *SVID) Key() crypto.Signer { return s.Certificate.PrivateKey.(crypto.Signer) }

var (
	oidKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidSAN      = asn1.ObjectIdentifier{2, 5, 29, 17}
)

// CheckLeaf checks the constraints of a leaf SVID (X.509-SVID specification,
// sections 2 to 5, appendix A) and returns its id.
func CheckLeaf(c *x509.Certificate) (ID, error) {
	// Section 2: exactly one URI SAN. Section 3.1: it is the SPIFFE id.
	if len(c.URIs) != 1 {
		return ID{}, fmt.Errorf("certificate %q has %d URI names, an SVID has exactly one", c.Subject, len(c.URIs))
	}
	id, err := Parse(c.URIs[0].String())
	if err != nil {
		return ID{}, fmt.Errorf("certificate %q: %w", c.Subject, err)
	}
	fail := func(what string) (ID, error) { return ID{}, fmt.Errorf("certificate of %s %s", id, what) }
	// Section 4.1: a leaf is no certificate authority.
	if c.IsCA {
		return fail("is a certificate authority's, those don't identify a workload")
	}
	// Section 4.3: key usage.
	usage := extension(c, oidKeyUsage)
	switch {
	case usage == nil:
		return fail("has no key usage")
	case !usage.critical:
		return fail("has a key usage that isn't critical")
	case c.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return fail("isn't for digital signatures")
	case c.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0:
		return fail("is for signing certificates, those don't identify a workload")
	}
	// Section 4.4: extended key usage, if any, names both roles.
	if len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) > 0 {
		var client, server bool
		for _, u := range c.ExtKeyUsage {
			client = client || u == x509.ExtKeyUsageClientAuth
			server = server || u == x509.ExtKeyUsageServerAuth
		}
		if !client || !server {
			return fail("has an extended key usage without both client and server authentication")
		}
	}
	// RFC 5280, 4.1.2.6: with an empty subject the alternative name is critical.
	if san := extension(c, oidSAN); len(c.Subject.Names) == 0 && (san == nil || !san.critical) {
		return fail("has no subject and an alternative name that isn't critical")
	}
	return id, nil
}

type foundExtension struct{ critical bool }

func extension(c *x509.Certificate, oid asn1.ObjectIdentifier) *foundExtension {
	for _, e := range c.Extensions {
		if e.Id.Equal(oid) {
			return &foundExtension{e.Critical}
		}
	}
	return nil
}
