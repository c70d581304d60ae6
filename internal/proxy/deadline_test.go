package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/view"
)

// timeouts answers with what the program was told of the caller's time.
func timeouts(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	fmt.Fprintf(w, "%s|%s", strings.Join(r.Header["Tulle-Timeout"], ","), strings.Join(r.Header["Grpc-Timeout"], ","))
}

// askFor sends a request with fields and returns the answer.
func askFor(t testing.TB, c *http.Client, url string, fields ...string) (string, int) {
	t.Helper()
	q, err := http.NewRequest("POST", url, strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		q.Header.Set(fields[i], fields[i+1])
	}
	resp, err := c.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if s := resp.Header.Get("Grpc-Status"); s != "" {
		return s, resp.StatusCode
	}
	return string(b), resp.StatusCode
}

// What is left of the caller's time, or of the policy's, travels along: through
// both proxies to the program.
func TestDeadlineTravels(t *testing.T) {
	grpc := []string{"Content-Type", "application/grpc", "Te", "trailers"}
	for _, test := range []struct {
		name         string
		policy       time.Duration
		fields       []string
		tulle        bool // the program is told in tulle-timeout, else in grpc-timeout
		least, most  time.Duration
		none, passed bool // nothing, or exactly what the caller said
	}{
		{name: "nobody says anything", none: true},
		{name: "the caller", fields: []string{"Tulle-Timeout", "3000"}, tulle: true, least: 2 * time.Second, most: 3 * time.Second},
		{name: "the policy", policy: 2 * time.Second, tulle: true, least: time.Second, most: 2 * time.Second},
		{name: "the caller, sooner than the policy", policy: time.Minute, fields: []string{"tulle-timeout", "3000"}, tulle: true, least: 2 * time.Second, most: 3 * time.Second},
		{name: "the policy, sooner than the caller", policy: 3 * time.Second, fields: []string{"tulle-timeout", "60000"}, tulle: true, least: 2 * time.Second, most: 3 * time.Second},
		{name: "nonsense", fields: []string{"tulle-timeout", "soon"}, none: true},
		{name: "gRPC", fields: append(grpc, "Grpc-Timeout", "3S"), least: 2 * time.Second, most: 3 * time.Second},
		{name: "gRPC by the policy", fields: grpc, policy: 3 * time.Second, least: 2 * time.Second, most: 3 * time.Second},
		{name: "gRPC, hours", fields: append(grpc, "Grpc-Timeout", "100H"), least: 99 * time.Hour, most: 100 * time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, two := range []bool{false, true} {
				if !two && len(test.fields) > 2 {
					continue // no gRPC in HTTP/1.1
				}
				for _, declared := range []view.Protocol{view.HTTP, view.HTTP2} {
					for _, peers := range []view.PeerProtocol{view.PeerHTTP1, view.PeerHTTP2} {
						sv := serverView(program(t, timeouts))
						sv.Proxy.Listeners[0].Protocol = declared
						server := start(t, sv, 1)
						v := clientView(netip.MustParseAddrPort(server.addr(t, "in")), cartID, declared)
						v.Proxy.Settings.PeerProtocol = peers
						v.Destinations[cart].Policy = &policy.Request{Timeout: test.policy, Retry: policy.DefaultRetry}
						got, code := askFor(t, client(t, two), "http://"+start(t, v, 1).addr(t, "out")+"/", test.fields...)
						if code != 200 {
							t.Fatalf("status %d: %s", code, got)
						}
						tulle, grpc, _ := strings.Cut(got, "|")
						if test.none {
							if got != "|" {
								t.Errorf("two=%t: the program was told %q", two, got)
							}
							continue
						}
						d := time.Duration(-1)
						if ms, err := strconv.Atoi(tulle); err == nil && test.tulle && grpc == "" {
							d = time.Duration(ms) * time.Millisecond
						} else if n := len(grpc) - 1; n > 0 && tulle == "" {
							k, err := strconv.Atoi(grpc[:n])
							if err != nil || n > 8 {
								t.Errorf("grpc-timeout %q", grpc)
							}
							d = time.Duration(k) * map[byte]time.Duration{'u': time.Microsecond, 'm': time.Millisecond, 'S': time.Second}[grpc[n]]
						}
						if d < test.least || d > test.most {
							t.Errorf("two=%t declared=%d peers=%d: the program was told %q, want %s to %s", two, declared, peers, got, test.least, test.most)
						}
					}
				}
			}
		})
	}
}

// What a stranger says is dropped, but for gRPC's own field; and what the proxy
// says stays within the mesh.
func TestDeadlineOfStrangers(t *testing.T) {
	eachVersion(t, func(t *testing.T, c *http.Client, declared view.Protocol) {
		app := program(t, func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(20 * time.Millisecond)
			timeouts(w, r)
		})
		p := start(t, policyView(&policy.Request{Timeout: time.Minute}, declared, app), 1)
		url := "http://" + p.addr(t, "http") + "/"
		if got, code := askFor(t, c, url, "Tulle-Timeout", "1"); code != 200 || got != "|" {
			t.Errorf("status %d: %q", code, got)
		}
		got, code := askFor(t, c, url, "Tulle-Timeout", "1", "Content-Type", "application/grpc", "Grpc-Timeout", "10S")
		if d, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(got, "|"), "u")); code != 200 || err != nil || d > 10_000_000 || d < 5_000_000 {
			t.Errorf("status %d: %q", code, got)
		}
	})
}

// What nobody waits for any more never reaches the program.
func TestDeadlineOver(t *testing.T) {
	var n atomic.Int32
	server := start(t, serverView(program(t, counting(&n, timeouts))), 1)
	v := clientView(netip.MustParseAddrPort(server.addr(t, "in")), cartID, view.HTTP2)
	web := start(t, v, 1)
	url := "http://" + web.addr(t, "out") + "/"
	for _, two := range []bool{false, true} {
		c := client(t, two)
		if got, code := askFor(t, c, url, "Tulle-Timeout", "0"); code != 504 {
			t.Errorf("status %d: %q", code, got)
		}
	}
	if got, code := askFor(t, client(t, true), url, "Content-Type", "application/grpc", "Grpc-Timeout", "0m"); code != 200 || got != "4" {
		t.Errorf("status %d, grpc-status %s, want DEADLINE_EXCEEDED", code, got)
	}
	if n.Load() != 0 {
		t.Errorf("%d requests reached the program", n.Load())
	}
	if want, m := `tulle_errors_total{direction="outbound",service="cart.default:8080",reason="deadline_exceeded"} 3`, web.metrics(t); !strings.Contains(m, want) {
		t.Errorf("no %s in %s", want, lines(m, "tulle_errors_total"))
	}
}

// A call without an outcome has failed; one that only has trailers is tried again
// by its code.
func TestGRPCTries(t *testing.T) {
	var n atomic.Int32
	for _, test := range []struct {
		name   string
		first  http.HandlerFunc // the first call's
		retry  policy.Retry
		calls  int32
		code   codes.Code
		counts string
		least  time.Duration
	}{
		{"no status", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Type", "application/grpc") },
			policy.DefaultRetry, 1, codes.Unknown, "500", 0},
		{"unavailable", grpcAnswer("14"), policy.Retry{Attempts: 1, On: policy.GRPCCodes, Codes: 1 << 14, Any: true}, 2, codes.OK, "200", 0},
		{"unavailable, not asked for", grpcAnswer("14"), policy.Retry{Attempts: 1, On: policy.GRPCCodes, Codes: 1 << 4, Any: true}, 1, codes.Unavailable, "503", 0},
		{"unavailable, not any method", grpcAnswer("14"), policy.Retry{Attempts: 1, On: policy.GRPCCodes, Codes: 1 << 14}, 1, codes.Unavailable, "503", 0},
		{"exhausted", grpcAnswer("8"), policy.Retry{Attempts: 1, On: policy.TooMany, Any: true}, 2, codes.OK, "200", 0},
		{"a pause", grpcAnswer("14", "grpc-retry-pushback-ms", "300"),
			policy.Retry{Attempts: 1, On: policy.GRPCCodes, Codes: 1 << 14, Any: true, MaxRetryAfter: time.Second}, 2, codes.OK, "200", 300 * time.Millisecond},
		{"no more", grpcAnswer("14", "grpc-retry-pushback-ms", "-1"),
			policy.Retry{Attempts: 1, On: policy.GRPCCodes, Codes: 1 << 14, Any: true, MaxRetryAfter: time.Second}, 1, codes.Unavailable, "503", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			n.Store(0)
			app := program(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if n.Add(1) == 1 {
					test.first(w, r)
					return
				}
				w.Header().Set("Content-Type", "application/grpc")
				w.Header().Set("Trailer", "Grpc-Status")
				w.Write(body)
				w.Header().Set("Grpc-Status", "0")
			})
			test.retry.Buffer, test.retry.Budget = 64<<10, policy.Budget{Min: 100}
			p := start(t, policyView(&policy.Request{Retry: test.retry}, view.HTTP2, app), 1)
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			defer cancel()
			in, out := []byte("hello"), []byte(nil)
			began := time.Now()
			err := grpcClient(t, p.addr(t, "http")).Invoke(ctx, "/test.Echo/Unary", &in, &out)
			if status.Code(err) != test.code {
				t.Errorf("%v, want %s", err, test.code)
			}
			if n.Load() != test.calls {
				t.Errorf("%d calls arrived, want %d", n.Load(), test.calls)
			}
			if took := time.Since(began); took < test.least {
				t.Errorf("again after %s, want %s", took, test.least)
			}
			if m := lines(p.metrics(t), "tulle_requests_total"); !strings.Contains(m, `status="`+test.counts+`"} 1`) {
				t.Errorf("want it counted as %s: %s", test.counts, m)
			}
		})
	}
}

// grpcAnswer is a response that is only trailers.
func grpcAnswer(code string, fields ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", code)
		for i := 0; i < len(fields); i += 2 {
			w.Header().Set(fields[i], fields[i+1])
		}
	}
}

// A caller who hardly waits says nothing of the endpoints: none is put out.
func TestImpatience(t *testing.T) {
	app := program(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		ms, _ := strconv.Atoi(r.Header.Get("Tulle-Timeout"))
		time.Sleep(time.Duration(ms) * time.Millisecond)
		w.WriteHeader(504) // it knows that nobody waits any more
	})
	v := clientView(netip.MustParseAddrPort(start(t, serverView(app), 1).addr(t, "in")), cartID, view.HTTP)
	v.Endpoints[cart].List = append(v.Endpoints[cart].List, view.Endpoint{
		Address: netip.MustParseAddrPort(start(t, serverView(program(t, timeouts)), 1).addr(t, "in")), Identity: cartID, Workload: "cart-2.default",
	})
	v.Endpoints[cart].Policy = &policy.Upstream{Balance: policy.Balance{Algorithm: policy.RoundRobin}, Ejection: policy.Ejection{Consecutive: 2, Base: time.Minute, MaxBackoff: time.Minute, Window: time.Minute, Max: 100}}
	for _, peers := range []view.PeerProtocol{view.PeerHTTP1, view.PeerHTTP2} {
		v.Proxy.Settings.PeerProtocol = peers
		web, late := start(t, v, 1), 0
		for _, two := range []bool{false, true} {
			c := client(t, two)
			for range 12 {
				if got, code := askFor(t, c, "http://"+web.addr(t, "out")+"/", "Tulle-Timeout", "33"); code == 504 {
					late++
				} else if code != 200 {
					t.Fatalf("status %d: %s", code, got)
				}
			}
		}
		if late < 4 {
			t.Errorf("only %d requests went to the slow endpoint", late)
		}
		if m := web.metrics(t); strings.Contains(m, "tulle_endpoint_ejections_total{") {
			t.Errorf("%s", lines(m, "tulle_endpoint_ejections_total"))
		}
	}
}
