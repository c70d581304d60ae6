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

	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/proxy/l7http"
)

// dribble writes one byte at a time: what a network may make of any write.
type dribble struct{ net.Conn }

func (d dribble) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := d.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

// clientConfig is that of a workload that calls cart.
func clientConfig(t testing.TB, protocols ...string) *tls.Config {
	var c identity.Credentials
	ca.issue(t, &c, webID)
	id, err := identity.Parse(cartID)
	if err != nil {
		t.Fatal(err)
	}
	return c.ClientConfig(id, protocols...)
}

func TestInboundHandshakes(t *testing.T) {
	server := start(t, serverView(serve(t, answering(hello))), 1)
	addr := server.addr(t, "in")
	ask := func(c net.Conn) (string, error) {
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
			return "", err
		}
		b, err := io.ReadAll(c)
		return string(b), err
	}
	t.Run("one byte at a time", func(t *testing.T) {
		got, err := ask(tls.Client(dribble{dialTo(t, addr)}, clientConfig(t, l7http.ALPN)))
		if err != nil || !strings.HasSuffix(got, "hello") {
			t.Errorf("got %q, %v", got, err)
		}
	})
	t.Run("no protocol", func(t *testing.T) {
		if got, err := ask(tls.Client(dialTo(t, addr), clientConfig(t))); err == nil && got != "" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("no certificate", func(t *testing.T) {
		config := clientConfig(t, l7http.ALPN)
		config.GetClientCertificate = nil
		if got, err := ask(tls.Client(dialTo(t, addr), config)); err == nil {
			t.Errorf("got %q", got)
		}
	})
	t.Run("TLS 1.2", func(t *testing.T) {
		config := clientConfig(t, l7http.ALPN)
		config.MinVersion, config.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
		if got, err := ask(tls.Client(dialTo(t, addr), config)); err == nil {
			t.Errorf("got %q", got)
		}
	})
	t.Run("nonsense", func(t *testing.T) {
		c := dialTo(t, addr)
		c.Write([]byte("\x16\x03\x01\x00\x05\x01nonsense that is no ClientHello"))
		if b, _ := io.ReadAll(c); strings.Contains(string(b), "HTTP") {
			t.Errorf("got %q", b)
		}
	})
	t.Run("gone in the middle", func(t *testing.T) {
		for _, n := range []int{1, 6, 100, 1000} {
			c := dialTo(t, addr)
			hello := clientHello(t)
			c.Write(hello[:min(n, len(hello))])
			c.Close()
		}
	})
	t.Run("many at once", func(t *testing.T) {
		const n = 60
		results := make(chan error, n)
		for range n {
			config := clientConfig(t, l7http.ALPN)
			c := dialTo(t, addr)
			go func() {
				_, err := ask(tls.Client(c, config))
				results <- err
			}()
		}
		for range n {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
	})
	settled(t, server)
}

// clientHello is the first flight of a handshake.
func clientHello(t testing.TB) []byte {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	go tls.Client(a, &tls.Config{InsecureSkipVerify: true}).Handshake()
	buf := make([]byte, 4096)
	b.SetReadDeadline(time.Now().Add(wait))
	n, err := b.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

// TestTruncatedResponse: a program whose body ends with its connection is cut
// by a reset, and its client can tell, through both proxies.
func TestTruncatedResponse(t *testing.T) {
	app := serve(t, func(c net.Conn) {
		readHead(bufio.NewReader(c))
		io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\npart")
		time.Sleep(20 * time.Millisecond)
		c.(*net.TCPConn).SetLinger(0)
	})
	edge := start(t, edgeView(app), 1)
	for _, version := range []string{"1.0", "1.1"} {
		c := dialTo(t, edge.addr(t, "http"))
		io.WriteString(c, "GET / HTTP/"+version+"\r\nHost: x\r\n\r\n")
		got, err := io.ReadAll(c)
		if err == nil && strings.HasSuffix(string(got), "0\r\n\r\n") {
			t.Errorf("HTTP/%s: got %q, whole to all appearance", version, got)
		}
		if version == "1.0" && err == nil {
			t.Errorf("HTTP/1.0: got %q and an end in good order", got)
		}
	}
	settled(t, edge)
}

func TestEdgeHTTPS(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		cert, key, roots := serverCertificate(t, "shop.example")
		v := edgeView(serve(t, answering(hello)))
		v.Proxy.Listeners[0].Certificate, v.Proxy.Listeners[0].Key = cert, key
		p := start(t, v, loops)
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			c := tls.Client(dialTo(t, p.addr(t, "http")), &tls.Config{
				RootCAs: roots, ServerName: "shop.example", MinVersion: version, MaxVersion: version,
			})
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n")
			got, err := io.ReadAll(c)
			if err != nil || !strings.HasSuffix(string(got), "hello") {
				t.Errorf("%s: got %q, %v", tls.VersionName(version), got, err)
			}
		}
		c := dialTo(t, p.addr(t, "http"))
		old := tls.Client(c, &tls.Config{RootCAs: roots, ServerName: "shop.example", MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10})
		if err := old.Handshake(); err == nil {
			t.Error("TLS 1.1 is accepted")
		}
		settled(t, p)
	})
}

// TestIdentityRotates: a new SVID serves new connections, and the open ones go on.
func TestIdentityRotates(t *testing.T) {
	app := serve(t, answering(hello))
	server := start(t, serverView(app), 1)
	mesh := netip.MustParseAddrPort(server.addr(t, "in"))
	open := tls.Client(dialTo(t, mesh.String()), clientConfig(t, l7http.ALPN))
	ask := func(c net.Conn) {
		t.Helper()
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		r := bufio.NewReader(c)
		if head, err := readHead(r); err != nil || !strings.HasPrefix(head, "HTTP/1.1 200 ") {
			t.Fatalf("got %q, %v", head, err)
		}
		io.ReadFull(r, make([]byte, 5))
	}
	ask(open)
	before := open.ConnectionState().PeerCertificates[0].SerialNumber
	ca.issue(t, server.credentials, cartID)
	ask(open)
	fresh := tls.Client(dialTo(t, mesh.String()), clientConfig(t, l7http.ALPN))
	ask(fresh)
	if after := fresh.ConnectionState().PeerCertificates[0].SerialNumber; after.Cmp(before) == 0 {
		t.Error("a new connection still gets the old certificate")
	}
}
