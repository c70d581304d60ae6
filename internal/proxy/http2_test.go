package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tulle.dev/tulle/internal/view"
)

// clients speak to the proxy without TLS, in one version of HTTP.
func client(t testing.TB, two bool) *http.Client {
	var p http.Protocols
	p.SetHTTP1(!two)
	p.SetUnencryptedHTTP2(two)
	tr := &http.Transport{Protocols: &p, DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: wait}
}

// program runs a net/http server without TLS that speaks both versions.
func program(t testing.TB, h http.HandlerFunc) netip.AddrPort {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var p http.Protocols
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	s := &http.Server{Handler: h, Protocols: &p}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// mirror tells what it was asked, in a trailer too.
func mirror(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Trailer", "X-Sum")
	w.Header().Set("X-Version", r.Proto)
	w.Header().Set("X-Asked", r.Method+" "+r.Host+r.URL.RequestURI())
	w.Header().Set("X-Cookie", r.Header.Get("Cookie"))
	w.Header().Set("X-Via", strings.Join(r.Header.Values("Via"), ", "))
	w.Header().Set("X-Trailer", r.Trailer.Get("X-Mark"))
	w.WriteHeader(http.StatusAccepted)
	w.(http.Flusher).Flush()
	w.Write(body)
	w.Header().Set("X-Sum", fmt.Sprint(len(body)))
}

// Every way through: the client in one version, the program in another, one
// proxy or two, and what is between them.
func TestVersions(t *testing.T) {
	type path struct {
		name string
		addr func(t *testing.T, app netip.AddrPort, declared view.Protocol) string
	}
	paths := []path{
		{"edge", func(t *testing.T, app netip.AddrPort, declared view.Protocol) string {
			v := edgeView(app)
			v.Destinations[backendKey].Protocol = declared
			return start(t, v, 1).addr(t, "http")
		}},
		{"pair over HTTP/1.1", func(t *testing.T, app netip.AddrPort, declared view.Protocol) string {
			return muxPair(t, app, declared, view.PeerHTTP1).addr(t, "out")
		}},
		{"pair multiplexed", func(t *testing.T, app netip.AddrPort, declared view.Protocol) string {
			return muxPair(t, app, declared, view.PeerHTTP2).addr(t, "out")
		}},
	}
	for _, p := range paths {
		for _, two := range []bool{false, true} {
			for _, declared := range []view.Protocol{view.Detect, view.HTTP, view.HTTP2} {
				t.Run(fmt.Sprintf("%s/client two=%t/declared %d", p.name, two, declared), func(t *testing.T) {
					addr := p.addr(t, program(t, mirror), declared)
					c := client(t, two)
					want := "HTTP/1.1"
					if declared == view.HTTP2 || declared == view.Detect && two && p.name != "edge" {
						want = "HTTP/2.0"
					}
					for _, size := range []int{0, 5, 70_000, 3 << 20} {
						body := bytes.Repeat([]byte("x"), size)
						for _, known := range []bool{true, false} {
							ask2(t, c, addr, body, known, want)
						}
					}
				})
			}
		}
	}
}

func ask2(t *testing.T, c *http.Client, addr string, body []byte, known bool, version string) {
	t.Helper()
	var r io.Reader = bytes.NewReader(body)
	if !known {
		r = io.MultiReader(r) // hides the length: chunks
	}
	req, err := http.NewRequest("POST", "http://"+addr+"/a/b?c=d", r)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "cart"
	req.Header.Set("TE", "trailers")
	req.Header.Add("Cookie", "a=1; b=2")
	if !known {
		req.Trailer = http.Header{"X-Mark": {"end"}}
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	h := resp.Header
	if resp.StatusCode != 202 || !bytes.Equal(got, body) {
		t.Fatalf("status %d, %d of %d bytes: %.200q", resp.StatusCode, len(got), len(body), got)
	}
	if h.Get("X-Version") != version || h.Get("X-Asked") != "POST cart/a/b?c=d" || h.Get("X-Cookie") != "a=1; b=2" {
		t.Errorf("want %s, got %v", version, h)
	}
	if v := h.Get("X-Via"); !strings.Contains(v, "tulle") || !strings.HasPrefix(v, resp.Proto[5:6]) {
		t.Errorf("Via %q of a client with %s", v, resp.Proto)
	}
	if !known && h.Get("X-Trailer") != "end" {
		t.Errorf("request trailer lost: %v", h)
	}
	if s := resp.Trailer.Get("X-Sum"); s != fmt.Sprint(len(body)) {
		t.Errorf("trailer %q", s)
	}
}

// muxPair is two sidecars, and how they speak to each other.
func muxPair(t testing.TB, app netip.AddrPort, declared view.Protocol, peers view.PeerProtocol) *running {
	t.Helper()
	v := serverView(app)
	v.Proxy.Listeners[0].Protocol = declared
	server := start(t, v, 1)
	mesh := netip.MustParseAddrPort(server.addr(t, "in"))
	cv := clientView(mesh, cartID, declared)
	cv.Proxy.Settings.PeerProtocol = peers
	return start(t, cv, 1)
}

// What HTTP/2 can't say survives the way between two proxies.
func TestMultiplexedKeepsHTTP1(t *testing.T) {
	seen := make(chan string, 10)
	app := serve(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		for {
			head, err := readHead(r)
			if err != nil {
				return
			}
			seen <- head
			if strings.Contains(head, "Upgrade: chat/7") {
				io.WriteString(c, "HTTP/1.1 101 Off We Go\r\nUpgrade: chat/7\r\nConnection: upgrade\r\n\r\nhello")
				io.Copy(c, r)
				return
			}
			io.WriteString(c, "HTTP/1.1 299 Not Quite\r\nX-MiXed: 1\r\ntulle-reason: forged\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	p := muxPair(t, app, view.Detect, view.PeerHTTP2)
	got := talk(t, p.addr(t, "out"), "GET /x HTTP/1.1\r\nHost: cart\r\nX-ODD-name: v\r\nTULLE-version: 2\r\nConnection: close\r\n\r\n")
	head := <-seen
	for _, want := range []string{"GET /x HTTP/1.1\r\n", "Host: cart\r\n", "X-ODD-name: v\r\n"} {
		if !strings.Contains(head, want) {
			t.Errorf("request lacks %q: %q", want, head)
		}
	}
	if !strings.Contains(head, "tulle-client-identity: "+webID+"\r\n") {
		t.Errorf("the program isn't told who calls: %q", head)
	}
	if strings.Contains(strings.ToLower(head), "tulle-version") {
		t.Errorf("private fields reach the program: %q", head)
	}
	for _, want := range []string{"HTTP/1.1 299 Not Quite\r\n", "X-MiXed: 1\r\n", "\r\n\r\nok"} {
		if !strings.Contains(got, want) {
			t.Errorf("response lacks %q: %q", want, got)
		}
	}
	if strings.Contains(got, "forged") {
		t.Errorf("private field of the program: %q", got)
	}

	got = talk(t, p.addr(t, "out"), "GET /old HTTP/1.0\r\n\r\n")
	if head := <-seen; !strings.Contains(head, "GET /old HTTP/1.1\r\n") {
		t.Errorf("HTTP/1.0: %q", head)
	}
	if !strings.HasPrefix(got, "HTTP/1.1 299") || !strings.HasSuffix(got, "\r\n\r\nok") {
		t.Errorf("to HTTP/1.0: %q", got)
	}

	c := dialTo(t, p.addr(t, "out"))
	io.WriteString(c, "GET /chat HTTP/1.1\r\nHost: cart\r\nUpgrade: chat/7\r\nConnection: upgrade\r\n\r\n")
	r := bufio.NewReader(c)
	answer, err := readHead(r)
	if err != nil || !strings.HasPrefix(answer, "HTTP/1.1 101 Off We Go\r\n") && !strings.HasPrefix(answer, "HTTP/1.1 101 Switching Protocols\r\n") || !strings.Contains(answer, "Upgrade: chat/7\r\n") {
		t.Fatalf("%q %v", answer, err)
	}
	io.WriteString(c, " and back")
	c.(*net.TCPConn).CloseWrite()
	if b, err := io.ReadAll(r); err != nil || string(b) != "hello and back" {
		t.Errorf("through the tunnel: %q, %v", b, err)
	}
	<-seen

	// An offer that isn't taken is an ordinary request.
	got = talk(t, p.addr(t, "out"), "GET /no HTTP/1.1\r\nHost: cart\r\nUpgrade: other\r\nConnection: upgrade, close\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 299") {
		t.Errorf("%q", got)
	}
}

// Over TLS the client chooses with ALPN.
func TestEdgeALPN(t *testing.T) {
	for _, two := range []bool{false, true} {
		t.Run(fmt.Sprint(two), func(t *testing.T) {
			v := edgeView(program(t, mirror))
			chain, key, roots := serverCertificate(t, "edge.example")
			v.Proxy.Listeners[0].Certificate, v.Proxy.Listeners[0].Key = chain, key
			addr := start(t, v, 1).addr(t, "http")
			tr := &http.Transport{
				TLSClientConfig:   &tls.Config{RootCAs: roots, ServerName: "edge.example"},
				ForceAttemptHTTP2: two,
			}
			defer tr.CloseIdleConnections()
			resp, err := (&http.Client{Transport: tr, Timeout: wait}).Get("https://" + addr + "/")
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if (resp.ProtoMajor == 2) != two || resp.StatusCode != 202 {
				t.Errorf("%s %d", resp.Proto, resp.StatusCode)
			}
		})
	}
}

// serverCertificate makes a chain and key (PEM), and the roots they are
// verified with.
func serverCertificate(t testing.TB, name string) (chain, key []byte, roots *x509.CertPool) {
	t.Helper()
	k := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{name}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	cert, _ := x509.ParseCertificate(der)
	roots = x509.NewCertPool()
	roots.AddCert(cert)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), roots
}

// A client that goes away is heard of by the program.
func TestCancelReachesProgram(t *testing.T) {
	gone := make(chan struct{}, 1)
	app := program(t, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		gone <- struct{}{}
	})
	for _, peers := range []view.PeerProtocol{view.PeerHTTP1, view.PeerHTTP2} {
		p := muxPair(t, app, view.Detect, peers)
		ctx, cancel := context.WithCancel(context.Background())
		req, _ := http.NewRequestWithContext(ctx, "GET", "http://"+p.addr(t, "out")+"/", nil)
		resp, err := client(t, true).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		resp.Body.Close()
		<-gone
	}
}

// Responses without a body keep what they say about one, in every version.
func TestBodilessResponses(t *testing.T) {
	app := program(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/none":
			w.WriteHeader(204)
		case "/same":
			w.Header().Set("ETag", `"x"`)
			w.WriteHeader(304)
		case "/empty":
			w.Header().Set("Content-Length", "0")
		case "/hints":
			w.Header().Set("Link", "</x>; rel=preload")
			w.WriteHeader(103)
			io.WriteString(w, "late")
		default:
			w.Header().Set("Content-Length", "5")
			io.WriteString(w, "hello")
		}
	})
	for _, declared := range []view.Protocol{view.HTTP, view.HTTP2} {
		v := edgeView(app)
		v.Destinations[backendKey].Protocol = declared
		for name, addr := range map[string]string{
			"edge": start(t, v, 1).addr(t, "http"),
			"pair": muxPair(t, app, declared, view.PeerHTTP2).addr(t, "out"),
		} {
			for _, two := range []bool{false, true} {
				for _, row := range []struct {
					method, path string
					status       int
					length       int64
					body         string
				}{
					{"GET", "/", 200, 5, "hello"},
					{"HEAD", "/", 200, 5, ""},
					{"GET", "/none", 204, 0, ""},
					{"GET", "/same", 304, 0, ""},
					{"GET", "/empty", 200, 0, ""},
					{"HEAD", "/empty", 200, 0, ""},
					{"GET", "/hints", 200, 4, "late"},
					{"OPTIONS", "/", 200, 5, "hello"},
					{"DELETE", "/", 200, 5, "hello"},
				} {
					req, _ := http.NewRequest(row.method, "http://"+addr+row.path, nil)
					resp, err := client(t, two).Do(req)
					if err != nil {
						t.Errorf("%s, declared %d, two %t, %s %s: %v", name, declared, two, row.method, row.path, err)
						continue
					}
					b, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					if resp.StatusCode != row.status || max(resp.ContentLength, 0) != row.length || string(b) != row.body || err != nil {
						t.Errorf("%s, declared %d, two %t, %s %s: %d, length %d, %q, %v", name, declared, two, row.method, row.path,
							resp.StatusCode, resp.ContentLength, b, err)
					}
				}
			}
		}
	}
}
