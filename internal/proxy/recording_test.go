package proxy_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"tulle.dev/tulle/internal/access"
	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy"
	"tulle.dev/tulle/internal/proxy/record"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/view"
)

// logged runs a proxy whose access log has everything.
func logged(t testing.TB, v *view.View, loops int) (*running, *written) {
	w := &written{}
	v.Proxy.AccessLog = policy.AccessLog{Mode: policy.LogAll}
	return startWith(t, v, proxy.Config{Loops: loops, AccessLog: w}), w
}

// line waits for the line of an access log that f wants.
func line(t testing.TB, w *written, what string, f func(*record.Told) bool) record.Told {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		for _, l := range strings.SplitAfter(w.String(), "\n") {
			if !strings.HasSuffix(l, "\n") {
				break
			}
			var told record.Told
			if err := json.Unmarshal([]byte(l), &told); err != nil {
				t.Fatalf("%q: %v", l, err)
			}
			if f(&told) {
				return told
			}
		}
	}
	t.Fatalf("%s isn't in the access log:\n%s", what, w)
	return record.Told{}
}

// patience bounds the wait for a line.
const patience = 30 * time.Second

func onPath(path string) func(*record.Told) bool {
	return func(r *record.Told) bool { return r.Path == path }
}

// TestAccessLog: each request has a line at each proxy, that says what was decided,
// why and what it took, and nothing that may be a secret.
func TestAccessLog(t *testing.T) {
	for _, peers := range []view.PeerProtocol{view.PeerHTTP1, view.PeerHTTP2} {
		eachLoops(t, func(t *testing.T, loops int) {
			hang := make(chan struct{})
			app := program(t, func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				if r.URL.Path == "/shop/hang" {
					<-hang
				}
				io.WriteString(w, "hello")
			})
			defer close(hang)
			rules := onlyWeb()
			rules.Rules[0].To[0].Methods = []string{"GET", "PUT"}
			server, inner := logged(t, guardedView(app, rules), loops)
			web, outer := logged(t, callerView(webID, server.addr(t, "in"), view.HTTP, peers), 1)
			c := client(t, false)
			at := "http://" + web.addr(t, "out")
			ask := func(method, path, body string) {
				t.Helper()
				r, err := http.NewRequest(method, at+path, strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				r.Host = "cart"
				r.Header.Set("X-Request-Id", "id-of"+path[:4])
				r.Header.Set("Authorization", "Bearer top-secret")
				resp, err := c.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			ask("PUT", "/shop/1?token=top-secret", "four")
			in, out := line(t, inner, "the request", onPath("/shop/1")), line(t, outer, "the request", onPath("/shop/1"))
			if in.Direction != "inbound" || in.Listener != "in" || in.Source != webID || in.SourceAddress == "" || in.Service != "cart.default:8080" || in.Decision != "allowed" ||
				in.AccessRule != "accesspolicy/default/shop#0" || in.Method != "PUT" || in.Status != 200 || in.Tries != 1 || in.RequestID != "id-of/sho" || in.Protocol != "http1" ||
				in.Received != 4 || in.Answered != 5 || in.Endpoint != app.String() || in.Reason != "" || in.First <= 0 || in.Duration < in.First || in.ID != "" {
				t.Errorf("the serving proxy wrote %+v", in)
			}
			if out.Direction != "outbound" || out.Listener != "out" || out.Source != "" || out.Service != "cart.default:8080" || out.Decision != "" || out.Endpoint != server.addr(t, "in") ||
				out.Status != 200 || out.Received != 4 || out.Answered != 5 || out.Authority != "cart" || out.Sent <= 0 || out.First < out.Sent || time.Since(out.Time).Abs() > time.Hour {
				t.Errorf("the caller's proxy wrote %+v", out)
			}

			ask("POST", "/shop/2", "")
			in, out = line(t, inner, "the refusal", onPath("/shop/2")), line(t, outer, "the refusal", onPath("/shop/2"))
			if in.Status != 403 || in.Decision != "denied" || in.AccessRule != "" || in.Reason != "http_request_denied" || !strings.Contains(in.Text, "accesspolicy/default/shop#0 would, but for its method") ||
				in.Policy != "accesspolicy/default/shop#0" || in.ID == "" || in.Tries != 0 {
				t.Errorf("the serving proxy wrote %+v", in)
			}
			if out.Status != 403 || out.Peer != in.ID || out.ID == "" {
				t.Errorf("the caller's proxy wrote %+v", out)
			}

			gone := dialTo(t, web.addr(t, "out"))
			io.WriteString(gone, "GET /shop/hang HTTP/1.1\r\nHost: cart\r\n\r\n")
			comes(t, "the request that hangs", func() bool {
				return strings.Contains(server.metrics(t), `decision="allowed",rule="accesspolicy/default/shop#0"} 2`)
			})
			gone.(*net.TCPConn).SetLinger(0) // else it might still read
			gone.Close()
			if out = line(t, outer, "the client that has gone", onPath("/shop/hang")); out.Reason != "client_gone" || out.Status != 0 {
				t.Errorf("of a client that has gone: %+v", out)
			}
			for _, w := range []*written{inner, outer} {
				if strings.Contains(w.String(), "top-secret") {
					t.Errorf("a secret is in the access log: %s", w)
				}
			}
			if m := server.metrics(t); !strings.Contains(m, `tulle_access_log_lines_total{result="dropped"} 0`) {
				t.Errorf("lines aren't counted: %s", m)
			}
		})
	}
}

// TestAccessLogOpaque: connections whose requests can't be seen have a line each,
// when they end or are refused.
func TestAccessLogOpaque(t *testing.T) {
	eachLoops(t, func(t *testing.T, loops int) {
		app := serve(t, func(c net.Conn) { io.Copy(c, c) })
		v := guardedView(app, &access.Spec{Rules: []access.Rule{{Name: "accesspolicy/default/tcp#0", Action: access.Allow, From: from(webID)}}})
		v.Proxy.Listeners[0].Protocol = view.TCP
		server, inner := logged(t, v, loops)
		web, outer := logged(t, callerView(webID, server.addr(t, "in"), view.TCP, 0), 1)
		billing := start(t, callerView(billingID, server.addr(t, "in"), view.TCP, 0), 1)
		if got := talk(t, web.addr(t, "out"), "hello"); got != "hello" {
			t.Fatalf("%q", got)
		}
		tcp := func(decision string) func(*record.Told) bool {
			return func(r *record.Told) bool { return r.Protocol == "tcp" && r.Decision == decision }
		}
		in, out := line(t, inner, "the connection", tcp("allowed")), line(t, outer, "the connection", tcp(""))
		if in.Direction != "inbound" || in.Source != webID || in.AccessRule != "accesspolicy/default/tcp#0" || in.Received != 5 || in.Answered != 5 || in.Endpoint != app.String() || in.Reason != "" ||
			in.Service != "cart.default:8080" || in.Status != 0 || in.Duration <= 0 {
			t.Errorf("the serving proxy wrote %+v", in)
		}
		if out.Direction != "outbound" || out.Service != "cart.default:8080" || out.Endpoint != server.addr(t, "in") || out.Received != 5 || out.Answered != 5 || out.Tries != 1 {
			t.Errorf("the caller's proxy wrote %+v", out)
		}
		c := dialTo(t, billing.addr(t, "out"))
		io.WriteString(c, "hello")
		io.ReadAll(c)
		if in = line(t, inner, "the refusal", tcp("denied")); in.Reason != "access_denied" || in.Source != billingID || in.Text == "" {
			t.Errorf("the serving proxy wrote %+v", in)
		}
		plain := dialTo(t, server.addr(t, "in"))
		io.WriteString(plain, "hello, who are you?")
		io.ReadAll(plain)
		line(t, inner, "plaintext that isn't taken", func(r *record.Told) bool { return r.Reason == "plaintext_refused" })
	})
}

// TestAccessLogBytes: long bodies, which go past the proxy's buffers, are counted.
func TestAccessLogBytes(t *testing.T) {
	const long = 1 << 20
	app := program(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Length", strconv.Itoa(long+1))
		w.Write(make([]byte, long+1))
	})
	edge, w := logged(t, edgeView(app), 1)
	resp, err := client(t, false).Post("http://"+edge.addr(t, "http")+"/long", "text/plain", strings.NewReader(strings.Repeat("x", long)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); n != long+1 || err != nil {
		t.Fatal(n, err)
	}
	if got := line(t, w, "the request", onPath("/long")); got.Received != long || got.Answered != long+1 || got.Direction != "edge" || got.Listener != "http" || got.Rule != "all" || got.Backend != backendKey {
		t.Errorf("%+v", got)
	}
}

// TestAccessLogRefusedCall: a call that the proxy answers itself has the code that
// its client is told, and over HTTP/1.1, where it is told none, none.
func TestAccessLogRefusedCall(t *testing.T) {
	rule := route.Rule{Matches: prefix("/served")}
	edge, w := logged(t, filtersView(program(t, told), view.HTTP, rule), 1)
	for _, two := range []bool{true, false} {
		path := "/call/" + strconv.FormatBool(two)
		resp, err := client(t, two).Post("http://"+edge.addr(t, "http")+path, "application/grpc", strings.NewReader(""))
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		code := "none"
		if got := line(t, w, "the call", onPath(path)); got.GRPCStatus != nil {
			code = strconv.Itoa(*got.GRPCStatus)
		}
		if want := map[bool]string{true: "12", false: "none"}[two]; code != want || two && resp.Header.Get("Grpc-Status") != want {
			t.Errorf("HTTP/2 %v: logged %s, told %q, want %s", two, code, resp.Header.Get("Grpc-Status"), want)
		}
	}
}

// TestTap: who watches a proxy sees what they want to, and the log may be off.
func TestTap(t *testing.T) {
	server := start(t, guardedView(program(t, mirror), onlyWeb()), 2)
	web := start(t, callerView(webID, server.addr(t, "in"), view.HTTP, view.PeerHTTP2), 1)
	tap, err := server.Tap(record.Filter{Denied: true, Path: "/admin"})
	if err != nil {
		t.Fatal(err)
	}
	defer tap.Close()
	c := client(t, true)
	for _, path := range []string{"/shop", "/other", "/admin/1"} {
		fetchOne(t, c, "GET", "http://"+web.addr(t, "out")+path)
	}
	select {
	case l := <-tap.Lines():
		var told record.Told
		if err := json.Unmarshal(l, &told); err != nil || told.Path != "/admin/1" || told.Decision != "denied" || told.Protocol != "http2" {
			t.Errorf("%s %v", l, err)
		}
	case <-time.After(patience):
		t.Fatal("nothing is told")
	}
	select {
	case l := <-tap.Lines():
		t.Errorf("what nobody asked for: %s", l)
	default:
	}
}
