package http1

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/identity/identitytest"
	"tulle.dev/tulle/internal/proxy"
	"tulle.dev/tulle/internal/proxy/live"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/view"
)

// wait bounds whatever a row waits for.
const wait = 30 * time.Second

// origin is the server behind the proxy. It keeps what it was sent, and answers
// as the row says.
type origin struct {
	addr  netip.AddrPort
	proxy func(*testing.T, *origin) string // puts another one before another origin

	mu       sync.Mutex
	conns    int
	requests chan *message // every request that reached it, cut ones too
	answer   func(*message) (raw string, closes bool)
}

func startOrigin(t *testing.T) *origin {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &origin{addr: l.Addr().(*net.TCPAddr).AddrPort(), requests: make(chan *message, 64)}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			o.mu.Lock()
			o.conns++
			o.mu.Unlock()
			go o.serve(c)
		}
	}()
	return o
}

func (o *origin) serve(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		m, err := readMessage(r, "")
		if err != nil && m.head == "" {
			return
		}
		o.requests <- m
		if err != nil {
			return
		}
		o.mu.Lock()
		answer := o.answer
		o.mu.Unlock()
		raw, closes := answer(m)
		io.WriteString(c, raw)
		if closes {
			return
		}
	}
}

// ok answers anything.
func ok(m *message) (string, bool) {
	if strings.HasPrefix(m.start, "HEAD ") {
		return "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", false
	}
	return "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false
}

func (o *origin) set(answer func(*message) (string, bool)) {
	o.mu.Lock()
	o.answer = answer
	o.mu.Unlock()
}

func (o *origin) opened() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.conns
}

// got returns the request that reached the origin, or nil when none did.
func (o *origin) got(d time.Duration) *message {
	select {
	case m := <-o.requests:
		return m
	case <-time.After(d):
		return nil
	}
}

const key = "origin.default:80"

var anyPort = netip.MustParseAddrPort("127.0.0.1:0")

// newView is a proxy with one listener and one destination.
func newView(name string, role view.Role, l view.Listener, to view.Endpoint) *view.View {
	l.Name, l.Address = "http", anyPort
	return &view.View{
		Version: 1,
		Proxy: view.Proxy{
			Name: name, Namespace: "default", Role: role, TrustDomain: "mesh.local", ClusterDomain: "cluster.local",
			Listeners: []view.Listener{l},
		},
		Destinations: map[string]*view.Destination{key: {Key: key, Protocol: view.HTTP}},
		Endpoints:    map[string]*view.Endpoints{key: {Key: key, List: []view.Endpoint{to}}},
	}
}

// start runs a proxy with one HTTP listener before the origin.
func start(t *testing.T, o *origin) string {
	t.Helper()
	return run(t, newView("edge", view.Gateway, edge, view.Endpoint{Address: o.addr}), nil)
}

// edge routes everything to the one destination.
var edge = view.Listener{
	Kind: view.Edge, Protocol: view.HTTP,
	Routes: route.Spec{Hosts: []route.Host{{
		Hostnames: []string{"*"},
		Rules:     []route.Rule{{Name: "all", Backends: []route.Backend{{Destination: key, Weight: 1}}}},
	}}},
}

// pair runs two sidecars before the origin, with mutual TLS between them.
func pair(t *testing.T, o *origin, peers view.PeerProtocol) string {
	t.Helper()
	domain := identitytest.New(t, "mesh.local")
	web := identity.ID{TrustDomain: "mesh.local", Namespace: "default", ServiceAccount: "web"}
	shop := identity.ID{TrustDomain: "mesh.local", Namespace: "default", ServiceAccount: "origin"}
	in := newView("origin", view.Sidecar, view.Listener{Kind: view.Inbound, Destination: key, App: o.addr}, view.Endpoint{Address: o.addr})
	in.Proxy.Identity = shop.String()
	mesh := netip.MustParseAddrPort(run(t, in, domain))
	out := newView("web", view.Sidecar, view.Listener{Kind: view.Explicit, Destination: key}, view.Endpoint{
		Address: mesh, Identity: shop.String(), Workload: "origin.default",
	})
	out.Proxy.Identity = web.String()
	out.Proxy.Settings.PeerProtocol = peers
	return run(t, out, domain)
}

// run runs a proxy and returns where it listens.
func run(t *testing.T, v *view.View, domain *identitytest.Domain) string {
	t.Helper()
	m := meter.New(1, "test")
	log := slog.New(slog.DiscardHandler)
	told, err := live.Static(v, "", log, m)
	if err != nil {
		t.Fatal(err)
	}
	if domain != nil {
		id, err := identity.Parse(v.Proxy.Identity)
		if err != nil {
			t.Fatal(err)
		}
		told.Credentials().SetSVID(domain.SVID(id))
		told.Credentials().SetBundle(identitytest.Bundle(t, domain))
	}
	p, err := proxy.New(proxy.Config{Live: told, Meter: m, Log: log, Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p.Bound()["http"].String()
}

// exchange sends raw bytes to the proxy and ends its side.
func exchange(t *testing.T, addr string, raw []byte) (*net.TCPConn, *bufio.Reader) {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, wait)
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(wait))
	if _, err := c.Write(raw); err != nil {
		t.Fatal(err)
	}
	tcp := c.(*net.TCPConn)
	return tcp, bufio.NewReader(tcp)
}
