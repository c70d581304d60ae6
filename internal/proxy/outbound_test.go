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
	"time"

	"tulle.dev/tulle/internal/view"
)

var loopback = netip.MustParseAddr("127.0.0.1")

// forwardView is a sidecar with a Forward listener that knows cart.
func forwardView(endpoint netip.AddrPort) *view.View {
	return &view.View{
		Version: 1,
		Proxy: view.Proxy{
			Name: "web", Namespace: "default", Role: view.Sidecar, TrustDomain: "mesh.local", ClusterDomain: "cluster.local",
			Listeners: []view.Listener{{Name: "forward", Kind: view.Forward, Address: netip.AddrPortFrom(loopback, 0)}},
		},
		Destinations: map[string]*view.Destination{cart: {Key: cart, Protocol: view.HTTP}},
		Endpoints:    map[string]*view.Endpoints{cart: {Key: cart, List: []view.Endpoint{{Address: endpoint}}}},
		Hosts: map[string]*view.Host{
			"cart": {Name: "cart", Service: "cart.default", Ports: []uint16{8080}},
		},
	}
}

func TestForward(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		backend := serve(t, answering(hello))
		outside := serve(t, echo)
		p := start(t, forwardView(backend), loops)
		addr := p.addr(t, "forward")
		for _, test := range []struct {
			name, send, want string
		}{
			{"a service by name", "GET http://cart:8080/a HTTP/1.1\r\nHost: cart:8080\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 "},
			{"a port it doesn't have", "GET http://cart:1/a HTTP/1.1\r\nHost: cart:1\r\nConnection: close\r\n\r\n", "HTTP/1.1 502 "},
			{"an address outside", fmt.Sprintf("GET http://%s/ HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", backend, backend), "HTTP/1.1 200 "},
			{"itself", fmt.Sprintf("GET http://%s/ HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", addr, addr), "HTTP/1.1 508 "},
			{"CONNECT to a service", "CONNECT cart:8080 HTTP/1.1\r\nHost: cart:8080\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 "},
			{"CONNECT outside", fmt.Sprintf("CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\nbytes", outside, outside), "HTTP/1.1 200 "},
			{"CONNECT to nobody", "CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n", "HTTP/1.1 502 "},
		} {
			got := talk(t, addr, test.send)
			if !strings.HasPrefix(got, test.want) {
				t.Errorf("%s: got %q, want %q", test.name, got, test.want)
			}
			if test.name == "CONNECT outside" && !strings.HasSuffix(got, "\r\n\r\nbytes") {
				t.Errorf("the tunnel lost bytes: %q", got)
			}
			if test.name == "CONNECT to a service" && !strings.HasSuffix(got, "hello") {
				t.Errorf("the tunnel lost bytes: %q", got)
			}
		}
		settled(t, p)
	})
}

// explicit is a sidecar with one Explicit listener, in front of a plaintext
// endpoint.
func explicit(t testing.TB, endpoint netip.AddrPort, protocol view.Protocol, loops int) *running {
	v := clientView(endpoint, "", protocol)
	v.Proxy.Identity = ""
	return start(t, v, loops)
}

func TestDetect(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		p := explicit(t, serve(t, answering(hello)), view.Detect, loops)
		c := dialTo(t, p.addr(t, "out"))
		for _, part := range []string{"G", "ET ", "/ HT", "TP/1.1\r\n", "Host: x\r\nConnection: close\r\n\r\n"} {
			io.WriteString(c, part)
			time.Sleep(5 * time.Millisecond)
		}
		got, err := io.ReadAll(c)
		if err != nil || !strings.Contains(string(got), "Via: 1.1 tulle") {
			t.Errorf("HTTP in pieces: %q, %v", got, err)
		}
		p = explicit(t, serve(t, echo), view.Detect, loops)
		for _, send := range []string{"*1\r\n$4\r\nPING\r\n", "\x16\x03\x01 not all of it", "GET key\r\n", "x"} {
			if got := talk(t, p.addr(t, "out"), send); got != send {
				t.Errorf("opaque: sent %q, got %q", send, got)
			}
		}
		settled(t, p)
	})
}

// TestServerFirst: a server that speaks first is heard, where it was declared.
func TestServerFirst(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		client, _ := pair(t, serve(t, func(c net.Conn) {
			io.WriteString(c, "220 ready\r\n")
			io.Copy(c, c)
		}), view.TCP, loops)
		c := dialTo(t, client.addr(t, "out"))
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil || line != "220 ready\r\n" {
			t.Errorf("got %q, %v", line, err)
		}
	})
}

// TestSplice: a long stream between plain sockets goes through a pipe, whole.
func TestSplice(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		p := explicit(t, serve(t, echo), view.TCP, loops)
		sent := make([]byte, 8<<20)
		for i := range sent {
			sent[i] = byte(i * 7 >> 8)
		}
		c := dialTo(t, p.addr(t, "out"))
		go func() {
			c.Write(sent)
			c.(*net.TCPConn).CloseWrite()
		}()
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%d of %d bytes, %v", len(got), len(sent), err)
		}
		settled(t, p)
	})
}

// TestTunnelReset: what breaks one side breaks the other; an end in good order
// would pass a part off as the whole.
func TestTunnelReset(t *testing.T) {
	for _, protocol := range []view.Protocol{view.TCP, view.Detect} {
		p := explicit(t, serve(t, func(c net.Conn) {
			io.ReadFull(c, make([]byte, 5))
			io.WriteString(c, "part")
			time.Sleep(20 * time.Millisecond)
			c.(*net.TCPConn).SetLinger(0)
		}), protocol, 1)
		c := dialTo(t, p.addr(t, "out"))
		io.WriteString(c, "hello")
		got, err := io.ReadAll(c)
		if err == nil {
			t.Errorf("got %q and an end in good order, want a reset", got)
		}
		settled(t, p)
	}
}

// TestTunnelHalfClose: each direction ends by itself.
func TestTunnelHalfClose(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		p := explicit(t, serve(t, func(c net.Conn) {
			b, _ := io.ReadAll(c) // until the client has ended
			time.Sleep(20 * time.Millisecond)
			fmt.Fprintf(c, "%d bytes", len(b))
		}), view.TCP, loops)
		if got := talk(t, p.addr(t, "out"), "hello"); got != "5 bytes" {
			t.Errorf("got %q", got)
		}
		settled(t, p)
	})
}
