package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/view"
)

// TestForwardedByProxies: a proxy before the edge is believed as far as the
// listener says, and nobody beyond it. The test's client is at 127.0.0.1.
func TestForwardedByProxies(t *testing.T) {
	type fields = http.Header
	xff := func(v ...string) fields { return fields{"X-Forwarded-For": v} }
	for _, test := range []struct {
		name     string
		networks []string
		hops     uint32
		fields   fields
		want     string // X-Forwarded-For; -Proto; -Host
	}{
		{"nobody is believed", nil, 0, xff("203.0.113.7"), "127.0.0.1; http; shop.example"},
		{"not this one", []string{"10.0.0.0/8"}, 0, xff("203.0.113.7"), "127.0.0.1; http; shop.example"},
		{"it says nothing", []string{"127.0.0.0/8"}, 0, nil, "127.0.0.1; http; shop.example"},
		{"it says who", []string{"127.0.0.0/8"}, 0, xff("203.0.113.7"), "203.0.113.7, 127.0.0.1; http; shop.example"},
		{"what the client wrote itself is dropped", []string{"127.0.0.1/32"}, 0, xff("1.1.1.1, 203.0.113.7"), "203.0.113.7, 127.0.0.1; http; shop.example"},
		{"two that are believed", []string{"127.0.0.1/32", "10.0.0.0/8"}, 0, xff("1.1.1.1, 203.0.113.7, 10.1.2.3"), "203.0.113.7, 10.1.2.3, 127.0.0.1; http; shop.example"},
		{"in two fields", []string{"127.0.0.1/32", "10.0.0.0/8"}, 0, xff("1.1.1.1, 203.0.113.7", "10.1.2.3"), "203.0.113.7, 10.1.2.3, 127.0.0.1; http; shop.example"},
		{"all are believed", []string{"0.0.0.0/0"}, 0, xff("1.1.1.1,2.2.2.2"), "1.1.1.1, 2.2.2.2, 127.0.0.1; http; shop.example"},
		{"one hop", nil, 1, xff("1.1.1.1, 203.0.113.7"), "203.0.113.7, 127.0.0.1; http; shop.example"},
		{"two hops", nil, 2, xff("0.0.0.1, 1.1.1.1, 203.0.113.7"), "1.1.1.1, 203.0.113.7, 127.0.0.1; http; shop.example"},
		{"more hops than there are", nil, 9, xff("203.0.113.7"), "203.0.113.7, 127.0.0.1; http; shop.example"},
		{"ports and IPv6", nil, 2, xff("[2001:db8::1]:99, 203.0.113.7:1234"), "2001:db8::1, 203.0.113.7, 127.0.0.1; http; shop.example"},
		{"nonsense ends it", nil, 3, xff("1.1.1.1, unknown, 203.0.113.7"), "203.0.113.7, 127.0.0.1; http; shop.example"},
		{"nonsense at once", nil, 3, xff("1.1.1.1, ,"), "127.0.0.1; http; shop.example"},
		{"what was spoken, and for whom", nil, 1,
			fields{"X-Forwarded-For": {"203.0.113.7"}, "X-Forwarded-Proto": {"HTTPS"}, "X-Forwarded-Host": {"front.example:444"}, "X-Forwarded-Port": {"444"}, "X-Real-Ip": {"9.9.9.9"}, "Forwarded": {"for=9.9.9.9"}},
			"203.0.113.7, 127.0.0.1; https; front.example:444"},
		{"nonsense of that", nil, 1, fields{"X-Forwarded-Proto": {"gopher"}, "X-Forwarded-Host": {"a b"}}, "127.0.0.1; http; shop.example"},
		{"so many that nobody looks at them", nil, 32, xff(strings.Repeat("1.1.1.1,", 1000) + "203.0.113.7"),
			strings.Repeat("1.1.1.1, ", 31) + "203.0.113.7, 127.0.0.1; http; shop.example"},
	} {
		eachVersion(t, func(t *testing.T, c *http.Client, declared view.Protocol) {
			app := program(t, func(w http.ResponseWriter, r *http.Request) {
				h := r.Header
				fmt.Fprintf(w, "%s; %s; %s", strings.Join(h["X-Forwarded-For"], "|"), strings.Join(h["X-Forwarded-Proto"], "|"), strings.Join(h["X-Forwarded-Host"], "|"))
				if h.Get("Forwarded")+h.Get("X-Real-Ip")+h.Get("X-Forwarded-Port") != "" {
					t.Error(test.name, h)
				}
			})
			v := filtersView(app, declared, route.Rule{Name: "all"}, route.Rule{Matches: prefix("/moved"), Filters: route.Filters{Redirect: &route.Redirect{Status: 302}}})
			v.Proxy.Listeners[0].TrustedProxies, v.Proxy.Listeners[0].TrustedHops = test.networks, test.hops
			addr := start(t, v, 1).addr(t, "http")
			for range 2 {
				resp := get(t, c, addr, "/", test.fields)
				if got := body(t, resp); got != test.want {
					t.Errorf("%s:\ngot  %s\nwant %s", test.name, got, test.want)
				}
			}
			want := strings.Split(test.want, "; ")[1] + "://shop.example/moved"
			if got := get(t, c, addr, "/moved", test.fields).Header.Get("Location"); got != want {
				t.Errorf("%s: redirected to %s, want %s", test.name, got, want)
			}
		})
	}
}

// get asks for a path of shop.example.
func get(t *testing.T, c *http.Client, addr, path string, fields http.Header) *http.Response {
	t.Helper()
	req, err := http.NewRequest("GET", "http://"+addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "shop.example"
	for name, values := range fields {
		req.Header[name] = values
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func body(t *testing.T, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
