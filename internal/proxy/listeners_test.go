package proxy_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"tulle.dev/tulle/internal/proxy"
)

// TestLoopsShare: few connections that live long burden the loops alike,
// whatever the kernel's hash says, and so do those that come when some are gone.
func TestLoopsShare(t *testing.T) {
	const loops, each = 4, 2
	origin := serve(t, answering(hello))
	for range 5 { // by chance alone it would hold in one of 40 tries
		p := startWith(t, edgeView(origin), proxy.Config{Loops: loops})
		var conns []net.Conn
		open := func() {
			c := dialTo(t, p.addr(t, "http"))
			conns = append(conns, c)
			ask(t, c) // it is served: it counts on a loop
		}
		check := func() {
			t.Helper()
			if got := p.ClientsPerLoop(); slices.Max(got) > each || slices.Min(got) < each {
				t.Errorf("%d connections: loops have %v, want %d each", len(conns), got, each)
			}
		}
		for range loops * each {
			open()
		}
		check()
		for _, c := range conns[:3] {
			c.Close()
		}
		conns = conns[3:]
		for deadline := time.Now().Add(wait); p.Connections() != len(conns); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d connections are open, want %d", p.Connections(), len(conns))
			}
		}
		for range 3 {
			open()
		}
		check()
		for _, c := range conns {
			c.Close()
		}
		settled(t, p)
		p.Stop()
	}
}

// ask makes a request on a connection that stays open.
func ask(t *testing.T, c net.Conn) {
	t.Helper()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
}

// TestMaxConnections: connections above the limit wait until there is room.
func TestMaxConnections(t *testing.T) {
	v := edgeView(serve(t, answering(hello)))
	v.Proxy.Settings.MaxConnections = 2
	p := start(t, v, 1)
	addr := p.addr(t, "http")
	first, second := dialTo(t, addr), dialTo(t, addr)
	third := dialTo(t, addr)
	io.WriteString(third, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	for _, c := range []io.ReadWriteCloser{first, second} {
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		if got, err := io.ReadAll(c); err != nil || !strings.HasSuffix(string(got), "hello") {
			t.Errorf("got %q, %v", got, err)
		}
		c.Close()
	}
	if got, err := io.ReadAll(third); err != nil || !strings.HasSuffix(string(got), "hello") {
		t.Errorf("the third: got %q, %v", got, err)
	}
	settled(t, p)
}
