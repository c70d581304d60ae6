package proxy_test

import (
	"io"
	"net"
	"strings"
	"testing"
)

func TestEdgeGet(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		backend := serve(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nServer: b\r\n\r\nhello"))
		p := start(t, edgeView(backend), loops)
		got := talk(t, p.addr(t, "http"), "GET /a?b HTTP/1.1\r\nHost: x\r\n\r\nGET /c HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		if n := strings.Count(got, "hello"); n != 2 || !strings.Contains(got, "Via: 1.1 tulle\r\n") {
			t.Fatalf("got %q", got)
		}
	})
}

func TestEdgeConnectionsAreReused(t *testing.T) {
	opened := make(chan struct{}, 100)
	backend := serve(t, func(c net.Conn) {
		opened <- struct{}{}
		answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")(c)
	})
	p := start(t, edgeView(backend), 1)
	c := dialTo(t, p.addr(t, "http"))
	for range 10 {
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		b := make([]byte, 4096)
		n, err := c.Read(b)
		if err != nil || !strings.HasSuffix(string(b[:n]), "ok") {
			t.Fatalf("%q %v", b[:n], err)
		}
	}
	if len(opened) != 1 {
		t.Errorf("%d upstream connections, want 1", len(opened))
	}
}
