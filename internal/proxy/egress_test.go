package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"tulle.dev/tulle/internal/policy"
)

const (
	apiAddr, evilAddr, dbAddr = "203.0.113.1", "203.0.113.66", "198.51.100.5"
)

// outsidePolicy is the policy of these tests.
func outsidePolicy() *policy.Egress {
	return &policy.Egress{Destinations: []policy.EgressDestination{
		{Name: "api", Hosts: []string{"api.example", "xn--bcher-kva.example", "rebind.example", "gone.example"}, Ports: []uint16{80, 443}},
		{Name: "wild", Hosts: []string{"*.wild.example"}, Ports: []uint16{443}},
		{Name: "db", Networks: []string{"198.51.100.0/24"}, Ports: []uint16{5432}},
		{Name: "inside", Hosts: []string{"inside.example"}, Networks: []string{"10.1.0.0/16"}, Ports: []uint16{80}},
	}}
}

// outsideWorld has a good and an evil server, in plaintext and with TLS.
func outsideWorld(t testing.TB, good, evil func(net.Conn)) *world {
	w := newWorld()
	g, e := serve(t, good), serve(t, evil)
	for _, port := range []string{":80", ":443", ":8080"} {
		w.at(apiAddr+port, g)
		w.at(evilAddr+port, e)
	}
	w.at(dbAddr+":5432", serve(t, func(c net.Conn) {
		io.WriteString(c, "welcome\n")
		io.Copy(c, c)
	}))
	w.servers[netip.MustParseAddrPort("[::ffff:"+dbAddr+"]:5432")] = w.servers[netip.MustParseAddrPort(dbAddr+":5432")]
	w.at("10.1.0.1:80", g)
	w.at("127.0.0.1:80", e)
	w.at("10.9.9.9:80", e)
	w.name("api.example", apiAddr)
	w.name("xn--bcher-kva.example", apiAddr)
	w.name("a.wild.example", apiAddr)
	w.name("a.b.wild.example", apiAddr)
	w.name("evil.example", evilAddr)
	w.name("inside.example", "10.1.0.1")
	w.name("rebind.example", "127.0.0.1", "::ffff:10.9.9.9", "::1", "169.254.169.254")
	return w
}

// TestEgressHTTP: plaintext requests go by their authority, wherever the program
// connected to, and to where that name leads.
func TestEgressHTTP(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		w := outsideWorld(t, saying("api"), saying("evil"))
		p := w.start(t, outsidePolicy(), loops)
		const no = "HTTP/1.1 403 "
		for _, test := range []struct{ name, to, send, want string }{
			{"allowed", apiAddr + ":80", "GET / HTTP/1.1\r\nHost: api.example\r\n", "api was asked for api.example"},
			{"its port said too", apiAddr + ":80", "GET / HTTP/1.1\r\nHost: api.example:80\r\n", "api was asked for api.example:80"},
			{"case and final dot", apiAddr + ":80", "GET / HTTP/1.1\r\nHost: API.Example.\r\n", "api was asked for API.Example."},
			{"an allowed name at an evil address", evilAddr + ":80", "GET / HTTP/1.1\r\nHost: api.example\r\n", "api was asked for"},
			{"an evil name at an allowed address", apiAddr + ":80", "GET / HTTP/1.1\r\nHost: evil.example\r\n", no},
			{"an evil name", evilAddr + ":80", "GET / HTTP/1.1\r\nHost: evil.example\r\n", no},
			{"absolute-form that is evil", apiAddr + ":80", "GET http://evil.example/ HTTP/1.1\r\nHost: api.example\r\n", no},
			{"absolute-form that is allowed, with an evil Host", apiAddr + ":80", "GET http://api.example/ HTTP/1.1\r\nHost: evil.example\r\n", "api was asked for api.example"},
			{"an address for a name", apiAddr + ":80", "GET / HTTP/1.1\r\nHost: " + apiAddr + "\r\n", no},
			{"an IPv4-mapped address for a name", apiAddr + ":80", "GET / HTTP/1.1\r\nHost: [::ffff:" + apiAddr + "]\r\n", no},
			{"another port said", apiAddr + ":80", "GET / HTTP/1.1\r\nHost: api.example:443\r\n", no},
			{"another port", apiAddr + ":8080", "GET / HTTP/1.1\r\nHost: api.example\r\n", no},
			{"no name", apiAddr + ":80", "GET / HTTP/1.0\r\n", "HTTP/1.1 403 "},
			{"one that begins alike", apiAddr + ":80", "GET / HTTP/1.1\r\nHost: api.example.evil.example\r\n", no},
			{"one that ends alike", apiAddr + ":80", "GET / HTTP/1.1\r\nHost: evilapi.example\r\n", no},
			{"punycode", apiAddr + ":80", "GET / HTTP/1.1\r\nHost: XN--bcher-KVA.example\r\n", "api was asked for"},
			{"punycode that isn't allowed", apiAddr + ":80", "GET / HTTP/1.1\r\nHost: xn--pi-7ba.example\r\n", no},
			{"a name that leads inside", apiAddr + ":80", "GET / HTTP/1.1\r\nHost: rebind.example\r\n", no},
			{"a name that may lead inside", evilAddr + ":80", "GET / HTTP/1.1\r\nHost: inside.example\r\n", "api was asked for inside.example"},
			{"a name that doesn't exist", apiAddr + ":80", "GET / HTTP/1.1\r\nHost: gone.example\r\n", "HTTP/1.1 502 "},
			{"CONNECT", apiAddr + ":80", "CONNECT api.example:80 HTTP/1.1\r\nHost: api.example:80\r\n", "HTTP/1.1 501 "},
		} {
			c := w.dial(t, p, test.to)
			io.WriteString(c, test.send+"Connection: close\r\n\r\n")
			b, err := io.ReadAll(c)
			got := string(b)
			if err != nil || !strings.Contains(got, test.want) {
				t.Errorf("%s: got %q, %v, want %q", test.name, got, err, test.want)
			}
			if test.want == no && (!strings.Contains(got, `Proxy-Status: tulle; error=http_request_denied; details="`) || len(w.reached()) > 0) {
				t.Errorf("%s: reached %v: %q", test.name, w.reached(), got)
			}
		}
		settled(t, p)
		m := p.metrics(t)
		for _, want := range []string{
			`tulle_egress_total{destination="api",decision="allowed"} `, `tulle_egress_total{destination="evil.example",decision="denied"} 3`,
			`tulle_egress_total{destination="inside",decision="allowed"} 1`, `service="external/api"`, `service="external/inside"`,
		} {
			if !strings.Contains(m, want) {
				t.Errorf("the metrics don't say %s:\n%s", want, m)
			}
		}
	})
}

// TestEgressEachRequest: every request of a connection is judged by itself.
func TestEgressEachRequest(t *testing.T) {
	w := outsideWorld(t, saying("api"), saying("evil"))
	p := w.start(t, outsidePolicy(), 1)
	c := w.dial(t, p, apiAddr+":80")
	r := bufio.NewReader(c)
	for i, want := range []int{200, 403, 200} {
		host := map[int]string{200: "api.example", 403: "evil.example"}[want]
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", host)
		resp, err := http.ReadResponse(r, nil)
		if err != nil || resp.StatusCode != want {
			t.Fatalf("request %d: %v, %v", i, resp, err)
		}
		io.Copy(io.Discard, resp.Body)
	}
	if got := w.reached(); !slices.Equal(got, []string{apiAddr + ":80"}) {
		t.Errorf("reached %v, want one connection", got)
	}
}

// tlsCalls are TLS clients, and who answers: "" is nobody.
var tlsCalls = []struct{ name, to, sni, ech, want string }{
	{name: "allowed", to: apiAddr + ":443", sni: "api.example", want: "api as api.example"},
	{name: "an allowed name at an evil address", to: evilAddr + ":443", sni: "api.example", want: "api as api.example"},
	{name: "an evil name at an allowed address", to: apiAddr + ":443", sni: "evil.example"},
	{name: "no name", to: apiAddr + ":443"},
	{name: "case", to: apiAddr + ":443", sni: "API.Example", want: "api as API.Example"},
	{name: "one below", to: evilAddr + ":443", sni: "a.wild.example", want: "api as a.wild.example"},
	{name: "two below", to: evilAddr + ":443", sni: "a.b.wild.example", want: "api as a.b.wild.example"},
	{name: "not below", to: apiAddr + ":443", sni: "wild.example"},
	{name: "a name that leads inside", to: apiAddr + ":443", sni: "rebind.example"},
	{name: "hidden behind an allowed name", to: evilAddr + ":443", sni: "evil.example", ech: "api.example", want: "rejected"},
	{name: "hidden behind an evil name", to: apiAddr + ":443", sni: "api.example", ech: "evil.example"},
}

// TestEgressTLS: TLS goes by the name that its ClientHello shows.
func TestEgressTLS(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		ca := newWeb(t)
		w := outsideWorld(t, ca.secure(t, &tls.Config{}, greets("api"), "api.example"), ca.secure(t, &tls.Config{}, greets("evil"), "evil.example"))
		p := w.start(t, outsidePolicy(), loops)
		for _, test := range tlsCalls {
			got, err := shake(t, w.dial(t, p, test.to), test.sni, test.ech)
			checkShake(t, test.name, test.want, got, err)
			for _, a := range w.reached() {
				if a != apiAddr+":443" || test.want == "" {
					t.Errorf("%s: reached %s", test.name, a)
				}
			}
		}
		settled(t, p)
	})
}

// shake does TLS and reads what the server says.
func shake(t testing.TB, c net.Conn, sni, ech string) (string, error) {
	config := &tls.Config{ServerName: sni, InsecureSkipVerify: true}
	if ech != "" {
		config.EncryptedClientHelloConfigList = echList(t, ech)
		config.MinVersion = tls.VersionTLS13
		config.EncryptedClientHelloRejectionVerify = func(tls.ConnectionState) error { return nil }
	}
	defer c.Close()
	s := tls.Client(c, config)
	b, err := io.ReadAll(s)
	return string(b), err
}

func checkShake(t testing.TB, name, want, got string, err error) {
	t.Helper()
	var rejected *tls.ECHRejectionError
	switch {
	case want == "" && (err == nil || !strings.Contains(err.Error(), "access denied")):
		t.Errorf("%s: got %q, %v, want an alert", name, got, err)
	case want == "rejected" && !errors.As(err, &rejected): // by the allowed server: it has no such key
		t.Errorf("%s: got %q, %v, want what the server says of ECH", name, got, err)
	case want != "" && want != "rejected" && (err != nil || got != want):
		t.Errorf("%s: got %q, %v, want %q", name, got, err, want)
	}
}

// TestEgressOpaque: what has no name goes by its address.
func TestEgressOpaque(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		w := outsideWorld(t, echo, echo)
		p := w.start(t, outsidePolicy(), loops)
		for _, to := range []string{dbAddr + ":5432", "[::ffff:" + dbAddr + "]:5432"} {
			c := w.dial(t, p, to)
			if line, err := bufio.NewReader(c).ReadString('\n'); line != "welcome\n" {
				t.Errorf("a server that speaks first at %s: %q, %v", to, line, err)
			}
			c.Close()
		}
		for _, to := range []string{evilAddr + ":443", evilAddr + ":22", dbAddr + ":80", apiAddr + ":443"} {
			c := w.dial(t, p, to)
			io.WriteString(c, "SSH-2.0-x\r\n")
			if b, err := io.ReadAll(c); err == nil || len(b) > 0 || len(w.reached()) > 0 {
				t.Errorf("%s: got %q, %v, reached %v, want a reset", to, b, err, w.reached())
			}
		}
		settled(t, p)
		if m := p.metrics(t); !strings.Contains(m, `reason="egress_denied"} 4`) || !strings.Contains(m, `service="external/db"`) {
			t.Errorf("the metrics say\n%s", m)
		}
	})
}

// TestEgressForward: as an HTTP proxy too, and what goes through CONNECT is looked
// into.
func TestEgressForward(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		ca := newWeb(t)
		w := outsideWorld(t, ca.secure(t, &tls.Config{}, greets("api"), "api.example"), ca.secure(t, &tls.Config{}, greets("evil"), "evil.example"))
		w.at(apiAddr+":80", serve(t, saying("api")))
		p := w.start(t, outsidePolicy(), loops)
		addr := p.addr(t, "forward")
		for _, test := range []struct{ send, want string }{
			{"GET http://api.example/ HTTP/1.1\r\nHost: api.example\r\n", "api was asked for api.example"},
			{"GET http://API.example.:80/ HTTP/1.1\r\nHost: x\r\n", "api was asked for API.example."},
			{"GET http://evil.example/ HTTP/1.1\r\nHost: api.example\r\n", "HTTP/1.1 403 "},
			{"GET http://" + apiAddr + "/ HTTP/1.1\r\nHost: api.example\r\n", "HTTP/1.1 403 "},
			{"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n", "HTTP/1.1 403 "},
			{"CONNECT api.example:22 HTTP/1.1\r\nHost: api.example:22\r\n", "HTTP/1.1 403 "},
			{"CONNECT api.example:22 HTTP/1.1\r\nHost: api.example:443\r\n", "HTTP/1.1 4"},
			{"CONNECT " + apiAddr + ":443 HTTP/1.1\r\nHost: api.example\r\n", "HTTP/1.1 403 "},
			{"CONNECT [::ffff:" + apiAddr + "]:443 HTTP/1.1\r\nHost: api.example\r\n", "HTTP/1.1 403 "},
			{"CONNECT [::ffff:" + dbAddr + "]:5432 HTTP/1.1\r\nHost: x\r\n", "welcome"},
			{"CONNECT rebind.example:80 HTTP/1.1\r\nHost: x\r\n", "HTTP/1.1 403 "},
		} {
			if got := talk(t, addr, test.send+"Connection: close\r\n\r\n"); !strings.Contains(got, test.want) {
				t.Errorf("%q: got %q, want %q", test.send, got, test.want)
			}
		}
		for _, test := range tlsCalls {
			if test.name == "a name that leads inside" { // it doesn't lead there: CONNECT says where to
				continue
			}
			c := dialTo(t, addr)
			io.WriteString(c, "CONNECT api.example:443 HTTP/1.1\r\nHost: api.example:443\r\n\r\n")
			head, err := readHead(bufio.NewReader(iotest.OneByteReader(c)))
			if err != nil || !strings.HasPrefix(head, "HTTP/1.1 200 ") {
				t.Fatalf("%q, %v", head, err)
			}
			got, err := shake(t, c, test.sni, test.ech)
			checkShake(t, "through CONNECT: "+test.name, test.want, got, err)
		}
		settled(t, p)
	})
}

// TestEgressOriginates: the proxy speaks TLS for a program that doesn't, with a
// client certificate, in the version of HTTP that the server speaks, and believes
// nobody else.
func TestEgressOriginates(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		ca, other := newWeb(t), newWeb(t)
		chain, key := ca.certificate(t)
		need := func(protocols ...string) *tls.Config {
			return &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool(), NextProtos: protocols}
		}
		w := newWorld()
		two := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(rw, "%s for %s", r.Proto, r.Host)
		})}
		pair, err := tls.X509KeyPair(func() ([]byte, []byte) { return ca.certificate(t, "two.example") }())
		if err != nil {
			t.Fatal(err)
		}
		onlyTwo := need("h2")
		onlyTwo.Certificates = []tls.Certificate{pair}
		onlyTwo.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			if slices.Contains(h.SupportedProtos, "h2") {
				return nil, nil
			}
			return &tls.Config{Certificates: onlyTwo.Certificates, NextProtos: []string{"nothing"}}, nil // crypto/tls forgives otherwise
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go two.Serve(tls.NewListener(l, onlyTwo))
		t.Cleanup(func() { two.Close() })
		add := func(name, addr string, server netip.AddrPort) {
			w.name(name, addr)
			w.at(addr+":443", server)
		}
		add("one.example", "203.0.113.11", serve(t, ca.secure(t, need("http/1.1"), saying("one"), "one.example")))
		add("two.example", "203.0.113.12", netip.MustParseAddrPort(l.Addr().String()))
		add("none.example", "203.0.113.13", serve(t, ca.secure(t, need(), saying("none"), "none.example")))
		add("wrong.example", "203.0.113.14", serve(t, ca.secure(t, need(), saying("wrong"), "one.example")))
		add("other.example", "203.0.113.15", serve(t, other.secure(t, &tls.Config{}, saying("other"), "other.example")))
		add("old.example", "203.0.113.16", serve(t, ca.secure(t, &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}, saying("old"), "old.example")))
		p := w.start(t, &policy.Egress{Destinations: []policy.EgressDestination{{Name: "partners", Hosts: []string{"*.example"}, Ports: []uint16{80, 443},
			TLS: &policy.EgressTLS{Roots: ca.roots(), Certificate: chain, Key: key}}}}, loops)
		for _, via := range []string{"capture", "forward"} {
			for _, test := range []struct{ host, want string }{
				{"one.example", "one was asked for one.example"}, {"two.example", "HTTP/2.0 for two.example"}, {"none.example", "none was asked for none.example"},
				{"wrong.example", "error=tls_certificate_error"}, {"other.example", "error=tls_certificate_error"}, {"old.example", "error=tls_certificate_error"},
			} {
				for range 3 {
					var c net.Conn
					if via == "capture" {
						c = w.dial(t, p, "203.0.113.99:80")
						fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", test.host)
					} else {
						c = dialTo(t, p.addr(t, "forward"))
						fmt.Fprintf(c, "GET http://%s/ HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", test.host, test.host)
					}
					if b, err := io.ReadAll(c); err != nil || !strings.Contains(string(b), test.want) {
						t.Errorf("%s, by %s: got %q, %v, want %q", test.host, via, b, err, test.want)
					}
				}
			}
		}
		var clear http.Protocols
		clear.SetUnencryptedHTTP2(true)
		for host, want := range map[string]string{"one.example": "one was asked for one.example", "two.example": "HTTP/2.0 for two.example"} {
			c := w.dial(t, p, "203.0.113.99:80")
			client := &http.Client{Transport: &http.Transport{Protocols: &clear, DialContext: func(context.Context, string, string) (net.Conn, error) { return c, nil }}}
			for range 3 {
				resp, err := client.Get("http://" + host + "/")
				if err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(resp.Body)
				if err != nil || resp.ProtoMajor != 2 || string(b) != want {
					t.Errorf("%s, by HTTP/2: got %q, %v, want %q", host, b, err, want)
				}
			}
			c.Close()
		}
		settled(t, p)
		if m := p.metrics(t); !strings.Contains(m, `service="external/partners",peer="",tls="tls"`) {
			t.Errorf("the metrics say\n%s", m)
		}
	})
}

// TestEgressAudit: a policy that only looks on changes nothing, and counts.
func TestEgressAudit(t *testing.T) {
	w := outsideWorld(t, saying("api"), saying("evil"))
	e := outsidePolicy()
	e.Audit = true
	p := w.start(t, e, 1)
	for _, test := range []struct{ to, host, want string }{
		{apiAddr + ":80", "api.example", "api was asked for api.example"}, {evilAddr + ":80", "evil.example", "evil was asked for evil.example"},
		{evilAddr + ":8080", "api.example", "evil was asked for api.example"}, {evilAddr + ":80", "gone.example", "evil was asked for gone.example"},
		{evilAddr + ":80", "rebind.example", "evil was asked for rebind.example"},
	} {
		c := w.dial(t, p, test.to)
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", test.host)
		if b, err := io.ReadAll(c); err != nil || !strings.Contains(string(b), test.want) {
			t.Errorf("%s: got %q, %v, want %q", test.host, b, err, test.want)
		}
	}
	if got := talk(t, p.addr(t, "forward"), "GET http://evil.example/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); !strings.Contains(got, "evil was asked for") {
		t.Errorf("got %q", got)
	}
	m := p.metrics(t)
	if !strings.Contains(m, `tulle_egress_total{destination="evil.example",decision="audit"} 2`) || strings.Contains(m, `decision="denied"`) {
		t.Errorf("the metrics say\n%s", m)
	}
}

// TestEgressDefaultAllow: what nothing is for goes where it went.
func TestEgressDefaultAllow(t *testing.T) {
	w := outsideWorld(t, saying("api"), saying("evil"))
	e := outsidePolicy()
	e.Allow = true
	p := w.start(t, e, 1)
	for to, want := range map[string]string{evilAddr + ":80": "evil was asked for evil.example", evilAddr + ":8080": "evil was asked for evil.example"} {
		c := w.dial(t, p, to)
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
		if b, err := io.ReadAll(c); err != nil || !strings.Contains(string(b), want) {
			t.Errorf("%s: got %q, %v, want %q", to, b, err, want)
		}
	}
}

// TestEgressWithdrawn: another policy ends the connections and tunnels that it
// doesn't let out, and no others.
func TestEgressWithdrawn(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		ca := newWeb(t)
		w := outsideWorld(t, ca.secure(t, &tls.Config{}, func(c net.Conn) { io.Copy(c, c) }, "api.example"), echo)
		p := w.start(t, outsidePolicy(), loops)
		say := func(c net.Conn) error {
			io.WriteString(c, "x\n")
			b := make([]byte, 2)
			_, err := io.ReadFull(c, b)
			return err
		}
		open := func(c net.Conn, tunnel, sni string) net.Conn {
			if tunnel != "" {
				fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n", tunnel)
				if head, err := readHead(bufio.NewReader(iotest.OneByteReader(c))); err != nil || !strings.HasPrefix(head, "HTTP/1.1 200 ") {
					t.Fatalf("%q, %v", head, err)
				}
			}
			if sni != "" {
				c = tls.Client(c, &tls.Config{ServerName: sni, InsecureSkipVerify: true})
			} else {
				io.ReadFull(c, make([]byte, len("welcome\n")))
			}
			if err := say(c); err != nil {
				t.Fatal(err)
			}
			return c
		}
		forward := func() net.Conn { return dialTo(t, p.addr(t, "forward")) }
		gone := []net.Conn{open(w.dial(t, p, apiAddr+":443"), "", "api.example"), open(forward(), "api.example:443", "api.example")}
		stay := []net.Conn{open(w.dial(t, p, dbAddr+":5432"), "", ""), open(forward(), dbAddr+":5432", "")}

		e := outsidePolicy()
		e.Destinations = e.Destinations[1:]
		p.Follow(tableOf(t, egressView(e)))
		for i, c := range gone {
			if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("connection %d that isn't allowed any more: %v", i, err)
			}
			c.Close()
		}
		for i, c := range stay {
			if err := say(c); err != nil {
				t.Errorf("connection %d that is allowed: %v", i, err)
			}
			c.Close()
		}
		settled(t, p)
	})
}

// helloOf is the record of a ClientHello that asks for a name.
func helloOf(t testing.TB, sni string) []byte {
	t.Helper()
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	go tls.Client(client, &tls.Config{ServerName: sni, InsecureSkipVerify: true}).Handshake()
	head := make([]byte, 5)
	if _, err := io.ReadFull(server, head); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, int(head[3])<<8|int(head[4]))
	if _, err := io.ReadFull(server, body); err != nil {
		t.Fatal(err)
	}
	return append(head, body...)
}

// fragmented is a record's content in records of n bytes each (RFC 8446, 5.1).
func fragmented(record []byte, n int) (out []byte) {
	for body := record[5:]; len(body) > 0; {
		k := min(n, len(body))
		out = append(append(out, 22, 3, 1, byte(k>>8), byte(k)), body[:k]...)
		body = body[k:]
	}
	return out
}

// TestEgressHelloTricks: however a ClientHello comes, it is the name in it that
// counts, and one that can't be read has none.
func TestEgressHelloTricks(t *testing.T) {
	good, evil := helloOf(t, "api.example"), helloOf(t, "evil.example")
	twice := slices.Clone(evil)
	if i := strings.Index(string(twice), "evil.example"); i > 0 {
		copy(twice[i:], "evil.exampl\x00") // no name that a server takes
	}
	long := slices.Clone(good)
	long[6], long[7] = 1, 0 // says that 64 KiB follow
	ca := newWeb(t)
	w := outsideWorld(t, ca.secure(t, &tls.Config{}, greets("api"), "api.example"), ca.secure(t, &tls.Config{}, greets("evil"), "evil.example"))
	p := w.start(t, outsidePolicy(), 1)
	for _, test := range []struct {
		name string
		send []byte
		pass bool
	}{
		{"in one record", good, true},
		{"in many records", fragmented(good, 7), true},
		{"evil in one record", evil, false},
		{"evil in many records", fragmented(evil, 7), false},
		{"evil behind an empty record", append([]byte{22, 3, 1, 0, 0}, evil...), false},
		{"evil behind an alert", append([]byte{21, 3, 1, 0, 2, 1, 0}, evil...), false},
		{"a name with a zero byte", twice, false},
		{"longer than is read", append(long, make([]byte, 32<<10)...), false},
		{"a good one behind an evil one", append(slices.Clone(evil), good...), false},
	} {
		for _, piece := range []int{len(test.send), 100} {
			c := w.dial(t, p, evilAddr+":443")
			for b := test.send; len(b) > 0; b = b[min(piece, len(b)):] {
				if _, err := c.Write(b[:min(piece, len(b))]); err != nil {
					break // it was refused before the end
				}
			}
			b := make([]byte, 6)
			n, _ := io.ReadFull(c, b)
			if passed := n == 6 && b[0] == 22 && b[5] == 2; passed != test.pass || len(w.reached()) > 0 != test.pass { // a ServerHello
				t.Errorf("%s, %d bytes at a time: got %v, reached %v", test.name, piece, b[:n], w.reached())
			}
			c.Close()
		}
	}
	settled(t, p)
}

// TestEgressRefusedPlace: a place whose Secrets aren't there is refused whatever the
// default, and never called in plaintext.
func TestEgressRefusedPlace(t *testing.T) {
	for _, allow := range []bool{false, true} {
		w := outsideWorld(t, saying("api"), saying("evil"))
		w.name("broken.example", apiAddr)
		w.at("198.51.100.9:80", serve(t, saying("broken")))
		p := w.start(t, &policy.Egress{Allow: allow, Destinations: []policy.EgressDestination{
			{Name: "broken", Hosts: []string{"broken.example"}, Networks: []string{"198.51.100.9/32"}, Ports: []uint16{80, 443, 5432}, Refused: true}}}, 1)
		for _, to := range []string{apiAddr + ":80", "198.51.100.9:80"} {
			c := w.dial(t, p, to)
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: broken.example\r\nConnection: close\r\n\r\n")
			if b, _ := io.ReadAll(c); !strings.HasPrefix(string(b), "HTTP/1.1 403 ") || len(w.reached()) > 0 {
				t.Errorf("allow %v, %s: got %q, reached %v", allow, to, b, w.reached())
			}
		}
		c := w.dial(t, p, "198.51.100.9:5432")
		io.WriteString(c, "SSH-2.0-x\r\n")
		if b, err := io.ReadAll(c); err == nil || len(w.reached()) > 0 {
			t.Errorf("allow %v, opaque: got %q, %v, reached %v", allow, b, err, w.reached())
		}
		_, err := shake(t, w.dial(t, p, apiAddr+":443"), "broken.example", "")
		checkShake(t, "TLS", "", "", err)
		if got := talk(t, p.addr(t, "forward"), "CONNECT broken.example:443 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 403 ") {
			t.Errorf("allow %v, CONNECT: got %q", allow, got)
		}
		settled(t, p)
	}
}
