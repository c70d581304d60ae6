package proxy_test

import (
	"bufio"
	"crypto/elliptic"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy"
	"tulle.dev/tulle/internal/proxy/poll"
	"tulle.dev/tulle/internal/proxy/story"
	"tulle.dev/tulle/internal/view"
)

// clock is the time of a proxy's loops, which a test can set forward.
type clock struct {
	by atomic.Int64

	mu   sync.Mutex
	wake []poll.Poller
}

type clocked struct {
	poll.Poller
	clock *clock
}

func (c *clocked) ahead() time.Duration { return time.Duration(c.clock.by.Load()) }
func (c *clocked) Now() time.Duration   { return c.Poller.Now() + c.ahead() }
func (c *clocked) Wall() time.Time      { return c.Poller.Wall().Add(c.ahead()) }
func (c *clocked) Wait(events []poll.Event, until time.Duration) int {
	return c.Poller.Wait(events, until-c.ahead())
}

// poller is for proxy.Config.
func (c *clock) poller(int) (poll.Poller, error) {
	p, err := poll.New()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.wake = append(c.wake, p)
	c.mu.Unlock()
	return &clocked{p, c}, nil
}

// forward sets the clock forward.
func (c *clock) forward(d time.Duration) {
	c.by.Add(int64(d))
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.wake {
		p.Wake()
	}
}

// bearingAt is bearing with a clock for the proxy that looks at tokens.
func bearingAt(t *testing.T, where string, app netip.AddrPort, g *policy.Guard, loops int, c *clock, protocol view.Protocol) (p *running, addr string) {
	t.Helper()
	config := proxy.Config{Loops: loops, Poller: c.poller}
	if where == "edge" {
		v := edgeView(app)
		v.Proxy.Settings.MinBodyRate = view.AnyBodyRate
		v.Destinations[backendKey].Protocol = protocol
		v.Proxy.Listeners[0].Inbound = &policy.Inbound{Guard: g}
		p = startWith(t, v, config)
		return p, p.addr(t, "http")
	}
	v := serverView(app)
	v.Proxy.Listeners[0].Protocol = protocol
	v.Proxy.Listeners[0].Inbound = &policy.Inbound{Guard: g}
	p = startWith(t, v, config)
	web := start(t, clientView(netip.MustParseAddrPort(p.addr(t, "in")), cartID, protocol), loops)
	return p, web.addr(t, "out")
}

// goingOn is a program whose answers go on, wait or end as the path says.
func goingOn(release <-chan struct{}) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/sized": // has a length, and takes its time
			w.Header().Set("Content-Length", "10")
			io.WriteString(w, "hello")
			w.(http.Flusher).Flush()
			<-release
			io.WriteString(w, "world")
		case "/late": // answers late, with a length
			<-release
			w.Header().Set("Content-Length", "4")
			io.WriteString(w, "late")
		case "/later": // and without one
			<-release
			io.WriteString(w, "later")
			w.(http.Flusher).Flush()
			io.WriteString(w, "still")
		case "/upload":
			io.Copy(io.Discard, r.Body)
		default:
			ticks(w, r)
		}
	}
}

// TestTokenEnds: what might go on for ever ends with its token, a minute after exp
// for clocks that differ; what says how long it is comes to its end.
func TestTokenEnds(t *testing.T) {
	is := newTokens(t, "https://issuer.example", elliptic.P256(), jose.ES256)
	for _, where := range []string{"edge", "sidecar"} {
		eachLoops(t, func(t *testing.T, loops int) {
			release := make(chan struct{})
			c := &clock{}
			p, addr := bearingAt(t, where, program(t, goingOn(release)), &policy.Guard{JWT: &policy.JWT{Required: true, Issuers: []policy.Issuer{is.policy(t)}}}, loops, c, view.HTTP)
			short, long := is.issue(t, time.Minute, ""), is.issue(t, time.Hour, "")
			one, two := patientClient(t, false), patientClient(t, true)
			open := func(client *http.Client, path, token string, body io.Reader) (*http.Response, error) {
				method := "GET"
				if body != nil {
					method = "POST"
				}
				r, err := http.NewRequest(method, "http://"+addr+path, body)
				if err != nil {
					t.Fatal(err)
				}
				r.Host = "cart"
				r.Header.Set("Authorization", "Bearer "+token)
				return client.Do(r)
			}
			stream := func(name string, client *http.Client, token string) going {
				resp, err := open(client, "/stream", token, nil)
				if err != nil || resp.StatusCode != 200 {
					t.Fatalf("%s: %v %v", name, resp, err)
				}
				t.Cleanup(func() { resp.Body.Close() })
				lines := bufio.NewReader(resp.Body)
				return going{name, func() error { _, err := lines.ReadString('\n'); return err }}
			}
			socket := func(token string) going {
				conn := dialTo(t, addr)
				fmt.Fprintf(conn, "GET /socket HTTP/1.1\r\nHost: cart\r\nAuthorization: Bearer %s\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", token)
				r := bufio.NewReader(conn)
				if head, err := readHead(r); err != nil || !strings.HasPrefix(head, "HTTP/1.1 101 ") {
					t.Fatalf("%q %v", head, err)
				}
				return chat(t, conn, "socket")
			}
			ends := []going{stream("stream", one, short), stream("stream over HTTP/2", two, short), socket(short)}
			stays := []going{stream("stream of another token", one, long), stream("stream over HTTP/2 of another token", two, long), socket(long)}

			type answer struct {
				path   string
				status int
				body   string
				err    error
			}
			answers := make(chan answer, 10)
			ask := func(client *http.Client, path string, body io.Reader) {
				go func() {
					resp, err := open(client, path, short, body)
					a := answer{path: path, err: err}
					if err == nil {
						a.status = resp.StatusCode
						var b []byte
						b, a.err = io.ReadAll(resp.Body)
						a.body = string(b)
						resp.Body.Close()
					}
					answers <- a
				}()
			}
			pr, pw := io.Pipe()
			defer pw.Close()
			ask(two, "/upload", pr)
			if _, err := pw.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			for _, client := range []*http.Client{one, two} {
				ask(client, "/sized", nil)
				ask(client, "/late", nil)
				ask(client, "/later", nil)
			}
			valid := `issuer="https://issuer.example",outcome="valid"} 13`
			comes(t, "all are on their way", func() bool { return strings.Contains(p.metrics(t), valid) })

			c.forward(70 * time.Second) // clocks may differ that much
			for _, f := range append(ends, stays...) {
				f.goesOn(t)
			}
			c.forward(60 * time.Second)
			for _, f := range ends {
				f.ends(t)
			}
			if a := <-answers; a.path != "/upload" || a.status != 401 || !strings.Contains(a.body, "token has ended") {
				t.Errorf("an upload without end: %+v", a)
			}
			for _, f := range stays {
				f.goesOn(t)
			}
			close(release)
			want := map[string]string{"/sized": "200 helloworld", "/late": "200 late", "/later": "401 The token has ended while the request was under way.\n"}
			for range 6 {
				if a := <-answers; fmt.Sprint(a.status, " ", a.body) != want[a.path] || a.err != nil {
					t.Errorf("%+v, want %q", a, want[a.path])
				}
			}
			comes(t, "all are counted", func() bool {
				return strings.Contains(p.metrics(t), `issuer="https://issuer.example",outcome="ended"} 6`)
			})
			told := 0
			for _, s := range p.Stories(story.Query{Last: story.MaxLast}) {
				if s.Reason == "token_ended" {
					told++
				}
			}
			if told != 5 { // the socket's was told when it became one
				t.Errorf("%d stories", told)
			}
			if resp, err := open(one, "/stream", short, nil); err != nil || resp.StatusCode != 401 {
				t.Errorf("the same token again: %v %v", resp, err)
			}
		})
	}
}

// TestTokenEndsGRPC: calls are told in their own words.
func TestTokenEndsGRPC(t *testing.T) {
	is := newTokens(t, "https://issuer.example", elliptic.P256(), jose.ES256)
	for _, where := range []string{"edge", "sidecar"} {
		eachLoops(t, func(t *testing.T, loops int) {
			c := &clock{}
			_, addr := bearingAt(t, where, grpcProgram(t, "app"), &policy.Guard{JWT: &policy.JWT{Required: true, Issuers: []policy.Issuer{is.policy(t)}}}, loops, c, view.HTTP2)
			conn := grpcClient(t, addr)
			call := func(token, method string) grpc.ClientStream {
				ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
				s, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/test.Echo/"+method)
				if err != nil {
					t.Fatal(err)
				}
				return s
			}
			turn := func(s grpc.ClientStream) error {
				in, out := []byte("x"), []byte(nil)
				if err := s.SendMsg(&in); err != nil && err != io.EOF {
					return err
				}
				return s.RecvMsg(&out)
			}
			short, long := is.issue(t, time.Minute, ""), is.issue(t, time.Hour, "")
			talks, other, waits := call(short, "Both"), call(long, "Both"), call(short, "Hang")
			for _, s := range []grpc.ClientStream{talks, other} {
				if err := turn(s); err != nil {
					t.Fatal(err)
				}
			}
			waited := make(chan error, 1)
			go func() {
				in, out := []byte("x"), []byte(nil)
				waits.SendMsg(&in)
				waited <- waits.RecvMsg(&out)
			}()
			c.forward(70 * time.Second)
			if err := turn(talks); err != nil {
				t.Fatal(err)
			}
			c.forward(60 * time.Second)
			var out []byte
			if err := talks.RecvMsg(&out); status.Code(err) != codes.Unauthenticated || status.Convert(err).Message() != "The token has ended." {
				t.Errorf("a call that had begun to answer: %v", err)
			}
			if err := <-waited; status.Code(err) != codes.Unauthenticated {
				t.Errorf("a call that hadn't: %v", err)
			}
			if err := turn(other); err != nil {
				t.Errorf("a call with another token: %v", err)
			}
		})
	}
}
