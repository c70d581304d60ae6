package ca

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"tulle.dev/tulle/internal/identity"
)

// rootOf makes a root certificate as some other tool would.
func rootOf(t *testing.T, key crypto.Signer, now time.Time, change func(*x509.Certificate)) []byte {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "Company root"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * 365 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, MaxPathLen: -1, KeyUsage: x509.KeyUsageCertSign}
	if change != nil {
		change(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// A root of another's making, with and without a name of its own, signs what is
// issued, here and after a restart without it.
func TestGivenRoot(t *testing.T) {
	now := &clock{now: time.Now()}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		key    crypto.Signer
		change func(*x509.Certificate)
		wanted identity.TrustDomain
		domain identity.TrustDomain
	}{
		"no name":             {ec, nil, "", "mesh.local"},
		"no name, one wanted": {ec, nil, "shop.example", "shop.example"},
		"a name": {ec, func(c *x509.Certificate) {
			c.URIs = []*url.URL{{Scheme: "spiffe", Host: "corp.example"}}
		}, "", "corp.example"},
		"RSA, path length 1": {rsaKey, func(c *x509.Certificate) { c.MaxPathLen = 1 }, "", "mesh.local"},
		"another URI": {ec, func(c *x509.Certificate) {
			c.URIs = []*url.URL{{Scheme: "https", Host: "corp.example"}}
		}, "", "mesh.local"},
	} {
		t.Run(name, func(t *testing.T) {
			keys := &MemoryKeys{}
			root := rootOf(t, c.key, now.now, c.change)
			for _, given := range []*Given{{Certificate: root, Key: c.key}, {Certificate: root, Key: c.key}, nil} {
				ca, err := Open(Config{Keys: keys, Root: given, TrustDomain: c.wanted, Now: now.Now})
				if err != nil {
					t.Fatal(err)
				}
				if ca.TrustDomain() != c.domain {
					t.Fatalf("trust domain %s, want %s", ca.TrustDomain(), c.domain)
				}
				if string(ca.Roots()[0]) != string(root) {
					t.Error("the root is another")
				}
				key, _ := identity.NewKey()
				chain, err := ca.Issue(key.Public(), identity.ID{TrustDomain: c.domain, Namespace: "default", ServiceAccount: "web"}, time.Hour)
				if err != nil {
					t.Fatal(err)
				}
				var certs []*x509.Certificate
				for _, der := range chain {
					c, err := x509.ParseCertificate(der)
					if err != nil {
						t.Fatal(err)
					}
					certs = append(certs, c)
				}
				if !trusts(t, ca, certs, now.now) {
					t.Error("what it issues isn't trusted")
				}
				if u := certs[1].URIs; len(u) != 1 || u[0].String() != "spiffe://"+string(c.domain) {
					t.Errorf("the issuing certificate is named %v", u)
				}
			}
			// It can be changed for one of our own.
			ca, err := Open(Config{Keys: keys, Now: now.Now})
			if err != nil {
				t.Fatal(err)
			}
			for _, step := range []func() error{ca.AddRoot, ca.SwitchRoot, ca.FinishRoot} {
				if err := step(); err != nil {
					t.Fatal(err)
				}
			}
			if ca, err = Open(Config{Keys: keys, Now: now.Now}); err != nil || ca.TrustDomain() != c.domain {
				t.Errorf("after the change: %v %v", ca, err)
			}
		})
	}
}

func TestGivenRootRefused(t *testing.T) {
	now := &clock{now: time.Now()}
	key, _ := identity.NewKey()
	other, _ := identity.NewKey()
	for name, c := range map[string]struct {
		given Given
		want  string
	}{
		"another key": {Given{Certificate: rootOf(t, other, now.now, nil), Key: key}, "for another key"},
		"no CA": {Given{Certificate: rootOf(t, key, now.now, func(c *x509.Certificate) {
			c.IsCA, c.MaxPathLen = false, 0
		}), Key: key}, "may not sign"},
		"path length 0": {Given{Certificate: rootOf(t, key, now.now, func(c *x509.Certificate) {
			c.MaxPathLen, c.MaxPathLenZero = 0, true
		}), Key: key}, "path length 0"},
		"a workload's name": {Given{Certificate: rootOf(t, key, now.now, func(c *x509.Certificate) {
			c.URIs = []*url.URL{{Scheme: "spiffe", Host: "mesh.local", Path: "/ns/a/sa/b"}}
		}), Key: key}, "doesn't name its trust domain"},
		"another domain": {Given{Certificate: rootOf(t, key, now.now, func(c *x509.Certificate) {
			c.URIs = []*url.URL{{Scheme: "spiffe", Host: "corp.example"}}
		}), Key: key}, "not mesh.local"},
		"over": {Given{Certificate: rootOf(t, key, now.now, func(c *x509.Certificate) {
			c.NotAfter = now.now.Add(-time.Minute)
		}), Key: key}, "ended on"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(Config{Keys: &MemoryKeys{}, Root: &c.given, TrustDomain: "mesh.local", Now: now.Now})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	// A CA that has a root takes no other.
	keys := &MemoryKeys{}
	if _, err := Open(Config{Keys: keys, Now: now.Now}); err != nil {
		t.Fatal(err)
	}
	for _, elsewhere := range []bool{false, true} {
		_, err := Open(Config{Keys: keys, Root: &Given{Certificate: rootOf(t, key, now.now, nil), Key: key, Elsewhere: elsewhere}, Now: now.Now})
		if err == nil || !strings.Contains(err.Error(), "another root already") {
			t.Errorf("elsewhere %v: got %v", elsewhere, err)
		}
	}
}

// flaky is a key that may be away.
type flaky struct {
	crypto.Signer
	away error
	used int
}

func (f *flaky) Sign(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	f.used++
	if f.away != nil {
		return nil, f.away
	}
	return f.Signer.Sign(r, digest, o)
}

// A root whose key is elsewhere signs issuing certificates only; while it is away
// all goes on until one is due.
func TestRootElsewhere(t *testing.T) {
	now := &clock{now: time.Now()}
	key, _ := identity.NewKey()
	root := &flaky{Signer: key}
	der := rootOf(t, key, now.now, func(c *x509.Certificate) { c.NotAfter = now.now.Add(10 * IssuerLife) })
	keys := &MemoryKeys{}
	given := &Given{Certificate: der, Key: root, Elsewhere: true}
	ca, err := Open(Config{Keys: keys, Root: given, Now: now.Now})
	if err != nil {
		t.Fatal(err)
	}
	if root.used != 1 {
		t.Errorf("the root signed %d times, want 1", root.used)
	}
	if _, _, err := keys.Load(rootName); err == nil {
		t.Error("the root's key was kept")
	}
	id := identity.ID{TrustDomain: "mesh.local", Namespace: "default", ServiceAccount: "web"}
	root.away = errors.New("the cable is out")
	if ca, err = Open(Config{Keys: keys, Root: given, Now: now.Now}); err != nil {
		t.Fatalf("a restart while it is away: %v", err)
	}
	workload, _ := identity.NewKey()
	if _, err := ca.Issue(workload.Public(), id, time.Hour); err != nil {
		t.Error(err)
	}
	now.now = now.now.Add(IssuerLife - time.Hour)
	if err := ca.Rotate(); err == nil || !strings.Contains(err.Error(), "cable") {
		t.Errorf("rotate: %v", err)
	}
	if _, err := ca.Issue(workload.Public(), id, time.Hour); err != nil {
		t.Errorf("the old issuing certificate: %v", err)
	}
	root.away = nil
	if err := ca.Rotate(); err != nil {
		t.Error(err)
	}
	if err := ca.AddRoot(); !errors.Is(err, ErrNotOurs) {
		t.Errorf("change the root: %v", err)
	}
	if _, err := Open(Config{Keys: keys, Now: now.Now}); err == nil || !strings.Contains(err.Error(), "--ca-signer") {
		t.Errorf("without it: %v", err)
	}
}
