package proxy_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"tulle.dev/tulle/internal/view"
)

const (
	webID  = "spiffe://mesh.local/ns/default/sa/web"
	cartID = "spiffe://mesh.local/ns/default/sa/cart"
	cart   = "cart.default:8080"
)

// serverView is the sidecar of cart, with the program at app.
func serverView(app netip.AddrPort) *view.View {
	return &view.View{Version: 1, Proxy: view.Proxy{
		Name: "cart", Namespace: "default", Role: view.Sidecar, Identity: cartID,
		TrustDomain: "mesh.local", ClusterDomain: "cluster.local",
		Listeners: []view.Listener{{
			Name: "in", Kind: view.Inbound, Address: netip.MustParseAddrPort("127.0.0.1:0"),
			Destination: cart, App: app,
		}},
	}}
}

// clientView is the sidecar of web, which sends to cart at mesh.
func clientView(mesh netip.AddrPort, id string, protocol view.Protocol) *view.View {
	return &view.View{
		Version: 1,
		Proxy: view.Proxy{
			Name: "web", Namespace: "default", Role: view.Sidecar, Identity: webID,
			TrustDomain: "mesh.local", ClusterDomain: "cluster.local",
			Listeners: []view.Listener{{
				Name: "out", Kind: view.Explicit, Address: netip.MustParseAddrPort("127.0.0.1:0"), Destination: cart,
			}},
		},
		Destinations: map[string]*view.Destination{cart: {Key: cart, Protocol: protocol}},
		Endpoints: map[string]*view.Endpoints{cart: {Key: cart, List: []view.Endpoint{
			{Address: mesh, Identity: id, Workload: "cart-1.default"},
		}}},
	}
}

// pair is two sidecars with mutual TLS between them.
func pair(t testing.TB, app netip.AddrPort, protocol view.Protocol, loops int) (client, server *running) {
	t.Helper()
	server = start(t, serverView(app), loops)
	mesh := netip.MustParseAddrPort(server.addr(t, "in"))
	return start(t, clientView(mesh, cartID, protocol), loops), server
}

func TestPairHTTP(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		app := serve(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"))
		client, server := pair(t, app, view.HTTP, loops)
		c := dialTo(t, client.addr(t, "out"))
		r := bufio.NewReader(c)
		for range 3 {
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: cart\r\n\r\n")
			head, err := readHead(r)
			if err != nil || !strings.HasPrefix(head, "HTTP/1.1 200") {
				t.Fatalf("%q %v", head, err)
			}
			body := make([]byte, 5)
			if _, err := io.ReadFull(r, body); err != nil || string(body) != "hello" {
				t.Fatalf("%q %v", body, err)
			}
		}
		want := `tulle_requests_total{direction="inbound",service="cart.default:8080",peer="web.default",tls="mutual",status="200"} 3`
		if m := server.metrics(t); !strings.Contains(m, want) {
			t.Errorf("no %s in\n%s", want, m)
		}
		want = `tulle_requests_total{direction="outbound",service="cart.default:8080",peer="",tls="mutual",status="200"} 3`
		if m := client.metrics(t); !strings.Contains(m, want) {
			t.Errorf("no %s in\n%s", want, m)
		}
	})
}

// echo sends back what it gets, and ends when its peer has ended.
func echo(c net.Conn) {
	io.Copy(c, c)
	c.(*net.TCPConn).CloseWrite()
}

func TestPairTCP(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		client, _ := pair(t, serve(t, echo), view.TCP, loops)
		sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<17) // 2 MB
		c := dialTo(t, client.addr(t, "out"))
		go func() {
			c.Write(sent)
			c.(*net.TCPConn).CloseWrite()
		}()
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("%d of %d bytes, %v", len(got), len(sent), err)
		}
	})
}

func TestPairBigBodies(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		const size = 3 << 20
		app := serve(t, func(c net.Conn) {
			r := bufio.NewReader(c)
			for {
				if _, err := readHead(r); err != nil {
					return
				}
				body := make([]byte, size)
				if _, err := io.ReadFull(r, body); err != nil {
					return
				}
				fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
				for len(body) > 0 {
					n := min(len(body), 100_000)
					fmt.Fprintf(c, "%x\r\n", n)
					c.Write(body[:n])
					io.WriteString(c, "\r\n")
					body = body[n:]
				}
				io.WriteString(c, "0\r\n\r\n")
			}
		})
		client, _ := pair(t, app, view.HTTP, loops)
		sent := bytes.Repeat([]byte("0123456789abcdef"), size/16)
		c := dialTo(t, client.addr(t, "out"))
		go func() {
			fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: cart\r\nContent-Length: %d\r\nConnection: close\r\n\r\n", size)
			c.Write(sent)
		}()
		got, err := io.ReadAll(c)
		if err != nil {
			t.Fatal(err)
		}
		head, rest, _ := bytes.Cut(got, []byte("\r\n\r\n"))
		body := dechunk(t, rest)
		if !bytes.HasPrefix(head, []byte("HTTP/1.1 200")) || !bytes.Equal(body, sent) {
			t.Fatalf("%q, %d of %d bytes", head, len(body), len(sent))
		}
	})
}

// dechunk reads a chunked body.
func dechunk(t testing.TB, b []byte) (body []byte) {
	t.Helper()
	for {
		line, rest, ok := bytes.Cut(b, []byte("\r\n"))
		var n int
		if _, err := fmt.Sscanf(string(line), "%x", &n); err != nil || !ok || len(rest) < n+2 {
			t.Fatalf("chunk %q: %v", line, err)
		}
		if n == 0 {
			return body
		}
		body = append(body, rest[:n]...)
		b = rest[n+2:]
	}
}

func TestPairWrongIdentity(t *testing.T) {
	app := serve(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
	server := start(t, serverView(app), 1)
	mesh := netip.MustParseAddrPort(server.addr(t, "in"))
	client := start(t, clientView(mesh, "spiffe://mesh.local/ns/default/sa/other", view.HTTP), 1)
	got := talk(t, client.addr(t, "out"), "GET / HTTP/1.1\r\nHost: cart\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 502 ") || !strings.Contains(got, "Proxy-Status: tulle; error=tls_certificate_error") {
		t.Errorf("got %q", got)
	}
}

func TestInboundRefusesPlaintext(t *testing.T) {
	app := serve(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
	server := start(t, serverView(app), 1)
	c := dialTo(t, server.addr(t, "in"))
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: cart\r\n\r\n")
	if b, _ := io.ReadAll(c); len(b) > 0 {
		t.Errorf("got %q, want nothing", b)
	}
	if m := server.metrics(t); !strings.Contains(m, `reason="plaintext_refused"} 1`) {
		t.Errorf("not counted:\n%s", m)
	}
}

// TestNothingInTheClear: what goes to an endpoint with an identity is a
// handshake first, however early the request and its body were there.
func TestNothingInTheClear(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		for _, protocol := range []view.Protocol{view.HTTP, view.TCP} {
			first := make(chan []byte, 16)
			endpoint := serve(t, func(c net.Conn) {
				b, _ := io.ReadAll(io.LimitReader(c, 1000))
				first <- b
				io.Copy(io.Discard, c) // and never answers the handshake
			})
			p := start(t, clientView(endpoint, cartID, protocol), loops)
			c := dialTo(t, p.addr(t, "out"))
			fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: cart\r\nContent-Length: 60000\r\n\r\n%s", strings.Repeat("secret", 10_000))
			b := <-first
			if len(b) < 6 || b[0] != 22 || b[1] != 3 || bytes.Contains(b, []byte("secret")) || bytes.Contains(b, []byte("POST")) {
				t.Errorf("protocol %d: the endpoint got %q", protocol, b)
			}
		}
	})
}
