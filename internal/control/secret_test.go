package control

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tulle.dev/tulle/internal/ca"
	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/identity"
)

// mountedSecret is a directory as the kubelet makes one of a Secret.
type mountedSecret struct {
	t   *testing.T
	dir string
	n   int
}

// write makes the files of one certificate authority and then has all of them
// there at once.
func (m *mountedSecret) write(name string, life time.Duration) *x509.Certificate {
	m.t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		m.t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(life),
		IsCA: true, BasicConstraintsValid: true, MaxPathLen: -1, KeyUsage: x509.KeyUsageCertSign}
	root, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		m.t.Fatal(err)
	}
	m.files(key, root, root)
	cert, err := x509.ParseCertificate(root)
	if err != nil {
		m.t.Fatal(err)
	}
	return cert
}

func (m *mountedSecret) files(key crypto.Signer, chain, root []byte) {
	m.t.Helper()
	m.n++
	data := filepath.Join(m.dir, "..data"+strings.Repeat("x", m.n))
	if err := os.Mkdir(data, 0o700); err != nil {
		m.t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		m.t.Fatal(err)
	}
	for file, b := range map[string]*pem.Block{secretChain: {Type: "CERTIFICATE", Bytes: chain}, secretRoots: {Type: "CERTIFICATE", Bytes: root}, secretKey: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(filepath.Join(data, file), pem.EncodeToMemory(b), 0o600); err != nil {
			m.t.Fatal(err)
		}
		if m.n == 1 {
			if err := os.Symlink(filepath.Join("..data", file), filepath.Join(m.dir, file)); err != nil {
				m.t.Fatal(err)
			}
		}
	}
	next := filepath.Join(m.dir, "..data_tmp")
	if err := os.Symlink(filepath.Base(data), next); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Rename(next, filepath.Join(m.dir, "..data")); err != nil {
		m.t.Fatal(err)
	}
}

// What is there is offered once; what is refused is tried again each time and
// complained of once.
func TestSecretLook(t *testing.T) {
	m := &mountedSecret{t: t, dir: t.TempDir()}
	var offered []string
	var refuse error
	var said strings.Builder
	s := (&CAFiles{IssuerChain: m.dir}).secretOf(func(i ca.Issuer) error {
		c, err := x509.ParseCertificate(i.Chain[0])
		if err != nil {
			t.Error(err)
		}
		if !c.PublicKey.(interface{ Equal(crypto.PublicKey) bool }).Equal(i.Key.Public()) {
			t.Error("the key is of another moment than the certificate")
		}
		offered = append(offered, c.Subject.CommonName)
		return refuse
	}, slog.New(slog.NewTextHandler(&said, nil)))
	var taken, refused [32]byte
	for _, step := range []struct {
		name   string
		refuse error
		offers int
		result client.Result
	}{
		{"one", nil, 1, client.Success}, {"", nil, 0, client.Success}, {"two", nil, 1, client.Success},
		{"three", errors.New("no good"), 1, client.Failure}, {"", errors.New("no good"), 1, client.Failure},
		{"", ca.ErrBusy, 1, client.Warning}, {"", nil, 1, client.Success}, {"", nil, 0, client.Success},
	} {
		if step.name != "" {
			m.write(step.name, 90*24*time.Hour)
		}
		offered, refuse = nil, step.refuse
		taken, refused = s.look(taken, refused)
		if len(offered) != step.offers || s.check(t.Context())[0].Result != step.result {
			t.Errorf("%+v: offered %q, %+v", step, offered, s.check(t.Context()))
		}
	}
	if n := strings.Count(said.String(), "no good"); n != 1 {
		t.Errorf("complained %d times:\n%s", n, said.String())
	}
	if err := os.Remove(filepath.Join(m.dir, "..data")); err != nil {
		t.Fatal(err)
	}
	if s.look(taken, refused); s.check(t.Context())[0].Result != client.Failure {
		t.Error("nobody says that the files are gone")
	}
}

// A control plane of a mounted Secret follows it to another root, without a restart.
func TestSecretRenewed(t *testing.T) {
	m := &mountedSecret{t: t, dir: t.TempDir()}
	first := m.write("first", 90*24*time.Hour)
	dir := shortDir(t)
	r := startWith(t, dir, func(c *Config) { c.CAFiles.IssuerChain = m.dir })
	id, err := r.client.Identity(t.Context())
	if err != nil || !strings.Contains(id.Bundle, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: first.Raw}))) {
		t.Fatalf("%+v, %v", id, err)
	}
	second := m.write("second", 91*24*time.Hour)
	want := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: second.Raw}))
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		trust, err := r.client.Trust(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if id, err = r.client.Identity(t.Context()); err != nil {
			t.Fatal(err)
		}
		if trust.Stage == "steady" && id.Bundle == want {
			if trust.Version != 4 { // added, switched, finished
				t.Errorf("version %d, want 4: three steps", trust.Version)
			}
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%s after two minutes, the bundle is\n%s", trust.Stage, id.Bundle)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "ca", "root-key.pem")); err == nil {
		t.Error("there is a root of its own")
	}
	for _, action := range []string{client.TrustRotate, client.TrustBack} {
		var s *client.Status
		if _, err := r.client.ChangeTrust(t.Context(), action); !errors.As(err, &s) || s.Code != 409 {
			t.Errorf("%s: %v", action, err)
		}
	}
}

func TestSecretFlags(t *testing.T) {
	m := &mountedSecret{t: t, dir: t.TempDir()}
	m.write("root", 90*24*time.Hour)
	for _, c := range []struct {
		files CAFiles
		want  CAFiles
	}{
		{CAFiles{IssuerChain: m.dir}, CAFiles{IssuerChain: m.dir + "/tls.crt", IssuerKey: m.dir + "/tls.key", Roots: m.dir + "/ca.crt"}},
		{CAFiles{IssuerChain: m.dir, Roots: "roots.pem"}, CAFiles{IssuerChain: m.dir + "/tls.crt", IssuerKey: m.dir + "/tls.key", Roots: "roots.pem"}},
		{CAFiles{IssuerChain: m.dir, Signer: "unix:s"}, CAFiles{IssuerChain: m.dir + "/tls.crt", Roots: m.dir + "/ca.crt", Signer: "unix:s"}},
		{CAFiles{Root: m.dir}, CAFiles{Root: m.dir + "/tls.crt", RootKey: m.dir + "/tls.key"}},
		{CAFiles{IssuerChain: "issuer.pem", IssuerKey: "k", Roots: "r"}, CAFiles{IssuerChain: "issuer.pem", IssuerKey: "k", Roots: "r"}},
	} {
		if got := *c.files.named(); got != c.want {
			t.Errorf("%+v: %+v, want %+v", c.files, got, c.want)
		}
		if err := c.files.check(); err != nil {
			t.Errorf("%+v: %v", c.files, err)
		}
	}
	r := startWith(t, shortDir(t), func(c *Config) { c.CAFiles.Root = m.dir })
	if id, err := r.client.Identity(t.Context()); err != nil || id.TrustDomain != "mesh.local" {
		t.Errorf("%+v, %v", id, err)
	}
}
