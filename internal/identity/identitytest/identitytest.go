// Package identitytest makes throw-away trust domains for tests: roots, and
// SVIDs, right ones and wrong ones. Only tests import it.
package identitytest

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/url"
	"testing"
	"time"

	"tulle.dev/tulle/internal/identity"
)

// Domain is a trust domain with one root.
type Domain struct {
	Name identity.TrustDomain
	Root *x509.Certificate
	Key  crypto.Signer

	t testing.TB
}

// New makes a trust domain whose root is valid from an hour ago, for a year.
func New(t testing.TB, name identity.TrustDomain) *Domain {
	t.Helper()
	d := &Domain{Name: name, Key: key(t), t: t}
	d.Root = d.sign(&x509.Certificate{
		Subject:   pkix.Name{CommonName: string(name)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		URIs: []*url.URL{{Scheme: "spiffe", Host: string(name)}},
	}, nil, d.Key.Public())
	return d
}

func key(t testing.TB) crypto.Signer {
	t.Helper()
	k, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (d *Domain) sign(template, parent *x509.Certificate, public any) *x509.Certificate {
	d.t.Helper()
	template.SerialNumber, _ = rand.Int(rand.Reader, big.NewInt(1<<62))
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, d.Key)
	if err != nil {
		d.t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		d.t.Fatal(err)
	}
	return c
}

// Certificate issues a leaf for a key; change, when not nil, spoils the
// template first.
func (d *Domain) Certificate(id identity.ID, public any, life time.Duration, change func(*x509.Certificate)) *x509.Certificate {
	d.t.Helper()
	u, err := url.Parse(id.String())
	if err != nil {
		d.t.Fatal(err)
	}
	template := &x509.Certificate{
		NotBefore: time.Now(), NotAfter: time.Now().Add(life),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		URIs:        []*url.URL{u},
	}
	if change != nil {
		change(template)
	}
	return d.sign(template, d.Root, public)
}

// SVID issues an SVID that is valid for an hour.
func (d *Domain) SVID(id identity.ID) *identity.SVID {
	d.t.Helper()
	k := key(d.t)
	s, err := identity.NewSVID([][]byte{d.Certificate(id, k.Public(), time.Hour, nil).Raw}, k)
	if err != nil {
		d.t.Fatal(err)
	}
	return s
}

// Bundle holds the roots of several domains.
func Bundle(t testing.TB, domains ...*Domain) *identity.Bundle {
	t.Helper()
	roots := make(map[identity.TrustDomain][][]byte)
	for _, d := range domains {
		roots[d.Name] = append(roots[d.Name], d.Root.Raw)
	}
	b, err := identity.NewBundle(roots)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ID is an id in the namespace "default" of the domain.
func (d *Domain) ID(name string) identity.ID {
	return identity.ID{TrustDomain: d.Name, Namespace: "default", ServiceAccount: name}
}

// Credentials hold an SVID and trust the domain.
func (d *Domain) Credentials(id identity.ID) *identity.Credentials {
	d.t.Helper()
	c := &identity.Credentials{}
	c.SetSVID(d.SVID(id))
	c.SetBundle(Bundle(d.t, d))
	return c
}
