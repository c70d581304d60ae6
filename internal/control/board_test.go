package control

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tulle.dev/tulle/internal/control/api/client"
)

// webFiles makes a certificate for localhost, as for a browser.
func webFiles(t *testing.T, dir string) (chain, key string, roots *x509.CertPool) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{"mesh.example"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	chain, key = filepath.Join(dir, "web.pem"), filepath.Join(dir, "web-key.pem")
	for path, b := range map[string]*pem.Block{chain: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return chain, key, roots
}

// page asks the dashboard.
func page(t *testing.T, h *http.Client, method, url, body string, fields ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	resp, err := h.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(data)
}

// The dashboard is open on a laptop; with an operator everybody logs in, with a
// link that the control API makes, and it is written down.
func TestDashboardLogin(t *testing.T) {
	r := start(t, shortDir(t))
	transport := &http.Transport{DisableKeepAlives: true}
	h := &http.Client{Transport: transport}
	base := "http://" + r.at.Dashboard
	if resp, body := page(t, h, "GET", base+"/api/overview", ""); resp.StatusCode != 200 {
		t.Fatalf("without operators: %d %s", resp.StatusCode, body)
	}
	sum := sha256.Sum256([]byte("token of ben"))
	r.apply(fmt.Sprintf(`
apiVersion: tulle.dev/v1alpha1
kind: Operator
metadata: {name: ben}
spec: {role: View, namespaces: [shop], tokens: [{sha256: "%s"}]}
`, hex.EncodeToString(sum[:])))
	for _, path := range []string{"/api/overview", "/api/v1/query?query=up"} {
		if resp, _ := page(t, h, "GET", base+path, ""); resp.StatusCode != 401 {
			t.Errorf("%s with an operator: %d, want 401", path, resp.StatusCode)
		}
	}
	for _, as := range []struct {
		client *client.Client
		name   string
		query  int
	}{
		{r.client, fmt.Sprintf("uid %d", os.Getuid()), 200},
		{client.New(client.Config{Address: r.at.Listen, Token: "token of ben", TLS: &tls.Config{InsecureSkipVerify: true}}), "ben", 403},
	} {
		l, err := as.client.LogIn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer as.client.Close()
		link, code, ok := strings.Cut(l.URL, "#")
		if !ok || link != base+"/login" || l.Operator != as.name {
			t.Fatalf("%+v", l)
		}
		body, err := json.Marshal(map[string]string{"code": code})
		if err != nil {
			t.Fatal(err)
		}
		resp, answer := page(t, h, "POST", base+"/api/login", string(body))
		if resp.StatusCode != 200 || !strings.Contains(answer, as.name) {
			t.Fatalf("login: %d %s", resp.StatusCode, answer)
		}
		cookie := resp.Cookies()[0]
		if resp, answer := page(t, h, "GET", base+"/api/v1/query?query=up", "", "Cookie", cookie.Name+"="+cookie.Value); resp.StatusCode != as.query {
			t.Errorf("%s asks the query API: %d %s", as.name, resp.StatusCode, answer)
		}
		entries, err := r.client.Audit(t.Context(), client.AuditFilter{Who: as.name, Last: 2})
		if err != nil || len(entries) != 2 || entries[0].Action != "dashboard-link" || entries[1].Action != "dashboard-login" || entries[1].From != "127.0.0.1" {
			t.Errorf("%s: %+v, %v", as.name, entries, err)
		}
		record, err := os.ReadFile(filepath.Join(r.dir, AuditFile))
		if err != nil || bytes.Contains(record, []byte(code)) || bytes.Contains(record, []byte(cookie.Value)) {
			t.Errorf("the record holds a secret, or %v", err)
		}
	}
}

// Over TLS the dashboard may be shown to the world, and takes certificates.
func TestDashboardTLS(t *testing.T) {
	files := t.TempDir()
	chain, key, roots := webFiles(t, files)
	r := startWith(t, shortDir(t), func(c *Config) { c.DashboardCertificate, c.DashboardKey = chain, key })
	r.apply(`
apiVersion: tulle.dev/v1alpha1
kind: Operator
metadata: {name: robot}
spec: {role: View, identities: ["spiffe://mesh.local/ns/shop/sa/robot"]}
`)
	base := "https://" + r.at.Dashboard
	with := func(certificates ...tls.Certificate) *http.Client {
		return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: certificates}}}
	}
	if resp, _ := page(t, with(), "GET", base+"/api/overview", ""); resp.StatusCode != 401 {
		t.Errorf("nobody: %d", resp.StatusCode)
	}
	if resp, _ := page(t, with(), "GET", base+"/services", "", "Host", "mesh.example"); resp.StatusCode != 200 {
		t.Errorf("the pages: %d", resp.StatusCode)
	}
	for account, want := range map[string]int{"robot": 200, "cart": 401} {
		if resp, body := page(t, with(certificateOf(t, r, "shop/"+account)), "GET", base+"/api/me", ""); resp.StatusCode != want {
			t.Errorf("%s: %d %s", account, resp.StatusCode, body)
		}
	}
	// Not of this mesh: the handshake ends.
	foreign, err := tls.LoadX509KeyPair(chain, key)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), "GET", base+"/api/me", nil)
	if err != nil {
		t.Fatal(err)
	}
	c := with()
	c.Transport.(*http.Transport).TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &foreign, nil }
	if resp, err := c.Do(req); err == nil {
		resp.Body.Close()
		t.Errorf("a certificate of nobody's: %d", resp.StatusCode)
	}
	l, err := r.client.LogIn(t.Context())
	if err != nil || !strings.HasPrefix(l.URL, "https://mesh.example:") {
		t.Errorf("%+v, %v", l, err)
	}
}

// certificateOf has the control plane sign one.
func certificateOf(t *testing.T, r *running, id string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := r.client.CreateCertificate(t.Context(), client.CertificateRequest{Identity: id, CSR: csr})
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: c.Chain, PrivateKey: key}
}

func TestDashboardAddress(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"all addresses in plaintext":   {func(c *Config) { c.Dashboard = "0.0.0.0:0" }, "--dashboard-certificate"},
		"a certificate without a key":  {func(c *Config) { c.DashboardCertificate = "web.pem" }, "belong together"},
		"a certificate that isn't one": {func(c *Config) { c.DashboardCertificate, c.DashboardKey = os.DevNull, os.DevNull }, "--dashboard-certificate"},
	} {
		config := Config{DataDir: shortDir(t), Listen: None, Dashboard: None}
		c.change(&config)
		control, err := New(config)
		if err == nil {
			err = control.Run(t.Context())
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
