package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"

	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/view"
)

// faultView is an edge whose rule has those faults.
func faultView(app netip.AddrPort, declared view.Protocol, p policy.Request) *view.View {
	return filtersView(app, declared, route.Rule{Name: "all", Policy: &p})
}

const faultName = "faultpolicy/default/chaos#0"

// counted waits until the metrics say so.
func counted(t *testing.T, p *running, want string) {
	t.Helper()
	for end := time.Now().Add(wait); !strings.Contains(p.metrics(t), want+"\n"); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %s in the metrics:\n%s", want, p.metrics(t))
		}
	}
}

func countOf(kind string, n int) string {
	return fmt.Sprintf(`tulle_faults_total{direction="edge",service="backend.default:80",kind=%q} %d`, kind, n)
}

func TestFaultAborts(t *testing.T) {
	eachVersion(t, func(t *testing.T, c *http.Client, declared view.Protocol) {
		asked := make(chan string, 10)
		app := program(t, func(w http.ResponseWriter, r *http.Request) { asked <- r.URL.Path })
		p := start(t, faultView(app, declared, policy.Request{Faults: []policy.Fault{
			{Name: faultName, Share: policy.All, Status: 418, When: policy.Match{Paths: []policy.Path{{Value: "/status"}}}},
			{Name: faultName, Share: policy.All, Status: 204, When: policy.Match{Paths: []policy.Path{{Value: "/none"}}}},
			{Name: faultName, Share: policy.All, Status: 700, When: policy.Match{Paths: []policy.Path{{Value: "/fine"}}}},
			{Name: faultName, Share: policy.All, GRPC: 8, When: policy.Match{Paths: []policy.Path{{Value: "/grpc"}}}},
			{Name: faultName, Share: policy.All, Reset: true, When: policy.Match{Paths: []policy.Path{{Value: "/reset"}}}},
			{Name: faultName, Share: policy.All, Status: 500, When: policy.Match{From: []string{"web.default"}}},
			{Name: faultName, Share: policy.All, Status: 501, Until: time.Unix(1, 0)},
			{Name: faultName, Share: 0, Status: 502},
			{Name: faultName, Share: policy.All, Status: 503, When: policy.Match{Methods: []string{"PUT"}, Headers: []policy.Header{{Name: "x-a", Value: "1"}}}},
		}}), 1)
		do := func(method, path string) (*http.Response, error) {
			req, _ := http.NewRequest(method, "http://"+p.addr(t, "http")+path, nil)
			req.Header.Set("X-A", "1")
			resp, err := c.Do(req)
			if err == nil {
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			return resp, err
		}
		for _, test := range []struct {
			method, path string
			status       int
		}{{"GET", "/status", 418}, {"GET", "/none", 204}, {"GET", "/grpc", 429}, {"PUT", "/", 503}, {"GET", "/fine", 200}} {
			resp, err := do(test.method, test.path)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != test.status {
				t.Errorf("%s %s: status %d, want %d", test.method, test.path, resp.StatusCode, test.status)
			}
			why := resp.Header.Get("Proxy-Status")
			if test.status != 200 && (!strings.Contains(why, "error=proxy_internal_response") || !strings.Contains(why, faultName)) {
				t.Errorf("%s: Proxy-Status %q names no fault", test.path, why)
			}
		}
		_, err := do("POST", "/reset")
		if err == nil || !errors.Is(err, syscall.ECONNRESET) && !strings.Contains(err.Error(), "INTERNAL_ERROR") {
			t.Errorf("reset: %v", err)
		}
		if got := <-asked; got != "/fine" || len(asked) > 0 {
			t.Errorf("the program was asked for %s, and %d more", got, len(asked))
		}
		counted(t, p, countOf("abort", 4))
		counted(t, p, countOf("reset", 1))
		if resp, err := do("GET", "/fine"); err != nil || resp.StatusCode != 200 {
			t.Errorf("after that: %v %v", resp, err)
		}
	})
}

// TestFaultGRPC: a call ends with that code, in a response that is only trailers.
func TestFaultGRPC(t *testing.T) {
	p := start(t, faultView(grpcProgram(t, "a"), view.HTTP2, policy.Request{Faults: []policy.Fault{{Name: faultName, Share: policy.All, GRPC: 10}}}), 1)
	in, out := []byte("x"), []byte(nil)
	err := grpcClient(t, p.addr(t, "http")).Invoke(t.Context(), "/test.Echo/Unary", &in, &out)
	if status.Code(err) != codes.Aborted {
		t.Errorf("got %v, want %v", err, codes.Aborted)
	}
}

// TestFaultDelay: the request goes on after the delay and not before, which
// counts into its time.
func TestFaultDelay(t *testing.T) {
	const delay = 60 * time.Millisecond
	eachVersion(t, func(t *testing.T, c *http.Client, declared view.Protocol) {
		at := make(chan time.Time, 10)
		app := program(t, func(http.ResponseWriter, *http.Request) { at <- time.Now() })
		p := start(t, faultView(app, declared, policy.Request{Faults: []policy.Fault{
			{Share: policy.All, Delay: delay}, {Share: policy.All, Delay: delay},
			{Share: policy.All, Status: 400, When: policy.Match{Methods: []string{"PUT"}}},
		}}), 1)
		began := time.Now()
		resp, err := c.Post("http://"+p.addr(t, "http"), "text/plain", strings.NewReader("hello"))
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%v %v", resp, err)
		}
		resp.Body.Close()
		if d := (<-at).Sub(began); d < 2*delay {
			t.Errorf("asked after %v, want %v at least", d, 2*delay)
		}
		counted(t, p, countOf("delay", 2))
		began = time.Now()
		req, _ := http.NewRequest("PUT", "http://"+p.addr(t, "http"), nil)
		if resp, err = c.Do(req); err != nil || resp.StatusCode != 400 || time.Since(began) < 2*delay {
			t.Errorf("a delayed abort: %v %v after %v", resp, err, time.Since(began))
		}
		resp.Body.Close()

		p = start(t, faultView(app, declared, policy.Request{Timeout: delay, Faults: []policy.Fault{{Share: policy.All, Delay: time.Hour}}}), 1)
		resp, err = c.Get("http://" + p.addr(t, "http"))
		if err != nil || resp.StatusCode != 504 {
			t.Fatalf("beyond its time: %v %v", resp, err)
		}
		resp.Body.Close()
	})
}

// TestFaultDelayOfAClientThatLeaves: what a client has taken back, as HTTP/2 can,
// isn't asked for when the delay is over.
func TestFaultDelayOfAClientThatLeaves(t *testing.T) {
	asked := make(chan struct{}, 10)
	app := program(t, func(http.ResponseWriter, *http.Request) { asked <- struct{}{} })
	const delay = 2 * time.Second // the client has gone long before
	p := start(t, faultView(app, view.HTTP, policy.Request{Faults: []policy.Fault{{Share: policy.All, Delay: delay}}}), 1)
	c := client(t, true)
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, "GET", "http://"+p.addr(t, "http"), nil)
	go func() {
		counted(t, p, countOf("delay", 1))
		cancel()
	}()
	if _, err := c.Do(req); err == nil {
		t.Fatal("answered before the delay was over")
	}
	if resp, err := c.Get("http://" + p.addr(t, "http")); err != nil || resp.StatusCode != 200 {
		t.Fatal(err)
	}
	c.CloseIdleConnections()
	settled(t, p)
	if len(asked) != 1 {
		t.Errorf("the program was asked %d times, want 1", len(asked))
	}
}

// TestFaultSlowBody: the body comes whole, in pieces, no faster than it may.
func TestFaultSlowBody(t *testing.T) {
	eachVersion(t, func(t *testing.T, c *http.Client, declared view.Protocol) {
		body := strings.Repeat("0123456789", 400)
		app := program(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Trailer", "X-Sum")
			io.WriteString(w, body[:1000])
			w.(http.Flusher).Flush()
			io.WriteString(w, body[1000:])
			w.Header().Set("X-Sum", "1")
		})
		p := start(t, faultView(app, declared, policy.Request{Faults: []policy.Fault{{Share: policy.All, BytesPerSecond: 20_000}}}), 1)
		for range 2 {
			req, _ := http.NewRequest("GET", "http://"+p.addr(t, "http"), nil)
			req.Header.Set("TE", "trailers")
			began := time.Now()
			resp, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || string(got) != body || resp.Trailer.Get("X-Sum") != "1" {
				t.Fatalf("%d bytes, trailers %v: %v", len(got), resp.Trailer, err)
			}
			if d := time.Since(began); d < 150*time.Millisecond { // 4,000 bytes take 200 ms
				t.Errorf("all came after %v", d)
			}
		}
		counted(t, p, countOf("slow", 2))
		// A client that leaves in the middle leaves nothing behind.
		slow := start(t, faultView(app, declared, policy.Request{Faults: []policy.Fault{{Share: policy.All, BytesPerSecond: 10}}}), 1)
		resp, err := c.Get("http://" + slow.addr(t, "http"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Read(make([]byte, 1))
		resp.Body.Close()
		c.CloseIdleConnections()
		settled(t, slow)
	})
}

// TestFaultShare: each request has its own chance, on every loop.
func TestFaultShare(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		p := start(t, faultView(program(t, told), view.HTTP, policy.Request{Faults: []policy.Fault{{Share: policy.All / 4, Status: 418}}}), loops)
		n := 0
		const requests = 600
		for i := range requests {
			c := client(t, i%2 == 0)
			resp, err := c.Get("http://" + p.addr(t, "http"))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode == 418 {
				n++
			}
			c.CloseIdleConnections()
		}
		if n < requests/4*6/10 || n > requests/4*14/10 {
			t.Errorf("%d of %d failed, want about %d", n, requests, requests/4)
		}
	})
}

// TestFaultOfACaller: the caller's own proxy knows who calls.
func TestFaultOfACaller(t *testing.T) {
	for _, test := range []struct {
		from   string
		status string
	}{{"web.default", "418"}, {"*.default", "418"}, {"cart.default", "200"}, {"*.other", "200"}} {
		v := forwardView(serve(t, answering(hello)))
		v.Proxy.Identity = "spiffe://mesh.local/ns/default/sa/web"
		for _, d := range v.Destinations {
			d.Policy = &policy.Request{Faults: []policy.Fault{{Share: policy.All, Status: 418, When: policy.Match{From: []string{test.from}}}}}
		}
		p := start(t, v, 1)
		got := talk(t, p.addr(t, "forward"), "GET http://cart:8080/ HTTP/1.1\r\nHost: cart:8080\r\nConnection: close\r\n\r\n")
		if !strings.HasPrefix(got, "HTTP/1.1 "+test.status+" ") {
			t.Errorf("from %s: got %.40q, want %s", test.from, got, test.status)
		}
	}
}

// TestNoBackendOfACall: a call to a backend that doesn't exist is UNAVAILABLE
// (Gateway API, GRPCRouteRule), and one that no rule is for UNIMPLEMENTED.
func TestNoBackendOfACall(t *testing.T) {
	rule := route.Rule{Matches: []route.Match{{Path: route.Path{Kind: route.PathExact, Value: "/test.Echo/Unary"}}}, Backends: []route.Backend{{Weight: 1}}}
	c := grpcClient(t, start(t, filtersView(netip.MustParseAddrPort("127.0.0.1:1"), view.HTTP2, rule), 1).addr(t, "http"))
	for method, want := range map[string]codes.Code{"/test.Echo/Unary": codes.Unavailable, "/test.Echo/Other": codes.Unimplemented} {
		in, out := []byte("x"), []byte(nil)
		if err := c.Invoke(t.Context(), method, &in, &out); status.Code(err) != want {
			t.Errorf("%s: %v, want %v", method, err, want)
		}
	}
}
