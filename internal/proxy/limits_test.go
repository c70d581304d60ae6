package proxy_test

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/view"
)

// few is a limit that lets n requests through, and hardly any more.
func few(n uint32, more ...func(*policy.RateLimit)) policy.RateLimit {
	l := policy.RateLimit{Name: "ratelimitpolicy/default/few#0", Requests: 1, Per: time.Hour, Burst: n}
	for _, f := range more {
		f(&l)
	}
	return l
}

// inboundView is the sidecar of cart with a policy, which lets clients from
// outside the mesh in.
func inboundView(app netip.AddrPort, p *policy.Inbound) *view.View {
	v := serverView(app)
	l := &v.Proxy.Listeners[0]
	l.Plaintext, l.Protocol, l.Inbound = true, view.HTTP, p
	return v
}

// getOnce is a GET that returns the status and the header.
func getOnce(t testing.TB, c *http.Client, url string, fields ...string) (int, http.Header) {
	t.Helper()
	r, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode, resp.Header
}

// The limit of a workload is exact, however many loops and connections there are,
// and whatever they speak; who is refused is told when to come back.
func TestRateLimit(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		for _, n := range []uint32{1, 3, 40} {
			for _, two := range []bool{false, true} {
				var seen atomic.Int32
				s := start(t, inboundView(program(t, counting(&seen, echoes)), &policy.Inbound{Limits: []policy.RateLimit{few(n)}}), loops)
				var passed atomic.Int32
				var all sync.WaitGroup
				for range 8 {
					all.Go(func() {
						c := client(t, two)
						for range 10 {
							switch code, h := getOnce(t, c, "http://"+s.addr(t, "in")+"/"); {
							case code == 200:
								passed.Add(1)
							case code != 429 || h.Get("Ratelimit-Limit") != "1, 1;w=3600" || h.Get("Ratelimit-Remaining") != "0" ||
								h.Get("Proxy-Status") != `tulle; error=http_request_denied; details="ratelimitpolicy/default/few#0"`:
								t.Errorf("%d %v", code, h)
							default:
								// An hour, less what the test has taken; with several loops the
								// clock of one may be a little behind.
								after, err := strconv.Atoi(h.Get("Retry-After"))
								if err != nil || (after < 3000 || after > 3600) && (loops == 1 || after != 1) {
									t.Errorf("limit %d: %v", n, h)
								}
							}
						}
					})
				}
				all.Wait()
				if passed.Load() != int32(n) || seen.Load() != int32(n) {
					t.Errorf("%d passed and the program saw %d, want %d", passed.Load(), seen.Load(), n)
				}
				want := fmt.Sprintf(`tulle_rate_limit_total{direction="inbound",service="cart.default:8080",limit="ratelimitpolicy/default/few#0",outcome="refused"} %d`, 80-n)
				if m := s.metrics(t); !strings.Contains(m, want+"\n") {
					t.Errorf("no %s in\n%s", want, lines(m, "tulle_rate_limit"))
				}
			}
		}
	})
}

// A limit for some callers holds for them, by what their certificates say. Their
// own proxies don't try again, nor hold it against the endpoint.
func TestRateLimitOfCaller(t *testing.T) {
	for _, c := range []struct {
		from string
		want int
	}{{"web.default", 2}, {"*.default", 2}, {"other.default", 10}} {
		limits := []policy.RateLimit{few(2, func(l *policy.RateLimit) {
			l.When.From, l.By = []string{c.from}, []policy.Descriptor{{Kind: policy.ByIdentity}}
		})}
		var seen atomic.Int32
		v := serverView(program(t, counting(&seen, echoes)))
		v.Proxy.Listeners[0].Inbound = &policy.Inbound{Limits: limits}
		server := start(t, v, 1)
		web := start(t, clientView(netip.MustParseAddrPort(server.addr(t, "in")), cartID, view.HTTP), 1)
		passed := 0
		for range 10 {
			code, h := getOnce(t, client(t, false), "http://"+web.addr(t, "out")+"/")
			if code == 200 {
				passed++
			} else if code != 429 || h.Get("Retry-After") == "" || h.Get("Tulle-Unsent") != "" {
				t.Errorf("%d %v", code, h)
			}
		}
		if passed != c.want || int(seen.Load()) != c.want {
			t.Errorf("from %s: %d passed, %d seen; want %d", c.from, passed, seen.Load(), c.want)
		}
	}
}

// A limit of a route holds where the route is taken.
func TestRateLimitOfRoute(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		v := edgeView(program(t, echoes))
		v.Proxy.Listeners[0].Routes.Hosts[0].Rules = []route.Rule{
			{Name: "login", Matches: []route.Match{{Path: route.Path{Kind: route.PathPrefix, Value: "/login"}}}, Backends: []route.Backend{{Destination: backendKey, Weight: 1}},
				Policy: &policy.Request{Limits: []policy.RateLimit{few(2, func(l *policy.RateLimit) { l.By = []policy.Descriptor{{Kind: policy.ByHeader, Name: "x-user"}} })}}},
			{Name: "all", Backends: []route.Backend{{Destination: backendKey, Weight: 1}},
				Policy: &policy.Request{Limits: []policy.RateLimit{few(5, func(l *policy.RateLimit) { l.Name, l.When.Paths = "paths", []policy.Path{{Value: "/secret"}} })}}},
		}
		p := start(t, v, loops)
		count := func(path string, fields ...string) (passed int) {
			for range 10 {
				if code, _ := getOnce(t, client(t, false), "http://"+p.addr(t, "http")+path, fields...); code == 200 {
					passed++
				} else if code != 429 {
					t.Errorf("%s: %d", path, code)
				}
			}
			return passed
		}
		if n := count("/login", "X-User", "1"); n != 2 {
			t.Errorf("%d of user 1", n)
		}
		if n := count("/login", "X-User", "2"); n != 2 {
			t.Errorf("%d of user 2", n)
		}
		if n := count("/other"); n != 10 {
			t.Errorf("%d of another path", n)
		}
		// All ways to write the path are one.
		passed := 0
		for _, path := range []string{"/secret", "//secret", "/%73ecret", "/SECRET/", "/x/..%2fsecret", "/./secret?q", "/secret;p", "/x/%2e%2e/secret", "/%2573ecret", "/secret"} {
			if code, _ := getOnce(t, client(t, false), "http://"+p.addr(t, "http")+path); code == 200 {
				passed++
			}
		}
		if passed != 5 {
			t.Errorf("%d of 10 ways to write a path passed a limit of 5", passed)
		}
	})
}

func TestRateLimitGRPC(t *testing.T) {
	v := edgeView(grpcProgram(t, "a"))
	v.Destinations[backendKey].Protocol = view.HTTP2
	v.Proxy.Listeners[0].Routes.Hosts[0].Rules[0].Policy = &policy.Request{Limits: []policy.RateLimit{few(1)}}
	c := grpcClient(t, start(t, v, 1).addr(t, "http"))
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	in, out := []byte("hello"), []byte(nil)
	if err := c.Invoke(ctx, "/test.Echo/Unary", &in, &out); err != nil {
		t.Fatal(err)
	}
	var h metadata.MD
	err := c.Invoke(ctx, "/test.Echo/Unary", &in, &out, grpc.Trailer(&h))
	if status.Code(err) != codes.ResourceExhausted || len(h.Get("grpc-retry-pushback-ms")) != 1 || len(h.Get("retry-after")) != 1 {
		t.Errorf("%v %v", err, h)
	}
}

// gated is a program that does nothing before it is told to.
type gated struct {
	begun chan string // paths
	go_   chan struct{}
}

func newGated() *gated { return &gated{make(chan string, 1000), make(chan struct{})} }

func (g *gated) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.begun <- r.URL.Path
	select {
	case <-g.go_:
	case <-r.Context().Done():
	}
	w.WriteHeader(200)
}

// What a program can't do is refused at once, or waits for its turn, the more
// important first; the limit holds for all loops together.
func TestOverload(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		for _, limit := range []uint32{1, 3} {
			g := newGated()
			s := start(t, inboundView(program(t, g.ServeHTTP), &policy.Inbound{Overload: &policy.Overload{Min: limit, Max: limit, Tolerance: 200}}), loops)
			url := "http://" + s.addr(t, "in")
			var all sync.WaitGroup
			for range limit {
				all.Go(func() {
					if code, h := getOnce(t, client(t, false), url+"/held"); code != 200 {
						t.Errorf("%d %v", code, h)
					}
				})
			}
			for range limit {
				<-g.begun
			}
			for i := range 20 {
				code, h := getOnce(t, client(t, i%2 == 0), url+"/more")
				if code != 503 || h.Get("Retry-After") != "1" || h.Get("Proxy-Status") != "tulle; error=connection_limit_reached" || h.Get("Tulle-Unsent") != "" {
					t.Fatalf("%d %v", code, h)
				}
			}
			close(g.go_)
			all.Wait()
			// A client has its answer a moment before there is room again.
			counted(t, s, `tulle_overload_inflight{service="cart.default:8080"} 0`)
			if code, _ := getOnce(t, client(t, false), url+"/after"); code != 200 {
				t.Errorf("%d when there is room again", code)
			}
			counted(t, s, `tulle_overload_refused_total{service="cart.default:8080",level="5"} 20`)
		}
	})
}

func TestOverloadQueue(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		g := newGated()
		s := start(t, inboundView(program(t, g.ServeHTTP), &policy.Inbound{Overload: &policy.Overload{
			Min: 1, Max: 1, Tolerance: 200, Queue: time.Minute,
			Priority: []policy.Priority{{When: policy.Match{Headers: []policy.Header{{Name: "x-level", Value: "9"}}}, Level: 9}},
		}}), loops)
		url := "http://" + s.addr(t, "in")
		var all sync.WaitGroup
		asked := func(path string, fields ...string) {
			all.Go(func() {
				if code, h := getOnce(t, client(t, false), url+path, fields...); code != 200 {
					t.Errorf("%s: %d %v", path, code, h)
				}
			})
		}
		asked("/first")
		<-g.begun
		waiting := func(n int) {
			happens(t, func() bool { return strings.Count(list(t, s.Proxy), `"streams":1`) >= n })
		}
		for range 8 {
			asked("/ordinary")
		}
		waiting(9)
		if loops == 1 {
			asked("/important", "X-Level", "9")
			waiting(10)
		}
		// One that gives up makes no trouble.
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		r, _ := http.NewRequestWithContext(ctx, "GET", url+"/gone", nil)
		if resp, err := client(t, false).Do(r); err == nil {
			resp.Body.Close()
			t.Error("answered while there was no room")
		}
		cancel()
		g.go_ <- struct{}{}
		if path := <-g.begun; loops == 1 && path != "/important" {
			t.Errorf("%s came next", path)
		}
		close(g.go_)
		all.Wait()
		for until := time.Now().Add(wait); !strings.Contains(s.metrics(t), `tulle_overload_inflight{service="cart.default:8080"} 0`); {
			if time.Now().After(until) {
				t.Fatalf("the metrics say\n%s", lines(s.metrics(t), "tulle_overload"))
			}
			time.Sleep(time.Millisecond)
		}
	})
}

// A request whose caller doesn't wait any longer leaves the line.
func TestOverloadQueueDeadline(t *testing.T) {
	g := newGated()
	s := start(t, inboundView(program(t, g.ServeHTTP), &policy.Inbound{Overload: &policy.Overload{Min: 1, Max: 1, Tolerance: 200, Queue: time.Minute}}), 1)
	url := "http://" + s.addr(t, "in")
	var all sync.WaitGroup
	all.Go(func() { getOnce(t, client(t, false), url+"/first") })
	<-g.begun
	code, h := getOnce(t, client(t, false), url+"/late", "Tulle-Timeout", "50")
	if code != 504 || h.Get("Proxy-Status") == "" {
		t.Errorf("%d %v", code, h)
	}
	close(g.go_)
	all.Wait()
	counted(t, s, `tulle_overload_inflight{service="cart.default:8080"} 0`)
	if code, _ := getOnce(t, client(t, false), url+"/next"); code != 200 {
		t.Errorf("%d", code)
	}
	close(g.begun)
	for path := range g.begun {
		if path == "/late" {
			t.Error("the program was bothered with what nobody waits for")
		}
	}
}

// What one endpoint sheds another one does, at once; when all shed, the client
// hears of it at once; and none of them is thought to be broken.
func TestShedElsewhere(t *testing.T) {
	for _, two := range []bool{false, true} {
		full := newGated()
		var seen atomic.Int32
		free := program(t, counting(&seen, echoes))
		one := &policy.Inbound{Overload: &policy.Overload{Min: 1, Max: 1, Tolerance: 200}}
		at := func(app netip.AddrPort) view.Endpoint {
			v := serverView(app)
			v.Proxy.Listeners[0].Inbound = one
			return view.Endpoint{Address: netip.MustParseAddrPort(start(t, v, 1).addr(t, "in")), Identity: cartID, Workload: "cart.default"}
		}
		busy, idle := at(program(t, full.ServeHTTP)), at(free)
		v := clientView(busy.Address, cartID, view.HTTP)
		v.Endpoints[cart].Policy = &policy.Upstream{Balance: policy.Balance{Algorithm: policy.RoundRobin}, Ejection: policy.Ejection{Consecutive: 1, Base: time.Hour, MaxBackoff: time.Hour, Max: 100}}
		web := start(t, v, 1)
		var all sync.WaitGroup
		all.Go(func() {
			req, _ := http.NewRequest("GET", "http://"+web.addr(t, "out")+"/", nil)
			ctx, cancel := context.WithTimeout(context.Background(), wait)
			defer cancel()
			if resp, err := http.DefaultClient.Do(req.WithContext(ctx)); err == nil {
				resp.Body.Close()
			}
		})
		<-full.begun
		began := time.Now()
		for range 5 {
			if body, code := send(t, client(t, two), "POST", "http://"+web.addr(t, "out")+"/", []byte("x")); code != 503 {
				t.Errorf("%d %s", code, body)
			}
		}
		if d := time.Since(began); d > wait/2 {
			t.Errorf("it took %s to hear that everything is overloaded", d)
		}
		if m := web.metrics(t); strings.Contains(m, `reason="unsent",outcome="sent"} `) && !strings.Contains(m, `reason="unsent",outcome="sent"} 0`) {
			t.Errorf("it was tried again where all shed: %s", lines(m, "tulle_retries_total"))
		}
		// Now there is another.
		v2 := clientView(busy.Address, cartID, view.HTTP)
		v2.Endpoints[cart].List = append(v2.Endpoints[cart].List, idle)
		v2.Endpoints[cart].Policy = v.Endpoints[cart].Policy
		web2 := start(t, v2, 1)
		for range 10 {
			if body, code := send(t, client(t, two), "POST", "http://"+web2.addr(t, "out")+"/", []byte("x")); code != 200 {
				t.Errorf("%d %s", code, body)
			}
		}
		if seen.Load() != 10 {
			t.Errorf("%d of 10 arrived", seen.Load())
		}
		close(full.go_)
		all.Wait()
	}
}

// A health check that meets a full program, or a rate limit, finds nothing wrong.
func TestBusyIsHealthy(t *testing.T) {
	for name, bound := range map[string]*policy.Inbound{
		"overload": {Overload: &policy.Overload{Min: 1, Max: 1, Tolerance: 200}},
		"limit":    {Limits: []policy.RateLimit{few(1)}},
	} {
		g := newGated()
		v := serverView(program(t, g.ServeHTTP))
		v.Proxy.Listeners[0].Inbound = bound
		server := start(t, v, 1)
		cv := clientView(netip.MustParseAddrPort(server.addr(t, "in")), cartID, view.HTTP)
		cv.Endpoints[cart].Policy = &policy.Upstream{
			Ejection: policy.Ejection{Off: true},
			Health:   &policy.HealthCheck{Kind: policy.HealthHTTP, Path: "/health", Interval: 10 * time.Millisecond, Timeout: wait, Unhealthy: 1, Healthy: 1},
		}
		web := start(t, cv, 1)
		var all sync.WaitGroup
		all.Go(func() { getOnce(t, client(t, false), "http://"+web.addr(t, "out")+"/held") })
		<-g.begun // holds the program, be it the client's or a check's
		refused := func(m string) bool {
			return strings.Contains(m, `outcome="refused"}`) && !strings.Contains(m, `outcome="refused"} 0`) ||
				strings.Contains(m, "tulle_overload_refused_total{") && !strings.Contains(m, `level="5"} 0`)
		}
		for until := time.Now().Add(wait); !refused(server.metrics(t)); time.Sleep(time.Millisecond) {
			if time.Now().After(until) {
				t.Fatalf("%s: no check was refused:\n%s", name, lines(server.metrics(t), "tulle_"))
			}
		}
		time.Sleep(50 * time.Millisecond)
		if m := web.metrics(t); !strings.Contains(m, `tulle_endpoints{service="cart.default:8080",state="unhealthy"} 0`) {
			t.Errorf("%s: %s", name, lines(m, "tulle_endpoints"))
		}
		close(g.go_)
		all.Wait()
	}
}

// At a gateway the client's address is what a proxy before it that is believed
// says, and nobody else.
func TestRateLimitBySource(t *testing.T) {
	v := edgeView(program(t, echoes))
	v.Proxy.Listeners[0].TrustedHops = 1
	v.Proxy.Listeners[0].Routes.Hosts[0].Rules[0].Policy = &policy.Request{
		Limits: []policy.RateLimit{few(1, func(l *policy.RateLimit) { l.By = []policy.Descriptor{{Kind: policy.BySource}} })},
	}
	p := start(t, v, 1)
	for i, c := range []struct {
		from string
		want int
	}{
		{"192.0.2.1", 200}, {"192.0.2.2", 200}, {"192.0.2.1", 429},
		{"192.0.2.9, 192.0.2.2", 429}, // only the last hop is believed
		{"2001:db8::1", 200}, {"2001:db8::2", 429}, {"2001:db8:0:1::1", 200},
	} {
		if code, _ := getOnce(t, client(t, false), "http://"+p.addr(t, "http")+"/", "X-Forwarded-For", c.from); code != c.want {
			t.Errorf("%d: from %s: %d, want %d", i, c.from, code, c.want)
		}
	}
}

// Limits and overload protection allocate nothing.
func TestBoundsAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates: make test runs this again without it")
	}
	many := policy.RateLimit{Name: "many", Requests: 1_000_000, Per: time.Second, Burst: 1_000_000, When: policy.Match{Paths: []policy.Path{{Prefix: true, Value: "/"}}},
		By: []policy.Descriptor{{Kind: policy.ByIdentity}, {Kind: policy.ByPath}, {Kind: policy.ByHeader, Name: "x-user"}}}
	v := serverView(serve(t, fixedBackend(benchAnswer)))
	v.Proxy.Listeners[0].Inbound = &policy.Inbound{
		Limits:   []policy.RateLimit{many},
		Overload: &policy.Overload{Min: 4, Max: 1000, Tolerance: 200, Queue: time.Second, Priority: []policy.Priority{{When: policy.Match{Methods: []string{"PUT"}}, Level: 1}}},
	}
	server := start(t, v, 1)
	out := clientView(netip.MustParseAddrPort(server.addr(t, "in")), cartID, view.HTTP)
	out.Destinations[cart].Policy = &policy.Request{Limits: []policy.RateLimit{many}}
	web := start(t, out, 1)
	const n = 1000
	exchange(t, web.addr(t, "out"), 10)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	exchange(t, web.addr(t, "out"), n)
	runtime.ReadMemStats(&after)
	if per := float64(after.Mallocs-before.Mallocs) / n; per > 4.5 {
		t.Errorf("%.2f allocations a request, want at most 4, as without", per)
	}
	for _, p := range []*running{server, web} {
		if m := p.metrics(t); !strings.Contains(m, `limit="many",outcome="allowed"} 1210`) {
			t.Errorf("not counted: %s", lines(m, "tulle_rate_limit"))
		}
	}
}
