package proxy_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/proxyproto"
)

// TestAcceptProxy: the header says who the client is, and nothing works without.
func TestAcceptProxy(t *testing.T) {
	v := edgeView(serve(t, headBack))
	v.Proxy.Listeners[0].AcceptProxy = true
	p := start(t, v, 1)
	const request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	h := &proxyproto.Header{Source: netip.MustParseAddrPort("192.0.2.7:50000"), Destination: netip.MustParseAddrPort("198.51.100.2:80")}
	for _, test := range []struct{ name, header, want string }{
		{"version 1", string(proxyproto.AppendV1(nil, h)), "X-Forwarded-For: 192.0.2.7\r\n"},
		{"version 2", string(proxyproto.AppendV2(nil, h)), "X-Forwarded-For: 192.0.2.7\r\n"},
		{"IPv6", "PROXY TCP6 2001:db8::7 2001:db8::1 1 2\r\n", "X-Forwarded-For: 2001:db8::7\r\n"},
		{"a health check", string(proxyproto.AppendV2(nil, &proxyproto.Header{Local: true})), "X-Forwarded-For: 127.0.0.1\r\n"},
		{"none", "", ""},
		{"a wrong one", "PROXY TCP4 1.2.3 4.5.6.7 1 2\r\n", ""},
		{"the second", string(proxyproto.AppendV1(nil, h)) + string(proxyproto.AppendV1(nil, h)), ""}, // it is no HTTP
	} {
		c := dialTo(t, p.addr(t, "http"))
		for i := range len(test.header) { // however it is cut
			if i%7 == 0 {
				time.Sleep(time.Millisecond)
			}
			io.WriteString(c, test.header[i:i+1])
		}
		io.WriteString(c, request)
		got, err := all(c)
		if !strings.Contains(got, test.want) || test.want == "" && got != "" {
			t.Errorf("%s: %q, %v; want %q", test.name, got, err, test.want)
		}
	}
	settled(t, p)
	if m := p.metrics(t); !strings.Contains(m, `tulle_malformed_total{direction="edge",reason="proxy_header"} 2`) {
		t.Errorf("not counted:\n%s", m)
	}
}

// TestAcceptProxyTLS: the header comes before TLS.
func TestAcceptProxyTLS(t *testing.T) {
	v := edgeView(serve(t, headBack))
	chain, key, roots := serverCertificate(t, "edge.example")
	l := &v.Proxy.Listeners[0]
	l.AcceptProxy, l.Certificate, l.Key = true, chain, key
	raw := dialTo(t, start(t, v, 1).addr(t, "http"))
	io.WriteString(raw, "PROXY TCP4 192.0.2.7 198.51.100.2 50000 443\r\n")
	c := tls.Client(raw, &tls.Config{RootCAs: roots, ServerName: "edge.example"})
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if b, err := io.ReadAll(c); err != nil || !strings.Contains(string(b), "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n") {
		t.Errorf("%q, %v", b, err)
	}
}

// TestSendProxy: a program that wants to know whose connection it is gets the
// header first, also when it speaks first itself.
func TestSendProxy(t *testing.T) {
	for _, version := range []view.ProxyVersion{view.ProxyV1, view.ProxyV2} {
		v := serverView(serve(t, func(c net.Conn) {
			b := make([]byte, 0, 512)
			for {
				n, err := c.Read(b[len(b):cap(b)])
				b = b[:len(b)+n]
				h, used, parse := proxyproto.Parse(b)
				if parse == nil {
					io.WriteString(c, "220 hello "+h.Source.String()+" "+h.Destination.Addr().String()+"\r\n")
					c.Write(b[used:])
					echo(c)
					return
				}
				if err != nil {
					return
				}
			}
		}))
		l := &v.Proxy.Listeners[0]
		l.Protocol, l.Plaintext, l.SendProxy = view.TCP, true, version
		server := start(t, v, 1)
		mesh := netip.MustParseAddrPort(server.addr(t, "in"))
		client := start(t, clientView(mesh, cartID, view.TCP), 1)
		for _, to := range []string{mesh.String(), client.addr(t, "out")} {
			c := dialTo(t, to)
			r := bufio.NewReader(c)
			line, err := r.ReadString('\n')
			if err != nil || !strings.HasPrefix(line, "220 hello 127.0.0.1:") || !strings.HasSuffix(line, " 127.0.0.1\r\n") {
				t.Errorf("%q, %v", line, err)
			}
			if to == mesh.String() && !strings.Contains(line, c.LocalAddr().String()) {
				t.Errorf("%q, want %s", line, c.LocalAddr())
			}
			if err := half(c, "bytes"); err != nil {
				t.Error(err)
			}
		}
		// Requests of many clients can't be sent so.
		http := start(t, clientView(mesh, cartID, view.HTTP), 1)
		if got := talk(t, http.addr(t, "out"), "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 502 ") {
			t.Errorf("HTTP to such a program: %q", got)
		}
	}
}
