package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"tulle.dev/tulle/internal/access"
	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy"
	"tulle.dev/tulle/internal/proxy/story"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/view"
)

const billingID = "spiffe://mesh.local/ns/default/sa/billing"

// written is a log that tests read.
type written struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *written) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *written) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// comes waits until f says so.
func comes(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(wait); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// guardedView is cart's sidecar, which keeps to rules.
func guardedView(app netip.AddrPort, s *access.Spec) *view.View {
	v := serverView(app)
	v.Proxy.Listeners[0].Inbound = &policy.Inbound{Guard: &policy.Guard{Access: s}}
	return v
}

// startGuarded runs cart's sidecar and keeps its log.
func startGuarded(t testing.TB, v *view.View, loops int) (*running, *written) {
	w := &written{}
	return startWith(t, v, proxy.Config{Loops: loops, Log: slog.New(slog.NewTextHandler(w, nil))}), w
}

// callerView is the sidecar of a caller of cart.
func callerView(id, mesh string, protocol view.Protocol, peers view.PeerProtocol) *view.View {
	v := clientView(netip.MustParseAddrPort(mesh), cartID, protocol)
	v.Proxy.Identity = id
	v.Proxy.Settings.PeerProtocol = peers
	return v
}

func paths(prefixes ...string) (list []access.Path) {
	for _, p := range prefixes {
		list = append(list, access.Path{Kind: access.PathPrefix, Value: p})
	}
	return list
}

// onlyWeb lets web read /shop and refuses everything else.
func onlyWeb() *access.Spec {
	return &access.Spec{Rules: []access.Rule{{
		Name: "accesspolicy/default/shop#0", Action: access.Allow,
		From: []access.Source{{Identities: []string{webID}}},
		To:   []access.Operation{{Methods: []string{"GET"}, Paths: paths("/shop")}},
	}}}
}

// fetchOne asks once and returns the status, the fields and the body.
func fetchOne(t testing.TB, c *http.Client, method, url string) (int, http.Header, string) {
	t.Helper()
	r, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "cart"
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

// TestAccessInbound: who isn't allowed gets 403, the program nothing; metric,
// story and log say why.
func TestAccessInbound(t *testing.T) {
	for _, peers := range []view.PeerProtocol{view.PeerHTTP1, view.PeerHTTP2} {
		eachLoops(t, func(t *testing.T, loops int) {
			app := program(t, func(w http.ResponseWriter, r *http.Request) {
				if !strings.HasPrefix(r.URL.Path, "/shop") || r.Method != "GET" || r.Header.Get("Tulle-Client-Identity") != webID {
					t.Errorf("the program got %s %s from %q", r.Method, r.URL, r.Header["Tulle-Client-Identity"])
				}
			})
			server, log := startGuarded(t, guardedView(app, onlyWeb()), loops)
			web := start(t, callerView(webID, server.addr(t, "in"), view.HTTP, peers), 1)
			billing := start(t, callerView(billingID, server.addr(t, "in"), view.HTTP, peers), 1)
			c := client(t, false)
			fromWeb, fromBilling := "http://"+web.addr(t, "out"), "http://"+billing.addr(t, "out")
			for range 2 {
				if code, _, _ := fetchOne(t, c, "GET", fromWeb+"/shop/1?x=1"); code != 200 {
					t.Errorf("web reads /shop: %d", code)
				}
			}
			code, h, body := fetchOne(t, c, "POST", fromWeb+"/shop/1")
			if code != 403 || !strings.Contains(strings.Join(h.Values("Proxy-Status"), " "), "http_request_denied") || h.Get("Tulle-Id") == "" {
				t.Errorf("web writes: %d %v", code, h)
			}
			if strings.Contains(body, "accesspolicy") {
				t.Errorf("the answer tells the rule: %q", body)
			}
			if code, _, _ := fetchOne(t, c, "GET", fromBilling+"/shop/1"); code != 403 {
				t.Errorf("billing reads: %d", code)
			}
			m := server.metrics(t)
			for _, want := range []string{
				`tulle_access_total{direction="inbound",service="cart.default:8080",peer="web.default",decision="allowed",rule="accesspolicy/default/shop#0"} 2`,
				`tulle_access_total{direction="inbound",service="cart.default:8080",peer="web.default",decision="denied",rule=""} 1`,
				`tulle_access_total{direction="inbound",service="cart.default:8080",peer="billing.default",decision="denied",rule=""} 1`,
				`tulle_requests_total{direction="inbound",service="cart.default:8080",peer="billing.default",tls="mutual",status="403"} 1`,
			} {
				if !strings.Contains(m, want+"\n") {
					t.Errorf("no %s in\n%s", want, m)
				}
			}
			told := server.Stories(story.Query{Last: 10})
			if len(told) != 2 {
				t.Fatalf("%d stories, want 2", len(told))
			}
			all := fmt.Sprintf("%+v", told)
			for _, want := range []string{"accesspolicy/default/shop#0 would, but for its method", "but for its identity (the caller is " + billingID + ")"} {
				if !strings.Contains(all, want) {
					t.Errorf("no %q in %s", want, all)
				}
			}
			comes(t, "two lines in the log", func() bool { return strings.Count(log.String(), `msg="access denied"`) == 2 })
			for _, want := range []string{"peer=" + webID, "method=POST", "path=/shop/1", "nearest=accesspolicy/default/shop#0", "clause=method", "id="} {
				if !strings.Contains(log.String(), want) {
					t.Errorf("no %q in %s", want, log)
				}
			}
		})
	}
}

// TestAccessExplains: where it is asked for, the answer names the rule.
func TestAccessExplains(t *testing.T) {
	s := onlyWeb()
	s.Explain = true
	server := start(t, guardedView(program(t, mirror), s), 1)
	web := start(t, callerView(webID, server.addr(t, "in"), view.HTTP, view.PeerHTTP2), 1)
	_, _, body := fetchOne(t, client(t, false), "GET", "http://"+web.addr(t, "out")+"/admin")
	if !strings.Contains(body, "accesspolicy/default/shop#0 would, but for its path") {
		t.Errorf("%q", body)
	}
}

// TestAccessAudit: a dry run refuses nothing, and is counted and logged.
func TestAccessAudit(t *testing.T) {
	s := &access.Spec{Default: access.Allow, Rules: []access.Rule{{
		Name: "accesspolicy/default/dry#0", Action: access.Deny, Audit: true, To: []access.Operation{{Paths: paths("/admin")}},
	}}}
	server, log := startGuarded(t, guardedView(program(t, mirror), s), 1)
	web := start(t, callerView(webID, server.addr(t, "in"), view.HTTP, view.PeerHTTP2), 1)
	if code, _, _ := fetchOne(t, client(t, false), "GET", "http://"+web.addr(t, "out")+"/admin"); code != 202 {
		t.Errorf("status %d", code)
	}
	for _, want := range []string{`decision="allowed",rule=""} 1`, `decision="audit",rule="accesspolicy/default/dry#0"} 1`} {
		if m := server.metrics(t); !strings.Contains(m, want) {
			t.Errorf("no %s in\n%s", want, m)
		}
	}
	comes(t, "a line in the log", func() bool { return strings.Contains(log.String(), "access would be denied") })
}

func TestAccessGRPC(t *testing.T) {
	s := &access.Spec{Rules: []access.Rule{{Name: "one", Action: access.Allow, To: []access.Operation{{
		Paths: []access.Path{{Kind: access.PathExact, Value: "/test.Echo/Unary"}},
	}}}}}
	server := start(t, guardedView(grpcProgram(t, "app"), s), 2)
	web := start(t, callerView(webID, server.addr(t, "in"), view.HTTP2, view.PeerHTTP2), 1)
	c := grpcClient(t, web.addr(t, "out"))
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	in, out := []byte("x"), []byte(nil)
	if err := c.Invoke(ctx, "/test.Echo/Unary", &in, &out); err != nil {
		t.Error(err)
	}
	if err := c.Invoke(ctx, "/test.Echo/Refuse2", &in, &out); status.Code(err) != codes.PermissionDenied {
		t.Errorf("%v, want PERMISSION_DENIED", err)
	}
}

// TestAccessOpaque: connections whose requests can't be seen are reset before the
// program hears of them, and an Allow that looks at requests lets none in.
func TestAccessOpaque(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		for name, s := range map[string]*access.Spec{
			"another one": {Rules: []access.Rule{{Name: "a", Action: access.Allow, From: []access.Source{{Identities: []string{billingID}}}}}},
			"requests":    onlyWeb(),
			"denied": {Default: access.Allow, Rules: []access.Rule{{Name: "d", Action: access.Deny,
				From: []access.Source{{ServiceAccounts: []string{"default/web"}}}}}},
			"unenforceable": {Default: access.Allow, Rules: []access.Rule{{Name: "d", Action: access.Deny, To: []access.Operation{{Methods: []string{"DELETE"}}}}}},
		} {
			got := make(chan struct{}, 10)
			app := serve(t, func(c net.Conn) { got <- struct{}{} })
			server, log := startGuarded(t, guardedView(app, s), loops)
			web := start(t, callerView(webID, server.addr(t, "in"), view.TCP, 0), 1)
			if c, err := net.Dial("tcp", web.addr(t, "out")); err == nil { // else it is reset already
				c.SetDeadline(time.Now().Add(wait))
				io.WriteString(c, "hello")
				if b, _ := io.ReadAll(c); len(b) > 0 {
					t.Errorf("%s: got %q", name, b)
				}
				c.Close()
			}
			comes(t, "the refusal's metric", func() bool {
				m := server.metrics(t)
				return strings.Contains(m, `decision="denied"`) && strings.Contains(m, `tulle_errors_total{direction="inbound",service="cart.default:8080",reason="access_denied"}`)
			})
			comes(t, "the refusal's line", func() bool { return strings.Contains(log.String(), "access denied") })
			if len(got) > 0 {
				t.Errorf("%s: the program was connected to", name)
			}
		}
		ok := &access.Spec{Rules: []access.Rule{{Name: "a", Action: access.Allow, From: []access.Source{{Namespaces: []string{"default"}}}}}}
		server := start(t, guardedView(serve(t, echo), ok), loops)
		web := start(t, callerView(webID, server.addr(t, "in"), view.TCP, 0), 1)
		if got := talk(t, web.addr(t, "out"), "hello"); got != "hello" {
			t.Errorf("got %q", got)
		}
	})
}

// TestAccessPlaintext: who proves nothing is nobody, whatever rules say of names.
func TestAccessPlaintext(t *testing.T) {
	v := guardedView(program(t, mirror), &access.Spec{Rules: []access.Rule{
		{Name: "mesh", Action: access.Allow, From: []access.Source{{TrustDomains: []string{"mesh.local"}}}},
		{Name: "probes", Action: access.Allow, To: []access.Operation{{Paths: paths("/healthz")}}},
	}})
	v.Proxy.Listeners[0].Plaintext = true
	server := start(t, v, 1)
	c := client(t, false)
	if code, _, _ := fetchOne(t, c, "GET", "http://"+server.addr(t, "in")+"/healthz"); code != 202 {
		t.Errorf("a probe: %d", code)
	}
	if code, _, _ := fetchOne(t, c, "GET", "http://"+server.addr(t, "in")+"/"); code != 403 {
		t.Errorf("a stranger: %d", code)
	}
}

// TestAccessEdge: an edge knows its clients' addresses, and routes have rules of
// their own.
func TestAccessEdge(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		v := edgeView(program(t, mirror))
		l := &v.Proxy.Listeners[0]
		l.AcceptProxy = true
		l.Inbound = &policy.Inbound{Guard: &policy.Guard{Access: &access.Spec{Rules: []access.Rule{{
			Name: "office", Action: access.Allow, From: []access.Source{{Networks: []string{"192.0.2.0/24"}}},
		}}}}}
		admin := policy.Request{Guard: &policy.Guard{Access: &access.Spec{Rules: []access.Rule{{
			Name: "boss", Action: access.Allow, From: []access.Source{{Networks: []string{"192.0.2.1/32"}}},
		}}}}}
		rules := l.Routes.Hosts[0].Rules
		l.Routes.Hosts[0].Rules = append([]route.Rule{
			{Name: "admin", Matches: prefix("/admin"), Backends: rules[0].Backends, Policy: &admin},
			{Name: "moved", Matches: prefix("/moved"), Filters: route.Filters{Redirect: &route.Redirect{Status: 301, Host: "new.example"}}},
		}, rules...)
		p := start(t, v, loops)
		ask := func(from, path string) string {
			return strings.SplitN(talk(t, p.addr(t, "http"), "PROXY TCP4 "+from+" 127.0.0.1 4000 80\r\nGET "+path+
				" HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.1\r\nConnection: close\r\n\r\n"), "\r\n", 2)[0]
		}
		for _, test := range []struct{ from, path, want string }{
			{"192.0.2.1", "/", "202"}, {"192.0.2.1", "/admin", "202"}, {"192.0.2.1", "/moved", "301"},
			{"192.0.2.9", "/", "202"}, {"192.0.2.9", "/admin", "403"},
			{"198.51.100.1", "/", "403"}, {"198.51.100.1", "/admin", "403"}, {"198.51.100.1", "/moved", "403"},
		} {
			if got := ask(test.from, test.path); !strings.Contains(got, " "+test.want+" ") {
				t.Errorf("%s from %s: %q, want %s", test.path, test.from, got, test.want)
			}
		}
		want := `tulle_access_total{direction="edge",service="",peer="",decision="denied",rule=""} 4`
		if m := p.metrics(t); !strings.Contains(m, want) {
			t.Errorf("no %s in\n%s", want, m)
		}
	})
}

// TestAccessCallers: what was asked for is told, in few entries whatever paths
// there are.
func TestAccessCallers(t *testing.T) {
	server := start(t, guardedView(program(t, mirror), onlyWeb()), 2)
	web := start(t, callerView(webID, server.addr(t, "in"), view.HTTP, view.PeerHTTP2), 1)
	c := client(t, false)
	for i := range 40 {
		fetchOne(t, c, "GET", fmt.Sprintf("http://%s/shop/%d/items?q=%d", web.addr(t, "out"), i, i))
	}
	fetchOne(t, c, "POST", "http://"+web.addr(t, "out")+"/admin")
	b, err := json.Marshal(server.Callers())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`{"service":"cart.default:8080","peer":"` + webID + `","method":"GET","path":"/shop/*","requests":`,
		`{"service":"cart.default:8080","peer":"` + webID + `","method":"POST","path":"/admin","requests":1,"denied":1,"seconds_ago":-1}`,
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %s in %s", want, b)
		}
	}
	if n := strings.Count(string(b), `"peer"`); n > 2*17+2 {
		t.Errorf("%d entries: %s", n, b)
	}
}

// TestAccessServerNames: rules about the name that a client's own TLS asks for
// hold where that is passed through, at either kind of listener.
func TestAccessServerNames(t *testing.T) {
	certified := httptest.NewTLSServer(nil)
	certified.Close()
	app := serve(t, func(c net.Conn) {
		s := tls.Server(c, certified.TLS)
		defer s.Close()
		io.Copy(s, s)
	})
	deny := &access.Spec{Default: access.Allow, Rules: []access.Rule{{Name: "d", Action: access.Deny, To: []access.Operation{{ServerNames: []string{"*.secret.example"}}}}}}
	in := guardedView(app, deny)
	in.Proxy.Listeners[0].Plaintext, in.Proxy.Listeners[0].Protocol = true, view.TCP
	edge := edgeView()
	l := &edge.Proxy.Listeners[0]
	l.Protocol, l.Destination, l.Routes = view.TCP, backendKey, route.Spec{}
	l.Inbound = in.Proxy.Listeners[0].Inbound
	edge.Endpoints[backendKey].List = []view.Endpoint{{Address: app}}
	for name, addr := range map[string]string{"inbound": start(t, in, 1).addr(t, "in"), "edge": start(t, edge, 1).addr(t, "http")} {
		for sni, want := range map[string]bool{"a.open.example": true, "a.secret.example": false, "A.Secret.example": false} {
			c := tls.Client(dialTo(t, addr), &tls.Config{InsecureSkipVerify: true, ServerName: sni})
			if err := c.Handshake(); (err == nil) != want {
				t.Errorf("%s, %s: %v", name, sni, err)
			}
			c.Close()
		}
	}
}
