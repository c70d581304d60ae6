package admin_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tulle.dev/tulle/internal/access"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/identity/identitytest"
	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/admin"
	"tulle.dev/tulle/internal/proxy/live"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/proxy/story"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/view"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// proxy makes a server for a proxy that runs from a view.
func proxy(t *testing.T, change func(*admin.Config)) (*admin.Server, *identitytest.Domain) {
	t.Helper()
	d := identitytest.New(t, "mesh.local")
	dir := t.TempDir()
	s := d.SVID(d.ID("web"))
	for _, err := range []error{
		identity.WriteKey(filepath.Join(dir, "web-key.pem"), s.Key()),
		identity.WriteCertificates(filepath.Join(dir, "web.pem"), s.Certificate.Certificate),
		identity.WriteCertificates(filepath.Join(dir, "bundle.pem"), [][]byte{d.Root.Raw}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	v := &view.View{
		Version: 5,
		Proxy: view.Proxy{
			Name: "web", Namespace: "default", Role: view.Sidecar, Identity: d.ID("web").String(), IdentityDir: dir,
			Listeners: []view.Listener{
				{Name: "out", Kind: view.Capture, Address: netip.MustParseAddrPort("127.0.0.1:15001")},
				{Name: "in", Kind: view.Inbound, Address: netip.MustParseAddrPort("127.0.0.1:15006"), App: netip.MustParseAddrPort("127.0.0.1:80"), Destination: "web.default:80",
					Inbound: &policy.Inbound{Guard: &policy.Guard{Access: &access.Spec{Rules: []access.Rule{{Name: "accesspolicy/default/a#0", Action: access.Allow}}}}}},
			},
		},
		Destinations: map[string]*view.Destination{"cart.default:8080": {Key: "cart.default:8080", Routes: route.Spec{
			Hosts: []route.Host{{Hostnames: []string{"*"}, Rules: []route.Rule{{
				Matches:  []route.Match{{Path: route.Path{Kind: route.PathPrefix, Value: "/a"}}},
				Backends: []route.Backend{{Destination: "cart-v2.default:8080", Weight: 1}}, Timeout: time.Second}}}}}}},
		Endpoints: map[string]*view.Endpoints{"cart.default:8080": {Key: "cart.default:8080", List: []view.Endpoint{
			{Address: netip.MustParseAddrPort("10.0.0.1:4143"), Identity: d.ID("cart").String()}}}},
	}
	m := meter.New(1, "1.2.3")
	l, err := live.Static(v, "", nil, m)
	if err != nil {
		t.Fatal(err)
	}
	c := admin.Config{Live: l, Meter: m, Version: "1.2.3"}
	if change != nil {
		change(&c)
	}
	server := admin.New(c)
	t.Cleanup(server.Close)
	return server, d
}

func get(t *testing.T, c *http.Client, url string) (int, string) {
	t.Helper()
	r, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

func TestUnixSocket(t *testing.T) {
	var unready error
	s, _ := proxy(t, func(c *admin.Config) {
		c.Ready = func() error { return unready }
		c.Alive = func() error { return nil }
		c.Connections = func() any { return []string{"one"} }
		c.Stories = func(q story.Query) []story.Told {
			return []story.Told{{ID: q.ID, Service: q.Service, Status: q.Last}}
		}
		c.Drain = func(context.Context) error { return unready }
	})
	s.Section("pools", func() any { return map[string]int{"cart": 3} })
	path := filepath.Join(t.TempDir(), "admin.sock")
	// What a dead proxy left behind.
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	if err := s.ListenUnix(path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", info.Mode(), err)
	}
	if err := s.ListenUnix(path); err == nil || !strings.Contains(err.Error(), "another proxy") {
		t.Errorf("a second proxy on the same socket: %v", err)
	}
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return net.Dial("unix", path)
	}}}
	defer c.CloseIdleConnections()
	for path, want := range map[string]string{
		"/ready": "ready", "/live": "alive", "/version": "1.2.3", "/connections": `"one"`,
		"/metrics":                         "tulle_view_version 5\n",
		"/why?last=7&service=cart.default": `"status": 7`, "/why?id=a%2Fb": `"id": "a/b"`,
	} {
		if code, body := get(t, c, "http://proxy"+path); code != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %q, want %q in it", path, code, body, want)
		}
	}
	request, err := http.NewRequest("GET", "http://proxy/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", "application/openmetrics-text; version=1.0.0, text/plain;q=0.5")
	response, err := c.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	open, err := io.ReadAll(response.Body)
	response.Body.Close()
	if media := response.Header.Get("Content-Type"); err != nil || media != "application/openmetrics-text; version=1.0.0; charset=utf-8" || !strings.HasSuffix(string(open), "\n# EOF\n") {
		t.Errorf("metrics as OpenMetrics: %s %q, %v", media, open, err)
	}
	unready = errors.New("draining")
	if code, body := get(t, c, "http://proxy/ready"); code != 503 || !strings.Contains(body, "draining") {
		t.Errorf("not ready: %d %q", code, body)
	}
	for _, query := range []string{"last=0", "last=501", "last=x", "id=" + strings.Repeat("x", 257), "a=%zz"} {
		if code, body := get(t, c, "http://proxy/why?"+query); code != 400 {
			t.Errorf("/why?%.20s: %d %q", query, code, body)
		}
	}
	if code, _ := get(t, c, "http://proxy/other"); code != 404 {
		t.Errorf("/other: %d", code)
	}
	r, err := c.Post("http://proxy/ready", "text/plain", strings.NewReader("x"))
	if err != nil || r.StatusCode != 405 || !r.Close {
		t.Errorf("POST: %v, %v", r, err)
	}
	r.Body.Close()

	for want, unknown := range map[int]error{504: errors.New("nobody knows"), 200: nil} {
		unready = unknown
		r, err := c.Post("http://proxy/drain", "", nil)
		if err != nil || r.StatusCode != want {
			t.Errorf("POST /drain: %v, %v; want %d", r, err, want)
		}
		r.Body.Close()
	}
	unready = errors.New("draining")

	_, body := get(t, c, "http://proxy/dump")
	var d map[string]any
	if err := json.Unmarshal([]byte(body), &d); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"proxy", "listeners", "destinations", "endpoints", "hosts", "identity", "control", "view_version", "pools", "not_ready"} {
		if _, ok := d[key]; !ok {
			t.Errorf("the dump has no %q", key)
		}
	}
	if !strings.Contains(body, "10.0.0.1:4143") || !strings.Contains(body, `"path_prefix": "/a"`) {
		t.Errorf("the dump lacks the destination: %s", body)
	}
	if !strings.Contains(body, `"name": "accesspolicy/default/a#0"`) {
		t.Errorf("the dump lacks the access rules: %s", body)
	}
	if strings.Contains(body, "PRIVATE") {
		t.Error("the dump shows a key")
	}
}

func TestPlain(t *testing.T) {
	s, _ := proxy(t, func(c *admin.Config) {
		c.Drain = func(context.Context) error { t.Error("drained over TCP"); return nil }
	})
	if _, err := s.ListenPlain("0.0.0.0:0"); err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("plain HTTP on every address: %v", err)
	}
	addr, err := s.ListenPlain("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ send, want string }{
		{"GET /ready HTTP/1.1\r\nHost: localhost:1\r\n\r\n", "HTTP/1.1 200 "},
		{"GET /ready HTTP/1.1\r\nHost: evil.example\r\n\r\n", "HTTP/1.1 403 "},
		{"GET /ready HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "},
		{"HEAD /ready HTTP/1.1\r\nHost: [::1]:9\r\n\r\n", "HTTP/1.1 200 "},
		{"POST /drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 405 "},
		{"nonsense\r\n\r\n", "HTTP/1.1 400 "},
		{"GET /ready HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 10_000) + "\r\n\r\n", "HTTP/1.1 431 "},
		{"GET /ready HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 200 "},
	} {
		c, err := net.Dial("tcp", addr.String())
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(c, test.send)
		line, err := bufio.NewReader(c).ReadString('\n')
		c.Close()
		if !strings.HasPrefix(line, test.want) {
			t.Errorf("%.60q: %q, %v, want %q", test.send, line, err, test.want)
		}
	}
	// Two requests on one connection, the second sent with the first.
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c, "GET /live HTTP/1.1\r\nHost: localhost\r\n\r\nGET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
	b, err := io.ReadAll(c)
	if err != nil || strings.Count(string(b), "HTTP/1.1 200 OK") != 2 || !strings.HasSuffix(string(b), "1.2.3\n") {
		t.Errorf("two requests: %q, %v", b, err)
	}
}

func TestMutualTLS(t *testing.T) {
	s, d := proxy(t, nil)
	addr, err := s.ListenTLS("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	try := func(config *tls.Config) error {
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
		defer c.CloseIdleConnections()
		r, err := c.Get("https://" + addr.String() + "/metrics")
		if err != nil {
			return err
		}
		defer r.Body.Close()
		if r.StatusCode != 200 {
			return fmt.Errorf("status %d", r.StatusCode)
		}
		return nil
	}
	if err := try(d.Credentials(identity.ControlPlane("mesh.local")).ClientConfig(d.ID("web"))); err != nil {
		t.Errorf("the control plane: %v", err)
	}
	if err := try(d.Credentials(d.ID("cart")).ClientConfig(d.ID("web"))); err == nil {
		t.Error("another workload was answered")
	}
	if err := try(&tls.Config{InsecureSkipVerify: true}); err == nil {
		t.Error("a client without a certificate was answered")
	}
}

func TestManyConnections(t *testing.T) {
	s, _ := proxy(t, nil)
	addr, err := s.ListenPlain("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	// Clients that say nothing take every slot; Close ends them.
	for range 40 {
		c, err := net.Dial("tcp", addr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	done := make(chan struct{})
	go func() {
		s.Close()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("Close does not end")
	}
}
