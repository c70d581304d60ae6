package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tulle.dev/tulle/internal/proxy/live"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/view"
)

// tableOf compiles a view.
func tableOf(t testing.TB, v *view.View) *live.Table {
	t.Helper()
	l, err := live.Static(v, "", slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	return l.Table()
}

// TestListenersChange: routes and listeners change while connections are open;
// no request is lost.
func TestListenersChange(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		answer := func(name string) netip.AddrPort {
			return serve(t, answering(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(name), name)))
		}
		const second = "second.default:80"
		both := func() *view.View {
			v := edgeView(answer("first"))
			v.Destinations[second] = &view.Destination{Key: second, Protocol: view.HTTP}
			v.Endpoints[second] = &view.Endpoints{Key: second, List: []view.Endpoint{{Address: answer("second")}}}
			return v
		}
		v := both()
		p := start(t, v, loops)
		addr := p.addr(t, "http")
		c := dialTo(t, addr)
		r := bufio.NewReader(c)
		ask := func() string {
			t.Helper()
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			head, err := readHead(r)
			if err != nil || !strings.HasPrefix(head, "HTTP/1.1 200 ") {
				t.Fatalf("got %q, %v", head, err)
			}
			var n int
			fmt.Sscanf(head[strings.Index(head, "Content-Length"):], "Content-Length: %d", &n)
			body := make([]byte, n)
			io.ReadFull(r, body)
			return string(body)
		}
		until := func(want string) {
			t.Helper()
			for end := time.Now().Add(wait); ask() != want; {
				if time.Now().After(end) {
					t.Fatalf("requests don't go to %s", want)
				}
			}
		}
		until("first")

		changed := *v
		changed.Proxy.Listeners = []view.Listener{v.Proxy.Listeners[0]}
		changed.Proxy.Listeners[0].Routes = route.Spec{Hosts: []route.Host{{
			Hostnames: []string{"*"},
			Rules:     []route.Rule{{Name: "all", Backends: []route.Backend{{Destination: second, Weight: 1}}}},
		}}}
		p.Follow(tableOf(t, &changed))
		until("second") // on the connection that is open
		if p.addr(t, "http") != addr {
			t.Error("the listener moved")
		}

		more := changed
		more.Proxy.Listeners = append([]view.Listener{}, changed.Proxy.Listeners[0], changed.Proxy.Listeners[0])
		more.Proxy.Listeners[1].Name = "another"
		p.Follow(tableOf(t, &more))
		if got := talk(t, p.addr(t, "another"), "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); !strings.HasSuffix(got, "second") {
			t.Errorf("the new listener: %q", got)
		}

		none := more
		none.Proxy.Listeners = more.Proxy.Listeners[1:]
		p.Follow(tableOf(t, &none))
		for end := time.Now().Add(wait); ; {
			other, err := net.Dial("tcp", addr)
			if err != nil {
				break
			}
			other.Close()
			if time.Now().After(end) {
				t.Fatal("the listener that is gone still accepts")
			}
		}
		if got := ask(); got != "second" { // the connection that was open goes on
			t.Errorf("got %q", got)
		}
	})
}

func TestIPv6(t *testing.T) {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("there is no IPv6 loopback address: enable IPv6 (sysctl net.ipv6.conf.lo.disable_ipv6=0)")
	}
	l.Close()
	v := edgeView(serve(t, answering(hello)))
	v.Proxy.Listeners[0].Address = netip.MustParseAddrPort("[::1]:0")
	p := start(t, v, 2)
	if got := talk(t, p.addr(t, "http"), "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); !strings.HasSuffix(got, "hello") {
		t.Errorf("got %q", got)
	}
}
