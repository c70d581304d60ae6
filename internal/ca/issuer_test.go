package ca

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"tulle.dev/tulle/internal/identity"
)

// authority is a certificate authority of somebody else's making.
type authority struct {
	key  crypto.Signer
	cert *x509.Certificate
}

// authorityOf makes one; by is nil for a root.
func authorityOf(t *testing.T, name string, by *authority, now time.Time, change func(*x509.Certificate)) *authority {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return authorityWith(t, name, key, by, now, change)
}

func authorityWith(t *testing.T, name string, key crypto.Signer, by *authority, now time.Time, change func(*x509.Certificate)) *authority {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(90 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, MaxPathLen: -1, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	if change != nil {
		change(c)
	}
	parent, signer := c, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{key, cert}
}

// issuerOf is what a Secret has: the chain from an authority up, its key, the roots.
func issuerOf(a *authority, between []*authority, roots ...*authority) Issuer {
	i := Issuer{Key: a.key, Chain: [][]byte{a.cert.Raw}}
	for _, b := range between {
		i.Chain = append(i.Chain, b.cert.Raw)
	}
	for _, r := range roots {
		i.Roots = append(i.Roots, r.cert.Raw)
	}
	return i
}

// believed issues a certificate and says whether those who trust some roots believe it.
func believed(t *testing.T, ca *CA, roots [][]byte, now time.Time) (*identity.SVID, error) {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	id := identity.ID{TrustDomain: ca.TrustDomain(), Namespace: "default", ServiceAccount: "web"}
	chain, err := ca.Issue(key.Public(), id, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	svid, err := identity.NewSVID(chain, key)
	if err != nil {
		t.Fatal(err)
	}
	return svid, checkSVID(t, svid, roots, now)
}

func checkSVID(t *testing.T, s *identity.SVID, roots [][]byte, now time.Time) error {
	t.Helper()
	b, err := identity.NewBundle(map[identity.TrustDomain][][]byte{s.ID.TrustDomain: roots})
	if err != nil {
		t.Fatal(err)
	}
	var chain []*x509.Certificate
	for _, der := range s.Certificate.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, c)
	}
	_, err = b.Verify(chain, now)
	return err
}

func TestIssuerTaken(t *testing.T) {
	now := time.Now()
	root, other := authorityOf(t, "root", nil, now, nil), authorityOf(t, "other", nil, now, nil)
	middle := authorityOf(t, "middle", root, now, nil)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	named := func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "spiffe", Host: "corp.example"}} }
	for name, c := range map[string]struct {
		issuer Issuer
		wanted identity.TrustDomain
		domain identity.TrustDomain
		chain  int
	}{
		"of a root":                         {issuerOf(authorityOf(t, "issuer", root, now, nil), nil, root), "", "mesh.local", 2},
		"named":                             {issuerOf(authorityOf(t, "issuer", root, now, named), nil, root), "", "corp.example", 2},
		"not named, one wanted":             {issuerOf(authorityOf(t, "issuer", root, now, nil), nil, root), "shop.example", "shop.example", 2},
		"two steps from the root":           {issuerOf(authorityOf(t, "issuer", middle, now, nil), []*authority{middle}, root), "", "mesh.local", 3},
		"the chain goes up to the root":     {issuerOf(authorityOf(t, "issuer", middle, now, nil), []*authority{middle, root}, root), "", "mesh.local", 3},
		"signed with its own key":           {issuerOf(root, nil, root), "", "mesh.local", 1},
		"another root first":                {issuerOf(authorityOf(t, "issuer", root, now, nil), nil, other, root), "", "mesh.local", 2},
		"RSA":                               {issuerOf(authorityWith(t, "issuer", rsaKey, root, now, nil), nil, root), "", "mesh.local", 2},
		"path length 0, as it issues leafs": {issuerOf(authorityOf(t, "issuer", root, now, func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true }), nil, root), "", "mesh.local", 2},
		"constraints for what SVIDs don't have": {issuerOf(authorityOf(t, "issuer", root, now, func(c *x509.Certificate) {
			c.PermittedDNSDomainsCritical, c.PermittedDNSDomains = true, []string{"corp.example"}
		}), nil, root), "", "mesh.local", 2},
		"constraints that permit it": {issuerOf(authorityOf(t, "issuer", root, now, func(c *x509.Certificate) {
			c.PermittedDNSDomainsCritical, c.PermittedURIDomains = true, []string{"mesh.local"}
		}), nil, root), "", "mesh.local", 2},
	} {
		t.Run(name, func(t *testing.T) {
			ca, err := OpenIssuer(Config{TrustDomain: c.wanted, Keys: &MemoryKeys{}}, c.issuer)
			if err != nil {
				t.Fatal(err)
			}
			if ca.TrustDomain() != c.domain {
				t.Errorf("trust domain %s, want %s", ca.TrustDomain(), c.domain)
			}
			svid, err := believed(t, ca, [][]byte{ca.Roots()[0]}, now)
			if err != nil || len(svid.Certificate.Certificate) != c.chain {
				t.Errorf("a chain of %d, want %d; %v", len(svid.Certificate.Certificate), c.chain, err)
			}
			// What proxies are told to have is what they have.
			if string(svid.RootKeyID()) != string(ca.Bundle().Signer) {
				t.Errorf("of root %x, told %x", svid.RootKeyID(), ca.Bundle().Signer)
			}
		})
	}
}

func TestIssuerRefused(t *testing.T) {
	now := time.Now()
	root, other := authorityOf(t, "root", nil, now, nil), authorityOf(t, "other", nil, now, nil)
	short := authorityOf(t, "root", nil, now, func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true })
	constrained := authorityOf(t, "root", nil, now, func(c *x509.Certificate) {
		c.PermittedDNSDomainsCritical, c.PermittedURIDomains = true, []string{"corp.example"}
	})
	issuer := func(by *authority, change func(*x509.Certificate)) *authority {
		return authorityOf(t, "issuer", by, now, change)
	}
	for name, c := range map[string]struct {
		issuer Issuer
		want   string
	}{
		"a server's":           {issuerOf(issuer(root, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature }), nil, root), "no certificate authority"},
		"no usage":             {issuerOf(issuer(root, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }), nil, root), "no certificate authority"},
		"another key":          {Issuer{Key: other.key, Chain: [][]byte{issuer(root, nil).cert.Raw}, Roots: [][]byte{root.cert.Raw}}, "another key"},
		"other roots":          {issuerOf(issuer(root, nil), nil, other), "not of these roots"},
		"path length":          {issuerOf(issuer(short, nil), nil, short), "path length"},
		"constraints above it": {issuerOf(issuer(constrained, nil), nil, constrained), "name constraints that don't permit spiffe://mesh.local"},
		"constraints of its own": {issuerOf(issuer(root, func(c *x509.Certificate) {
			c.PermittedDNSDomainsCritical, c.ExcludedURIDomains = true, []string{"mesh.local"}
		}), nil, root), "name constraints"},
		"a short life":          {issuerOf(issuer(root, func(c *x509.Certificate) { c.NotAfter = now.Add(2 * time.Hour) }), nil, root), "made for 3h0m0s, and those that it issues for up to 24h"},
		"over":                  {issuerOf(issuer(root, func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now.Add(-48*time.Hour), now.Add(-time.Hour) }), nil, root), "ended on"},
		"a root that isn't one": {issuerOf(issuer(root, nil), nil, root, issuer(root, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, 0 })), "roots[1]"},
		"a workload's name": {issuerOf(issuer(root, func(c *x509.Certificate) {
			c.URIs = []*url.URL{{Scheme: "spiffe", Host: "mesh.local", Path: "/ns/a/sa/b"}}
		}), nil, root), "doesn't name its trust domain"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := OpenIssuer(Config{TrustDomain: "mesh.local"}, c.issuer); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("opened: %v, want %q", err, c.want)
			}
			// A running CA refuses it the same, and goes on with what it has.
			ca, err := OpenIssuer(Config{TrustDomain: "mesh.local"}, issuerOf(root, nil, root))
			if err != nil {
				t.Fatal(err)
			}
			if changed, err := ca.Offer(c.issuer, true); changed || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("offered: %v, want %q", err, c.want)
			}
			if _, err := believed(t, ca, ca.Roots(), now); err != nil {
				t.Error(err)
			}
		})
	}
	ca, err := OpenIssuer(Config{}, issuerOf(issuer(root, nil), nil, root))
	if err != nil {
		t.Fatal(err)
	}
	soon := issuer(root, func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now.Add(-100*time.Hour), now.Add(time.Hour) })
	if _, err := ca.Offer(issuerOf(soon, nil, root), true); err == nil || !strings.Contains(err.Error(), "before certificates that it would issue") {
		t.Errorf("an older one: %v", err)
	}
	own, err := Open(Config{Keys: &MemoryKeys{}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := own.Offer(issuerOf(issuer(root, nil), nil, root), true); err == nil {
		t.Error("a CA with a root of its own took an issuing certificate")
	}
}

// An issuing certificate of the same root signs at once, and nothing else changes.
func TestIssuerRenewed(t *testing.T) {
	now := time.Now()
	root := authorityOf(t, "root", nil, now, nil)
	ca, err := OpenIssuer(Config{Keys: &MemoryKeys{}}, issuerOf(authorityOf(t, "one", root, now, nil), nil, root))
	if err != nil {
		t.Fatal(err)
	}
	before, _ := believed(t, ca, ca.Roots(), now)
	two := issuerOf(authorityOf(t, "two", root, now, nil), nil, root)
	for i, want := range []bool{true, false} {
		if changed, err := ca.Offer(two, false); err != nil || changed != want {
			t.Errorf("offered %d: %v %v", i, changed, err)
		}
	}
	after, err := believed(t, ca, ca.Roots(), now)
	if err != nil || after.Leaf.Issuer.CommonName != "two" || before.Leaf.Issuer.CommonName != "one" {
		t.Errorf("issued by %s, then %s, %v", before.Leaf.Issuer.CommonName, after.Leaf.Issuer.CommonName, err)
	}
	if _, version, stage := ca.Trust(); version != 1 || stage != Steady {
		t.Errorf("version %d, stage %s", version, stage)
	}
}

// One of another root changes the roots in stages: at each, whoever has the roots of
// this stage or of the one before believes everybody.
func TestIssuerOfAnotherRoot(t *testing.T) {
	now := time.Now()
	first, second := authorityOf(t, "first", nil, now, nil), authorityOf(t, "second", nil, now, nil)
	keys := &MemoryKeys{}
	one, two := issuerOf(authorityOf(t, "one", first, now, nil), nil, first), issuerOf(authorityOf(t, "two", second, now, nil), nil, second)
	ca, err := OpenIssuer(Config{Keys: keys}, one)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Offer(two, false); !errors.Is(err, ErrAnotherRoot) {
		t.Errorf("where it can't be changed: %v", err)
	}
	steps := []struct {
		name  string
		do    func() error
		stage Stage
		by    string
	}{
		{"offered", func() error { _, err := ca.Offer(two, true); return err }, Added, "one"},
		{"offered again", func() error { _, err := ca.Offer(two, true); return err }, Added, "one"},
		{"switched", ca.SwitchRoot, Switched, "two"},
		{"finished", ca.FinishRoot, Steady, "two"},
	}
	svid, _ := believed(t, ca, ca.Roots(), now)
	trusted, version := ca.Roots(), uint64(1)
	for _, s := range steps {
		if err := s.do(); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		_, v, stage := ca.Trust()
		if stage != s.stage || v < version {
			t.Errorf("%s: stage %s, version %d after %d", s.name, stage, v, version)
		}
		next, err := believed(t, ca, trusted, now) // by who has the roots of before
		if err != nil || next.Leaf.Issuer.CommonName != s.by {
			t.Errorf("%s: issued by %s, %v", s.name, next.Leaf.Issuer.CommonName, err)
		}
		if s.stage != Steady { // then nobody has one of before
			if err := checkSVID(t, svid, ca.Roots(), now); err != nil {
				t.Errorf("%s: a certificate of before: %v", s.name, err)
			}
		}
		svid, trusted, version = next, ca.Roots(), v
	}
	if roots := ca.Roots(); len(roots) != 1 || string(roots[0]) != string(second.cert.Raw) {
		t.Errorf("%d roots at the end", len(roots))
	}
	for name, do := range map[string]func() error{"add": ca.AddRoot, "back": ca.BackRoot} {
		if err := do(); !errors.Is(err, ErrNotOurs) {
			t.Errorf("%s: %v", name, err)
		}
	}

	// A restart with yet another root keeps the trust in the one before.
	third := authorityOf(t, "third", nil, now, nil)
	ca, err = OpenIssuer(Config{Keys: keys}, issuerOf(authorityOf(t, "three", third, now, nil), nil, third))
	if err != nil {
		t.Fatal(err)
	}
	if _, v, stage := ca.Trust(); stage != Switched || v <= version {
		t.Errorf("after a restart: stage %s, version %d", stage, v)
	}
	if err := checkSVID(t, svid, ca.Roots(), now); err != nil {
		t.Errorf("a certificate of before the restart: %v", err)
	}
	fourth := authorityOf(t, "fourth", nil, now, nil)
	if _, err := ca.Offer(issuerOf(fourth, nil, fourth), true); !errors.Is(err, ErrBusy) {
		t.Errorf("in the middle of a change: %v", err)
	}
	if changed, err := ca.Offer(issuerOf(authorityOf(t, "three again", third, now, nil), nil, third), true); err != nil || !changed {
		t.Errorf("renewed in the middle of a change: %v", err)
	}
}
