package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/proxy"
	"tulle.dev/tulle/internal/proxy/live"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/view"
)

// TestMain gives every loop of the proxies under test a processor, and the tests
// some too: a loop that waits briefly for traffic holds the one it has, which is
// why tulle-proxy sets GOMAXPROCS to its loops plus one.
func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(16)
	os.Exit(m.Run())
}

// wait bounds whatever must happen: much longer than it takes, as the machine may
// be slow and busy.
const wait = 30 * time.Second

// backendKey is the one destination of these tests.
const backendKey = "backend.default:80"

// edgeView is a reverse proxy: one HTTP listener, everything to the backends.
func edgeView(backends ...netip.AddrPort) *view.View {
	v := &view.View{
		Version: 1,
		Proxy: view.Proxy{
			Name: "edge", Namespace: "default", Role: view.Gateway,
			TrustDomain: "mesh.local", ClusterDomain: "cluster.local",
			Listeners: []view.Listener{{
				Name: "http", Kind: view.Edge, Protocol: view.HTTP,
				Address: netip.MustParseAddrPort("127.0.0.1:0"),
				Routes: route.Spec{Hosts: []route.Host{{
					Hostnames: []string{"*"},
					Rules:     []route.Rule{{Name: "all", Backends: []route.Backend{{Destination: backendKey, Weight: 1}}}},
				}}},
			}},
		},
		Destinations: map[string]*view.Destination{backendKey: {Key: backendKey, Protocol: view.HTTP}},
		Endpoints:    map[string]*view.Endpoints{backendKey: {Key: backendKey}},
	}
	for _, b := range backends {
		v.Endpoints[backendKey].List = append(v.Endpoints[backendKey].List, view.Endpoint{Address: b})
	}
	return v
}

// running is a proxy under test.
type running struct {
	*proxy.Proxy
	meter       *meter.Registry
	credentials *identity.Credentials
	told        *live.Live
}

// start runs a proxy from a view. Its SVID is ca's, if there is one.
func start(t testing.TB, v *view.View, loops int) *running {
	t.Helper()
	return startWith(t, v, proxy.Config{Loops: loops})
}

// startWith is start with more to say.
func startWith(t testing.TB, v *view.View, c proxy.Config) *running {
	t.Helper()
	loops := c.Loops
	m := meter.New(loops, "test")
	told, err := live.Static(v, "", slog.New(slog.DiscardHandler), m)
	if err != nil {
		t.Fatal(err)
	}
	if v.Proxy.Identity != "" {
		ca.issue(t, told.Credentials(), v.Proxy.Identity)
	}
	c.Live, c.Meter = told, m
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	p, err := proxy.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return &running{p, m, told.Credentials(), told}
}

func (r *running) addr(t testing.TB, listener string) string {
	t.Helper()
	a, ok := r.Bound()[listener]
	if !ok {
		t.Fatalf("listener %s is not open", listener)
	}
	return a.String()
}

// metrics is what a scrape says.
func (r *running) metrics(t testing.TB) string {
	t.Helper()
	var b strings.Builder
	if err := r.meter.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// serve runs handle on each connection of a listener.
func serve(t testing.TB, handle func(net.Conn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				handle(c)
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// readHead reads up to the empty line.
func readHead(r *bufio.Reader) (string, error) {
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		b.WriteString(line)
		if err != nil {
			return b.String(), err
		}
		if line == "\r\n" {
			return b.String(), nil
		}
	}
}

// answering is a backend that reads a head and writes the answer, over and over.
// A body is not read.
func answering(answer string) func(net.Conn) {
	return func(c net.Conn) {
		r := bufio.NewReader(c)
		for {
			if _, err := readHead(r); err != nil {
				return
			}
			if _, err := io.WriteString(c, answer); err != nil {
				return
			}
		}
	}
}

// dialTo connects to the proxy.
func dialTo(t testing.TB, addr string) net.Conn {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, wait)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(wait))
	return c
}

// talk sends raw bytes and returns all that comes until the end.
func talk(t testing.TB, addr, send string) string {
	t.Helper()
	c := dialTo(t, addr)
	if _, err := io.WriteString(c, send); err != nil {
		t.Fatal(err)
	}
	c.(*net.TCPConn).CloseWrite()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("after %q: %v", b, err)
	}
	return string(b)
}

// eachLoops runs a test with one loop and with four.
func eachLoops(t *testing.T, f func(t *testing.T, loops int)) {
	for _, loops := range []int{1, 4} {
		t.Run(fmt.Sprintf("loops=%d", loops), func(t *testing.T) { f(t, loops) })
	}
}
