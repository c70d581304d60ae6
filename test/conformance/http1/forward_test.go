package http1

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"tulle.dev/tulle/internal/view"
)

// A forward listener is a proxy to its clients (RFC 9110, 3.7): requests come in
// absolute-form or as CONNECT and go where they say.
func TestForward(t *testing.T) {
	o := startOrigin(t)
	o.set(echoPath)
	v := newView("web", view.Sidecar, view.Listener{Kind: view.Forward}, view.Endpoint{Address: o.addr})
	v.Hosts = map[string]*view.Host{"shop.example": {Name: "shop.example", Service: "origin.default", Ports: []uint16{80}}}
	addr := run(t, v, nil)

	t.Run("RFC 9112, 3.2.2: absolute-form", func(t *testing.T) {
		c, r := dial(t, addr)
		for _, target := range []string{"http://shop.example/a?b", "http://SHOP.example:80/a?b", "http://" + o.addr.String() + "/a?b"} {
			send(t, c, "GET "+target+" HTTP/1.1\r\nHost: other\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic dTpw\r\n\r\n")
			if m := read(t, r, "GET", 200); m.body != "GET /a?b HTTP/1.1" {
				t.Errorf("%s arrived as %q", target, m.body)
			}
			got := o.got(wait)
			host := strings.TrimSuffix(strings.TrimPrefix(target, "http://"), "/a?b")
			if got.field("Host") != host || got.field("Proxy-Connection") != "" || got.field("Proxy-Authorization") != "" || got.field("Via") != "1.1 tulle" {
				t.Errorf("%s arrived with %q", target, got.head)
			}
		}
	})
	t.Run("RFC 9112, 3.2.1: origin-form goes where Host says", func(t *testing.T) {
		c, r := dial(t, addr)
		send(t, c, "GET /x HTTP/1.1\r\nHost: shop.example\r\n\r\n")
		read(t, r, "GET", 200)
		<-o.requests
	})
	t.Run("RFC 9112, C.2.2: no persistent connection with an HTTP/1.0 client", func(t *testing.T) {
		c, r := dial(t, addr)
		send(t, c, "GET http://shop.example/ HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nProxy-Connection: keep-alive\r\n\r\n")
		if m := read(t, r, "GET", 200); !strings.Contains(m.field("Connection"), "close") {
			t.Errorf("answered %q", m.head)
		}
		ended(t, r)
		<-o.requests
	})
	t.Run("RFC 9110, 15.5.20: a proxy doesn't answer 421", func(t *testing.T) {
		c, r := dial(t, addr)
		send(t, c, "GET https://shop.example/ HTTP/1.1\r\nHost: shop.example\r\n\r\n")
		read(t, r, "GET", 501)
	})
	t.Run("RFC 9110, 9.3.6: CONNECT", func(t *testing.T) {
		c, r := dial(t, addr)
		// A client may send at once what is meant for the other end.
		send(t, c, "CONNECT "+o.addr.String()+" HTTP/1.1\r\nHost: "+o.addr.String()+"\r\n\r\n"+get)
		m := read(t, r, "CONNECT", 200)
		if m.field("Content-Length") != "" || m.field("Transfer-Encoding") != "" {
			t.Errorf("a tunnel is begun with %q", m.head)
		}
		if m := read(t, r, "GET", 200); m.field("Via") != "" {
			t.Errorf("what went through the tunnel was touched: %q", m.head)
		}
		<-o.requests
		c.CloseWrite()
		ended(t, r)
	})
	t.Run("RFC 9110, 9.3.6: CONNECT to a service", func(t *testing.T) {
		c, r := dial(t, addr)
		send(t, c, "CONNECT shop.example:80 HTTP/1.1\r\nHost: shop.example:80\r\n\r\n")
		read(t, r, "CONNECT", 200)
		send(t, c, get)
		read(t, r, "GET", 200)
		<-o.requests
	})
	t.Run("RFC 9110, 9.3.6: CONNECT to where nobody is", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		c, r := dial(t, addr)
		send(t, c, fmt.Sprintf("CONNECT %s HTTP/1.1\r\nHost: a\r\n\r\n", l.Addr()))
		if m := read(t, r, "POST", 502); m.field("Proxy-Status") == "" { // not as CONNECT: it has content
			t.Errorf("answered %q", m.head)
		}
	})
	t.Run("a request to the listener itself doesn't go round in circles", func(t *testing.T) {
		c, r := dial(t, addr)
		send(t, c, "GET http://"+addr+"/ HTTP/1.1\r\nHost: a\r\n\r\n")
		if m, err := readMessage(r, "GET"); err != nil || m.status() < 500 {
			t.Errorf("answered %q, %v", m.head, err)
		}
	})
}

// rawOriginWith is rawOrigin with another proxy before it.
func rawOriginWith(t *testing.T, start func(*testing.T, *origin) string, serve func(net.Conn, *bufio.Reader)) string {
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
				serve(c, bufio.NewReader(c))
				io.Copy(io.Discard, c)
			}()
		}
	}()
	return start(t, &origin{addr: l.Addr().(*net.TCPAddr).AddrPort()})
}
