package e2e

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/signer"
)

// token is a hardware token in software, with two keys, and the signer before it.
type token struct {
	m       *mesh
	program string
	socket  string
	args    []string
	env     []string
	process *process
}

const softHSM = "/usr/lib/softhsm/libsofthsm2.so"

// newToken makes a token with keys "root" and "issuer" and builds the signer for it.
func newToken(t *testing.T) *token {
	t.Helper()
	util := need(t, "softhsm2-util", "softhsm2")
	need(t, "gcc", "gcc libc6-dev")
	dir, err := os.MkdirTemp("", "hsm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	do := func(name string, args ...string) {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Env = append(os.Environ(), "SOFTHSM2_CONF="+filepath.Join(dir, "conf"), "CGO_ENABLED=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", cmd, err, out)
		}
	}
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if err := os.Mkdir(filepath.Join(dir, "tokens"), 0o700); err != nil {
		t.Fatal(err)
	}
	write("conf", "directories.tokendir = "+filepath.Join(dir, "tokens")+"\nobjectstore.backend = file\nlog.level = ERROR\n")
	do(util, "--init-token", "--free", "--label", "mesh", "--pin", "1234", "--so-pin", "5678")
	for i, name := range []string{"root", "issuer"} {
		key, err := identity.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		file := write(name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
		do(util, "--import", file, "--token", "mesh", "--label", name, "--id", []string{"A1", "A2"}[i], "--pin", "1234")
		os.Remove(file)
	}
	h := &token{program: filepath.Join(dir, "tulle-signer"), socket: filepath.Join(dir, "sock"), env: []string{"SOFTHSM2_CONF=" + filepath.Join(dir, "conf")}}
	h.args = []string{"--pkcs11-module", softHSM, "--token", "mesh", "--pin-file", write("pin", "1234\n")}
	do("go", "build", "-tags", "pkcs11", "-o", h.program, "tulle.dev/tulle/cmd/tulle-signer")
	return h
}

// says runs the signer for what it prints.
func (h *token) says(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command(h.program, append(h.args, args...)...)
	cmd.Env = append(os.Environ(), h.env...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", cmd, err)
	}
	return string(out)
}

// serve starts the signer; it is stopped with the mesh.
func (h *token) serve(m *mesh) *process {
	env := m.env
	m.env = append(append([]string{}, env...), h.env...)
	p := m.start("signer", h.program, append(h.args, "--socket", h.socket)...)
	m.env = env
	p.await("signer ready")
	return p
}

func (m *mesh) rootPin() string {
	m.t.Helper()
	var out struct {
		Roots []struct{ SHA256 string }
	}
	if text := m.tulle("trust", "-o", "json"); json.Unmarshal([]byte(text), &out) != nil || len(out.Roots) != 1 {
		m.t.Fatalf("trust: %s", text)
	}
	return out.Roots[0].SHA256
}

// The issuing key lies in a token: without its signer nobody new gets a certificate,
// those that have one go on, and check says so.
func TestSignerIssues(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	h := newToken(t)
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	root := h.says(t, "--certify-root", "root", "--trust-domain", "mesh.local")
	m := bare(t, "--ca-signer", "unix:"+h.socket, "--ca-roots", write("root.pem", root), "--ca-issuer", filepath.Join(dir, "issuer.pem"))
	s := h.serve(m)
	write("issuer.pem", h.intermediate(t, root))
	m.startControl()
	m.server("one")
	m.ready("echo", 1)
	m.ask("first", "http://echo:8080/", 5).all(t, "200", 5)
	if n := strings.Count(s.out.String(), "msg=signed key=issuer"); n < 3 {
		t.Errorf("the issuing key signed %d times:\n%s", n, s.out)
	}
	load := m.load(rate, 6*time.Second)
	s.stop()
	if out, err := m.try("check"); err == nil || !strings.Contains(out, "the CA's signer is unavailable") {
		t.Errorf("check: %v\n%s", err, out)
	}
	late := m.asking("late", "http://echo:8080/", 200, "E2E_COUNT=5")
	load.result(time.Minute).noneFailed(t, 4*rate)
	if strings.Contains(late.out.String(), "200") {
		t.Errorf("somebody joined without a signer: %s", late.out)
	}
	h.serve(m)
	late.asked().all(t, "200", 5)
	if out, _ := m.try("check"); strings.Contains(out, "signer is unavailable") {
		t.Errorf("check:\n%s", out)
	}
	for _, p := range m.started {
		if strings.Contains(p.out.String(), "1234") {
			t.Errorf("the PIN is in what %s says", p.name)
		}
	}
}

// intermediate makes the issuing certificate, over the token's two keys.
func (h *token) intermediate(t *testing.T, rootPEM string) string {
	t.Helper()
	block, _ := pem.Decode([]byte(rootPEM))
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	c := signer.NewClient(h.socket)
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	keys, err := c.Keys(ctx)
	if err != nil || len(keys) != 2 {
		t.Fatalf("%v %v", keys, err)
	}
	if keys[0].Name != "issuer" {
		keys[0], keys[1] = keys[1], keys[0]
	}
	by, err := c.Key(keys[1].Key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "Issuer"},
		URIs: []*url.URL{{Scheme: "spiffe", Host: "mesh.local"}}, NotBefore: root.NotBefore, NotAfter: time.Now().Add(90 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign}, root, keys[0].Key, by)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// The root's key lies in a token and signs issuing certificates only, which are
// made here: the signer isn't needed from day to day. A root in files is taken over
// once, and the files aren't needed then.
func TestOwnRoot(t *testing.T) {
	t.Parallel()
	h := newToken(t)
	file := filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(file, []byte(h.says(t, "--certify-root", "root", "--trust-domain", "corp.example")), 0o600); err != nil {
		t.Fatal(err)
	}
	m := bare(t, "--ca-root", file, "--ca-signer", "unix:"+h.socket)
	s := h.serve(m)
	m.startControl()
	pin := m.rootPin()
	s.stop()
	m.control.stop()
	m.startControl()
	if got := m.rootPin(); got != pin {
		t.Errorf("root %s after a restart, want %s", got, pin)
	}
	if out, err := m.try("trust", "rotate"); err == nil || !strings.Contains(out, "brought along") {
		t.Errorf("rotate a root that is elsewhere: %v %s", err, out)
	}
	if n := strings.Count(s.out.String(), "msg=signed"); n != 1 {
		t.Errorf("the root signed %d times, want once:\n%s", n, s.out)
	}
	if _, err := os.Stat(filepath.Join(m.dir, "ca", "root-key.pem")); err == nil {
		t.Error("the root's key is in the data directory")
	}

	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	rootFile, keyFile := filepath.Join(dir, "root.pem"), filepath.Join(dir, "key.pem")
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Company"}, NotAfter: time.Now().Add(24 * 365 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, MaxPathLen: -1}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if err := identity.WriteCertificates(rootFile, [][]byte{der}); err != nil {
		t.Fatal(err)
	}
	if err := identity.WriteKey(keyFile, key); err != nil {
		t.Fatal(err)
	}
	m = bare(t, "--ca-root", rootFile, "--ca-root-key", keyFile, "--trust-domain", "corp.example")
	m.startControl()
	pin = m.rootPin()
	m.control.stop()
	os.RemoveAll(dir)
	m.flags = nil
	m.startControl()
	if got := m.rootPin(); got != pin {
		t.Errorf("root %s after a restart without the files, want %s", got, pin)
	}
	if out := m.tulle("trust"); !strings.Contains(out, "corp.example") {
		t.Errorf("trust: %s", out)
	}
}
