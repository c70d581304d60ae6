package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/view"
)

// TestFiltersBetweenProxies: the caller's proxy does what its service's routes and
// policy say, once, whatever is spoken between the proxies; names of fields keep
// the case that the rule has.
func TestFiltersBetweenProxies(t *testing.T) {
	copied := make(chan string, 100)
	other := program(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		copied <- r.URL.Path + " " + r.Header.Get("X-T-Add") + " " + string(b)
	})
	for _, peers := range []view.PeerProtocol{view.PeerHTTP1, view.PeerHTTP2} {
		eachVersion(t, func(t *testing.T, c *http.Client, declared view.Protocol) {
			sv := serverView(program(t, told))
			sv.Proxy.Settings.PeerProtocol = peers
			sv.Destinations = map[string]*view.Destination{cart: {Key: cart, Protocol: declared}}
			sv.Proxy.Listeners[0].Protocol = declared
			server := start(t, sv, 1)
			v := clientView(netip.MustParseAddrPort(server.addr(t, "in")), cartID, declared)
			v.Proxy.Settings.PeerProtocol = peers
			streamView(v, map[string]netip.AddrPort{copyKey: other})
			v.Destinations[copyKey].Protocol = declared
			d := v.Destinations[cart]
			d.Routes = route.Spec{Hosts: []route.Host{{Hostnames: []string{"*"}, Rules: []route.Rule{
				{
					Matches: prefix("/old"), Backends: []route.Backend{{Destination: cart, Weight: 1}},
					Filters: route.Filters{
						Request:  &route.Modifier{Add: []route.Value{{Name: "X-T-Add", Value: "1"}}},
						Response: &route.Modifier{Add: []route.Value{{Name: "X-Once", Value: "1"}}},
						Rewrite:  &route.Rewrite{Host: "inner.example", Change: route.PrefixPath, Path: "/new"},
						Mirrors:  []route.Mirror{{Destination: copyKey, Share: policy.All}},
					},
				},
				{Matches: prefix("/moved"), Filters: route.Filters{Redirect: &route.Redirect{Change: route.FullPath, Path: "/there", Status: 303}}},
				{Matches: prefix("/broken"), Backends: []route.Backend{{Destination: cart, Weight: 1}}, Policy: &policy.Request{Faults: []policy.Fault{{Name: faultName, Share: policy.All, Status: 418}}}},
			}}}}
			addr := start(t, v, 1).addr(t, "out")
			ask := func(path string) *http.Response {
				req, _ := http.NewRequest("POST", "http://"+addr+path, strings.NewReader("body"))
				req.Host = "cart"
				resp, err := c.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				return resp
			}
			r := ask("/old/x")
			if got := fmt.Sprint(r.StatusCode, r.Header["X-Asked"], r.Header["X-Got-Add"], r.Header["X-Once"]); got != "200 [POST inner.example/new/x] [1] [1]" {
				t.Errorf("got %s", got)
			}
			if got := <-copied; got != "/new/x 1 body" {
				t.Errorf("copied %q", got)
			}
			if r := ask("/moved"); r.StatusCode != 303 || r.Header.Get("Location") != "http://cart:8080/there" {
				t.Errorf("moved: %d %v", r.StatusCode, r.Header)
			}
			if r := ask("/broken"); r.StatusCode != 418 || !strings.Contains(r.Header.Get("Proxy-Status"), faultName) {
				t.Errorf("broken: %d %v", r.StatusCode, r.Header)
			}
			if r := ask("/none"); r.StatusCode != 404 {
				t.Errorf("no rule: %d", r.StatusCode)
			}
		})
	}
}

// TestFiltersAndRetries: a request that is sent again was changed once, is copied
// once, and of its responses only the one that is passed on is changed.
func TestFiltersAndRetries(t *testing.T) {
	copied := make(chan string, 100)
	other := program(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		copied <- strings.Join(r.Header.Values("X-T-Add"), ",") + " " + string(b)
	})
	eachVersion(t, func(t *testing.T, c *http.Client, declared view.Protocol) {
		var asked atomic.Int64
		app := program(t, func(w http.ResponseWriter, r *http.Request) {
			if asked.Add(1)%3 != 0 {
				io.Copy(io.Discard, r.Body)
				w.WriteHeader(503)
				return
			}
			told(w, r)
		})
		v := mirrorView(app, declared, policy.All, other)
		rule := &v.Proxy.Listeners[0].Routes.Hosts[0].Rules[0]
		p := *policy.DefaultRequest
		p.Retry.On, p.Retry.Any, p.Retry.Backoff, p.Retry.MaxBackoff = policy.ServerError, true, 1, 1
		p.Retry.Budget = policy.Budget{Percent: 100, Min: 1000}
		rule.Policy = &p
		rule.Filters.Request = &route.Modifier{Add: []route.Value{{Name: "X-T-Add", Value: "1"}}}
		rule.Filters.Response = &route.Modifier{Add: []route.Value{{Name: "X-Once", Value: "1"}}}
		rule.Filters.Rewrite = &route.Rewrite{Change: route.PrefixPath, Path: "/new"}
		addr := start(t, v, 1).addr(t, "http")
		for range 5 {
			body := strings.Repeat("b", 20_000)
			resp, err := c.Post("http://"+addr+"/x", "text/plain", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			h := resp.Header
			if resp.StatusCode != 200 || h.Get("X-Got-Add") != "1" || len(h["X-Once"]) != 1 || !strings.HasSuffix(h.Get("X-Asked"), "/new/x") {
				t.Fatalf("%d %v", resp.StatusCode, h)
			}
			if got := <-copied; got != "1 "+body {
				t.Fatalf("copied %.40q, %d bytes", got, len(got))
			}
		}
		if n := asked.Load(); n != 15 || len(copied) > 0 {
			t.Errorf("asked %d times, want 15, and %d more copies", n, len(copied))
		}
	})
}
