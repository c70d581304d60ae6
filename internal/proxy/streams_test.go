package proxy_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/view"
)

// tlsServer ends TLS with a certificate for that name and says who it is.
func tlsServer(t *testing.T, name string) (netip.AddrPort, *x509.CertPool) {
	chain, key, roots := serverCertificate(t, name)
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, func(c net.Conn) {
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{pair}})
		io.WriteString(s, "I am "+name+"\n")
		s.CloseWrite()
		io.Copy(io.Discard, s)
	}), roots
}

// stream is a host of a stream table with those backends.
func stream(host string, destinations ...string) route.Host {
	r := route.Rule{Name: "tlsroute/default/" + host}
	for _, d := range destinations {
		r.Backends = append(r.Backends, route.Backend{Destination: d, Weight: 1})
	}
	return route.Host{Hostnames: []string{host}, Rules: []route.Rule{r}}
}

// streamView adds endpoints to a view.
func streamView(v *view.View, at map[string]netip.AddrPort) *view.View {
	for key, addr := range at {
		v.Destinations[key] = &view.Destination{Key: key, Protocol: view.TCP}
		v.Endpoints[key] = &view.Endpoints{Key: key, List: []view.Endpoint{{Address: addr}}}
	}
	return v
}

// hear connects with TLS and a server name, and returns what the server says.
func hear(addr, name string, roots *x509.CertPool) (string, error) {
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: wait}, "tcp", addr, &tls.Config{ServerName: name, RootCAs: roots, InsecureSkipVerify: roots == nil})
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(wait))
	b, err := io.ReadAll(c)
	return string(b), err
}

const keyA, keyB, keyC = "a.default:443", "b.default:443", "c.default:443"

// TestStreamsByName: TLS goes by its server name, undecrypted: the client sees
// the program's own certificate. An edge and a service do the same.
func TestStreamsByName(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		a, rootsA := tlsServer(t, "a.example")
		b, rootsB := tlsServer(t, "x.b.example")
		plain := serve(t, echo)
		at := map[string]netip.AddrPort{keyA: a, keyB: b, keyC: plain}
		streams := route.Spec{Hosts: []route.Host{stream("a.example", keyA), stream("*.b.example", keyB), stream("none.example", "")}}

		edge := streamView(edgeView(), at)
		edge.Proxy.Listeners[0] = view.Listener{Name: "in", Kind: view.Edge, Protocol: view.TCP, Address: netip.AddrPortFrom(loopback, 0), Streams: streams}
		service := func(p view.Protocol) *view.View {
			v := streamView(clientView(plain, "", p), at)
			v.Proxy.Identity, v.Proxy.Listeners[0].Name = "", "in"
			v.Destinations[cart].Streams = streams
			return v
		}
		for name, v := range map[string]*view.View{"edge": edge, "declared": service(view.TCP), "detected": service(view.Detect)} {
			t.Run(name, func(t *testing.T) {
				p := start(t, v, loops)
				addr := p.addr(t, "in")
				for _, test := range []struct {
					name, want string
					roots      *x509.CertPool
				}{
					{"a.example", "I am a.example\n", rootsA},
					{"A.Example", "I am a.example\n", rootsA},
					{"x.b.example", "I am x.b.example\n", rootsB},
				} {
					if got, err := hear(addr, test.name, test.roots); got != test.want || err != nil {
						t.Errorf("%s: %q, %v", test.name, got, err)
					}
				}
				// Nobody's name, a name without a backend, no name, no TLS.
				for _, name := range []string{"c.example", "b.example", "none.example", "127.0.0.1"} {
					if got, err := hear(addr, name, nil); err == nil {
						t.Errorf("%s: got %q, want none", name, got)
					}
				}
				c := dialTo(t, addr)
				io.WriteString(c, "*1\r\n$4\r\nPING\r\n")
				if b, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) || len(b) > 0 {
					t.Errorf("not TLS: %q, %v", b, err)
				}
				if m := p.metrics(t); !strings.Contains(m, `reason="destination_not_found"} 5`) {
					t.Errorf("not counted as 5:\n%s", m)
				}
				settled(t, p)
			})
		}
	})
}

// TestStreamsByWeight: connections are shared out by weight, the share of a
// backend that doesn't exist is closed; a server that speaks first is heard.
func TestStreamsByWeight(t *testing.T) {
	spec := route.Spec{Hosts: []route.Host{{Hostnames: []string{"*"}, Rules: []route.Rule{{Name: "tcproute/default/x#0", Backends: []route.Backend{
		{Destination: keyA, Weight: 3}, {Destination: keyB, Weight: 1}, {Destination: "", Weight: 1}, {Destination: keyC},
	}}}}}}
	for _, protocol := range []view.Protocol{view.TCP, view.Detect} {
		v := streamView(clientView(netip.MustParseAddrPort("127.0.0.1:1"), "", protocol), map[string]netip.AddrPort{
			keyA: serve(t, greeter("a\n")), keyB: serve(t, greeter("b\n")), keyC: serve(t, greeter("c\n")),
		})
		v.Proxy.Identity = ""
		v.Destinations[cart].Streams = spec
		v.Destinations[cart].ServerFirst = true
		p := start(t, v, 1)
		got := map[string]int{}
		const connections = 300
		for range connections {
			c, err := net.DialTimeout("tcp", p.addr(t, "out"), wait)
			if errors.Is(err, syscall.ECONNRESET) {
				got[""]++ // at once
				continue
			} else if err != nil {
				t.Fatal(err)
			}
			c.SetDeadline(time.Now().Add(wait))
			b := make([]byte, 2)
			if protocol == view.Detect {
				io.WriteString(c, "\r\x00") // else a share without a backend is silent for as long as the client is
			}
			n, _ := io.ReadFull(c, b)
			got[string(b[:n])]++
			c.Close()
		}
		for what, share := range map[string]float64{"a\n": 0.6, "b\n": 0.2, "": 0.2, "c\n": 0} {
			if n := float64(got[what]); n < connections*(share-0.1) || n > connections*(share+0.1) {
				t.Errorf("protocol %d: %v of %d said %q, want %v of all", protocol, n, connections, what, share)
			}
		}
	}
}

// TestServerFirstStream: where no name is needed, a server behind a route of
// streams is heard before the client has said anything.
func TestServerFirstStream(t *testing.T) {
	v := streamView(clientView(netip.MustParseAddrPort("127.0.0.1:1"), "", view.Detect), map[string]netip.AddrPort{keyA: serve(t, greeter("220 ready\n"))})
	v.Proxy.Identity = ""
	v.Destinations[cart].Streams = route.Spec{Hosts: []route.Host{stream("*", keyA)}}
	c := dialTo(t, start(t, v, 1).addr(t, "out"))
	b := make([]byte, 10)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "220 ready\n" {
		t.Errorf("%q, %v", b, err)
	}
}

// TestHTTPBesideStreams: requests go by their own routes, or to the service, and
// everything else by those of streams.
func TestHTTPBesideStreams(t *testing.T) {
	v := streamView(clientView(serve(t, answering(hello)), "", view.Detect), map[string]netip.AddrPort{keyA: serve(t, echo)})
	v.Proxy.Identity = ""
	v.Destinations[cart].Streams = route.Spec{Hosts: []route.Host{stream("*", keyA)}}
	p := start(t, v, 1)
	if got := talk(t, p.addr(t, "out"), "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); !strings.HasSuffix(got, "hello") {
		t.Errorf("a request: %q", got)
	}
	if got := talk(t, p.addr(t, "out"), "*1\r\n"); got != "*1\r\n" {
		t.Errorf("a stream: %q", got)
	}
}

// several is an HTTPS listener for several Gateway listeners of one port.
func several(t *testing.T, app netip.AddrPort) (*view.View, map[string]*x509.CertPool) {
	v := edgeView(app)
	l := &v.Proxy.Listeners[0]
	roots := make(map[string]*x509.CertPool)
	for i, names := range [][]string{{"a.example", "also.example"}, {"b.example"}, {"*.example"}} {
		chain, key, pool := serverCertificate(t, []string{"a.example", "b.example", "*.example"}[i])
		l.Certificates = append(l.Certificates, view.ServerCertificate{
			Listener: fmt.Sprint("listener-", i), Hostnames: names, Certificate: chain, Key: key})
		roots[names[0]] = pool
	}
	l.Routes.Hosts[0].Hostnames = []string{"*.example"}
	return v, roots
}

// TestCertificatesByName: each listener of a port shows its own certificate, and
// only to who asks for a name that it covers.
func TestCertificatesByName(t *testing.T) {
	v, roots := several(t, program(t, told))
	p := start(t, v, 1)
	for name, of := range map[string]string{"a.example": "a.example", "b.example": "b.example", "c.example": "*.example", "A.EXAMPLE": "a.example"} {
		c, err := tls.Dial("tcp", p.addr(t, "http"), &tls.Config{ServerName: name, RootCAs: roots[of]})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := c.ConnectionState().PeerCertificates[0].DNSNames[0]; got != of {
			t.Errorf("%s: shown %s, want %s", name, got, of)
		}
		c.Close()
	}
	for _, name := range []string{"other.test", "example", "127.0.0.1"} {
		_, err := tls.Dial("tcp", p.addr(t, "http"), &tls.Config{ServerName: name, InsecureSkipVerify: true})
		if err == nil || !strings.Contains(err.Error(), "unrecognized name") {
			t.Errorf("%s: %v, want unrecognized_name", name, err)
		}
	}
}

// TestMisdirected: a request for what another listener of the port serves better
// is answered 421; one that nobody serves 404.
func TestMisdirected(t *testing.T) {
	v, _ := several(t, program(t, told))
	p := start(t, v, 1)
	for _, two := range []bool{false, true} {
		for _, test := range []struct {
			name, host string
			status     int
		}{
			{"a.example", "a.example", 200},
			{"a.example", "A.example.:8443", 200},
			{"a.example", "also.example", 200}, // the same listener's
			{"a.example", "b.example", 421},
			{"a.example", "c.example", 421}, // the wildcard's
			{"c.example", "d.example", 200},
			{"c.example", "a.example", 421}, // more specific
			{"a.example", "other.test", 404},
		} {
			tr := &http.Transport{TLSClientConfig: &tls.Config{ServerName: test.name, InsecureSkipVerify: true}, ForceAttemptHTTP2: two}
			req, _ := http.NewRequest("GET", "https://"+p.addr(t, "http")+"/", nil)
			req.Host = test.host
			resp, err := (&http.Client{Transport: tr, Timeout: wait}).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != test.status || (resp.ProtoMajor == 2) != two {
				t.Errorf("%s over %s for %s: %d, want %d", resp.Proto, test.name, test.host, resp.StatusCode, test.status)
			}
			tr.CloseIdleConnections()
		}
	}
}

// TestTLSEndsOrPasses: on one port, names with a certificate end here, HTTP or
// not, and the others pass through.
func TestTLSEndsOrPasses(t *testing.T) {
	passed, rootsPassed := tlsServer(t, "passed.example")
	for _, protocol := range []view.Protocol{view.HTTP, view.TCP} {
		app := serve(t, answering(hello))
		chain, key, roots := serverCertificate(t, "ended.example")
		v := streamView(edgeView(app), map[string]netip.AddrPort{keyA: passed, keyB: app})
		l := &v.Proxy.Listeners[0]
		l.Protocol = protocol
		l.Certificates = []view.ServerCertificate{{Listener: "ended", Hostnames: []string{"ended.example"}, Certificate: chain, Key: key}}
		if protocol == view.HTTP { // a wildcard with a certificate, and a closer name without
			l.Certificates[0].Hostnames = []string{"*.example"}
			l.Certificates = append(l.Certificates, view.ServerCertificate{Listener: "through", Hostnames: []string{"passed.example"}})
		}
		l.Streams = route.Spec{Hosts: []route.Host{stream("passed.example", keyA)}}
		if protocol == view.TCP {
			l.Routes = route.Spec{}
			l.Streams.Hosts = append(l.Streams.Hosts, stream("ended.example", keyB))
		}
		p := start(t, v, 1)
		if got, err := hear(p.addr(t, "http"), "passed.example", rootsPassed); got != "I am passed.example\n" || err != nil {
			t.Errorf("passed: %q, %v", got, err)
		}
		c, err := tls.Dial("tcp", p.addr(t, "http"), &tls.Config{ServerName: "ended.example", RootCAs: roots})
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(wait))
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: ended.example\r\nConnection: close\r\n\r\n")
		b := make([]byte, 400)
		n, err := c.Read(b)
		if got := string(b[:n]); !strings.HasPrefix(got, "HTTP/1.1 200 ") || strings.Contains(got, "Via: ") != (protocol == view.HTTP) {
			t.Errorf("ended, protocol %d: %q, %v", protocol, got, err)
		}
		c.Close()
		if _, err := hear(p.addr(t, "http"), "nobody.example", nil); err == nil {
			t.Error("a name that nobody has is served")
		}
	}
}
