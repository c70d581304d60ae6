package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"tulle.dev/tulle/internal/identity"
)

// TestKeys is one suite for every key store.
func TestKeys(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) Keys{
		"files":  func(t *testing.T) Keys { return Files{Dir: filepath.Join(t.TempDir(), "ca")} },
		"memory": func(*testing.T) Keys { return new(MemoryKeys) },
	} {
		t.Run(name, func(t *testing.T) {
			k := open(t)
			if _, _, err := k.Load("root"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("nothing there: %v", err)
			}
			one, err := newSigner("mesh.local", "root", RootLife, 1, nil, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			two, err := newSigner("mesh.local", "root", RootLife, 1, nil, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range []*signer{one, two} { // the second takes the first's place
				if err := k.Save("root", s.key, s.chain); err != nil {
					t.Fatal(err)
				}
				key, chain, err := k.Load("root")
				if err != nil {
					t.Fatal(err)
				}
				if !s.key.(*ecdsa.PrivateKey).Equal(key) || len(chain) != 1 || string(chain[0]) != string(s.chain[0]) {
					t.Error("not what was saved")
				}
			}
			if _, _, err := k.Load("issuer"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("another name: %v", err)
			}
		})
	}
}

func TestFilesAreClosed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	if _, err := Open(Config{Keys: Files{Dir: dir}}); err != nil {
		t.Fatal(err)
	}
	check := func(path string, want os.FileMode) {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v %v, want %v", path, info.Mode().Perm(), err, want)
		}
	}
	check(dir, 0o700)
	check(filepath.Join(dir, "root-key.pem"), 0o600)
	check(filepath.Join(dir, "issuer-key.pem"), 0o600)
}

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.now }
func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func open(t *testing.T, keys Keys, c *clock) *CA {
	t.Helper()
	ca, err := Open(Config{TrustDomain: "mesh.local", Keys: keys, Now: c.Now})
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

var cart = identity.ID{TrustDomain: "mesh.local", Namespace: "default", ServiceAccount: "cart"}

func issue(t *testing.T, ca *CA, ttl time.Duration) (crypto.Signer, []*x509.Certificate, [][]byte) {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	chain, err := ca.Issue(key.Public(), cart, ttl)
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
	return key, certs, chain
}

// TestSVID checks an issued certificate against the X.509-SVID specification,
// with Tulle's own verifier and with go-spiffe's.
func TestSVID(t *testing.T) {
	c := &clock{now: time.Now()}
	ca := open(t, new(MemoryKeys), c)
	_, certs, _ := issue(t, ca, time.Hour)
	leaf, issuer := certs[0], certs[1]
	if len(certs) != 2 {
		t.Fatalf("%d certificates, want leaf and issuer", len(certs))
	}
	if id, err := identity.CheckLeaf(leaf); err != nil || id != cart {
		t.Errorf("leaf: %v %v", id, err)
	}
	if life := leaf.NotAfter.Sub(c.Now()); life > time.Hour || life < time.Hour-2*time.Second {
		t.Errorf("lives %s from now", life)
	}
	if back := c.Now().Sub(leaf.NotBefore); back < backdate || back > backdate+2*time.Second {
		t.Errorf("back-dated by %s", back)
	}
	if leaf.SerialNumber.BitLen() < 64 {
		t.Errorf("a serial number of %d bits", leaf.SerialNumber.BitLen())
	}
	if !issuer.IsCA || issuer.MaxPathLen != 0 || !issuer.MaxPathLenZero || issuer.NotAfter.Sub(c.Now()) > IssuerLife {
		t.Errorf("issuer: %+v", issuer)
	}
	b, err := identity.NewBundle(map[identity.TrustDomain][][]byte{"mesh.local": ca.Roots()})
	if err != nil {
		t.Fatal(err)
	}
	if id, err := b.Verify(certs, c.Now()); err != nil || id != cart {
		t.Errorf("own verifier: %v %v", id, err)
	}
	td := spiffeid.RequireTrustDomainFromString("mesh.local")
	root, err := x509.ParseCertificate(ca.Roots()[0])
	if err != nil {
		t.Fatal(err)
	}
	oracle := x509bundle.FromX509Authorities(td, []*x509.Certificate{root})
	if id, _, err := x509svid.Verify(certs, oracle); err != nil || id.String() != cart.String() {
		t.Errorf("go-spiffe: %v %v", id, err)
	}
	if ca.Pin() != sha256.Sum256(ca.Roots()[0]) {
		t.Error("the pin is not the root's")
	}
}

func TestTTLIsBounded(t *testing.T) {
	c := &clock{now: time.Now()}
	ca := open(t, new(MemoryKeys), c)
	for ttl, want := range map[time.Duration]time.Duration{0: MinTTL, time.Second: MinTTL, time.Hour: time.Hour, 48 * time.Hour: MaxTTL} {
		_, certs, _ := issue(t, ca, ttl)
		if got := certs[0].NotAfter.Sub(c.Now()).Round(2 * time.Second); got != want {
			t.Errorf("ttl %s became %s, want %s", ttl, got, want)
		}
	}
}

func TestIssuerRotates(t *testing.T) {
	c := &clock{now: time.Now()}
	keys := new(MemoryKeys)
	ca := open(t, keys, c)
	_, before, _ := issue(t, ca, time.Hour)
	c.add(IssuerLife / 2)
	if err := ca.Rotate(); err != nil {
		t.Fatal(err)
	}
	_, same, _ := issue(t, ca, time.Hour)
	if !same[1].Equal(before[1]) {
		t.Error("rotated at half its life")
	}
	c.add(IssuerLife/6 + time.Hour)
	if err := ca.Rotate(); err != nil {
		t.Fatal(err)
	}
	_, after, _ := issue(t, ca, time.Hour)
	if after[1].Equal(before[1]) {
		t.Error("not rotated at two thirds of its life")
	}
	// Both are of the same root, and a restart finds the new one.
	b, _ := identity.NewBundle(map[identity.TrustDomain][][]byte{"mesh.local": ca.Roots()})
	if _, err := b.Verify(after, c.Now()); err != nil {
		t.Error(err)
	}
	_, again, _ := issue(t, open(t, keys, c), time.Hour)
	if !again[1].Equal(after[1]) {
		t.Error("a restart made another issuer")
	}
}

func TestClockJumps(t *testing.T) {
	c := &clock{now: time.Now()}
	keys := new(MemoryKeys)
	ca := open(t, keys, c)
	c.add(-12 * time.Hour)
	_, certs, _ := issue(t, ca, time.Hour)
	b, _ := identity.NewBundle(map[identity.TrustDomain][][]byte{"mesh.local": ca.Roots()})
	if _, err := b.Verify(certs, c.Now()); err != nil {
		t.Errorf("twelve hours back: %v", err)
	}
	c.add(-48 * time.Hour)
	if _, err := ca.Issue(certs[0].PublicKey, cart, time.Hour); err == nil || !strings.Contains(err.Error(), "clock") {
		t.Errorf("before the CA's own time: %v, want an error that names the clock", err)
	}
	c.add(20 * 365 * 24 * time.Hour)
	if _, err := Open(Config{Keys: keys, Now: c.Now}); err == nil || !strings.Contains(err.Error(), "clock") {
		t.Errorf("after the root's end: %v, want an error that names the clock", err)
	}
}

func TestTooMany(t *testing.T) {
	c := &clock{now: time.Now()}
	ca := open(t, new(MemoryKeys), c)
	key, _ := identity.NewKey()
	for range issueBurst {
		if _, err := ca.Issue(key.Public(), cart, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ca.Issue(key.Public(), cart, time.Hour); !errors.Is(err, ErrTooMany) {
		t.Errorf("got %v", err)
	}
	other := cart
	other.ServiceAccount = "web"
	if _, err := ca.Issue(key.Public(), other, time.Hour); err != nil {
		t.Errorf("another identity: %v", err)
	}
	c.add(2 * issueEvery)
	if _, err := ca.Issue(key.Public(), cart, time.Hour); err != nil {
		t.Errorf("a little later: %v", err)
	}
}

func TestTrustDomainIsFixed(t *testing.T) {
	c := &clock{now: time.Now()}
	keys := new(MemoryKeys)
	open(t, keys, c)
	if _, err := Open(Config{TrustDomain: "other.local", Keys: keys, Now: c.Now}); err == nil || !strings.Contains(err.Error(), "mesh.local") {
		t.Errorf("got %v", err)
	}
	if ca, err := Open(Config{Keys: keys, Now: c.Now}); err != nil || ca.TrustDomain() != "mesh.local" {
		t.Errorf("got %v", err)
	}
	ca := open(t, keys, c)
	stranger := cart
	stranger.TrustDomain = "other.local"
	key, _ := identity.NewKey()
	if _, err := ca.Issue(key.Public(), stranger, time.Hour); err == nil {
		t.Error("an id of another trust domain was issued")
	}
}

func TestBrokenIssuerIsMadeAgain(t *testing.T) {
	c := &clock{now: time.Now()}
	dir := filepath.Join(t.TempDir(), "ca")
	ca := open(t, Files{Dir: dir}, c)
	// As after a crash in the middle of Save: the new certificate, the old key.
	other, err := newSigner("mesh.local", "issuer", IssuerLife, 0, ca.root, c.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := identity.WriteCertificates(filepath.Join(dir, "issuer.pem"), other.chain); err != nil {
		t.Fatal(err)
	}
	issue(t, open(t, Files{Dir: dir}, c), time.Hour)
	if err := os.Remove(filepath.Join(dir, "root-key.pem")); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Keys: Files{Dir: dir}, Now: c.Now}); err == nil || !strings.Contains(err.Error(), "root-key.pem") {
		t.Errorf("a root without its key: %v; it must never be replaced silently", err)
	}
}

func TestRecover(t *testing.T) {
	c := &clock{now: time.Now()}
	ca := open(t, new(MemoryKeys), c)
	key, _, chain := issue(t, ca, time.Hour)
	next, _ := identity.NewKey()
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, next)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(k crypto.Signer, message string) []byte {
		sum := sha256.Sum256([]byte(message))
		s, err := k.Sign(rand.Reader, sum[:], crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	good := sign(key, "tulle-recover"+string(csr))
	c.add(24 * time.Hour)
	if id, err := ca.Recover(chain, csr, good); err != nil || id != cart {
		t.Errorf("after a day: %v %v", id, err)
	}
	for name, signature := range map[string][]byte{
		"another key": sign(next, "tulle-recover"+string(csr)), "another message": sign(key, string(csr)), "none": nil,
	} {
		if _, err := ca.Recover(chain, csr, signature); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := ca.Recover(nil, csr, good); err == nil {
		t.Error("no chain: taken")
	}
	stranger := open(t, new(MemoryKeys), c)
	if _, err := stranger.Recover(chain, csr, good); err == nil {
		t.Error("a certificate of another CA: taken")
	}
	c.add(RecoveryWindow)
	if _, err := ca.Recover(chain, csr, good); err == nil || !strings.Contains(err.Error(), "join token") {
		t.Errorf("after the window: %v, want an error that says what to do", err)
	}
}

func TestCSR(t *testing.T) {
	key, _ := identity.NewKey()
	good, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseCSR(good); err != nil {
		t.Error(err)
	}
	bad := append([]byte(nil), good...)
	bad[len(bad)-1] ^= 1
	if _, err := ParseCSR(bad); err == nil {
		t.Error("a request with a broken signature was taken")
	}
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, weak)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseCSR(der); err == nil {
		t.Error("an RSA key was taken")
	}
}

func TestBroughtAlong(t *testing.T) {
	c := &clock{now: time.Now()}
	own := open(t, new(MemoryKeys), c)
	issuer := own.issuer
	ca, err := OpenIssuer(Config{Now: c.Now}, Issuer{issuer.key, issuer.chain, own.Roots()})
	if err != nil {
		t.Fatal(err)
	}
	_, certs, _ := issue(t, ca, time.Hour)
	b, _ := identity.NewBundle(map[identity.TrustDomain][][]byte{"mesh.local": ca.Roots()})
	if id, err := b.Verify(certs, c.Now()); err != nil || id != cart {
		t.Errorf("%v %v", id, err)
	}
	if err := ca.Rotate(); err != nil {
		t.Error(err)
	}
	if _, _, rotated := ca.Ends(); rotated {
		t.Error("it says that it rotates")
	}
	other := open(t, new(MemoryKeys), c)
	if _, err := OpenIssuer(Config{Now: c.Now}, Issuer{issuer.key, issuer.chain, other.Roots()}); err == nil {
		t.Error("an issuer of other roots was taken")
	}
	wrong, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if _, err := OpenIssuer(Config{Now: c.Now}, Issuer{wrong, issuer.chain, own.Roots()}); err == nil {
		t.Error("another key was taken")
	}
	if _, err := OpenIssuer(Config{TrustDomain: "x.local", Now: c.Now}, Issuer{issuer.key, issuer.chain, own.Roots()}); err == nil {
		t.Error("another trust domain was taken")
	}
}

func TestThrowAway(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "identity")
	one, err := ThrowAway(dir, "mesh.local")
	if err != nil {
		t.Fatal(err)
	}
	web := cart
	web.ServiceAccount = "web"
	if err := one.WriteIdentity(dir, "cart", cart, time.Hour); err != nil {
		t.Fatal(err)
	}
	two, err := ThrowAway(dir, "mesh.local") // reused
	if err != nil {
		t.Fatal(err)
	}
	if err := two.WriteIdentity(dir, "web", web, time.Hour); err != nil {
		t.Fatal(err)
	}
	svid, _, err := identity.ReadDir(dir, "cart")
	if err != nil {
		t.Fatal(err)
	}
	_, bundle, err := identity.ReadDir(dir, "web")
	if err != nil {
		t.Fatal(err)
	}
	if id, err := bundle.Verify([]*x509.Certificate{svid.Leaf}, time.Now()); err != nil || id != cart {
		t.Errorf("%v %v", id, err)
	}
	if _, err := ThrowAway(dir, "other.local"); err == nil || !strings.Contains(err.Error(), "ca.pem") {
		t.Errorf("another trust domain: %v", err)
	}
}

// TestUniqueID: a certificate tells a workload's unique id beside its SPIFFE id, and
// stays an X.509-SVID for other verifiers.
func TestUniqueID(t *testing.T) {
	ca := open(t, new(MemoryKeys), &clock{now: time.Now()})
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	unique := identity.NewUniqueID()
	chain, err := ca.IssueWorkload(key.Public(), cart, unique, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	svid, err := identity.NewSVID(chain, key)
	if err != nil {
		t.Fatal(err)
	}
	if got := identity.UniqueID(svid.Leaf); got != unique || svid.ID != cart {
		t.Errorf("it is %s, %q", svid.ID, got)
	}
	bundle := x509bundle.New(spiffeid.RequireTrustDomainFromString("mesh.local"))
	for _, der := range ca.Roots() {
		root, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		bundle.AddX509Authority(root)
	}
	if id, _, err := x509svid.ParseAndVerify(chain, bundle); err != nil || id.String() != cart.String() {
		t.Errorf("go-spiffe: %s, %v", id, err)
	}
	if _, certs, _ := issue(t, ca, time.Hour); identity.UniqueID(certs[0]) != "" {
		t.Error("a certificate for no workload has a unique id")
	}
}
