package proxy_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"tulle.dev/tulle/internal/view"
)

// headBack answers with the request's own head as the body.
func headBack(c net.Conn) {
	r := bufio.NewReader(c)
	for {
		head, err := readHead(r)
		if err != nil {
			return
		}
		answer := http.Response{StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, ContentLength: int64(len(head)), Body: io.NopCloser(strings.NewReader(head))}
		if answer.Write(c) != nil {
			return
		}
	}
}

// TestForwarded: at the edge, what the client says of itself is replaced.
func TestForwarded(t *testing.T) {
	p := start(t, edgeView(serve(t, headBack)), 1)
	for _, test := range []struct {
		name, fields string
	}{
		{"nothing said", ""},
		{"all said", "X-Forwarded-For: 10.0.0.1\r\nx-forwarded-proto: https\r\nX-FORWARDED-HOST: evil\r\nX-Forwarded-Port: 1\r\nForwarded: for=10.0.0.1\r\nX-Real-IP: 10.0.0.1\r\n"},
		{"said twice", "X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-For: 10.0.0.2, 10.0.0.3\r\n"},
		{"said for those that can't tell _ from -", "X_Forwarded_For: 10.0.0.1\r\nX-Forwarded_Host: evil\r\nx_real_ip: 10.0.0.1\r\n"},
	} {
		got := talk(t, p.addr(t, "http"), "GET / HTTP/1.1\r\nHost: shop.example:8080\r\nX-Forwarding: kept\r\nForwards: kept1\r\n"+test.fields+"Connection: close\r\n\r\n")
		for _, want := range []string{"X-Forwarded-For: 127.0.0.1\r\n", "X-Forwarded-Proto: http\r\n", "X-Forwarded-Host: shop.example:8080\r\n", "X-Forwarding: kept\r\n", "Forwards: kept1\r\n"} {
			if strings.Count(got, want) != 1 {
				t.Errorf("%s: not once %q in %q", test.name, want, got)
			}
		}
		if strings.Contains(got, "10.0.0") || strings.Contains(got, "evil") || strings.Contains(got, "Port: 1") {
			t.Errorf("%s: the client was believed: %q", test.name, got)
		}
	}
	settled(t, p)
}

// TestForwardedInside: inside the mesh nothing is replaced and nothing added.
func TestForwardedInside(t *testing.T) {
	client, _ := pair(t, serve(t, headBack), view.HTTP, 1)
	got := talk(t, client.addr(t, "out"), "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 10.0.0.1\r\nConnection: close\r\n\r\n")
	if !strings.Contains(got, "X-Forwarded-For: 10.0.0.1\r\n") || strings.Contains(got, "X-Forwarded-Proto") {
		t.Errorf("got %q", got)
	}
}

// TestForwardedLater: a request that had to wait, or is sent once more, says it once.
func TestForwardedLater(t *testing.T) {
	backends := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1"), serve(t, headBack)}
	p := start(t, edgeView(backends...), 1)
	for range 8 {
		got := talk(t, p.addr(t, "http"), "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 10.0.0.1\r\nConnection: close\r\n\r\n")
		if strings.Count(got, "X-Forwarded-For: 127.0.0.1\r\n") != 1 || strings.Contains(got, "10.0.0.1") {
			t.Errorf("got %q", got)
		}
	}
}

// TestForwardedHTTPS: the same over TLS, with HTTP/1.1 and HTTP/2.
func TestForwardedHTTPS(t *testing.T) {
	v := edgeView(serve(t, headBack))
	chain, key, roots := serverCertificate(t, "edge.example")
	v.Proxy.Listeners[0].Certificate, v.Proxy.Listeners[0].Key = chain, key
	addr := start(t, v, 1).addr(t, "http")
	for _, two := range []bool{false, true} {
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "edge.example"}, ForceAttemptHTTP2: two}
		req, err := http.NewRequest("GET", "https://"+addr+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Forwarded-Proto", "gopher")
		req.Header.Set("Forwarded", "for=10.0.0.1")
		resp, err := (&http.Client{Transport: tr, Timeout: wait}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		tr.CloseIdleConnections()
		got := strings.ToLower(string(b))
		if err != nil || (resp.ProtoMajor == 2) != two || !strings.Contains(got, "x-forwarded-proto: https\r\n") ||
			!strings.Contains(got, "x-forwarded-host: "+addr+"\r\n") || strings.Contains(got, "gopher") || strings.Contains(got, "10.0.0.1") {
			t.Errorf("%s: %q, %v", resp.Proto, b, err)
		}
	}
}
