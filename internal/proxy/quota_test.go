package proxy_test

import (
	"context"
	"errors"
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
	rls "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/view"
)

// counterKey is the port of who counts.
const counterKey = "counter.default:8081"

// counter is a rate limit service: so many of each user.
type counter struct {
	rls.UnimplementedRateLimitServiceServer
	mu    sync.Mutex
	most  int
	users map[string]int
	asked []*rls.RateLimitRequest
	// answer, when not nil, answers instead.
	answer func(context.Context, *rls.RateLimitRequest) (*rls.RateLimitResponse, error)
}

func (c *counter) ShouldRateLimit(ctx context.Context, r *rls.RateLimitRequest) (*rls.RateLimitResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, r)
	if c.answer != nil {
		return c.answer(ctx, r)
	}
	out := &rls.RateLimitResponse{OverallCode: rls.RateLimitResponse_OK, RequestHeadersToAdd: []*core.HeaderValue{{Key: "x-counted", Value: "yes"}, {Key: "host", Value: "elsewhere"}},
		ResponseHeadersToAdd: []*core.HeaderValue{{Key: "x-quota", Value: "shop"}}}
	for _, d := range r.Descriptors {
		s := &rls.RateLimitResponse_DescriptorStatus{Code: rls.RateLimitResponse_OK, DurationUntilReset: durationpb.New(30 * time.Second),
			CurrentLimit: &rls.RateLimitResponse_RateLimit{RequestsPerUnit: uint32(c.most), Unit: rls.RateLimitResponse_RateLimit_MINUTE}}
		if user := d.Entries[0].Value; c.users[user] >= c.most {
			s.Code, out.OverallCode = rls.RateLimitResponse_OVER_LIMIT, rls.RateLimitResponse_OVER_LIMIT
		} else {
			c.users[user]++
		}
		out.Statuses = append(out.Statuses, s)
	}
	return out, nil
}

func (c *counter) serve(t testing.TB) netip.AddrPort {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	c.users = map[string]int{}
	rls.RegisterRateLimitServiceServer(s, c)
	go s.Serve(l)
	t.Cleanup(s.Stop)
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// byUser asks about requests with an x-user.
func byUser(closed bool, timeout time.Duration) policy.RateLimit {
	return policy.RateLimit{Name: "ratelimitpolicy/default/counted", Service: &policy.LimitService{
		Destination: counterKey, Domain: "shop", Timeout: timeout, Closed: closed,
		Descriptors: []policy.LimitDescriptor{{Entries: []policy.LimitEntry{{Key: "user", Of: policy.Descriptor{Kind: policy.ByHeader, Name: "X-User"}},
			{Key: "path", Of: policy.Descriptor{Kind: policy.ByPath}}, {Key: "all", Value: "of them"}}, Hits: 2}}}}
}

// countedView runs a proxy whose requests another program counts: at an edge's
// route, or where the workload serves.
func countedView(where string, app, service netip.AddrPort, limits ...policy.RateLimit) *view.View {
	var v *view.View
	if where == "route" {
		v = edgeView(app)
		v.Proxy.Listeners[0].Routes.Hosts[0].Rules = []route.Rule{{Name: "all", Backends: []route.Backend{{Destination: backendKey, Weight: 1}}, Policy: &policy.Request{Limits: limits}}}
	} else {
		v = inboundView(app, &policy.Inbound{Limits: limits})
		v.Destinations, v.Endpoints = map[string]*view.Destination{}, map[string]*view.Endpoints{}
	}
	v.Destinations[counterKey] = &view.Destination{Key: counterKey}
	v.Endpoints[counterKey] = &view.Endpoints{Key: counterKey, List: []view.Endpoint{{Address: service}}}
	return v
}

func front(t testing.TB, r *running, where string) string {
	if where == "route" {
		return "http://" + r.addr(t, "http")
	}
	return "http://" + r.addr(t, "in")
}

// A service that speaks Envoy's protocol decides: its answer holds, with what it has
// to say, for both versions of HTTP and however many loops there are.
func TestQuota(t *testing.T) {
	for _, where := range []string{"route", "inbound"} {
		eachLoops(t, func(t *testing.T, loops int) {
			c := &counter{most: 3}
			var seen atomic.Int32
			var wrong atomic.Value
			app := program(t, counting(&seen, func(w http.ResponseWriter, r *http.Request) {
				if user := r.Header.Get("X-User"); (user != "") != (r.Header.Get("X-Counted") == "yes") || r.Host == "elsewhere" {
					wrong.Store(fmt.Sprint(r.Host, r.Header))
				}
			}))
			p := start(t, countedView(where, app, c.serve(t), byUser(true, time.Minute)), loops)
			url := front(t, p, where)
			var passed atomic.Int32
			var all sync.WaitGroup
			for i := range 8 {
				all.Go(func() {
					h := patientClient(t, i%2 == 0)
					for range 3 {
						switch code, h := getOnce(t, h, url+"/a//B?q", "X-User", "7"); {
						case code == 200 && h.Get("X-Quota") == "shop":
							passed.Add(1)
						case code != 429 || h.Get("Ratelimit-Limit") != "3, 3;w=60" || h.Get("Ratelimit-Remaining") != "0" || h.Get("Ratelimit-Reset") != "30" ||
							h.Get("Retry-After") != "30" || h.Get("X-Quota") != "shop" || h.Get("Tulle-Id") == "" ||
							h.Get("Proxy-Status") != `tulle; error=http_request_denied; details="ratelimitpolicy/default/counted"`:
							t.Errorf("%d %v", code, h)
						}
					}
				})
			}
			all.Wait()
			if passed.Load() != 3 || seen.Load() != 3 {
				t.Errorf("%d passed and the program saw %d, want 3", passed.Load(), seen.Load())
			}
			if code, _ := getOnce(t, client(t, false), url+"/"); code != 200 { // nobody is asked about it
				t.Errorf("%d without a user", code)
			}
			if w := wrong.Load(); w != nil {
				t.Errorf("the program saw %s", w)
			}
			if len(c.asked) != 24 {
				t.Errorf("asked %d times, want 24", len(c.asked))
			}
			d := c.asked[0].Descriptors[0]
			if got := fmt.Sprint(c.asked[0].Domain, " ", d.Entries, " ", d.HitsAddend.GetValue()); strings.Join(strings.Fields(got), " ") !=
				`shop [key:"user" value:"7" key:"path" value:"/a/b" key:"all" value:"of them"] 2` {
				t.Errorf("asked about %s", got)
			}
			service := map[string]string{"route": `direction="edge",service="backend.default:80"`, "inbound": `direction="inbound",service="cart.default:8080"`}[where]
			for outcome, n := range map[string]int{"allowed": 3, "refused": 21} {
				want := fmt.Sprintf(`tulle_rate_limit_total{%s,limit="ratelimitpolicy/default/counted",outcome="%s"} %d`, service, outcome, n)
				if m := p.metrics(t); !strings.Contains(m, want+"\n") {
					t.Errorf("no %s in\n%s", want, lines(m, "tulle_rate_limit"))
				}
			}
		})
	}
}

// When nobody answers, or nothing that makes sense, the policy says what becomes of
// requests; a loop doesn't wait for anybody.
func TestQuotaUnanswered(t *testing.T) {
	for name, answer := range map[string]func(context.Context, *rls.RateLimitRequest) (*rls.RateLimitResponse, error){
		"late": func(ctx context.Context, _ *rls.RateLimitRequest) (*rls.RateLimitResponse, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
		"failed": func(context.Context, *rls.RateLimitRequest) (*rls.RateLimitResponse, error) {
			return nil, errors.New("no")
		},
		"unknown": func(context.Context, *rls.RateLimitRequest) (*rls.RateLimitResponse, error) {
			return &rls.RateLimitResponse{}, nil
		},
		"huge": func(context.Context, *rls.RateLimitRequest) (*rls.RateLimitResponse, error) {
			return &rls.RateLimitResponse{OverallCode: rls.RateLimitResponse_OVER_LIMIT, RawBody: make([]byte, 1<<20)}, nil
		},
		"nobody": nil,
	} {
		for _, closed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/closed=%v", name, closed), func(t *testing.T) {
				at := netip.MustParseAddrPort("127.0.0.1:1")
				if answer != nil {
					c := &counter{answer: answer}
					at = c.serve(t)
				}
				timeout := time.Minute
				if name == "late" {
					timeout = 100 * time.Millisecond
				}
				p := start(t, countedView("route", program(t, echoes), at, byUser(closed, timeout)), 1)
				url := front(t, p, "route")
				code, h := getOnce(t, patientClient(t, false), url+"/", "X-User", "7")
				want, told := 200, ""
				if closed {
					want, told = 503, `tulle; error=http_request_denied; details="ratelimitpolicy/default/counted"`
				}
				if code != want || h.Get("Proxy-Status") != told {
					t.Errorf("%d %v, want %d", code, h, want)
				}
				if m := p.metrics(t); !strings.Contains(m, `outcome="no_answer"} 1`) {
					t.Errorf("the metrics say\n%s", lines(m, "tulle_rate_limit"))
				}
				if code, _ := getOnce(t, client(t, false), url+"/"); code != 200 {
					t.Errorf("%d for a request that nobody is asked about", code)
				}
			})
		}
	}
}

// A gRPC call is refused in gRPC's words, and what the service has to say is said to
// others as it is.
func TestQuotaWords(t *testing.T) {
	over := &rls.RateLimitResponse{OverallCode: rls.RateLimitResponse_OVER_LIMIT, RawBody: []byte("Enough."),
		ResponseHeadersToAdd: []*core.HeaderValue{{Key: "retry-after", Value: "9"}, {Key: "content-length", Value: "1"}, {Key: "proxy-status", Value: "x"}},
		Statuses:             []*rls.RateLimitResponse_DescriptorStatus{{Code: rls.RateLimitResponse_OVER_LIMIT, DurationUntilReset: durationpb.New(1500 * time.Millisecond)}}}
	c := &counter{answer: func(context.Context, *rls.RateLimitRequest) (*rls.RateLimitResponse, error) { return over, nil }}
	limit := byUser(true, time.Minute)
	limit.Service.Descriptors[0].Entries = limit.Service.Descriptors[0].Entries[1:]
	v := countedView("route", grpcProgram(t, "a"), c.serve(t), limit)
	v.Destinations[backendKey].Protocol = view.HTTP2
	p := start(t, v, 1)
	resp, err := patientClient(t, false).Get(front(t, p, "route") + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body := make([]byte, 100)
	n, _ := resp.Body.Read(body)
	if resp.StatusCode != 429 || !strings.Contains(string(body[:n]), "Enough.") || resp.Header.Get("Retry-After") != "9" || !strings.HasPrefix(resp.Header.Get("Proxy-Status"), "tulle") {
		t.Errorf("%d %v %q", resp.StatusCode, resp.Header, body[:n])
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	in, out := []byte("hello"), []byte(nil)
	var h metadata.MD
	err = grpcClient(t, p.addr(t, "http")).Invoke(ctx, "/test.Echo/Unary", &in, &out, grpc.Trailer(&h))
	if status.Code(err) != codes.ResourceExhausted || fmt.Sprint(h.Get("grpc-retry-pushback-ms")) != "[1500]" {
		t.Errorf("%v %v", err, h)
	}
}
