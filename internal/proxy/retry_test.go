package proxy_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/view"

	wire "tulle.dev/tulle/internal/wire/h2"
)

// policyView is an edge that sends everything to the backends, with a policy.
// Ejection is off: these tests are about tries.
func policyView(p *policy.Request, declared view.Protocol, backends ...netip.AddrPort) *view.View {
	v := edgeView(backends...)
	v.Proxy.Listeners[0].Routes.Hosts[0].Rules[0].Policy = p
	v.Destinations[backendKey].Protocol = declared
	v.Endpoints[backendKey].Policy = &policy.Upstream{Balance: policy.Balance{Algorithm: policy.RoundRobin}, Ejection: policy.Ejection{Off: true}}
	return v
}

// retrying is a policy that tries once more at once.
func retrying(on policy.Condition, more ...func(*policy.Request)) *policy.Request {
	p := &policy.Request{Retry: policy.Retry{
		Attempts: 1, On: on, MaxRetryAfter: 10 * time.Second,
		Budget: policy.Budget{Percent: 100, Min: 100}, Buffer: 64 << 10,
	}}
	for _, f := range more {
		f(p)
	}
	return p
}

// counting counts the requests that a handler was given.
func counting(n *atomic.Int32, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		h(w, r)
	}
}

// echoes is an endpoint that is well: it sends the body back.
func echoes(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Write(body)
}

// answers is an endpoint that always answers so, once it has the request.
func answers(status int, fields ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		for i := 0; i < len(fields); i += 2 {
			w.Header().Set(fields[i], fields[i+1])
		}
		w.WriteHeader(status)
		io.WriteString(w, "not this")
	}
}

func breaks(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func hangs(_ http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

// One of two endpoints does something wrong with every request. Where the policy
// asks for another try the client never hears of it, nor is a request made twice
// that mustn't be; where it doesn't, the client gets what the endpoint said.
func TestRetries(t *testing.T) {
	anyMethod := func(p *policy.Request) { p.Retry.Any = true }
	buffer := func(n uint32) func(*policy.Request) { return func(p *policy.Request) { p.Retry.Buffer = n } }
	for _, test := range []struct {
		name    string
		p       *policy.Request
		method  string
		body    int
		bad     http.HandlerFunc
		retried bool
		status  int // that the client gets when it isn't
	}{
		{"503", retrying(policy.GatewayError), "GET", 0, answers(503), true, 0},
		{"503 by the default", policy.DefaultRequest, "GET", 0, answers(503), false, 503},
		{"503, no idempotent method", retrying(policy.GatewayError), "POST", 10, answers(503), false, 503},
		{"503, whatever the method", retrying(policy.GatewayError, anyMethod), "POST", 10, answers(503), true, 0},
		{"500 is no gateway's", retrying(policy.GatewayError), "GET", 0, answers(500), false, 500},
		{"500", retrying(policy.ServerError), "GET", 0, answers(500), true, 0},
		{"409", retrying(policy.Conflict), "PUT", 100, answers(409), true, 0},
		{"429", retrying(policy.TooMany), "GET", 0, answers(429), true, 0},
		{"429 that asks for too long a pause", retrying(policy.TooMany), "GET", 0, answers(429, "Retry-After", "60"), false, 429},
		{"429 that asks for a pause nobody cares for", retrying(policy.TooMany, func(p *policy.Request) { p.Retry.MaxRetryAfter = 0 }),
			"GET", 0, answers(429, "Retry-After", "60"), true, 0},
		{"a status of its own", retrying(policy.Statuses, func(p *policy.Request) { p.Retry.Statuses = []uint16{418, 420} }), "GET", 0, answers(418), true, 0},
		{"another status", retrying(policy.Statuses, func(p *policy.Request) { p.Retry.Statuses = []uint16{418, 420} }), "GET", 0, answers(419), false, 419},
		{"broken", retrying(policy.Reset), "GET", 0, breaks, true, 0},
		{"broken, no idempotent method", retrying(policy.Reset), "POST", 10, breaks, false, 502},
		{"too slow", retrying(policy.TryTimeout, func(p *policy.Request) { p.Try = 50 * time.Millisecond }), "GET", 0, hangs, true, 0},
		{"too slow, no other try", retrying(policy.ServerError, func(p *policy.Request) { p.Try = 50 * time.Millisecond }), "GET", 0, hangs, false, 504},
		{"a body that is kept", retrying(policy.ServerError), "PUT", 60 << 10, answers(500), true, 0},
		{"a body that isn't", retrying(policy.ServerError), "PUT", 200 << 10, answers(500), false, 500},
		{"a body that is kept when that is asked for", retrying(policy.ServerError, buffer(1<<20)), "PUT", 900 << 10, answers(500), true, 0},
		{"no body is kept", retrying(policy.ServerError, buffer(0)), "PUT", 1, answers(500), false, 500},
		{"no further tries", retrying(policy.ServerError, func(p *policy.Request) { p.Retry.Attempts = 0 }), "GET", 0, answers(500), false, 500},
		{"no budget", retrying(policy.ServerError, func(p *policy.Request) { p.Retry.Budget = policy.Budget{} }), "GET", 0, answers(500), false, 500},
		{"no time", retrying(policy.ServerError, func(p *policy.Request) {
			p.Timeout = 2 * time.Second
			p.Retry.Backoff, p.Retry.MinBackoff, p.Retry.MaxBackoff = 4*time.Second, 4*time.Second, 4*time.Second
		}), "GET", 0, answers(500), false, 500},
	} {
		t.Run(test.name, func(t *testing.T) {
			eachVersion(t, func(t *testing.T, c *http.Client, declared view.Protocol) {
				var good, bad atomic.Int32
				p := start(t, policyView(test.p, declared, program(t, counting(&bad, test.bad)), program(t, counting(&good, echoes))), 1)
				body := bytes.Repeat([]byte("0123456789abcdef"), test.body/16+1)[:test.body]
				const requests = 6
				failed := 0
				for range requests {
					got, status := send(t, c, test.method, "http://"+p.addr(t, "http")+"/", body)
					switch {
					case status == 200:
						if !bytes.Equal(got, body) {
							t.Fatalf("the good endpoint was sent another body: %d bytes for %d", len(got), len(body))
						}
					case test.retried || status != test.status:
						t.Fatalf("status %d: %s", status, got)
					default:
						failed++
					}
				}
				if bad.Load() == 0 {
					t.Fatal("nothing went to the bad endpoint")
				}
				if test.retried && good.Load() != requests || !test.retried && int(bad.Load()) != failed {
					t.Errorf("%d requests to the good endpoint, %d to the bad one, %d failed", good.Load(), bad.Load(), failed)
				}
				if m := p.metrics(t); test.retried != strings.Contains(m, `outcome="sent"} `+fmt.Sprint(bad.Load())+"\n") {
					t.Errorf("the metrics say: %s", lines(m, "tulle_retries_total"))
				}
			})
		})
	}
}

// send sends a request and returns the answer.
func send(t testing.TB, c *http.Client, method, url string, body []byte) ([]byte, int) {
	t.Helper()
	var in io.Reader
	if len(body) > 0 {
		in = bytes.NewReader(body)
	}
	q, err := http.NewRequest(method, url, in)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(q)
	if err != nil && strings.Contains(err.Error(), "received from peer") {
		return nil, 502 // HTTP/2's word for it, which is passed on
	}
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return got, resp.StatusCode
}

// lines are the lines of the metrics that begin so.
func lines(metrics, begin string) string {
	var out []string
	for line := range strings.Lines(metrics) {
		if strings.HasPrefix(line, begin) {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}

// An endpoint that asks for a pause gets it, within what the policy allows.
func TestRetryAfter(t *testing.T) {
	eachVersion(t, func(t *testing.T, c *http.Client, declared view.Protocol) {
		t.Parallel()
		var n atomic.Int32
		app := program(t, func(w http.ResponseWriter, r *http.Request) {
			if n.Add(1) == 1 {
				answers(503, "Retry-After", "1")(w, r)
				return
			}
			echoes(w, r)
		})
		p := start(t, policyView(retrying(policy.GatewayError), declared, app), 1)
		began := time.Now()
		if _, status := send(t, c, "GET", "http://"+p.addr(t, "http")+"/", nil); status != 200 {
			t.Fatalf("status %d", status)
		}
		if took := time.Since(began); took < time.Second || took > wait/2 {
			t.Errorf("asked again after %s, want a second", took)
		}
	})
}

// Under total failure the further tries stay within the budget, which the loops
// share.
func TestRetryBudget(t *testing.T) {
	for _, budget := range []policy.Budget{{Percent: 20, Min: 2}, {Percent: 0, Min: 3}} {
		t.Run(fmt.Sprintf("%d%%", budget.Percent), func(t *testing.T) {
			eachLoops(t, func(t *testing.T, loops int) {
				var n atomic.Int32
				p := start(t, policyView(retrying(policy.ServerError, func(p *policy.Request) {
					p.Retry.Attempts, p.Retry.Budget = 5, budget
				}), view.HTTP, program(t, counting(&n, answers(500))), program(t, counting(&n, answers(500)))), loops)
				began := time.Now()
				const clients, each = 8, 50
				var wg sync.WaitGroup
				for range clients {
					wg.Go(func() {
						c := client(t, false) // a connection of its own, on any loop
						for range each {
							if _, status := send(t, c, "GET", "http://"+p.addr(t, "http")+"/", nil); status != 500 {
								t.Errorf("status %d", status)
							}
						}
					})
				}
				wg.Wait()
				seconds := int(time.Since(began)/time.Second) + 2
				tries, most := int(n.Load())-clients*each, clients*each*int(budget.Percent)/100+seconds*int(budget.Min)
				if tries > most || tries < int(budget.Min) {
					t.Errorf("%d further tries of %d requests, want at most %d", tries, clients*each, most)
				}
				if m := p.metrics(t); !strings.Contains(m, `outcome="budget"`) {
					t.Errorf("nothing was refused for the budget: %s", lines(m, "tulle_retries_total"))
				}
			})
		})
	}
}

// A program that refuses connections has seen no request: its proxy says so, and
// the caller's sends it elsewhere, whatever the method, without being asked.
func TestRefusedBehindPeer(t *testing.T) {
	for _, two := range []bool{false, true} {
		t.Run(fmt.Sprintf("two=%t", two), func(t *testing.T) {
			var n atomic.Int32
			bad, good := start(t, serverView(closedPort(t)), 1), start(t, serverView(program(t, counting(&n, echoes))), 1)
			v := clientView(netip.MustParseAddrPort(bad.addr(t, "in")), cartID, view.HTTP)
			v.Endpoints[cart].List = append(v.Endpoints[cart].List, view.Endpoint{
				Address: netip.MustParseAddrPort(good.addr(t, "in")), Identity: cartID, Workload: "cart-2.default",
			})
			v.Endpoints[cart].Policy = &policy.Upstream{Balance: policy.Balance{Algorithm: policy.RoundRobin}, Ejection: policy.Ejection{Off: true}}
			web := start(t, v, 1)
			c := client(t, two)
			const requests = 10
			for range requests {
				if got, status := send(t, c, "POST", "http://"+web.addr(t, "out")+"/", []byte("body")); status != 200 || string(got) != "body" {
					t.Fatalf("status %d: %s", status, got)
				}
			}
			if n.Load() != requests {
				t.Errorf("%d requests arrived, want %d", n.Load(), requests)
			}
			if m := web.metrics(t); !strings.Contains(m, `tulle_retries_total{direction="outbound",service="cart.default:8080",reason="unsent",outcome="sent"}`) {
				t.Errorf("the metrics say: %s", lines(m, "tulle_retries_total"))
			}
		})
	}
}

// What an endpoint says it hasn't touched goes elsewhere with nothing said,
// whatever the method, and with its body.
func TestUntouched(t *testing.T) {
	for name, refuse := range map[string]func(b []byte, id uint32) []byte{
		"REFUSED_STREAM": func(b []byte, id uint32) []byte { return wire.AppendRSTStream(b, id, wire.RefusedStream) },
		"GOAWAY":         func(b []byte, id uint32) []byte { return wire.AppendGoAway(b, id-1, wire.NoError, "") },
	} {
		t.Run(name, func(t *testing.T) {
			var refused, good atomic.Int32
			bad := serve(t, func(c net.Conn) {
				c.Write(wire.AppendSettingsAck(wire.AppendSettings(nil)))
				r := bufio.NewReader(c)
				r.Discard(len(wire.Preface))
				for {
					head := make([]byte, 9)
					if _, err := io.ReadFull(r, head); err != nil {
						return
					}
					r.Discard(int(head[0])<<16 | int(head[1])<<8 | int(head[2]))
					if id := binary.BigEndian.Uint32(head[5:]); wire.Type(head[3]) == wire.Headers {
						refused.Add(1)
						c.Write(refuse(nil, id))
					}
				}
			})
			v := policyView(nil, view.HTTP2, bad, program(t, counting(&good, echoes)))
			p := start(t, v, 1)
			for _, two := range []bool{false, true} {
				c := client(t, two)
				for i := range 5 {
					body := bytes.Repeat([]byte{'a' + byte(i)}, 100+i*12_000)
					if got, status := send(t, c, "POST", "http://"+p.addr(t, "http")+"/", body); status != 200 || !bytes.Equal(got, body) {
						t.Fatalf("status %d, %d bytes for %d", status, len(got), len(body))
					}
				}
			}
			if refused.Load() < 4 || good.Load() != 10 {
				t.Errorf("%d refused, %d well", refused.Load(), good.Load())
			}
		})
	}
}

// What nobody wants of a response is read all the same when it is short and comes
// soon, for its connection to carry other requests; else that is closed.
func TestDiscarded(t *testing.T) {
	for _, test := range []struct {
		name   string
		body   string // after the head
		pause  time.Duration
		reused bool
	}{
		{"at once", "Content-Length: 3\r\n\r\nbad", 0, true},
		{"in pieces", "Content-Length: 30000\r\n\r\n" + strings.Repeat("x", 30000), 20 * time.Millisecond, true},
		{"in chunks", "Transfer-Encoding: chunked\r\n\r\n3\r\nbad\r\n0\r\n\r\n", 20 * time.Millisecond, true},
		{"long", "Content-Length: 200000\r\n\r\n" + strings.Repeat("x", 200000), time.Millisecond, false},
		{"until the end", "Connection: close\r\n\r\nbad", 0, false},
		{"never whole", "Content-Length: 1000\r\n\r\nbad", 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var conns, requests, whole atomic.Int32
			app := serve(t, func(c net.Conn) {
				conns.Add(1)
				r := bufio.NewReader(c)
				for {
					if _, err := readHead(r); err != nil {
						return
					}
					if requests.Add(1)%2 == 0 {
						io.WriteString(c, hello)
						continue
					}
					head := "HTTP/1.1 503 Service Unavailable\r\n" + test.body
					n := len(head)
					if test.pause > 0 {
						n -= 2
					}
					io.WriteString(c, head[:n])
					time.Sleep(test.pause)
					io.WriteString(c, head[n:])
					whole.Add(1)
				}
			})
			p := start(t, policyView(retrying(policy.ServerError), view.HTTP, app), 1)
			c := client(t, false)
			const asked = 4
			for i := range int32(asked) {
				if got, status := send(t, c, "GET", "http://"+p.addr(t, "http")+"/", nil); status != 200 || string(got) != "hello" {
					t.Fatalf("status %d: %.100s", status, got)
				}
				happens(t, func() bool { return !test.reused || whole.Load() == i+1 })
				time.Sleep(3 * test.pause)
			}
			if n := int(conns.Load()); test.reused && n > 3 || !test.reused && n <= asked {
				t.Errorf("%d connections for %d requests", n, requests.Load())
			}
		})
	}
}

// A server closes idle connections after a second, and requests that can't be
// repeated come once a second: none is lost.
func TestMeasuredKeepAlive(t *testing.T) {
	t.Parallel()
	// A proxy that sees a close late, on a busy machine, learns too long a time from
	// it; one that learns nothing loses some each time.
	lost := ""
	for range 5 {
		l := listen(t)
		s := &http.Server{Handler: http.HandlerFunc(echoes), IdleTimeout: time.Second}
		go s.Serve(l)
		t.Cleanup(func() { s.Close() })
		p := start(t, edgeView(netip.MustParseAddrPort(l.Addr().String())), 1)
		c := client(t, false)
		for range 6 {
			send(t, c, "POST", "http://"+p.addr(t, "http")+"/", []byte("x"))
			time.Sleep(time.Second)
		}
		m := p.metrics(t)
		if !strings.Contains(m, `status="50`) && !strings.Contains(m, "tulle_errors_total{") {
			return
		}
		lost = lines(m, "tulle_requests_total") + lines(m, "tulle_errors_total")
	}
	t.Error(lost)
}

// listen listens on a free port.
func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// closedPort is a port where nobody listens, and nobody else will: it is bound.
func closedPort(t testing.TB) netip.AddrPort {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(name.(*syscall.SockaddrInet4).Port))
}

// A policy with all that can be asked for costs no allocation while nothing goes
// wrong, deadlines that travel included.
func TestPolicyAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates: make test runs this again without it")
	}
	full := retrying(policy.Unsent|policy.Reset|policy.ServerError|policy.TryTimeout, func(p *policy.Request) {
		p.Timeout, p.Try, p.StreamIdle = time.Minute, 10*time.Second, time.Minute
		p.Hedge = policy.Hedge{After: 5 * time.Second, Max: 1}
	})
	v := clientView(netip.MustParseAddrPort(start(t, serverView(serve(t, fixedBackend(benchAnswer))), 1).addr(t, "in")), cartID, view.HTTP)
	v.Destinations[cart].Policy = full
	for _, test := range []struct {
		name, addr string
		most       float64
	}{
		{"one plain hop", start(t, policyView(full, view.HTTP, serve(t, fixedBackend(benchAnswer))), 1).addr(t, "http"), 0},
		{"two hops with mutual TLS", start(t, v, 1).addr(t, "out"), 4},
	} {
		const n = 2000
		exchange(t, test.addr, 1) // warm
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		exchange(t, test.addr, n)
		runtime.ReadMemStats(&after)
		if per := float64(after.Mallocs-before.Mallocs) / n; per > test.most+0.5 {
			t.Errorf("%s: %.2f allocations a request, want at most %.0f", test.name, per, test.most)
		}
	}
}
