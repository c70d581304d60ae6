package proxy_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/view"
)

// tcpView is an Edge listener for TCP.
func tcpView(p policy.Upstream, backends ...netip.AddrPort) *view.View {
	v := withPolicy(p, backends...)
	v.Proxy.Listeners[0].Protocol, v.Proxy.Listeners[0].Destination = view.TCP, backendKey
	v.Destinations[backendKey].Protocol = view.TCP
	return v
}

// tries connects to an echo and reports whether it answers. A reset may come while
// the connection is still being made.
func tries(t *testing.T, addr string) (net.Conn, bool) {
	c, err := net.DialTimeout("tcp", addr, wait)
	if err != nil {
		return nil, false
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(wait))
	return c, says(c) == "hello"
}

// says sends a word and returns what comes back.
func says(c net.Conn) string {
	io.WriteString(c, "hello")
	b := make([]byte, 5)
	if _, err := io.ReadFull(c, b); err != nil {
		return ""
	}
	return string(b)
}

// A limit of connections holds for TCP as well: what is too much is reset, and
// when one ends another is let in.
func TestConnectionLimitOfTCP(t *testing.T) {
	for _, max := range []uint32{1, 3} {
		eachLoops(t, func(t *testing.T, loops int) {
			p := *policy.DefaultUpstream
			p.Limits.Connections = max
			edge := start(t, tcpView(p, serve(t, echo)), loops)
			addr := edge.addr(t, "http")
			for round := range 3 {
				var open []net.Conn
				happens(t, func() bool { // those of the round before may be ending still
					if c, ok := tries(t, addr); ok {
						open = append(open, c)
					}
					return len(open) == int(max)
				})
				for range 5 {
					if _, ok := tries(t, addr); ok {
						t.Fatalf("round %d: more than %d connections", round, max)
					}
				}
				for _, c := range open {
					if says(c) != "hello" {
						t.Errorf("round %d: a connection within the limit broke", round)
					}
					c.Close()
				}
			}
			want := `tulle_errors_total{direction="edge",service="backend.default:80",reason="connection_limit_reached"}`
			if m := edge.metrics(t); !strings.Contains(m, want) {
				t.Errorf("no %s in\n%s", want, m)
			}
		})
	}
}

// A TCP service's endpoint that refuses connections is left out; a client gets
// another one meanwhile.
func TestEjectionOfTCP(t *testing.T) {
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := dead.Addr().(*net.TCPAddr).AddrPort()
	dead.Close()
	p := *policy.DefaultUpstream
	p.Balance.Algorithm = policy.RoundRobin
	edge := start(t, tcpView(p, at, serve(t, echo), serve(t, echo)), 2)
	for range 40 {
		c := dialTo(t, edge.addr(t, "http"))
		if says(c) != "hello" {
			t.Fatal("a connection isn't carried")
		}
		c.Close()
	}
	want := fmt.Sprintf(`tulle_endpoints{service="%s",state="ejected"} 1`, backendKey)
	if m := edge.metrics(t); !strings.Contains(m, want) {
		t.Errorf("no %s in\n%s", want, m)
	}
}

// A client's address decides for TCP too.
func TestHashSourceOfTCP(t *testing.T) {
	p := *policy.DefaultUpstream
	p.Balance = policy.Balance{Algorithm: policy.RingHash, On: []policy.HashPart{{Kind: policy.HashSource}}}
	name := func(s string) func(net.Conn) {
		return func(c net.Conn) { io.WriteString(c, s); io.Copy(io.Discard, c) }
	}
	addr := start(t, tcpView(p, serve(t, name("a")), serve(t, name("b")), serve(t, name("c"))), 4).addr(t, "http")
	first := ""
	for range 20 {
		c := dialTo(t, addr)
		b := make([]byte, 1)
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatal(err)
		}
		c.Close()
		if first == "" {
			first = string(b)
		}
		if string(b) != first {
			t.Fatalf("one client at %s and %s", first, b)
		}
	}
}
