package identity_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/identity/identitytest"
)

// below signs a certificate with a CA's key.
func below(t *testing.T, template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	template.SerialNumber = big.NewInt(7)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// issuer makes an issuing CA below a domain's root. All are called the same.
func issuer(t *testing.T, d *identitytest.Domain, life time.Duration) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return below(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "issuer"}, SubjectKeyId: []byte{1},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, d.Root, key.Public(), d.Key), key
}

// leafOf makes a leaf below an issuing CA.
func leafOf(t *testing.T, ca *x509.Certificate, key crypto.Signer, uri string, life time.Duration) *x509.Certificate {
	t.Helper()
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	own, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return below(t, &x509.Certificate{
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(life), URIs: []*url.URL{u},
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
	}, ca, own.Public(), key)
}

// TestRemembered: what a bundle remembers lets nothing in that it would refuse
// without, each case after the right chain was verified.
func TestRemembered(t *testing.T) {
	d := identitytest.New(t, "mesh.local")
	stranger := identitytest.New(t, "mesh.local") // same name, another root
	const web = "spiffe://mesh.local/ns/default/sa/web"
	ca, caKey := issuer(t, d, 2*time.Hour)
	short, shortKey := issuer(t, d, 30*time.Minute)
	evil, evilKey := issuer(t, stranger, 2*time.Hour) // same name and key id as ca
	leaf, outliving := leafOf(t, ca, caKey, web, time.Hour), leafOf(t, short, shortKey, web, time.Hour)
	now := time.Now()

	spoiled := func(c *x509.Certificate) *x509.Certificate {
		der := append([]byte(nil), c.Raw...)
		der[len(der)-1] ^= 1 // of the signature
		s, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	type chain = []*x509.Certificate
	for name, test := range map[string]struct {
		before, then chain
		bundle       func(*identity.Bundle) *identity.Bundle
		at           time.Time
		want         string // of the error; empty: accepted
	}{
		"the same again":         {chain{leaf, ca}, chain{leaf, ca}, nil, now.Add(time.Second), ""},
		"near its end":           {chain{leaf, ca}, chain{leaf, ca}, nil, leaf.NotAfter, ""},
		"within the skew":        {chain{leaf, ca}, chain{leaf, ca}, nil, leaf.NotAfter.Add(30 * time.Second), ""},
		"expired":                {chain{leaf, ca}, chain{leaf, ca}, nil, leaf.NotAfter.Add(2 * time.Minute), "expired"},
		"not yet":                {chain{leaf, ca}, chain{leaf, ca}, nil, leaf.NotBefore.Add(-2 * time.Minute), "not yet valid"},
		"its issuer expired":     {chain{outliving, short}, chain{outliving, short}, nil, now.Add(40 * time.Minute), "expired"},
		"another signature":      {chain{leaf, ca}, chain{spoiled(leaf), ca}, nil, now, "ECDSA verification failure"},
		"without its issuer":     {chain{leaf, ca}, chain{leaf}, nil, now, "unknown authority"},
		"another issuer":         {chain{leaf, ca}, chain{leaf, evil}, nil, now, "unknown authority"},
		"another, of the issuer": {chain{leaf, ca}, chain{leafOf(t, evil, evilKey, web, time.Hour), ca}, nil, now, "unknown authority"},
		"denied since": {chain{leaf, ca}, chain{leaf, ca}, func(b *identity.Bundle) *identity.Bundle {
			return b.Deny([]identity.ID{d.ID("web")})
		}, now, "the identity is denied"},
		"denied is another": {chain{leaf, ca}, chain{leaf, ca}, func(b *identity.Bundle) *identity.Bundle {
			return b.Deny([]identity.ID{d.ID("cart")})
		}, now, ""},
		"another root": {chain{leaf, ca}, chain{leaf, ca}, func(*identity.Bundle) *identity.Bundle { return identitytest.Bundle(t, stranger) }, now, "unknown authority"},
		"no root any more": {chain{leaf, ca}, chain{leaf, ca}, func(*identity.Bundle) *identity.Bundle {
			return identitytest.Bundle(t, identitytest.New(t, "other.example"))
		}, now, "is not trusted"},
	} {
		t.Run(name, func(t *testing.T) {
			b := identitytest.Bundle(t, d)
			if id, err := b.Verify(test.before, now); err != nil || id != d.ID("web") || b.Remembered() != 1 {
				t.Fatalf("before: %v, %v, %d remembered; want it accepted and remembered", id, err, b.Remembered())
			}
			then := b
			if test.bundle != nil {
				then = test.bundle(b)
			}
			id, err := then.Verify(test.then, test.at)
			switch {
			case test.want == "" && (err != nil || id != d.ID("web")):
				t.Errorf("%v, %v: want it accepted", id, err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("%v, want %q", err, test.want)
			}
			if b.Remembered() != 1 {
				t.Errorf("%d chains are remembered: a wrong one is among them", b.Remembered())
			}
		})
	}
}

// TestRememberedBound: a bundle remembers those that come, and not too many.
func TestRememberedBound(t *testing.T) {
	d := identitytest.New(t, "mesh.local")
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	b := identitytest.Bundle(t, d)
	regular := []*x509.Certificate{d.Certificate(d.ID("web"), key.Public(), time.Hour, nil)}
	for i := range identity.MaxRemembered + 10 {
		c := d.Certificate(d.ID(fmt.Sprint("w", i)), key.Public(), time.Hour, nil)
		for _, chain := range [][]*x509.Certificate{{c}, regular} {
			if _, err := b.Verify(chain, time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		if n := b.Remembered(); n > identity.MaxRemembered || n < min(i, identity.MaxRemembered/2) {
			t.Fatalf("after %d others: %d remembered", i+1, n)
		}
	}
	if !b.Remembers(regular) {
		t.Error("the one that came all the time is forgotten")
	}
}

// TestRememberedAtOnce is for the race detector.
func TestRememberedAtOnce(t *testing.T) {
	d := identitytest.New(t, "mesh.local")
	b := identitytest.Bundle(t, d)
	var all sync.WaitGroup
	for i := range 8 {
		chain := []*x509.Certificate{d.SVID(d.ID(fmt.Sprint("w", i%3))).Leaf}
		all.Go(func() {
			for range 50 {
				if id, err := b.Verify(chain, time.Now()); err != nil || id != d.ID(fmt.Sprint("w", i%3)) {
					t.Errorf("%v, %v", id, err)
				}
			}
		})
	}
	all.Wait()
}

// TestStolenCertificate: a certificate that is remembered, or any, is worth nothing
// without its key, to a server and to a client.
func TestStolenCertificate(t *testing.T) {
	d := identitytest.New(t, "mesh.local")
	web, cart := d.Credentials(d.ID("web")), d.Credentials(d.ID("cart"))
	stolen := func(c *identity.Credentials) *tls.Certificate {
		other, err := identity.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		// crypto/tls looks whether a key is the certificate's where it can.
		own := c.SVID().Certificate
		return &tls.Certificate{Certificate: own.Certificate, Leaf: own.Leaf, PrivateKey: &signer{own.Leaf.PublicKey.(*ecdsa.PublicKey), other}}
	}
	for range 2 {
		client, server, _ := shake(t, web.ClientConfig(d.ID("cart")), cart.ServerConfig(nil))
		if err := errors.Join(client, server); err != nil {
			t.Fatal(err)
		}
	}
	thief := web.ClientConfig(d.ID("cart"))
	thief.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return stolen(web), nil }
	if _, server, _ := shake(t, thief, cart.ServerConfig(nil)); server == nil || !strings.Contains(server.Error(), "invalid signature by the client certificate") {
		t.Errorf("a client with another's certificate: %v", server)
	}
	thief = cart.ServerConfig(nil)
	thief.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return stolen(cart), nil }
	if client, _, _ := shake(t, web.ClientConfig(d.ID("cart")), thief); client == nil || !strings.Contains(client.Error(), "invalid signature by the server certificate") {
		t.Errorf("a server with another's certificate: %v", client)
	}
}

// signer says that it has one key and signs with another.
type signer struct {
	public *ecdsa.PublicKey
	crypto.Signer
}

func (s *signer) Public() crypto.PublicKey { return s.public }
