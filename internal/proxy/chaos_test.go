package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/h2"
	"tulle.dev/tulle/internal/view"

	wire "tulle.dev/tulle/internal/wire/h2"
)

// bodyOf is a body that says whose it is.
func bodyOf(id, n int) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "[%06d]", id), n/8)
}

// misbehaving is a program that speaks HTTP/2 and resets streams, goes away and
// breaks off in every phase of an exchange. What it does answer is right.
func misbehaving(t *testing.T, seed uint64) func(net.Conn) {
	var n atomic.Uint64
	return func(c net.Conn) {
		rnd := rand.New(rand.NewPCG(seed, n.Add(1)))
		e := newEnd(c, true)
		bodies := map[*h2.Stream][]byte{}
		codes := []wire.Code{wire.NoError, wire.RefusedStream, wire.Cancel, wire.InternalError, wire.EnhanceYourCalm}
		hangUp := false
		answer := func(s *h2.Stream, id, size, part int) {
			e.engine.BeginResponse(s, 200)
			e.engine.Field(b("x-id"), b(strconv.Itoa(id)), false)
			e.engine.EndHead(s, false)
			body := bodyOf(id, size)
			if part >= 0 {
				e.engine.Write(s, body[:min(part, len(body))], false)
				return
			}
			e.engine.Write(s, body, true)
		}
		act := func(s *h2.Stream, head *h2.Head) (gone bool) {
			v, _ := head.Get("x-id")
			id, _ := strconv.Atoi(string(v))
			v, _ = head.Get("x-size")
			size, _ := strconv.Atoi(string(v))
			code := codes[rnd.IntN(len(codes))]
			switch rnd.IntN(16) {
			case 0:
				e.engine.Reset(s, code)
			case 1:
				answer(s, id, size, 0)
				e.engine.Reset(s, code)
			case 2:
				answer(s, id, size, rnd.IntN(size+1))
				e.engine.Reset(s, code)
			case 3:
				e.engine.BeginResponse(s, 103)
				e.engine.EndHead(s, false)
				e.engine.Reset(s, code)
			case 4: // all of it, and then no more of the request
				answer(s, id, min(size, 8<<10), -1)
				e.engine.Reset(s, wire.NoError)
			case 5: // only trailers
				e.engine.BeginResponse(s, 200)
				e.engine.Field(b("x-id"), b(strconv.Itoa(id)), false)
				e.engine.Field(b("content-type"), b("application/grpc"), false)
				e.engine.Field(b("grpc-status"), b("14"), false)
				e.engine.EndHead(s, true)
			case 6:
				e.engine.BeginResponse(s, 503)
				e.engine.Field(b("x-id"), b(strconv.Itoa(id)), false)
				e.engine.EndHead(s, true)
			case 7:
				e.engine.Drain()
				answer(s, id, size, -1)
			case 8:
				if rnd.IntN(3) == 0 {
					hangUp = true
				}
				return true
			case 9: // never
				return false
			default:
				answer(s, id, size, -1)
				return false
			}
			return true
		}
		e.run(func(ev h2.Event) bool {
			s := ev.Stream
			switch ev.Kind {
			case h2.Request:
				v, _ := ev.Head.Get("x-id")
				s.Owner = string(v)
				bodies[s] = []byte{}
				if act(s, ev.Head) {
					delete(bodies, s)
				} else if ev.End {
					delete(bodies, s)
				}
				e.env.PutHead(ev.Head)
			case h2.Body:
				if got, ok := bodies[s]; ok {
					bodies[s] = append(got, ev.Data...)
					if ev.End {
						id, _ := strconv.Atoi(s.Owner.(string))
						if want := bodyOf(id, len(bodies[s])); !bytes.Equal(bodies[s], want) {
							t.Errorf("request %d came with another body: %.60q…", id, bodies[s])
						}
						delete(bodies, s)
					}
				}
				e.engine.Consumed(s, len(ev.Data))
			case h2.Reset:
				delete(bodies, s)
				e.engine.Done(s)
			}
			return !hangUp
		})
	}
}

// Whatever a program that speaks HTTP/2 does at any time, with tries, copies,
// mirrors, faults and limits on: an answer is the request's own and whole, or the
// client can tell that it isn't; nothing is left over.
func TestChaosOverHTTP2(t *testing.T) {
	for _, loops := range []int{1, 4} {
		for seed := range uint64(6) {
			t.Run(fmt.Sprintf("loops=%d/seed=%d", loops, seed), func(t *testing.T) { chaos(t, loops, seed) })
		}
	}
}

func chaos(t *testing.T, loops int, seed uint64) {
	v := edgeView(serve(t, misbehaving(t, 10*seed+1)), serve(t, misbehaving(t, 10*seed+2)), serve(t, misbehaving(t, 10*seed+3)))
	v.Destinations[backendKey].Protocol = view.HTTP2
	p := &policy.Request{
		Timeout: 2 * time.Second, Try: 300 * time.Millisecond,
		Retry: policy.Retry{Attempts: 3, On: 1<<10 - 1, Statuses: []uint16{503}, Codes: 1 << 14, Any: seed%2 == 0, Backoff: 2 * time.Millisecond,
			MaxBackoff: 10 * time.Millisecond, Budget: policy.Budget{Percent: 100, Min: 100}, Buffer: 64 << 10},
		Faults: []policy.Fault{{Name: "f", Share: policy.All / 5, Delay: 3 * time.Millisecond}, {Name: "s", Share: policy.All / 5, BytesPerSecond: 1 << 20}},
	}
	if seed > 1 {
		p.Hedge = policy.Hedge{After: 5 * time.Millisecond, Max: 2}
	}
	v.Destinations[backendKey].Policy = p
	v.Endpoints[backendKey].Policy = &policy.Upstream{Panic: 50, Limits: policy.Limits{Requests: 40, Connections: 30, Pending: 30},
		Ejection: policy.Ejection{Consecutive: 3, Window: time.Second, Base: 20 * time.Millisecond, MaxBackoff: time.Second, Max: 70}}
	enough := int64(20) // a busy machine is late with many
	if seed > 3 {       // one endpoint, and hardly any connections to it
		v.Endpoints[backendKey].List = v.Endpoints[backendKey].List[:1]
		v.Endpoints[backendKey].Policy.Limits = policy.Limits{Requests: 10, Connections: 1, Pending: 4}
		p.Hedge.After = time.Millisecond
		enough = 3
	}
	proxy := start(t, v, loops)
	addr := proxy.addr(t, "http")
	var wg sync.WaitGroup
	var mu sync.Mutex
	var whole, cut, refused atomic.Int64
	for worker := range 12 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, uint64(worker)))
			c := client(t, worker%2 == 0)
			var conns []net.Conn // net/http may keep some for ever
			c.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
				if err == nil {
					mu.Lock()
					conns = append(conns, conn)
					mu.Unlock()
				}
				return conn, err
			}
			for i := range 25 {
				id, size := worker*1000+i, 8*rnd.IntN([]int{10, 1000, 20_000}[rnd.IntN(3)])
				var body io.Reader
				method := []string{"GET", "POST", "PUT", "GRPC"}[rnd.IntN(4)]
				if method == "POST" || method == "PUT" {
					body = bytes.NewReader(bodyOf(id, 8*rnd.IntN(12_000)))
					if rnd.IntN(2) == 0 {
						body = io.MultiReader(body) // of a length that nobody says
					}
				}
				grpc := method == "GRPC"
				if grpc {
					method = "POST"
				}
				req, _ := http.NewRequest(method, "http://"+addr+"/", body)
				req.Header.Set("X-Id", strconv.Itoa(id))
				req.Header.Set("X-Size", strconv.Itoa(size))
				if grpc {
					req.Header.Set("Content-Type", "application/grpc")
				}
				resp, err := c.Do(req)
				if err != nil {
					cut.Add(1)
					continue
				}
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				switch own := resp.Header.Get("X-Id"); {
				case resp.Header.Get("Proxy-Status") != "":
					refused.Add(1)
				case own != strconv.Itoa(id):
					t.Errorf("request %d was answered with that of %q: %v", id, own, resp)
				case err != nil:
					cut.Add(1)
				case resp.StatusCode == 503 || resp.Header.Get("Content-Type") == "application/grpc":
				case !bytes.Equal(got, bodyOf(id, size)) && !bytes.Equal(got, bodyOf(id, min(size, 8<<10))):
					t.Errorf("the answer to %d has another body: %d bytes for %d, %.60q", id, len(got), size, got)
				default:
					whole.Add(1)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			for _, conn := range conns {
				conn.Close()
			}
		})
	}
	wg.Wait()
	t.Logf("%d whole, %d cut, %d answered by the proxy", whole.Load(), cut.Load(), refused.Load())
	if whole.Load() < enough {
		t.Errorf("only %d whole answers", whole.Load())
	}
	for deadline := time.Now().Add(wait); proxy.Connections() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("connections are left: %+v", proxy.ConnectionList())
		}
	}
	proxy.Stop()
	for what, n := range proxy.Held() {
		if n != 0 && what != "connections within limits" {
			t.Errorf("%s: %d at the end", what, n)
		}
	}
}
