package proxy_test

import (
	"io"
	"strings"
	"testing"

	"tulle.dev/tulle/internal/proxy"
)

// TestDealing: where listeners can't share an address, one loop accepts and all
// of them serve.
func TestDealing(t *testing.T) {
	p := startWith(t, edgeView(serve(t, answering(hello))), proxy.Config{Loops: 4, Deal: true})
	for range 20 {
		got := talk(t, p.addr(t, "http"), "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		if !strings.HasSuffix(got, "hello") {
			t.Fatalf("got %q", got)
		}
	}
	settled(t, p)
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
