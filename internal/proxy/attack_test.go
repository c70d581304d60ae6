package proxy_test

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"tulle.dev/tulle/internal/access"
	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/h2"
	"tulle.dev/tulle/internal/proxy/l7http"
	"tulle.dev/tulle/internal/view"
)

// This file is attempts to get around access rules and identities. Each shows the
// refusal, and how it is counted and logged.

// over2 sends a request over a connection of its own, with the fields as they
// are, and returns the status.
func over2(t testing.TB, addr, method, authority, path string, fields ...string) string {
	t.Helper()
	e := newEnd(dialTo(t, addr), false)
	return ask2s(t, e, method, authority, path, fields...)
}

func ask2s(t testing.TB, e *end, method, authority, path string, fields ...string) string {
	t.Helper()
	s := e.engine.Open(b(method), b("http"), b(authority), b(path), nil)
	for i := 0; i+1 < len(fields); i += 2 {
		e.engine.Field(b(fields[i]), b(fields[i+1]), false)
	}
	e.engine.EndHead(s, true)
	if err := e.flush(); err != nil {
		t.Fatal(err)
	}
	status := ""
	err := e.run(func(ev h2.Event) bool {
		switch {
		case ev.Stream != s:
		case ev.Kind == h2.Response:
			status = fmt.Sprint(ev.Head.Status)
			return !ev.End
		case ev.Kind == h2.Body:
			e.engine.Consumed(s, len(ev.Data))
			return !ev.End
		case ev.Kind == h2.Trailers:
			return false
		case ev.Kind == h2.Reset:
			status = "reset"
			return false
		}
		return true
	})
	if err != nil && status == "" {
		return "ended"
	}
	e.engine.Done(s)
	return status
}

// tricks are ways to write /admin/users so that somebody else might read it.
var tricks = []string{
	"/admin/users", "//admin/users", "/admin//users", "/./admin/users", "/x/../admin/users", "/%61dmin/users", "/ADMIN/users", "/Admin/Users",
	"/admin;x=1/users", "/admin%2fusers", "/admin%2Fusers", "/%2e/admin/users", "/x/%2e%2e/admin/users", "/x/%2E./admin/users", "/public/../admin/users",
	"/public/..;/admin/users", "/admin/users/", "/admin/users?x=1", "/admin%5cusers", "/public/%2e%2e%2fadmin/users", "/%25%36%31dmin/users", "/admin%00/users",
}

// TestAccessPaths: no way to write a path gets around a rule, in either version of
// HTTP and either form of the target.
func TestAccessPaths(t *testing.T) {
	for name, s := range map[string]*access.Spec{
		// What some reader takes for /admin is denied; what is allowed is only what
		// every reader takes for /public.
		"deny":  {Default: access.Allow, Rules: []access.Rule{{Name: "r", Action: access.Deny, To: []access.Operation{{Paths: paths("/admin")}}}}},
		"allow": {Rules: []access.Rule{{Name: "r", Action: access.Allow, To: []access.Operation{{Paths: paths("/public")}}}}},
	} {
		t.Run(name, func(t *testing.T) {
			v := guardedView(program(t, func(w http.ResponseWriter, r *http.Request) {
				if !strings.HasPrefix(r.URL.Path, "/public/") && r.URL.Path != "/%61dmin/users" {
					t.Errorf("the program got %s", r.RequestURI)
				}
			}), s)
			v.Proxy.Listeners[0].Plaintext = true
			server, log := startGuarded(t, v, 1)
			addr := server.addr(t, "in")
			refused := func(how, trick, status string) {
				t.Helper()
				switch {
				case status == "403", status == "400":
				case name == "deny" && trick == "/%25%36%31dmin/users" && status == "200": // says "%61dmin", decoded once
				default:
					t.Errorf("%s over %s: %q", trick, how, status)
				}
			}
			for _, trick := range tricks {
				for _, target := range []string{trick, "http://cart" + trick} {
					got := talk(t, addr, "GET "+target+" HTTP/1.1\r\nHost: cart\r\nConnection: close\r\n\r\n")
					refused("HTTP/1.1", trick, strings.SplitN(got+"   ", " ", 3)[1])
				}
				refused("HTTP/2", trick, over2(t, addr, "GET", "cart", trick))
			}
			if got := over2(t, addr, "GET", "cart", "/public/x"); got != "200" {
				t.Errorf("/public: %s", got)
			}
			if m := server.metrics(t); !strings.Contains(m, `decision="denied"`) {
				t.Errorf("no refusal is counted:\n%s", m)
			}
			comes(t, "ten lines and no more", func() bool { return strings.Count(log.String(), `msg="access denied"`) >= 10 })
		})
	}
}

// TestSpoofedIdentity: nobody can say in a field who they are.
func TestSpoofedIdentity(t *testing.T) {
	v := serverView(program(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		for _, h := range []http.Header{r.Header, r.Trailer} {
			for name, values := range h {
				if name = strings.ToLower(strings.ReplaceAll(name, "_", "-")); name == "tulle-client-identity" {
					w.Header()["X-Got"] = append(w.Header()["X-Got"], values...)
				}
			}
		}
	}))
	v.Proxy.Listeners[0].Plaintext = true
	server := start(t, v, 1)
	web := start(t, callerView(webID, server.addr(t, "in"), view.HTTP, view.PeerHTTP1), 1)
	mux := start(t, callerView(webID, server.addr(t, "in"), view.HTTP, view.PeerHTTP2), 1)
	const forged = "spiffe://mesh.local/ns/default/sa/root"
	for _, test := range []struct{ name, addr, want string }{
		{"plaintext", server.addr(t, "in"), "[]"}, {"mesh, HTTP/1.1", web.addr(t, "out"), "[" + webID + "]"}, {"mesh, multiplexed", mux.addr(t, "out"), "[" + webID + "]"},
	} {
		for _, two := range []bool{false, true} {
			body := io.MultiReader(strings.NewReader("x"))
			r, _ := http.NewRequest("POST", "http://"+test.addr+"/", body)
			r.Header["Tulle-Client-Identity"] = []string{forged, forged}
			r.Header["tulle_client_identity"] = []string{forged}
			r.Header["TULLE-CLIENT_IDENTITY"] = []string{forged}
			r.Trailer = http.Header{"Tulle-Client-Identity": {forged}}
			resp, err := client(t, two).Do(r)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if got := fmt.Sprint(resp.Header["X-Got"]); got != test.want {
				t.Errorf("%s, two=%t: the program takes the caller for %s, want %s", test.name, two, got, test.want)
			}
		}
	}
}

// TestSpoofedAtEdge: a stranger can't bring along what a mesh or another proxy
// would say.
func TestSpoofedAtEdge(t *testing.T) {
	p := start(t, edgeView(serve(t, headBack)), 1)
	got := talk(t, p.addr(t, "http"), "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-Client-Cert: By=a;URI="+webID+"\r\n"+
		"x_forwarded_client_cert: URI="+webID+"\r\nTulle-Client-Identity: "+webID+"\r\nConnection: close\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 200 ") || strings.Contains(got, webID) {
		t.Errorf("%q", got)
	}
}

// TestCoalescing: each request is judged by what it asks for, not by what its
// connection was made for.
func TestCoalescing(t *testing.T) {
	v := edgeView(program(t, mirror))
	v.Proxy.Listeners[0].Inbound = &policy.Inbound{Guard: &policy.Guard{Access: &access.Spec{Rules: []access.Rule{{
		Name: "public", Action: access.Allow, To: []access.Operation{{Hosts: []string{"public.example"}}},
	}}}}}
	p := start(t, v, 1)
	e := newEnd(dialTo(t, p.addr(t, "http")), false)
	for _, test := range []struct{ authority, want string }{
		{"public.example", "202"}, {"private.example", "403"}, {"PUBLIC.example:80", "202"}, {"private.example", "403"},
	} {
		if got := ask2s(t, e, "GET", test.authority, "/"); got != test.want {
			t.Errorf("%s: %s, want %s", test.authority, got, test.want)
		}
	}
	if m := p.metrics(t); !strings.Contains(m, `decision="denied",rule=""} 2`) {
		t.Errorf("not counted:\n%s", m)
	}
}

// TestServerName: a rule about the name that TLS asked for isn't met by what the
// request says, and the other way round.
func TestServerName(t *testing.T) {
	v := edgeView(program(t, mirror))
	l := &v.Proxy.Listeners[0]
	var roots *x509.CertPool
	l.Certificate, l.Key, roots = serverCertificate(t, "*.example")
	l.Inbound = &policy.Inbound{Guard: &policy.Guard{Access: &access.Spec{Rules: []access.Rule{{
		Name: "both", Action: access.Allow, To: []access.Operation{{Hosts: []string{"a.example"}, ServerNames: []string{"a.example"}}},
	}}}}}
	p := start(t, v, 1)
	for _, test := range []struct{ sni, host, want string }{
		{"a.example", "a.example", "202"}, {"a.example", "b.example", "403"}, {"b.example", "a.example", "403"}, {"b.example", "b.example", "403"},
	} {
		c := tls.Client(dialTo(t, p.addr(t, "http")), &tls.Config{RootCAs: roots, ServerName: test.sni, NextProtos: []string{"http/1.1"}})
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", test.host)
		got, _ := io.ReadAll(c)
		if !strings.HasPrefix(string(got), "HTTP/1.1 "+test.want+" ") {
			t.Errorf("name %s, host %s: %.60q, want %s", test.sni, test.host, got, test.want)
		}
	}
}

// TestStrictPort: plaintext gets no byte, and is counted and logged.
func TestStrictPort(t *testing.T) {
	server, log := startGuarded(t, serverView(serve(t, answering(hello))), 1)
	c := dialTo(t, server.addr(t, "in"))
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: cart\r\n\r\n")
	if b, _ := io.ReadAll(c); len(b) > 0 {
		t.Errorf("got %q", b)
	}
	if m := server.metrics(t); !strings.Contains(m, `reason="plaintext_refused"} 1`) {
		t.Errorf("not counted:\n%s", m)
	}
	comes(t, "a line", func() bool { return strings.Contains(log.String(), "reason=plaintext_refused") })
}

// TestFalseIdentities: certificates that don't prove what they say.
func TestFalseIdentities(t *testing.T) {
	server, log := startGuarded(t, serverView(serve(t, answering(hello))), 1)
	mesh := clientConfig(t, l7http.ALPN)
	var other authority
	other.init(t)
	uri := func(s string) *url.URL { u, _ := url.Parse(s); return u }
	for _, test := range []struct {
		name, reason string
		signer       *authority
		spoil        func(*x509.Certificate)
	}{
		{"expired", "peer_certificate_expired", &ca, func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(-10*time.Minute)
		}},
		{"not yet valid", "peer_certificate_expired", &ca, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(20 * time.Minute) }},
		{"self-signed", "peer_certificate_untrusted", nil, nil},
		{"another root", "peer_certificate_untrusted", &other, nil},
		{"wrong trust domain", "peer_trust_domain_unknown", &ca, func(c *x509.Certificate) { c.URIs = []*url.URL{uri("spiffe://evil.example/ns/default/sa/web")} }},
		{"two URIs", "peer_certificate_malformed", &ca, func(c *x509.Certificate) { c.URIs = append(c.URIs, uri(billingID)) }},
		{"no URI", "peer_certificate_malformed", &ca, func(c *x509.Certificate) { c.URIs, c.DNSNames = nil, []string{"web"} }},
		{"an authority's", "peer_certificate_malformed", &ca, func(c *x509.Certificate) { c.IsCA = true }},
	} {
		t.Run(test.name, func(t *testing.T) {
			key := newKey(t)
			template := &x509.Certificate{
				SerialNumber: big.NewInt(7), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
				BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
				ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
				URIs:        []*url.URL{uri(webID)},
			}
			if test.spoil != nil {
				test.spoil(template)
			}
			parent, signer := template, key
			if test.signer != nil {
				parent, signer = test.signer.cert, test.signer.key
			}
			der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
			if err != nil {
				t.Fatal(err)
			}
			config := mesh.Clone()
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
			}
			count := func() int {
				m := server.metrics(t)
				n := 0
				if _, rest, ok := strings.Cut(m, `reason="`+test.reason+`"} `); ok {
					fmt.Sscan(rest, &n)
				}
				return n
			}
			before, lines := count(), strings.Count(log.String(), "reason="+test.reason)
			c := tls.Client(dialTo(t, server.addr(t, "in")), config)
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			if got, err := io.ReadAll(c); err == nil || len(got) > 0 {
				t.Errorf("got %q, %v", got, err)
			}
			comes(t, "its metric and line: "+test.reason, func() bool {
				return count() == before+1 && strings.Count(log.String(), "reason="+test.reason) == lines+1
			})
		})
	}
}
