package proxy_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/url"
	"sync"
	"testing"
	"time"

	"tulle.dev/tulle/internal/identity"
)

// authority issues SVIDs for tests.
type authority struct {
	once sync.Once
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

var ca authority

func (a *authority) init(t testing.TB) {
	a.once.Do(func() {
		a.key = newKey(t)
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
			URIs: []*url.URL{{Scheme: "spiffe", Host: "mesh.local"}},
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
		if err != nil {
			t.Fatal(err)
		}
		a.cert, _ = x509.ParseCertificate(der)
	})
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue gives c an SVID and the roots.
func (a *authority) issue(t testing.TB, c *identity.Credentials, id string) {
	t.Helper()
	a.issueWorkload(t, c, id, "")
}

// issueWorkload is issue for the workload with a unique id.
func (a *authority) issueWorkload(t testing.TB, c *identity.Credentials, id, unique string) {
	t.Helper()
	a.init(t)
	uri, err := url.Parse(id)
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs:        []*url.URL{uri},
		Subject:     pkix.Name{SerialNumber: unique},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	svid, err := identity.NewSVID([][]byte{der}, key)
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := identity.NewBundle(map[identity.TrustDomain][][]byte{"mesh.local": {a.cert.Raw}})
	if err != nil {
		t.Fatal(err)
	}
	c.SetSVID(svid)
	c.SetBundle(bundle)
}
