package proxy_test

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/eject"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/view"
)

// named is a program that answers with its name.
func named(t testing.TB, name string) netip.AddrPort {
	return serve(t, answering(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(name), name)))
}

// three are three of them.
func three(t testing.TB) []netip.AddrPort {
	return []netip.AddrPort{named(t, "a"), named(t, "b"), named(t, "c")}
}

// getFrom sends a GET on a connection of its own.
func getFrom(t testing.TB, addr, target string, fields ...string) (*http.Response, string) {
	t.Helper()
	c := dialTo(t, addr)
	defer c.Close()
	return getOn(t, c, target, fields...)
}

func getOn(t testing.TB, c net.Conn, target string, fields ...string) (*http.Response, string) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: shop.example\r\n", target)
	for _, f := range fields {
		b.WriteString(f + "\r\n")
	}
	io.WriteString(c, b.String()+"\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// withPolicy is edgeView with a policy for the backends.
func withPolicy(p policy.Upstream, backends ...netip.AddrPort) *view.View {
	v := edgeView(backends...)
	v.Endpoints[backendKey].Policy = &p
	return v
}

// What has the same key goes to the same endpoint, on all loops and all proxies
// with the same endpoints; what has none goes anywhere.
func TestHashPolicies(t *testing.T) {
	backends := three(t)
	for _, a := range []policy.Algorithm{policy.RingHash, policy.Maglev} {
		p := *policy.DefaultUpstream
		p.Balance = policy.Balance{Algorithm: a, On: []policy.HashPart{
			{Kind: policy.HashHeader, Name: "X-User"}, {Kind: policy.HashCookie, Name: "user"}, {Kind: policy.HashQuery, Name: "user"},
		}}
		one := start(t, withPolicy(p, backends...), 4).addr(t, "http")
		other := start(t, withPolicy(p, backends[2], backends[0], backends[1]), 1).addr(t, "http")
		seen := map[string]bool{}
		for user := range 20 {
			_, want := getFrom(t, one, "/", fmt.Sprintf("x-user: u%d", user))
			seen[want] = true
			for range 5 {
				for name, got := range map[string]func() (*http.Response, string){
					"another loop":  func() (*http.Response, string) { return getFrom(t, one, "/?user=no", fmt.Sprintf("X-USER: u%d", user)) },
					"another proxy": func() (*http.Response, string) { return getFrom(t, other, "/", fmt.Sprintf("x-user: u%d", user)) },
					"a cookie": func() (*http.Response, string) {
						return getFrom(t, one, "/", fmt.Sprintf(`cookie: a=b; user="u%d"; c=d`, user))
					},
					"the query": func() (*http.Response, string) { return getFrom(t, other, fmt.Sprintf("/x?a=b&user=u%d", user)) },
				} {
					if _, body := got(); body != want {
						t.Fatalf("algorithm %d, user %d, %s: at %s, want %s", a, user, name, body, want)
					}
				}
			}
		}
		for user := 20; user < 300 && len(seen) < 3; user++ { // where they are is chance: the ports are
			_, at := getFrom(t, one, "/", fmt.Sprintf("x-user: u%d", user))
			seen[at] = true
		}
		if len(seen) != 3 {
			t.Errorf("algorithm %d: all users are at %v", a, seen)
		}
	}
}

// The client's address decides when that is asked for.
func TestHashSource(t *testing.T) {
	p := *policy.DefaultUpstream
	p.Balance = policy.Balance{Algorithm: policy.Maglev, On: []policy.HashPart{{Kind: policy.HashSource}}}
	addr := start(t, withPolicy(p, three(t)...), 4).addr(t, "http")
	_, want := getFrom(t, addr, "/")
	for range 30 {
		if _, got := getFrom(t, addr, "/"); got != want {
			t.Fatalf("one client at %s and %s", got, want)
		}
	}
}

// A session stays with the endpoint that answered first; the client isn't told
// again, and nothing of the endpoint's address.
func TestSessions(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		for _, test := range []struct {
			name    string
			session policy.Session
			route   bool // the rule says so, not the destination
			want    string
		}{
			{"cookie", policy.Session{Kind: policy.SessionCookie, Name: "shop"}, false, `^shop=([\w-]{11}); Path=/; HttpOnly$`},
			{"cookie of the rule", policy.Session{Kind: policy.SessionCookie, Name: "shop", Lifetime: time.Hour}, true, `^shop=([\w-]{19}); Path=/; HttpOnly; Max-Age=3600$`},
			{"cookie that the proxy ends", policy.Session{Kind: policy.SessionCookie, Name: "shop", Lifetime: time.Hour, Tracked: true}, true, `^shop=([\w-]{19}); Path=/; HttpOnly$`},
			{"header with an end", policy.Session{Kind: policy.SessionHeader, Name: "X-Session", Lifetime: time.Hour}, false, `^([\w-]{19})$`},
			{"header", policy.Session{Kind: policy.SessionHeader, Name: "X-Session"}, false, `^([\w-]{11})$`},
		} {
			t.Run(test.name, func(t *testing.T) {
				v := withPolicy(*policy.DefaultUpstream, three(t)...)
				if test.route {
					v.Proxy.Listeners[0].Routes.Hosts[0].Rules[0].Session = test.session
				} else {
					v.Endpoints[backendKey].Policy.Session = test.session
				}
				addr := start(t, v, loops).addr(t, "http")
				told, says := "Set-Cookie", "Cookie: a=b; shop=%s"
				if test.session.Kind == policy.SessionHeader {
					told, says = "X-Session", "x-session: %s"
				}
				seen := map[string]bool{}
				for range 12 {
					resp, first := getFrom(t, addr, "/")
					m := regexp.MustCompile(test.want).FindStringSubmatch(resp.Header.Get(told))
					if m == nil {
						t.Fatalf("%s: %q", told, resp.Header.Get(told))
					}
					seen[first] = true
					for range 5 {
						resp, body := getFrom(t, addr, "/", fmt.Sprintf(says, m[1]))
						if body != first || resp.Header.Get(told) != "" {
							t.Fatalf("a session of %s is at %s, told %q", first, body, resp.Header.Get(told))
						}
					}
				}
				for n := 0; n < 100 && len(seen) < 2; n++ { // of a few all may be by chance
					_, at := getFrom(t, addr, "/")
					seen[at] = true
				}
				if len(seen) < 2 {
					t.Errorf("all sessions are at %v", seen)
				}
				for _, bad := range []string{"AAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAA", "x", "AAAAAAAAAA=", "%%%%%%%%%%%"} {
					if resp, _ := getFrom(t, addr, "/", fmt.Sprintf(says, bad)); resp.StatusCode != 200 || resp.Header.Get(told) == "" {
						t.Errorf("session %q: %d, told %q", bad, resp.StatusCode, resp.Header.Get(told))
					}
				}
			})
		}
	})
}

// A session that is over begins anew, whatever the client makes of its time: a
// beginning that is still to come counts for nothing.
func TestSessionsEnd(t *testing.T) {
	const lifetime = 2 * time.Second
	eachLoops(t, func(t *testing.T, loops int) {
		for _, kind := range []policy.SessionKind{policy.SessionCookie, policy.SessionHeader} {
			v := withPolicy(*policy.DefaultUpstream, three(t)...)
			v.Endpoints[backendKey].Policy.Session = policy.Session{Kind: kind, Name: "X-Session", Lifetime: lifetime}
			addr := start(t, v, loops).addr(t, "http")
			ask := func(session string) (at, told string) {
				fields := []string{"X-Session: " + session}
				if kind == policy.SessionCookie {
					fields[0] = "Cookie: X-Session=" + session
				}
				if session == "" {
					fields = nil
				}
				resp, at := getFrom(t, addr, "/", fields...)
				told = resp.Header.Get("X-Session")
				if kind == policy.SessionCookie {
					told, _, _ = strings.Cut(strings.TrimPrefix(resp.Header.Get("Set-Cookie"), "X-Session="), ";")
				}
				return at, told
			}
			shifted := func(session string, by time.Duration) string {
				b, err := base64.RawURLEncoding.DecodeString(session)
				if err != nil || len(b) != 14 {
					t.Fatalf("%q: %v", session, err)
				}
				begun := binary.BigEndian.Uint64(append([]byte{0, 0}, b[8:]...)) + uint64(by.Milliseconds())
				return base64.RawURLEncoding.EncodeToString(append(b[:8:8], binary.BigEndian.AppendUint64(nil, begun)[2:]...))
			}
			began := time.Now()
			at, first := ask("")
			there := time.Now() // it began before that
			if again, told := ask(first); time.Since(began) < lifetime && (again != at || told != "") {
				t.Errorf("a session of %s is at %s, told %q", at, again, told)
			}
			// What the client pretends is not older than it may be.
			if _, told := ask(shifted(first, 2*time.Minute)); told == "" {
				t.Error("a session that begins in the future is believed")
			}
			time.Sleep(time.Until(there.Add(lifetime + 500*time.Millisecond)))
			if _, told := ask(first); told == "" || told == first {
				t.Errorf("a session that is over goes on; told %q", told)
			}
			if _, told := ask(shifted(first, -24*time.Hour)); told == "" {
				t.Error("a session of yesterday goes on")
			}
		}
	})
}

// A session is told a new endpoint when its own is gone, and where there are
// several backends it stays with the one that it began at.
func TestSessionOfTwoBackends(t *testing.T) {
	const other = "other.default:80"
	v := withPolicy(*policy.DefaultUpstream, named(t, "a"), named(t, "b"))
	v.Destinations[other] = &view.Destination{Key: other, Protocol: view.HTTP}
	v.Endpoints[other] = &view.Endpoints{Key: other, List: []view.Endpoint{{Address: named(t, "c")}, {Address: named(t, "d")}}}
	rule := &v.Proxy.Listeners[0].Routes.Hosts[0].Rules[0]
	rule.Backends = append(rule.Backends, route.Backend{Destination: other, Weight: 1})
	rule.Session = policy.Session{Kind: policy.SessionCookie, Name: "s"}
	addr := start(t, v, 2).addr(t, "http")
	for range 10 {
		resp, first := getFrom(t, addr, "/")
		value, _, _ := strings.Cut(resp.Header.Get("Set-Cookie"), ";")
		for range 6 {
			if resp, body := getFrom(t, addr, "/", "Cookie: "+value); body != first || resp.Header.Get("Set-Cookie") != "" {
				t.Fatalf("a session of %s is at %s, told %q", first, body, resp.Header.Get("Set-Cookie"))
			}
		}
	}
}

// busyProgram holds each request until it is let go.
type busyProgram struct {
	at          netip.AddrPort
	requests    atomic.Int64
	connections atomic.Int64
	let         chan struct{}
}

func newBusyProgram(t testing.TB) *busyProgram {
	p := &busyProgram{let: make(chan struct{})}
	p.at = serve(t, func(c net.Conn) {
		p.connections.Add(1)
		defer p.connections.Add(-1)
		r := bufio.NewReader(c)
		for {
			if _, err := readHead(r); err != nil {
				return
			}
			p.requests.Add(1)
			<-p.let
			p.requests.Add(-1)
			if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"); err != nil {
				return
			}
		}
	})
	return p
}

// A limit holds for all loops together, also when it is less than their number:
// what is too much is answered 503, of requests at once, and what is allowed again is
// let in.
func TestLimits(t *testing.T) {
	for _, kind := range []string{"requests", "connections"} {
		for _, max := range []uint32{1, 3} {
			eachLoops(t, func(t *testing.T, loops int) {
				t.Run(fmt.Sprintf("%s=%d", kind, max), func(t *testing.T) {
					program := newBusyProgram(t)
					p := *policy.DefaultUpstream
					if kind == "requests" {
						p.Limits.Requests = max
					} else {
						p.Limits.Connections, p.Limits.PendingTime = max, 50*time.Millisecond
					}
					edge := start(t, withPolicy(p, program.at), loops)
					addr := edge.addr(t, "http")
					const clients = 12
					statuses := make(chan string, clients)
					for range clients {
						go func() {
							c, err := net.Dial("tcp", addr)
							if err != nil {
								statuses <- err.Error()
								return
							}
							defer c.Close()
							io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
							b, _ := io.ReadAll(c)
							line, rest, _ := strings.Cut(string(b), "\r\n")
							if strings.Contains(rest, "connection_limit_reached") {
								line += " limit"
							}
							statuses <- line
						}()
					}
					for range clients - int(max) {
						if s := <-statuses; s != "HTTP/1.1 503 Service Unavailable limit" {
							t.Fatalf("over the limit: %q", s)
						}
					}
					happens(t, func() bool { return program.requests.Load() == int64(max) })
					close(program.let)
					for range max {
						if s := <-statuses; s != "HTTP/1.1 200 OK" {
							t.Fatalf("within the limit: %q", s)
						}
					}
					want := fmt.Sprintf(`tulle_errors_total{direction="edge",service="backend.default:80",reason="connection_limit_reached"} %d`, clients-int(max))
					if m := edge.metrics(t); !strings.Contains(m, want) {
						t.Errorf("no %s in\n%s", want, m)
					}
					// One after the other all are let in, whichever loop has the
					// connection that rests; the client
					// has the answer a moment before its request is over.
					for range 3 * loops {
						happens(t, func() bool {
							resp, _ := getFrom(t, addr, "/")
							return resp.StatusCode == 200
						})
					}
					if kind == "connections" { // the program sees later that one has ended
						happens(t, func() bool { return program.connections.Load() <= int64(max) })
					}
				})
			})
		}
	}
}

// Requests that wait for a connection are bounded as well.
func TestPendingLimit(t *testing.T) {
	p := *policy.DefaultUpstream
	p.Limits.Pending = 1
	hole := blackHole(t)
	p.Connect = 10 * wait // whoever waits does so until the test is over
	edge := start(t, withPolicy(p, hole), 4)
	addr := edge.addr(t, "http")
	answers := make(chan string, 8)
	var group sync.WaitGroup
	var clients []net.Conn
	for range 8 {
		c := dialTo(t, addr)
		clients = append(clients, c)
		group.Go(func() {
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
			if head, err := readHead(bufio.NewReader(c)); err == nil {
				answers <- head
			}
		})
	}
	for range 5 { // each loop may let one in before it knows of the others
		select {
		case head := <-answers:
			if !strings.Contains(head, "connection_limit_reached") {
				t.Errorf("one was answered %q, want it to be refused for the limit", head)
			}
		case <-time.After(wait):
			t.Fatal("fewer than 5 of 8 are refused")
		}
	}
	for _, c := range clients {
		c.Close()
	}
	group.Wait()
	if len(answers) > 2 {
		t.Error("all 8 were refused: none may wait")
	}
}

// blackHole is an address that accepts no connection and refuses none: its
// backlog is full.
func blackHole(t testing.TB) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	for failed := 0; failed < 3; { // or the machine was busy
		c, err := net.DialTimeout("tcp", l.Addr().String(), 100*time.Millisecond)
		if err != nil {
			failed++
			continue
		}
		failed = 0
		t.Cleanup(func() { c.Close() })
	}
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func happens(t testing.TB, f func() bool) {
	t.Helper()
	for end := time.Now().Add(wait); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it doesn't happen")
		}
	}
}

// An endpoint that fails is left out for the whole proxy, and the proxy says so.
func TestEjection(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		bad := serve(t, answering("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"))
		p := *policy.DefaultUpstream
		p.Balance.Algorithm = policy.RoundRobin
		p.Ejection.Base = time.Minute
		edge := start(t, withPolicy(p, named(t, "a"), bad, named(t, "b")), loops)
		addr := edge.addr(t, "http")
		failed := 0
		for range 100 {
			if resp, _ := getFrom(t, addr, "/"); resp.StatusCode != 200 {
				failed++
			}
		}
		if failed != int(policy.DefaultEjection.Consecutive) {
			t.Errorf("%d of 100 requests failed, want %d", failed, policy.DefaultEjection.Consecutive)
		}
		for _, want := range []string{
			`tulle_endpoint_ejections_total{service="backend.default:80",reason="consecutive"} 1`,
			`tulle_endpoints{service="backend.default:80",state="healthy"} 2`,
			`tulle_endpoints{service="backend.default:80",state="ejected"} 1`,
		} {
			if m := edge.metrics(t); !strings.Contains(m, want) {
				t.Errorf("no %s in\n%s", want, m)
			}
		}
		for _, s := range edge.EndpointStates().([]eject.State) {
			if (s.State == eject.Ejected) != (s.Endpoint == bad.String()) {
				t.Errorf("%+v", s)
			}
			if s.State == eject.Ejected && (s.Why != "consecutive" || s.Left < 30) {
				t.Errorf("%+v", s)
			}
		}
	})
}

// Of two endpoints one may be left out, never both; a full outage ends when the
// endpoints are well again.
func TestEjectionFloor(t *testing.T) {
	var sick atomic.Bool
	sick.Store(true)
	moody := func(c net.Conn) {
		r := bufio.NewReader(c)
		for {
			if _, err := readHead(r); err != nil {
				return
			}
			answer := "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
			if sick.Load() {
				answer = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
			}
			io.WriteString(c, answer)
		}
	}
	edge := start(t, withPolicy(*policy.DefaultUpstream, serve(t, moody), serve(t, moody)), 2)
	addr := edge.addr(t, "http")
	for range 60 {
		if resp, _ := getFrom(t, addr, "/"); resp.StatusCode != 503 || resp.Header.Get("Proxy-Status") != "" {
			t.Fatalf("status %d, %s: want the endpoints' own answer", resp.StatusCode, resp.Header.Get("Proxy-Status"))
		}
	}
	sick.Store(false)
	for range 20 {
		if resp, _ := getFrom(t, addr, "/"); resp.StatusCode != 200 {
			t.Fatalf("status %d though all are well", resp.StatusCode)
		}
	}
}

// The proxy's own zone is preferred.
func TestZones(t *testing.T) {
	v := withPolicy(*policy.DefaultUpstream, three(t)...)
	v.Proxy.Zone = "north"
	for i, zone := range []string{"south", "north", "south"} {
		v.Endpoints[backendKey].List[i].Zone = zone
	}
	// An endpoint that was slow, as on a busy machine, is left by some.
	near := 0
	for try := 0; try < 5 && near < 40; try++ {
		addr := start(t, v, 2).addr(t, "http")
		near = 0
		for range 60 {
			if _, body := getFrom(t, addr, "/"); body == "b" {
				near++
			}
		}
	}
	if near < 40 {
		t.Errorf("%d of 60 requests stayed in the zone", near)
	}
}

// The limit of connections holds for those that carry many requests too, and what
// rests on one loop is given up for another.
func TestConnectionLimitInTheMesh(t *testing.T) {
	for _, peers := range []view.PeerProtocol{view.PeerHTTP1, view.PeerHTTP2} {
		t.Run(fmt.Sprintf("peers=%d", peers), func(t *testing.T) {
			app := named(t, "a")
			server := start(t, serverView(app), 1)
			v := clientView(netip.MustParseAddrPort(server.addr(t, "in")), cartID, view.HTTP)
			v.Proxy.Settings.PeerProtocol = peers
			p := *policy.DefaultUpstream
			p.Limits.Connections = 1
			v.Endpoints[cart].Policy = &p
			client := start(t, v, 4)
			for i := range 24 {
				resp, body := getFrom(t, client.addr(t, "out"), "/")
				if resp.StatusCode != 200 || body != "a" {
					t.Fatalf("request %d: %d, %s", i, resp.StatusCode, resp.Header.Get("Proxy-Status"))
				}
				if n := server.Connections(); n > 2 { // one may be ending still
					t.Fatalf("%d connections between the proxies", n)
				}
			}
		})
	}
}

// Over TLS a session's cookie says Secure; HTTP/2 clients have sessions as others
// do, with their cookies in several fields too.
func TestSessionOverTLS(t *testing.T) {
	p := *policy.DefaultUpstream
	p.Session = policy.Session{Kind: policy.SessionCookie, Name: "shop"}
	v := withPolicy(p, three(t)...)
	chain, key, roots := serverCertificate(t, "edge.example")
	v.Proxy.Listeners[0].Certificate, v.Proxy.Listeners[0].Key = chain, key
	addr := start(t, v, 2).addr(t, "http")
	for _, two := range []bool{false, true} {
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "edge.example"}, ForceAttemptHTTP2: two}
		client := &http.Client{Transport: tr, Timeout: wait}
		get := func(cookies ...string) (*http.Response, string) {
			t.Helper()
			req, err := http.NewRequest("GET", "https://"+addr+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range cookies {
				req.Header.Add("Cookie", c)
			}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			if err != nil || (resp.ProtoMajor == 2) != two {
				t.Fatal(resp.Proto, err)
			}
			return resp, string(b)
		}
		resp, first := get()
		told := resp.Header.Get("Set-Cookie")
		if !regexp.MustCompile(`^shop=[\w-]{11}; Path=/; HttpOnly; Secure$`).MatchString(told) {
			t.Errorf("%s: %q", resp.Proto, told)
		}
		value, _, _ := strings.Cut(told, ";")
		for range 10 {
			if resp, body := get("a=b", value+"; c=d"); body != first || resp.Header.Get("Set-Cookie") != "" {
				t.Fatalf("%s: a session of %s is at %s, told %q", resp.Proto, first, body, resp.Header.Get("Set-Cookie"))
			}
		}
		tr.CloseIdleConnections()
	}
}
