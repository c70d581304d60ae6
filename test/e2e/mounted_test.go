package e2e

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"tulle.dev/tulle/internal/identity"
)

// certifies makes a certificate authority, of another or of itself.
func certifies(t *testing.T, name string, by *x509.Certificate, byKey crypto.Signer) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(90 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, MaxPathLen: -1, KeyUsage: x509.KeyUsageCertSign}
	if by == nil {
		by, byKey = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by, key.Public(), byKey)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return c, key
}

// mount puts the files of a Secret into a directory, all at once, as the kubelet does.
func mount(t *testing.T, dir string, n int, root, issuer *x509.Certificate, key crypto.Signer) {
	t.Helper()
	data := filepath.Join(dir, "..data-"+strconv.Itoa(n))
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]*pem.Block{"tls.crt": {Type: "CERTIFICATE", Bytes: issuer.Raw}, "ca.crt": {Type: "CERTIFICATE", Bytes: root.Raw}, "tls.key": {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(filepath.Join(data, name), pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
		if n > 1 {
			continue
		}
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	next := filepath.Join(dir, "..data-next")
	if err := os.Symlink(filepath.Base(data), next); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
}

// The CA is a Secret of cert-manager, which renews the issuer and then has another
// root: no request fails, and nobody does anything.
func TestMountedIssuer(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	dir := t.TempDir()
	one, oneKey := certifies(t, "root one", nil, nil)
	two, twoKey := certifies(t, "root two", nil, nil)
	issuer, key := certifies(t, "issuer a", one, oneKey)
	mount(t, dir, 1, one, issuer, key)
	m := newMeshWith(t, []string{"--ca-issuer", dir})
	m.server("one")
	m.server("two")
	m.ready("echo", 2)
	pin := func(c *x509.Certificate) string {
		sum := sha256.Sum256(c.Raw)
		return hex.EncodeToString(sum[:])
	}
	if got := m.rootPin(); got != pin(one) {
		t.Errorf("root %s, want %s", got, pin(one))
	}
	load := m.load(rate, 50*time.Second)
	issuer, key = certifies(t, "issuer b", one, oneKey)
	mount(t, dir, 2, one, issuer, key)
	time.Sleep(12 * time.Second) // it is looked at every ten
	issuer, key = certifies(t, "issuer c", two, twoKey)
	mount(t, dir, 3, two, issuer, key)
	done := func() bool {
		out, err := m.try("trust", "-o", "json")
		return err == nil && strings.Contains(out, pin(two)) && !strings.Contains(out, pin(one))
	}
	for end := time.Now().Add(3 * time.Minute); !done(); time.Sleep(time.Second) {
		if time.Now().After(end) {
			t.Fatalf("the root isn't the other one:\n%s", m.tulle("trust"))
		}
	}
	m.server("three") // who joins afterwards is one of them
	m.ready("echo", 3)
	load.result(3*time.Minute).noneFailed(t, 40*rate)
	if out, err := m.try("check", "-o", "short"); err != nil {
		t.Errorf("check: %v\n%s", err, out)
	}
}
