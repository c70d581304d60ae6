package proxy_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/view"
)

// hedging asks another endpoint after 30 ms.
func hedging(more ...func(*policy.Request)) *policy.Request {
	p := retrying(policy.Unsent, more...)
	p.Hedge = policy.Hedge{After: 30 * time.Millisecond, Max: 1}
	return p
}

// One of two endpoints never answers. Requests that may be repeated get their
// answer from the other, with the same body, and the one that is slow hears that
// nobody waits any more.
func TestHedges(t *testing.T) {
	for _, test := range []struct {
		name   string
		p      *policy.Request
		method string
		body   int
		hedged bool
	}{
		{"GET", hedging(), "GET", 0, true},
		{"PUT", hedging(), "PUT", 40 << 10, true},
		{"a body that isn't kept", hedging(func(p *policy.Request) { p.Timeout = 3 * time.Second }), "PUT", 300 << 10, false},
		{"POST", hedging(func(p *policy.Request) { p.Timeout = 3 * time.Second }), "POST", 10, false},
		{"no budget", hedging(func(p *policy.Request) {
			p.Timeout = 3 * time.Second
			p.Retry.Budget = policy.Budget{}
		}), "GET", 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			eachVersion(t, func(t *testing.T, c *http.Client, declared view.Protocol) {
				t.Parallel()
				cancelled := make(chan struct{}, 10)
				var slow, good atomic.Int32
				p := start(t, policyView(test.p, declared, program(t, counting(&good, echoes)), program(t, counting(&slow, func(w http.ResponseWriter, r *http.Request) {
					hangs(w, r)
					cancelled <- struct{}{}
				}))), 1)
				body := bytes.Repeat([]byte("x"), test.body)
				const requests = 4
				late := 0
				for range requests {
					began := time.Now()
					got, status := send(t, c, test.method, "http://"+p.addr(t, "http")+"/", body)
					switch {
					case status == 200 && bytes.Equal(got, body):
						if took := time.Since(began); took > wait/2 {
							t.Errorf("it took %s", took)
						}
					case test.hedged || status != 504:
						t.Fatalf("status %d: %.100s", status, got)
					default:
						late++
					}
				}
				if slow.Load() == 0 {
					t.Fatal("nothing went to the slow endpoint")
				}
				if test.hedged && good.Load() != requests || !test.hedged && int(good.Load())+late < requests /* it may be late itself */ {
					t.Errorf("%d requests to the good endpoint, %d to the slow one, %d late", good.Load(), slow.Load(), late)
				}
				for range slow.Load() {
					select {
					case <-cancelled:
					case <-time.After(wait):
						t.Fatal("the slow endpoint works on")
					}
				}
				m := p.metrics(t)
				if sent := strings.Contains(m, `reason="hedge",outcome="sent"`); sent != test.hedged {
					t.Errorf("the metrics say: %s", lines(m, "tulle_retries_total"))
				}
				if n := strings.Count(lines(m, "tulle_requests_total"), "\n"); n > 2 {
					t.Errorf("copies count as requests: %s", lines(m, "tulle_requests_total"))
				}
			})
		})
	}
}

// The first answer counts, the client's own try or a copy's, be they as close to
// each other as they like; nobody gets two, half of one or another's.
func TestHedgesRace(t *testing.T) {
	for _, two := range []bool{false, true} {
		for _, declared := range []view.Protocol{view.HTTP, view.HTTP2} {
			var n atomic.Int32
			takes := func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				time.Sleep(time.Duration(n.Add(1)%7) * 2 * time.Millisecond)
				if n.Load()%5 == 0 {
					breaks(w, r)
				}
				w.Header().Set("X-Id", r.Header.Get("X-Id"))
				w.Write(body)
			}
			p := start(t, policyView(&policy.Request{
				Retry: policy.Retry{Attempts: 3, On: policy.Reset, Budget: policy.Budget{Percent: 100, Min: 1000}, Buffer: 64 << 10},
				Hedge: policy.Hedge{After: 4 * time.Millisecond, Max: 2},
			}, declared, program(t, takes), program(t, takes), program(t, takes)), 2)
			var wg sync.WaitGroup
			failed := atomic.Int32{}
			for i := range 6 {
				wg.Go(func() {
					c := client(t, two)
					for j := range 30 {
						body := bytes.Repeat([]byte{byte('a' + i)}, 10+j*100)
						got, status := send(t, c, "PUT", "http://"+p.addr(t, "http")+"/", body)
						switch {
						case status >= 500:
							failed.Add(1) // four of four tries broke
						case status != 200 || !bytes.Equal(got, body):
							t.Errorf("status %d, %d bytes for %d", status, len(got), len(body))
						}
					}
				})
			}
			wg.Wait()
			if failed.Load() > 20 {
				t.Errorf("%d requests failed", failed.Load())
			}
		}
	}
}

// Copies that fail, or whose answer nobody wants, leave the race to the others;
// when all have, the policy's further tries follow.
func TestHedgesOfFailing(t *testing.T) {
	eachVersion(t, func(t *testing.T, c *http.Client, declared view.Protocol) {
		t.Parallel()
		var n atomic.Int32
		copied := make(chan struct{})
		app := program(t, func(w http.ResponseWriter, r *http.Request) {
			switch n.Add(1) {
			case 1:
				<-copied // and the copy is unwanted sooner
				time.Sleep(100 * time.Millisecond)
				answers(503)(w, r)
			case 2:
				close(copied)
				answers(503)(w, r)
			default:
				echoes(w, r)
			}
		})
		p := start(t, policyView(&policy.Request{
			Retry: policy.Retry{Attempts: 2, On: policy.GatewayError, Budget: policy.Budget{Percent: 100, Min: 1000}, Buffer: 64 << 10},
			Hedge: policy.Hedge{After: 30 * time.Millisecond, Max: 1},
		}, declared, app), 1)
		if got, status := send(t, c, "GET", "http://"+p.addr(t, "http")+"/", nil); status != 200 {
			t.Errorf("status %d: %s", status, got)
		}
		if n.Load() != 3 {
			t.Errorf("%d requests arrived, want 3", n.Load())
		}
	})
}
