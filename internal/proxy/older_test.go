package proxy_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/proxy/l4"
	"tulle.dev/tulle/internal/proxy/l7http"
	"tulle.dev/tulle/internal/view"
)

// olderProxy speaks mutual TLS as cart's proxy and the given application
// protocols, and counts the handshakes that failed.
func olderProxy(t *testing.T, refused *atomic.Int32, protocols ...string) netip.AddrPort {
	credentials := &identity.Credentials{}
	ca.issue(t, credentials, cartID)
	config := credentials.ServerConfig(nil, protocols...)
	return serve(t, func(c net.Conn) {
		s := tls.Server(c, config)
		if err := s.Handshake(); err != nil {
			refused.Add(1)
			return
		}
		if p := s.ConnectionState().NegotiatedProtocol; p != l7http.ALPN {
			t.Errorf("the proxies agreed on %q", p)
		}
		answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")(s)
	})
}

// TestOlderPeer: a proxy that knows nothing of multiplexing gets one exchange
// after the other. It is asked once for each loop, and no request fails.
func TestOlderPeer(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		var refused atomic.Int32
		peer := olderProxy(t, &refused, l7http.ALPN, l4.ALPN)
		p := start(t, clientView(peer, cartID, view.HTTP), loops)
		for range 10 {
			c := dialTo(t, p.addr(t, "out"))
			r := bufio.NewReader(c)
			for i := range 3 {
				fmt.Fprintf(c, "POST /%d HTTP/1.1\r\nHost: cart\r\nContent-Length: 0\r\n\r\n", i)
				head, err := readHead(r)
				if err != nil || !strings.HasPrefix(head, "HTTP/1.1 200 ") {
					t.Fatalf("%q, %v", head, err)
				}
				if _, err := io.ReadFull(r, make([]byte, 2)); err != nil {
					t.Fatal(err)
				}
			}
			c.Close()
		}
		if n := int(refused.Load()); n < 1 || n > loops {
			t.Errorf("it was asked for another protocol %d times; want once for each of %d loops", n, loops)
		}
	})
}

// A peer that speaks no HTTP at all is no peer to fall back to.
func TestOlderPeerWithoutHTTP(t *testing.T) {
	var refused atomic.Int32
	p := start(t, clientView(olderProxy(t, &refused, l4.ALPN), cartID, view.HTTP), 1)
	got := talk(t, p.addr(t, "out"), "GET / HTTP/1.1\r\nHost: cart\r\nConnection: close\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 502 ") || !strings.Contains(got, "error=tls_certificate_error") {
		t.Errorf("got %q", got)
	}
}
