package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/view"
)

const copyKey, otherCopyKey = "copy.default:80", "other.default:80"

// mirrorView is an edge whose requests are copied to each of those.
func mirrorView(app netip.AddrPort, declared view.Protocol, share policy.Share, copies ...netip.AddrPort) *view.View {
	rule := route.Rule{Name: "all"}
	v := filtersView(app, declared, rule)
	r := &v.Proxy.Listeners[0].Routes.Hosts[0].Rules[0]
	for i, to := range copies {
		key := []string{copyKey, otherCopyKey}[i]
		v.Destinations[key] = &view.Destination{Key: key, Protocol: declared}
		v.Endpoints[key] = &view.Endpoints{Key: key, List: []view.Endpoint{{Address: to}}}
		r.Filters.Mirrors = append(r.Filters.Mirrors, route.Mirror{Destination: key, Share: share})
	}
	return v
}

// post sends a body and returns what comes back.
func post(t *testing.T, c *http.Client, addr string, body []byte, known bool) string {
	t.Helper()
	var r io.Reader = bytes.NewReader(body)
	if !known {
		r = io.MultiReader(r)
	}
	req, err := http.NewRequest("POST", "http://"+addr+"/a?b=c", r)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "shop.example"
	req.Header.Set("X-T-A", "1")
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(resp.StatusCode, " ", string(got))
}

// TestMirror: each mirror gets the same request, whole, once; a large one isn't
// copied.
func TestMirror(t *testing.T) {
	eachVersion(t, func(t *testing.T, c *http.Client, declared view.Protocol) {
		type seen struct{ asked, field, body string }
		see := func(ch chan seen) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				ch <- seen{r.Method + " " + r.Host + r.URL.RequestURI(), r.Header.Get("X-T-A"), string(body)}
				w.WriteHeader(418)
			}
		}
		own := make(chan seen, 10)
		copies := [2]chan seen{make(chan seen, 10), make(chan seen, 10)}
		app := program(t, func(w http.ResponseWriter, r *http.Request) {
			see(own)(discardStatus{w}, r)
			fmt.Fprint(w, "mine")
		})
		p := start(t, mirrorView(app, declared, policy.All, program(t, see(copies[0])), program(t, see(copies[1]))), 1)
		for _, size := range []int{0, 5, 40_000} {
			for _, known := range []bool{true, false} {
				body := bytes.Repeat([]byte("x"), size)
				if got := post(t, c, p.addr(t, "http"), body, known); got != "200 mine" {
					t.Fatalf("answer %q", got)
				}
				want := <-own
				if want.asked != "POST shop.example/a?b=c" || len(want.body) != size {
					t.Fatalf("asked %+v", want)
				}
				for i, ch := range copies {
					select {
					case got := <-ch:
						if got != want {
							t.Errorf("copy %d of %d bytes: %q %q with %d bytes", i, size, got.asked, got.field, len(got.body))
						}
					case <-time.After(wait):
						t.Fatalf("no copy %d of %d bytes", i, size)
					}
				}
			}
		}
		for _, known := range []bool{true, false} {
			post(t, c, p.addr(t, "http"), bytes.Repeat([]byte("x"), 100_000), known)
		}
		c.CloseIdleConnections()
		settled(t, p)
		if len(copies[0])+len(copies[1]) > 0 {
			t.Error("a large request was copied")
		}
		m := p.metrics(t)
		for _, want := range []string{
			`tulle_mirrors_total{service="copy.default:80",outcome="answered"} 6`,
			`tulle_mirrors_total{service="other.default:80",outcome="too_large"} 2`,
			`tulle_requests_total{direction="mirror",service="copy.default:80",peer="",tls="none",status="418"} 6`,
			`tulle_requests_total{direction="edge",service="backend.default:80",peer="",tls="none",status="200"} 8`,
		} {
			if !strings.Contains(m, want+"\n") {
				t.Errorf("no %s in the metrics", want)
			}
		}
	})
}

type discardStatus struct{ http.ResponseWriter }

func (discardStatus) WriteHeader(int) {}

// TestMirrorShare: a fraction of the requests is copied, each on its own chance.
func TestMirrorShare(t *testing.T) {
	for _, share := range []policy.Share{0, policy.All / 4, policy.All} {
		var n atomic.Int64
		p := start(t, mirrorView(program(t, told), view.HTTP, share, program(t, func(http.ResponseWriter, *http.Request) { n.Add(1) })), 1)
		c := client(t, false)
		const requests = 400
		for range requests {
			post(t, c, p.addr(t, "http"), nil, true)
		}
		c.CloseIdleConnections()
		settled(t, p)
		want := float64(requests) * float64(share) / float64(policy.All)
		if got := float64(n.Load()); got < want*0.6 || got > want*1.4 {
			t.Errorf("share %d: %v copies, want about %v", share, got, want)
		}
	}
}

// TestMirrorsAreNotWaitedFor: whatever a mirror does or doesn't do, requests are
// answered, in their order and whole. The mirror that hangs goes on hanging for as
// long as all of them take: an answer that waited for it could not come.
func TestMirrorsAreNotWaitedFor(t *testing.T) {
	closed := netip.MustParseAddrPort("127.0.0.1:1")
	hang, release := context.WithCancel(context.Background())
	defer release()
	for _, test := range []struct {
		name string
		to   func(t *testing.T) netip.AddrPort
		what string // is counted of it
	}{
		{"refuses", func(*testing.T) netip.AddrPort { return closed }, "failed"},
		{"hangs", func(t *testing.T) netip.AddrPort { return serve(t, func(net.Conn) { <-hang.Done() }) }, "too_many"},
		{"resets", func(t *testing.T) netip.AddrPort {
			return serve(t, func(c net.Conn) { c.(*net.TCPConn).SetLinger(0) })
		}, "failed"},
		{"talks nonsense", func(t *testing.T) netip.AddrPort { return serve(t, answering("NO\r\n\r\n")) }, "failed"},
		{"answers without end", func(t *testing.T) netip.AddrPort {
			return program(t, func(w http.ResponseWriter, r *http.Request) { endless(w) })
		}, "answered"},
	} {
		eachVersion(t, func(t *testing.T, c *http.Client, declared view.Protocol) {
			t.Run(test.name, func(t *testing.T) {
				p := start(t, mirrorView(program(t, told), declared, policy.All, test.to(t)), 1)
				for i := range 200 {
					if got := post(t, c, p.addr(t, "http"), bytes.Repeat([]byte("x"), i*100), i%2 == 0); got != "200 ok" {
						t.Fatalf("request %d: %q", i, got)
					}
				}
				end := time.Now().Add(wait)
				for !strings.Contains(p.metrics(t), `outcome="`+test.what+`"}`) {
					if time.Now().After(end) {
						t.Fatalf("no copy is counted as %s", test.what)
					}
					time.Sleep(time.Millisecond)
				}
			})
		})
	}
}

// TestMirrorOfARequestThatBreaks: a request whose content never comes whole isn't
// copied.
func TestMirrorOfARequestThatBreaks(t *testing.T) {
	var n atomic.Int64
	p := start(t, mirrorView(program(t, told), view.HTTP, policy.All, program(t, func(http.ResponseWriter, *http.Request) { n.Add(1) })), 1)
	c := dialTo(t, p.addr(t, "http"))
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
	time.Sleep(10 * time.Millisecond)
	c.Close()
	end := time.Now().Add(wait)
	for !strings.Contains(p.metrics(t), `tulle_mirrors_total{service="copy.default:80",outcome="incomplete"} 1`+"\n") {
		if time.Now().After(end) {
			t.Fatal("it isn't counted")
		}
		time.Sleep(time.Millisecond)
	}
	if n.Load() > 0 {
		t.Error("half a request was copied")
	}
}

// TestMirrorToTheSameService: copies that fail put no endpoint out, and those that
// hang take no room of the requests', where both go to one service.
func TestMirrorToTheSameService(t *testing.T) {
	hang, release := context.WithCancel(context.Background())
	defer release()
	for _, hangs := range []bool{false, true} {
		app := func() netip.AddrPort {
			return program(t, func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.Header.Get("X-Copy") == "":
				case hangs:
					<-hang.Done()
				default:
					w.WriteHeader(503)
				}
			})
		}
		v := mirrorView(app(), view.HTTP, policy.All)
		v.Endpoints[backendKey].List = append(v.Endpoints[backendKey].List, view.Endpoint{Address: app()})
		// The copies have a field that the requests lose at their backend.
		rule := &v.Proxy.Listeners[0].Routes.Hosts[0].Rules[0]
		rule.Filters.Request = &route.Modifier{Set: []route.Value{{Name: "x-copy", Value: "1"}}}
		rule.Filters.Mirrors = []route.Mirror{{Destination: backendKey, Share: policy.All}}
		rule.Backends[0].Filters = route.Filters{Request: &route.Modifier{Remove: []string{"x-copy"}}}
		up := *policy.DefaultUpstream
		if up.Ejection.Consecutive = 1; hangs {
			up.Limits.Requests = 1
		}
		v.Endpoints[backendKey].Policy = &up
		p := start(t, v, 1)
		c := client(t, false)
		const requests = 50
		for i := range requests {
			if got := post(t, c, p.addr(t, "http"), nil, true); got != "200 " {
				t.Fatalf("hangs %t: request %d: %q", hangs, i, got)
			}
		}
		if hangs {
			continue
		}
		counted(t, p, fmt.Sprintf(`tulle_requests_total{direction="mirror",service="backend.default:80",peer="",tls="none",status="503"} %d`, requests))
		counted(t, p, `tulle_endpoints{service="backend.default:80",state="ejected"} 0`)
	}
}
