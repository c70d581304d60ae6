package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/view"
)

// lined are the ways in which a proxy may speak to endpoints, with a limit.
var lined = map[string]func(t *testing.T, p *policy.Upstream, loops, endpoints int, h http.HandlerFunc) *running{
	"http1": func(t *testing.T, p *policy.Upstream, loops, endpoints int, h http.HandlerFunc) *running {
		var list []netip.AddrPort
		for range endpoints {
			list = append(list, program(t, h))
		}
		return start(t, withPolicy(*p, list...), loops)
	},
	"http2": func(t *testing.T, p *policy.Upstream, loops, endpoints int, h http.HandlerFunc) *running {
		var list []netip.AddrPort
		for range endpoints {
			list = append(list, program(t, h))
		}
		v := withPolicy(*p, list...)
		v.Destinations[backendKey].Protocol = view.HTTP2
		return start(t, v, loops)
	},
	"mesh": func(t *testing.T, p *policy.Upstream, loops, endpoints int, h http.HandlerFunc) *running {
		var v *view.View
		for range endpoints {
			at := netip.MustParseAddrPort(start(t, serverView(program(t, h)), 1).addr(t, "in"))
			if v == nil {
				v = clientView(at, cartID, view.HTTP)
				v.Endpoints[cart].Policy = p
				continue
			}
			v.Endpoints[cart].List = append(v.Endpoints[cart].List, view.Endpoint{Address: at, Identity: cartID, Workload: "cart.default"})
		}
		return start(t, v, loops)
	},
}

// eachLine runs a test for each way, with one loop and with four.
func eachLine(t *testing.T, f func(t *testing.T, way string, loops int)) {
	for way := range lined {
		eachLoops(t, func(t *testing.T, loops int) {
			t.Run(way, func(t *testing.T) { f(t, way, loops) })
		})
	}
}

func (r *running) front(t testing.TB) string {
	if _, ok := r.Bound()["out"]; ok {
		return "http://" + r.addr(t, "out")
	}
	return "http://" + r.addr(t, "http")
}

func waitingClient(t testing.TB) *http.Client {
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 2 * time.Minute}
}

// inTime is happens for a machine that has much else to do.
func inTime(t testing.TB, f func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it doesn't happen")
		}
	}
}

// withinLimits is what the proxy says it holds.
func (r *running) withinLimits(what string) int {
	return r.Within()[what+" within limits"]
}

// Fewer connections than are needed are enough when requests may wait: they take
// turns, over all loops and to all endpoints, and each is served.
func TestConnectionsTakeTurns(t *testing.T) {
	eachLine(t, func(t *testing.T, way string, loops int) {
		for _, limit := range []uint32{1, 3} {
			p := *policy.DefaultUpstream
			p.Limits = policy.Limits{Connections: limit, PendingTime: time.Minute}
			var seen atomic.Int32
			r := lined[way](t, &p, loops, 2, func(w http.ResponseWriter, r *http.Request) {
				seen.Add(1)
				time.Sleep(2 * time.Millisecond)
			})
			const clients, each = 16, 8
			var all sync.WaitGroup
			over := make(chan struct{})
			watched := make(chan int)
			go func() {
				most := 0
				for {
					most = max(most, r.withinLimits("connections"))
					select {
					case <-over:
						watched <- most
						return
					case <-time.After(time.Millisecond):
					}
				}
			}()
			for range clients {
				all.Go(func() {
					c := waitingClient(t)
					for range each {
						if code, h := getOnce(t, c, r.front(t)+"/"); code != 200 {
							t.Errorf("limit %d: %d %s", limit, code, h.Get("Proxy-Status"))
						}
					}
				})
			}
			all.Wait()
			close(over)
			if n := seen.Load(); n != clients*each {
				t.Errorf("limit %d: the programs saw %d requests, want %d", limit, n, clients*each)
			}
			if most := <-watched; most > int(limit) {
				t.Errorf("%d connections, the limit is %d", most, limit)
			}
			inTime(t, func() bool { return r.withinLimits("waiting") == 0 })
		}
	})
}

// Who waits is bounded, in number and in time. What is too much is refused at
// once, what has waited for too long is refused then, and neither speaks against
// the endpoint.
func TestConnectionsLine(t *testing.T) {
	eachLine(t, func(t *testing.T, way string, loops int) {
		if way != "http1" && loops == 1 {
			return // one connection carries them all
		}
		for _, full := range []bool{true, false} {
			p := *policy.DefaultUpstream
			p.Ejection = policy.Ejection{Consecutive: 1, Base: time.Hour, MaxBackoff: time.Hour, Max: 100}
			p.Limits = policy.Limits{Connections: 1, Pending: 1, PendingTime: time.Hour}
			if !full {
				p.Limits.Pending, p.Limits.PendingTime = 0, 200*time.Millisecond
			}
			g := newGated()
			r := lined[way](t, &p, loops, 1, g.ServeHTTP)
			const clients = 12
			codes := make(chan int, clients)
			var all sync.WaitGroup
			for i := range clients {
				if i == 1 {
					<-g.begun // the first has its connection
				}
				all.Go(func() {
					code, h := getOnce(t, waitingClient(t), r.front(t)+"/")
					if code == 503 && !strings.Contains(h.Get("Proxy-Status"), "connection_limit_reached") {
						t.Errorf("%s", h.Get("Proxy-Status"))
					}
					codes <- code
				})
			}
			if way == "http1" { // then only one can be there
				want := clients - 1
				if full {
					want--
				}
				for range want {
					if code := <-codes; code != 503 {
						t.Errorf("full=%v: %d, want 503", full, code)
					}
				}
			} else {
				time.Sleep(400 * time.Millisecond)
			}
			close(g.go_)
			all.Wait()
			close(codes)
			for code := range codes {
				if code != 200 && (way == "http1" || code != 503) {
					t.Errorf("full=%v: %d when there is room again", full, code)
				}
			}
			if code, h := getOnce(t, waitingClient(t), r.front(t)+"/"); code != 200 {
				t.Errorf("afterwards: %d %s", code, h.Get("Proxy-Status"))
			}
			if m := r.metrics(t); strings.Contains(m, "tulle_endpoint_ejections_total{") {
				t.Errorf("it was held against the endpoint:\n%s", lines(m, "tulle_endpoint"))
			}
		}
	})
}

// Who says that it goes away (over HTTP/2: a connection may be closed by half) leaves
// the line, and keeps nobody from being served.
func TestConnectionsLineLeft(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		p := *policy.DefaultUpstream
		p.Limits = policy.Limits{Connections: 1, Pending: 4, PendingTime: time.Hour}
		g := newGated()
		r := lined["http1"](t, &p, loops, 1, g.ServeHTTP)
		var all sync.WaitGroup
		all.Go(func() { getOnce(t, waitingClient(t), r.front(t)+"/first") })
		<-g.begun
		for round := range 3 {
			ctx, cancel := context.WithCancel(t.Context())
			for range 4 {
				all.Go(func() {
					req, err := http.NewRequestWithContext(ctx, "GET", fmt.Sprintf("%s/gone/%d", r.front(t), round), nil)
					if err != nil {
						t.Error(err)
						return
					}
					if resp, err := patientClient(t, true).Do(req); err == nil {
						resp.Body.Close()
						t.Errorf("%s while the connection is taken", resp.Status)
					}
				})
			}
			inTime(t, func() bool { return r.withinLimits("waiting") == 4 })
			cancel()
			inTime(t, func() bool { return r.withinLimits("waiting") == 0 })
		}
		all.Go(func() {
			if code, h := getOnce(t, waitingClient(t), r.front(t)+"/next"); code != 200 {
				t.Errorf("%d %v", code, h)
			}
		})
		inTime(t, func() bool { return r.withinLimits("waiting") == 1 })
		close(g.go_)
		all.Wait()
		close(g.begun)
		for path := range g.begun {
			if strings.HasPrefix(path, "/gone") {
				t.Error("the program was asked for somebody who had gone")
			}
		}
	})
}

// A request that takes long keeps its connection; those that share its loop go on
// with it all the same.
func TestConnectionsLongStream(t *testing.T) {
	for _, way := range []string{"http2", "mesh"} {
		p := *policy.DefaultUpstream
		p.Limits = policy.Limits{Connections: 1, PendingTime: 30 * time.Second}
		begun, let := make(chan struct{}), make(chan struct{})
		r := lined[way](t, &p, 1, 1, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/long" {
				w.WriteHeader(200)
				http.NewResponseController(w).Flush()
				close(begun)
				<-let
				io.WriteString(w, "over")
			}
		})
		long := make(chan string)
		go func() {
			resp, err := waitingClient(t).Get(r.front(t) + "/long")
			if err != nil {
				long <- err.Error()
				return
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			long <- fmt.Sprint(string(b), err)
		}()
		<-begun
		for range 20 {
			if code, h := getOnce(t, waitingClient(t), r.front(t)+"/"); code != 200 {
				t.Errorf("%s: %d %s", way, code, h.Get("Proxy-Status"))
			}
		}
		close(let)
		if s := <-long; s != "over<nil>" {
			t.Errorf("%s: the long one: %s", way, s)
		}
	}
}
