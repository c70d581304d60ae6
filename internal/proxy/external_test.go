package proxy_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	auth "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"tulle.dev/tulle/internal/access"
	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/story"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/view"
)

// authzKey is the port of who is asked.
const authzKey = "authz.default:9000"

// checker answers as its function says.
type checker struct {
	auth.UnimplementedAuthorizationServer
	check func(context.Context, *auth.CheckRequest) (*auth.CheckResponse, error)
}

func (c checker) Check(ctx context.Context, r *auth.CheckRequest) (*auth.CheckResponse, error) {
	return c.check(ctx, r)
}

// authorizer runs a real gRPC server with Envoy's own messages.
func authorizer(t testing.TB, check func(context.Context, *auth.CheckRequest) (*auth.CheckResponse, error)) netip.AddrPort {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	auth.RegisterAuthorizationServer(s, checker{check: check})
	go s.Serve(l)
	t.Cleanup(s.Stop)
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// asking runs a proxy that asks somebody: an edge, or cart's sidecar behind web's.
func asking(t *testing.T, where string, app, authz netip.AddrPort, e policy.External, loops int) (p *running, url string) {
	t.Helper()
	e.Destination = authzKey
	if e.Timeout == 0 {
		e.Timeout = wait
	}
	guard := &policy.Inbound{Guard: &policy.Guard{External: &e}}
	var v *view.View
	if where == "edge" {
		v = edgeView(app)
	} else {
		v = serverView(app)
		v.Destinations, v.Endpoints = map[string]*view.Destination{}, map[string]*view.Endpoints{}
	}
	v.Proxy.Listeners[0].Inbound = guard
	v.Destinations[authzKey] = &view.Destination{Key: authzKey}
	v.Endpoints[authzKey] = &view.Endpoints{Key: authzKey, List: []view.Endpoint{{Address: authz}}}
	p = start(t, v, loops)
	if where == "edge" {
		return p, "http://" + p.addr(t, "http")
	}
	web := start(t, callerView(webID, p.addr(t, "in"), view.Detect, view.PeerHTTP2), 1)
	return p, "http://" + web.addr(t, "out")
}

func option(k, v string, action core.HeaderValueOption_HeaderAppendAction) *core.HeaderValueOption {
	return &core.HeaderValueOption{Header: &core.HeaderValue{Key: k, Value: v}, AppendAction: action}
}

// shopChecker lets /ok pass with changes, and answers in other ways elsewhere.
func shopChecker(seen *sync.Map) func(context.Context, *auth.CheckRequest) (*auth.CheckResponse, error) {
	return func(ctx context.Context, r *auth.CheckRequest) (*auth.CheckResponse, error) {
		h := r.GetAttributes().GetRequest().GetHttp()
		path, _, _ := strings.Cut(h.GetPath(), "?")
		seen.Store(path, r)
		no := func(code codes.Code, d *auth.DeniedHttpResponse) (*auth.CheckResponse, error) {
			out := &auth.CheckResponse{Status: &rpc.Status{Code: int32(code)}}
			if d != nil {
				out.HttpResponse = &auth.CheckResponse_DeniedResponse{DeniedResponse: d}
			}
			return out, nil
		}
		switch path {
		case "/ok", "/test.Echo/Unary":
			return &auth.CheckResponse{Status: &rpc.Status{}, HttpResponse: &auth.CheckResponse_OkResponse{OkResponse: &auth.OkHttpResponse{
				Headers: []*core.HeaderValueOption{option("x-checked", "yes", core.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD), option("x-many", "two", 0),
					option("host", "elsewhere", 0), option("content-length", "9", 2), option("tulle-client-identity", "root", 2), option("x-broken", "a\r\nb: c", 2),
					{Header: &core.HeaderValue{Key: "x-roles", Value: "checked"}, Append: wrapperspb.Bool(false)}},
				HeadersToRemove:      []string{"X-Gone", "host", "content-length"},
				ResponseHeadersToAdd: []*core.HeaderValueOption{option("x-seen", "1", 0)},
			}}}, nil
		case "/plain":
			return &auth.CheckResponse{}, nil
		case "/login":
			return no(codes.Unauthenticated, &auth.DeniedHttpResponse{Status: &typev3.HttpStatus{Code: 302}, Headers: []*core.HeaderValueOption{
				option("location", "https://login.example/", 0), option("set-cookie", "a=1", 0), option("set-cookie", "b=2", 0)}})
		case "/json":
			return no(codes.PermissionDenied, &auth.DeniedHttpResponse{Status: &typev3.HttpStatus{Code: 418}, Body: `{"no":1}`,
				Headers: []*core.HeaderValueOption{option("content-type", "application/json", 0)}})
		case "/text":
			return no(codes.PermissionDenied, &auth.DeniedHttpResponse{Body: "Go away."})
		case "/odd":
			return no(codes.PermissionDenied, &auth.DeniedHttpResponse{Status: &typev3.HttpStatus{Code: 101}})
		case "/slow":
			<-ctx.Done()
			return nil, ctx.Err()
		case "/error":
			return nil, status.Error(codes.Internal, "no")
		case "/unsure":
			return &auth.CheckResponse{Status: &rpc.Status{Code: 13}, HttpResponse: &auth.CheckResponse_ErrorResponse{ErrorResponse: &auth.DeniedHttpResponse{}}}, nil
		case "/huge":
			return no(codes.PermissionDenied, &auth.DeniedHttpResponse{Body: strings.Repeat("x", 1<<20)})
		}
		return no(codes.PermissionDenied, nil)
	}
}

// TestExternalGRPC: what Envoy's protocol can say, against a server made of its own
// messages.
func TestExternalGRPC(t *testing.T) {
	for _, where := range []string{"edge", "inbound"} {
		for _, two := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/http2=%v", where, two), func(t *testing.T) {
				eachLoops(t, func(t *testing.T, loops int) {
					var seen sync.Map
					p, url := asking(t, where, program(t, received), authorizer(t, shopChecker(&seen)), policy.External{GRPC: true}, loops)
					c := client(t, two)
					c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
					denied := "Another program, which decides about requests, denies this one.\n"
					fields := []string{"X-Gone: 1", "X-Many: one", "X-Checked: no", "X-Roles: admin", "X-Odd: \xff", "Cookie: a=1", "Cookie: b=2", "X-Request-Id: 7"}
					for _, test := range []struct {
						path string
						code int
						body string
					}{
						{"/ok?x=1", 200, "X-Roles=checked;X-Checked=yes;X-Many=one+two;"},
						{"/plain", 200, "X-Roles=admin;X-Checked=no;X-Gone=1;X-Many=one;"},
						{"/denied", 403, denied},
						{"/login", 302, ""},
						{"/json", 418, `{"no":1}`},
						{"/text", 403, "Go away.\n"},
						{"/odd", 403, denied},
						{"/error", 403, "Whoever decides about this request did not answer.\n"},
						{"/unsure", 403, "Whoever decides about this request did not answer.\n"},
						{"/huge", 403, "Whoever decides about this request did not answer.\n"},
					} {
						code, h, body := askWith(t, c, url+test.path, fields...)
						body = strings.TrimSuffix(body, "Tulle-Client-Identity="+webID+";")
						if code != test.code || body != test.body {
							t.Errorf("%s: %d %q, want %d %q", test.path, code, body, test.code, test.body)
						}
						switch test.path {
						case "/ok?x=1":
							if h.Get("X-Seen") != "1" {
								t.Errorf("the response has no X-Seen: %v", h)
							}
						case "/login":
							if h.Get("Location") != "https://login.example/" || len(h.Values("Set-Cookie")) != 2 {
								t.Errorf("%v", h)
							}
						case "/json":
							if strings.Join(h.Values("Content-Type"), "") != "application/json" || h.Get("Tulle-Id") == "" {
								t.Errorf("%v", h)
							}
						}
					}
					r, _ := seen.Load("/ok")
					a := r.(*auth.CheckRequest).GetAttributes()
					h := a.GetRequest().GetHttp()
					proto := map[bool]string{false: "HTTP/1.1", true: "HTTP/2"}[two]
					if where == "inbound" {
						proto = "HTTP/2"
					}
					if h.Method != "GET" || h.Path != "/ok?x=1" || h.Host != "cart" || h.Scheme != "http" || h.Id != "7" || h.Size != 0 || where == "edge" && h.Protocol != proto ||
						h.Headers["x-many"] != "one" || h.Headers["cookie"] != "a=1; b=2" || h.Headers["x-odd"] != "\uFFFD" || h.Headers["connection"] != "" ||
						a.GetRequest().GetTime().AsTime().IsZero() || a.GetSource().GetAddress().GetSocketAddress().GetAddress() != "127.0.0.1" {
						t.Errorf("was asked about %v", a)
					}
					if where == "inbound" && (a.GetSource().GetPrincipal() != webID || a.GetDestination().GetPrincipal() != cartID || a.GetDestination().GetService() != cart) {
						t.Errorf("was asked about %v", a)
					}
					m := p.metrics(t)
					service := map[string]string{"edge": "", "inbound": cart}[where]
					for outcome, n := range map[string]int{"allowed": 2, "denied": 5, "no_answer": 3} {
						if want := fmt.Sprintf("tulle_external_authorization_total{direction=%q,service=%q,outcome=%q} %d\n", where, service, outcome, n); !strings.Contains(m, want) {
							t.Errorf("no %s in\n%s", want, m)
						}
					}
					if told := fmt.Sprintf("%+v", p.Stories(story.Query{Last: 20})); !strings.Contains(told, "external/"+authzKey) {
						t.Errorf("no story of it: %s", told)
					}
				})
			})
		}
	}
}

func TestExternalGRPCCalls(t *testing.T) {
	var seen sync.Map
	_, url := asking(t, "edge", grpcProgram(t, "app"), authorizer(t, shopChecker(&seen)), policy.External{GRPC: true}, 2)
	c := grpcClient(t, strings.TrimPrefix(url, "http://"))
	for method, want := range map[string]codes.Code{"/test.Echo/Unary": codes.OK, "/test.Echo/Down": codes.PermissionDenied, "/json": codes.Unknown} {
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		defer cancel()
		in, out := []byte("x"), []byte(nil)
		if err := c.Invoke(ctx, method, &in, &out); status.Code(err) != want {
			t.Errorf("%s: %v, want %s", method, err, want)
		}
	}
}

// TestExternalUnanswered: nobody there, or nobody who answers in time; closed and
// open. What only who is asked may say is removed all the same.
func TestExternalUnanswered(t *testing.T) {
	var seen sync.Map
	slow := authorizer(t, shopChecker(&seen))
	nobody := closedPort(t)
	silent := serve(t, func(c net.Conn) { time.Sleep(wait) })
	for name, to := range map[string]netip.AddrPort{"slow": slow, "nobody": nobody, "silent": silent} {
		for _, grpc := range []bool{true, false} {
			for _, open := range []bool{true, false} {
				if name == "slow" && !grpc {
					continue
				}
				e := policy.External{GRPC: grpc, FailOpen: open, Timeout: 100 * time.Millisecond, Take: []string{"X-User"}}
				p, url := asking(t, "edge", program(t, received), to, e, 1)
				began := time.Now()
				code, _, body := askWith(t, client(t, false), url+"/slow", "X-User: root")
				want := map[bool]int{true: 200, false: 403}[open]
				if code != want || open && body != "" || time.Since(began) > wait/2 {
					t.Errorf("%s, grpc=%v, open=%v: %d %q after %s", name, grpc, open, code, body, time.Since(began))
				}
				if m := p.metrics(t); !strings.Contains(m, `outcome="no_answer"} 1`) {
					t.Errorf("%s: not counted", name)
				}
			}
		}
	}
	// A port that the mesh doesn't know.
	v := edgeView(program(t, received))
	v.Proxy.Listeners[0].Inbound = &policy.Inbound{Guard: &policy.Guard{External: &policy.External{GRPC: true, Destination: "gone.default:1", Timeout: wait}}}
	p := start(t, v, 1)
	if code, _, _ := askWith(t, client(t, false), "http://"+p.addr(t, "http")); code != 403 {
		t.Errorf("asked nobody: %d", code)
	}
}

// TestExternalHTTP: the request's head goes elsewhere, and what comes back decides.
func TestExternalHTTP(t *testing.T) {
	for _, where := range []string{"edge", "inbound"} {
		eachLoops(t, func(t *testing.T, loops int) {
			authz := program(t, func(w http.ResponseWriter, r *http.Request) {
				if !strings.HasPrefix(r.URL.Path, "/check/") || r.Host != "cart" || r.ContentLength > 0 || r.Header.Get("X-Secret") != "" || r.Header.Get("X-Told") == "" {
					t.Errorf("was asked %s %s of %s, %v", r.Method, r.URL, r.Host, r.Header)
				}
				w.Header().Set("X-User", "anna")
				w.Header().Set("X-Other", "o")
				switch r.URL.Path {
				case "/check/ok":
					w.WriteHeader(204)
				case "/check/login":
					http.Redirect(w, r, "https://login.example/", 302)
				case "/check/error":
					w.WriteHeader(503)
				case "/check/long":
					w.WriteHeader(403)
					w.Write(make([]byte, 1<<20))
				default:
					w.Header().Set("WWW-Authenticate", "Basic")
					w.Header().Set("Content-Type", "application/json")
					w.WriteHeader(401)
					fmt.Fprintf(w, `{"method":%q}`, r.Method)
				}
			})
			app := program(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == "POST" {
					mirror(w, r)
					return
				}
				received(w, r)
			})
			_, url := asking(t, where, app, authz, policy.External{Path: "/check/", Take: []string{"x-user"}, Send: []string{"X-Told"}}, loops)
			c := client(t, false)
			c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			for _, test := range []struct {
				path string
				code int
				body string
			}{
				{"/ok", 200, "X-User=anna;"}, {"/ok", 200, "X-User=anna;"}, {"/login", 302, ""}, {"/no", 401, `{"method":"GET"}`},
				{"/error", 403, "Whoever decides about this request did not answer.\n"},
				{"/long", 403, "Another program, which decides about requests, denies this one.\n"},
			} {
				code, h, body := askWith(t, c, url+test.path, "X-User: root", "X_user: root", "X-Secret: s", "X-Told: t")
				body = strings.TrimSuffix(body, "Tulle-Client-Identity="+webID+";")
				if code != test.code || body != test.body && test.path != "/login" {
					t.Errorf("%s: %d %q, want %d %q", test.path, code, body, test.code, test.body)
				}
				if test.path == "/login" && h.Get("Location") != "https://login.example/" || test.path == "/no" && h.Get("WWW-Authenticate") != "Basic" || h.Get("X-Other") != "" {
					t.Errorf("%s: %v", test.path, h)
				}
			}
			// The content comes through whole, after the answer.
			r, _ := http.NewRequest("POST", url+"/ok", strings.NewReader(strings.Repeat("x", 200_000)))
			r.Host = "cart"
			r.Header.Set("X-Told", "t")
			resp, err := c.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if n, err := countBytes(resp); err != nil || n != 200_000 || resp.StatusCode != 202 {
				t.Errorf("%d, %d bytes, %v", resp.StatusCode, n, err)
			}
		})
	}
}

func countBytes(r *http.Response) (n int, err error) {
	b := make([]byte, 32<<10)
	for {
		m, err := r.Body.Read(b)
		n += m
		if err != nil {
			if err.Error() == "EOF" {
				return n, nil
			}
			return n, err
		}
	}
}

// TestExternalOrder: nobody is asked about what rules refuse, and redirects are
// asked about too, once.
func TestExternalOrder(t *testing.T) {
	var asked atomic.Int64
	authz := authorizer(t, func(_ context.Context, r *auth.CheckRequest) (*auth.CheckResponse, error) {
		asked.Add(1)
		code := codes.OK
		if strings.Contains(r.GetAttributes().GetRequest().GetHttp().GetPath(), "not") {
			code = codes.PermissionDenied
		}
		return &auth.CheckResponse{Status: &rpc.Status{Code: int32(code)}}, nil
	})
	v := edgeView(program(t, received))
	l := &v.Proxy.Listeners[0]
	l.Inbound = &policy.Inbound{Guard: &policy.Guard{External: &policy.External{GRPC: true, Destination: authzKey, Timeout: wait},
		Access: &access.Spec{Default: access.Allow, Rules: []access.Rule{{Name: "d", Action: access.Deny, To: []access.Operation{{Paths: paths("/refused")}}}}}}}
	l.Routes.Hosts[0].Rules = append([]route.Rule{{Name: "moved", Matches: prefix("/moved"),
		Filters: route.Filters{Redirect: &route.Redirect{Status: 301, Host: "new.example"}}}}, l.Routes.Hosts[0].Rules...)
	v.Endpoints[authzKey] = &view.Endpoints{Key: authzKey, List: []view.Endpoint{{Address: authz}}}
	p := start(t, v, 1)
	c := client(t, false)
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for i, test := range []struct {
		path  string
		code  int
		asked int64
	}{{"/", 200, 1}, {"/refused", 403, 1}, {"/moved", 301, 2}, {"/moved/not", 403, 3}, {"/not", 403, 4}} {
		code, h, _ := askWith(t, c, "http://"+p.addr(t, "http")+test.path)
		if code != test.code || asked.Load() != test.asked {
			t.Errorf("%d %s: %d, asked %d times, want %d and %d", i, test.path, code, asked.Load(), test.code, test.asked)
		}
		if code == 301 && len(h.Values("Location")) != 1 {
			t.Errorf("%v", h)
		}
	}
}

// TestExternalMany: more questions than may be under way on a loop are as
// unanswered, without waiting.
func TestExternalMany(t *testing.T) {
	const more = 40
	release := make(chan struct{})
	authz := authorizer(t, func(ctx context.Context, r *auth.CheckRequest) (*auth.CheckResponse, error) {
		<-release
		return &auth.CheckResponse{}, nil
	})
	p, url := asking(t, "edge", program(t, received), authz, policy.External{GRPC: true}, 1)
	c := client(t, true)
	var all sync.WaitGroup
	var allowed, refused atomic.Int64
	for range 1024 + more {
		all.Go(func() {
			resp, err := c.Get(url)
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
			if resp.StatusCode == 200 {
				allowed.Add(1)
			} else if refused.Add(1) == more {
				close(release)
			}
		})
	}
	all.Wait()
	if allowed.Load() != 1024 || refused.Load() != more {
		t.Errorf("%d were allowed, %d refused", allowed.Load(), refused.Load())
	}
	if m, want := p.metrics(t), fmt.Sprintf(`outcome="overload"} %d`, more); !strings.Contains(m, want) {
		t.Errorf("no %s in\n%s", want, m)
	}
}

// TestExternalLeave: clients that leave take their questions along.
func TestExternalLeave(t *testing.T) {
	var under atomic.Int64
	authz := authorizer(t, func(ctx context.Context, r *auth.CheckRequest) (*auth.CheckResponse, error) {
		under.Add(1)
		defer under.Add(-1)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	p, url := asking(t, "edge", program(t, received), authz, policy.External{GRPC: true, Timeout: 2 * wait}, 1)
	c := client(t, true)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			r, _ := http.NewRequestWithContext(ctx, "GET", url, nil)
			if resp, err := c.Do(r); err == nil {
				resp.Body.Close()
				t.Errorf("status %d", resp.StatusCode)
			}
		})
	}
	comes(t, "twenty questions", func() bool { return under.Load() == 20 })
	cancel()
	all.Wait()
	comes(t, "they are given up", func() bool { return under.Load() == 0 })
	if m := p.metrics(t); strings.Contains(m, `tulle_external_authorization_total`) {
		t.Errorf("counted: %s", m)
	}
}
