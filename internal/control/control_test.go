package control

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/control/store"
	"tulle.dev/tulle/internal/proxy/live"
	"tulle.dev/tulle/internal/view"
	wire "tulle.dev/tulle/internal/wire/control"
)

// TestMain lets the test binary be the etcd child.
func TestMain(m *testing.M) {
	if len(os.Args) > 3 && os.Args[1] == "etcd" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		if err := store.ServeEtcd(ctx, os.Args[3], os.Stdin); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) > 3 && os.Args[1] == "etcd-tls" {
		if err := serveTLS(os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// running is a control plane of a test.
type running struct {
	t      *testing.T
	dir    string
	at     Addresses
	stop   func() error
	client *client.Client
}

func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tulle") // t.TempDir's name may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func start(t *testing.T, dir string) *running {
	t.Helper()
	return startWith(t, dir, func(*Config) {})
}

func startWith(t *testing.T, dir string, change func(*Config)) *running {
	t.Helper()
	ready := make(chan Addresses, 1)
	config := Config{DataDir: dir, Listen: "127.0.0.1:0", Dashboard: "127.0.0.1:0",
		Log: slog.New(slog.NewTextHandler(testWriter{t}, nil)), Ready: func(a Addresses) { ready <- a }}
	change(&config)
	c, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	r := &running{t: t, dir: dir}
	select {
	case r.at = <-ready:
	case err := <-ended:
		t.Fatalf("the control plane ended: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("the control plane isn't ready after a minute")
	}
	stopped := false
	r.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(time.Minute):
			return errors.New("the control plane doesn't stop")
		}
	}
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
	r.client = client.New(client.Config{Socket: r.at.ControlSocket})
	t.Cleanup(r.client.Close)
	return r
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	if strings.Contains(string(p), "level=ERROR") || testing.Verbose() {
		fmt.Fprintf(os.Stderr, "%s: %s", w.t.Name(), p)
	}
	return len(p), nil
}

func resource(k *object.Kind) client.Resource {
	return client.Resource{Group: k.Group, Version: k.Version, Plural: k.Plural, Namespaced: k.Namespaced}
}

func (r *running) apply(text string) {
	r.t.Helper()
	docs, err := object.Decode("test", []byte(text))
	if err != nil {
		r.t.Fatal(err)
	}
	for _, d := range docs {
		data, err := object.Encode(d.Object)
		if err != nil {
			r.t.Fatal(err)
		}
		if _, err := r.client.Apply(r.t.Context(), resource(d.Kind), d.Object.GetNamespace(), d.Object.GetName(), data, false); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *running) token(id string, services ...string) string {
	r.t.Helper()
	token, err := r.client.CreateJoinToken(r.t.Context(), client.JoinTokenRequest{Identity: id, Services: services})
	if err != nil {
		r.t.Fatal(err)
	}
	return token.Token
}

// proxy runs the proxy's own client against the control plane.
func (r *running) proxy(name, token string, registrations ...wire.Registration) *live.Live {
	r.t.Helper()
	l, err := live.New(live.Config{
		Control: "unix:" + r.at.ProxySocket, JoinToken: token, DataDir: filepath.Join(r.dir, "proxy-"+name),
		Hello: wire.Hello{Name: name, Namespace: "default", Version: "test", Role: view.Sidecar, UID: name + "-1", Registrations: registrations},
		Log:   slog.New(slog.NewTextHandler(testWriter{r.t}, nil)),
	})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	r.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			r.t.Errorf("proxy %s: %v", name, err)
		}
	})
	return l
}

// eventually waits for something that another process or goroutine does.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

const cartService = `
apiVersion: v1
kind: Service
metadata: {name: cart}
spec:
  ports: [{port: 80, targetPort: 8080, appProtocol: http}]
`

func (r *running) endpoints(service string) []client.Endpoint {
	e, err := r.client.Endpoints(r.t.Context(), service)
	if err != nil {
		return nil
	}
	return e.Ports[0].Endpoints
}

func TestProxyJoinsAndIsFed(t *testing.T) {
	r := start(t, shortDir(t))
	r.apply(cartService)
	app, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	appAddr := app.Addr().(*net.TCPAddr).AddrPort()
	web := r.proxy("web", r.token("default/web"))
	eventually(t, "web is connected", func() bool { return web.Link().Connected })
	if got := web.Credentials().SVID().ID.String(); got != "spiffe://mesh.local/ns/default/sa/web" {
		t.Errorf("web's identity is %s", got)
	}
	look := func(key string) { web.Lookup(func() {}, key) }
	look(live.HostKey("cart"))
	look(live.DestinationKey("cart.default:80"))
	look(live.EndpointsKey("cart.default:80"))
	eventually(t, "web knows cart", func() bool { return web.Link().Lookups == 3 && web.Table().Version > 0 })

	// A proxy registers cart; only once its program takes connections is it called.
	r.proxy("cart-1", r.token("default/cart", "cart"), wire.Registration{Service: "cart.default", Port: 80, App: appAddr, Mesh: appAddr, Protocol: view.HTTP})
	eventually(t, "cart has a healthy endpoint", func() bool {
		e := r.endpoints("cart")
		return len(e) == 1 && e[0].Health == "healthy" && e[0].Identity == "spiffe://mesh.local/ns/default/sa/cart"
	})
	eventually(t, "both proxies are up to date", func() bool {
		list, err := r.client.Proxies(t.Context())
		return err == nil && len(list) == 2 && list[0].Sent == list[0].Acknowledged && list[1].Sent == list[1].Acknowledged && list[1].Rejected == ""
	})
	data, err := r.client.Get(t.Context(), resource(object.Workload), "default", "cart-1")
	if err != nil || !strings.Contains(string(data), `"lease":"Held"`) {
		t.Errorf("workload: %s %v", data, err)
	}
}

func TestTokenOnce(t *testing.T) {
	r := start(t, shortDir(t))
	token := r.token("default/web")
	first := r.proxy("web", token)
	eventually(t, "the first is connected", func() bool { return first.Link().Connected })
	l, err := live.New(live.Config{Control: "unix:" + r.at.ProxySocket, JoinToken: token, Hello: wire.Hello{Name: "web-2", Namespace: "default", Role: view.Sidecar, UID: "x"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	l.Run(ctx)
	if l.Credentials().SVID() != nil {
		t.Error("a token was taken twice")
	}
}

func TestRestartKeepsEverything(t *testing.T) {
	dir := shortDir(t)
	r := start(t, dir)
	r.apply(cartService)
	token := r.token("default/web", "cart")
	before, err := r.client.Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	service, err := r.client.Get(t.Context(), resource(object.Service), "default", "cart")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r = start(t, dir)
	after, err := r.client.Identity(t.Context())
	if err != nil || *after != *before {
		t.Errorf("the CA changed: %v %v %v", before, after, err)
	}
	again, err := r.client.Get(t.Context(), resource(object.Service), "default", "cart")
	if err != nil || string(again) != string(service) {
		t.Errorf("service changed:\n%s\n%s %v", service, again, err)
	}
	web := r.proxy("web", token)
	eventually(t, "the token made before is good", func() bool { return web.Link().Connected })
	for _, f := range []string{"ca/root-key.pem", "ca/issuer-key.pem", APITokenFile, ControlSocket, ProxySocket} {
		info, err := os.Stat(filepath.Join(dir, f))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, want 0600 (%v)", f, info.Mode().Perm(), err)
		}
	}
}

func TestSecondControlPlaneAndTakenPort(t *testing.T) {
	dir := shortDir(t)
	r := start(t, dir)
	second, err := New(Config{DataDir: dir, Listen: "127.0.0.1:0", Dashboard: None})
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "in use by another control plane") {
		t.Errorf("second on one directory: %v", err)
	}
	third, err := New(Config{DataDir: shortDir(t), Listen: r.at.Listen, Dashboard: None})
	if err != nil {
		t.Fatal(err)
	}
	if err := third.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "the port is taken") || !strings.Contains(err.Error(), "--listen") {
		t.Errorf("taken port: %v", err)
	}
	open, err := New(Config{DataDir: shortDir(t), Listen: None, Dashboard: "0.0.0.0:0"})
	if err != nil {
		t.Fatal(err)
	}
	if err := open.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "--dashboard 0.0.0.0:0: ") || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("a dashboard for the world: %v", err)
	}
	if _, err := New(Config{DataDir: dir, TrustDomain: "Nope!"}); err == nil || !strings.Contains(err.Error(), "--trust-domain") {
		t.Errorf("bad trust domain: %v", err)
	}
}

// TestEtcdKilled kills the etcd child under the control plane.
func TestEtcdKilled(t *testing.T) {
	r := start(t, shortDir(t))
	r.apply(cartService)
	out, err := exec.Command("pgrep", "-f", "etcd --dir "+filepath.Join(r.dir, "etcd")).Output()
	if err != nil {
		t.Fatalf("find the etcd child (pgrep is in package procps): %v", err)
	}
	var pid int
	fmt.Sscan(string(out), &pid)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "objects are read again", func() bool {
		_, err := r.client.Get(t.Context(), resource(object.Service), "default", "cart")
		return err == nil
	})
	eventually(t, "objects are written again", func() bool {
		docs, _ := object.Decode("", []byte(strings.ReplaceAll(cartService, "cart", "cart2")))
		data, _ := object.Encode(docs[0].Object)
		_, err := r.client.Apply(t.Context(), resource(object.Service), "default", "cart2", data, false)
		return err == nil
	})
	eventually(t, "the mesh follows again", func() bool {
		e, err := r.client.Endpoints(t.Context(), "cart2")
		return err == nil && len(e.Ports) == 1
	})
}

func TestWhoMayAsk(t *testing.T) {
	r := start(t, shortDir(t))
	id, err := r.client.Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(id.Bundle))
	base := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"},
		VerifyConnection: func(cs tls.ConnectionState) error {
			between := x509.NewCertPool()
			for _, c := range cs.PeerCertificates[1:] {
				between.AddCert(c)
			}
			_, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: pool, Intermediates: between})
			return err
		}}
	ask := func(c client.Config) error {
		c.Address = r.at.Listen
		cl := client.New(c)
		defer cl.Close()
		_, err := cl.Status(t.Context())
		return err
	}
	token, err := os.ReadFile(filepath.Join(r.dir, APITokenFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := ask(client.Config{TLS: base, Token: strings.TrimSpace(string(token))}); err != nil {
		t.Errorf("with the token: %v", err)
	}
	refused := func(name string, c client.Config) {
		var s *client.Status
		if err := ask(c); !errors.As(err, &s) || s.Code != 401 {
			t.Errorf("%s: %v, want 401", name, err)
		}
	}
	refused("nothing", client.Config{TLS: base})
	refused("another token", client.Config{TLS: base, Token: "x"})
	cert := func(account string) *tls.Config {
		l := r.proxy(account, r.token("tulle/"+account))
		eventually(t, account+" has a certificate", func() bool { return l.Credentials().SVID() != nil })
		c := base.Clone()
		c.Certificates = []tls.Certificate{*l.Credentials().SVID().Certificate}
		return c
	}
	refused("a workload's certificate", client.Config{TLS: cert("web")})
	if err := ask(client.Config{TLS: cert("admin")}); err != nil {
		t.Errorf("with an administrator's certificate: %v", err)
	}
	if err := ask(client.Config{TLS: &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}}); err == nil {
		t.Error("TLS 1.2 was taken")
	}
}

func TestErrorsAreStatus(t *testing.T) {
	r := start(t, shortDir(t))
	put := func(k *object.Kind, name, body string) *client.Status {
		t.Helper()
		_, err := r.client.Apply(t.Context(), resource(k), "default", name, []byte(body), false)
		var s *client.Status
		if !errors.As(err, &s) {
			t.Fatalf("error %v is no Status", err)
		}
		return s
	}
	s := put(object.Service, "a", `{"apiVersion":"v1","kind":"Service","metadata":{"name":"a"},"spec":{"port":[]}}`)
	if s.Code != 422 || len(s.Details.Causes) != 1 || s.Details.Causes[0].Field != "spec.port" || !strings.Contains(s.Details.Causes[0].Message, `did you mean "ports"`) {
		t.Errorf("unknown field: %+v %+v", s, s.Details)
	}
	if s := put(object.Service, "b", `{"apiVersion":"v1","kind":"Service","metadata":{"name":"a"},"spec":{"ports":[{"port":1}]}}`); s.Code != 400 {
		t.Errorf("another name: %+v", s)
	}
	if s := put(object.Service, "a", strings.Repeat(" ", object.MaxInput+1)); s.Code != 413 {
		t.Errorf("too large: %+v", s)
	}
	r.apply(cartService)
	if s := put(object.Service, "cart", `{"apiVersion":"v1","kind":"Service","metadata":{"name":"cart","resourceVersion":"1"},"spec":{"ports":[{"port":1}]}}`); s.Code != 409 || !client.IsConflict(s) {
		t.Errorf("old resourceVersion: %+v", s)
	}
	if _, err := r.client.Get(t.Context(), resource(object.Service), "default", "none"); !client.IsNotFound(err) {
		t.Errorf("not found: %v", err)
	}
	if _, err := r.client.CreateJoinToken(t.Context(), client.JoinTokenRequest{Identity: "tulle/control-plane"}); err == nil {
		t.Error("a token for the control plane's own identity was made")
	}
	if _, err := r.client.Stat(t.Context(), time.Minute); err != nil {
		t.Errorf("stat: %v", err)
	}
	check, err := r.client.Check(t.Context())
	if err != nil || len(check.Checks) < 10 {
		t.Errorf("check: %+v %v", check, err)
	}
}
