package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/view"
)

// told is what a program was asked, as it answers it: method, authority and
// target, then the fields that begin with x-, in order of their names.
func told(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	h := w.Header()
	h.Set("X-Asked", r.Method+" "+r.Host+r.URL.RequestURI())
	for name, values := range r.Header {
		if rest, ok := strings.CutPrefix(name, "X-T-"); ok {
			h["X-Got-"+rest] = []string{strings.Join(values, ",")}
		}
	}
	h.Add("X-Back", "1")
	h.Add("X-Back", "2")
	h.Set("Access-Control-Allow-Origin", "https://from.the.program")
	fmt.Fprint(w, "ok")
}

// filtersView is an edge with those rules.
func filtersView(app netip.AddrPort, declared view.Protocol, rules ...route.Rule) *view.View {
	v := edgeView(app)
	v.Destinations[backendKey].Protocol = declared
	for i := range rules {
		if rules[i].Backends == nil && rules[i].Filters.Redirect == nil {
			rules[i].Backends = []route.Backend{{Destination: backendKey, Weight: 1}}
		}
	}
	v.Proxy.Listeners[0].Routes.Hosts[0].Rules = rules
	return v
}

func prefix(p string) []route.Match {
	return []route.Match{{Path: route.Path{Kind: route.PathPrefix, Value: p}}}
}

// eachVersion runs a test with clients and programs of both versions.
func eachVersion(t *testing.T, f func(t *testing.T, c *http.Client, declared view.Protocol)) {
	for _, two := range []bool{false, true} {
		for _, declared := range []view.Protocol{view.HTTP, view.HTTP2} {
			t.Run(fmt.Sprintf("client two=%t/program %d", two, declared), func(t *testing.T) {
				c := client(t, two)
				c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
				f(t, c, declared)
			})
		}
	}
}

func TestFilters(t *testing.T) {
	modify := func(m route.Modifier) *route.Modifier { return &m }
	tests := []struct {
		name   string
		rule   route.Rule
		method string
		path   string
		host   string
		fields http.Header
		status int
		want   map[string]string // of the answer; "" is absent
	}{
		{
			name: "nothing", path: "/a?b=c", fields: http.Header{"X-T-A": {"1"}},
			want: map[string]string{"X-Asked": "GET shop.example/a?b=c", "X-Got-A": "1", "X-Back": "1,2"},
		},
		{
			name: "request fields",
			rule: route.Rule{Filters: route.Filters{Request: modify(route.Modifier{
				Set:    []route.Value{{Name: "x-t-set", Value: "new"}, {Name: "X-T-Absent", Value: "there"}},
				Add:    []route.Value{{Name: "x-t-add", Value: "added"}, {Name: "X-T-Other", Value: "alone"}},
				Remove: []string{"x-t-gone"},
			})}},
			fields: http.Header{"X-T-Set": {"old", "older"}, "X-T-Add": {"first"}, "X-T-Gone": {"a", "b"}, "X-T-Kept": {"k"}},
			want: map[string]string{"X-Got-Set": "new", "X-Got-Absent": "there", "X-Got-Add": "first,added", "X-Got-Other": "alone",
				"X-Got-Gone": "", "X-Got-Kept": "k"},
		},
		{
			name: "a backend's filters come after its rule's",
			rule: route.Rule{
				Filters: route.Filters{Request: modify(route.Modifier{Set: []route.Value{{Name: "x-t-a", Value: "rule"}, {Name: "x-t-b", Value: "rule"}}})},
				Backends: []route.Backend{{Destination: backendKey, Weight: 1, Filters: route.Filters{
					Request:  modify(route.Modifier{Set: []route.Value{{Name: "x-t-b", Value: "backend"}}}),
					Response: modify(route.Modifier{Remove: []string{"x-back"}}),
				}}},
			},
			want: map[string]string{"X-Got-A": "rule", "X-Got-B": "backend", "X-Back": ""},
		},
		{
			name: "response fields",
			rule: route.Rule{Filters: route.Filters{Response: modify(route.Modifier{
				Set: []route.Value{{Name: "X-Back", Value: "set"}}, Add: []route.Value{{Name: "x-more", Value: "m"}}, Remove: []string{"x-asked"},
			})}},
			want: map[string]string{"X-Back": "set", "X-More": "m", "X-Asked": ""},
		},
		{
			name: "host", rule: route.Rule{Filters: route.Filters{Rewrite: &route.Rewrite{Host: "other.example"}}}, path: "/a?b",
			want: map[string]string{"X-Asked": "GET other.example/a?b"},
		},
		{
			name: "whole path", rule: route.Rule{Filters: route.Filters{Rewrite: &route.Rewrite{Change: route.FullPath, Path: "/one"}}}, path: "/a/b?c=d",
			want: map[string]string{"X-Asked": "GET shop.example/one?c=d"},
		},
		{
			name: "prefix", path: "/old/b?c=d",
			rule: route.Rule{Matches: prefix("/old"), Filters: route.Filters{Rewrite: &route.Rewrite{Change: route.PrefixPath, Path: "/new/"}}},
			want: map[string]string{"X-Asked": "GET shop.example/new/b?c=d"},
		},
		{
			name: "prefix to nothing", path: "/old",
			rule: route.Rule{Matches: prefix("/old"), Filters: route.Filters{Rewrite: &route.Rewrite{Change: route.PrefixPath, Path: "/"}}},
			want: map[string]string{"X-Asked": "GET shop.example/"},
		},
		{
			name: "redirect", path: "/old/x?y=z", status: 301,
			rule: route.Rule{Matches: prefix("/old"), Filters: route.Filters{Redirect: &route.Redirect{
				Scheme: "https", Host: "new.example", Change: route.PrefixPath, Path: "/new", Status: 301}}},
			want: map[string]string{"Location": "https://new.example/new/x?y=z", "X-Asked": ""},
		},
		{
			name: "redirect of a POST keeps its method", method: "POST", status: 308, host: "shop.example:9000",
			rule: route.Rule{Filters: route.Filters{Redirect: &route.Redirect{Port: 8443, Status: 308}}},
			want: map[string]string{"Location": "http://shop.example:8443/"},
		},
		{
			name: "preflight", method: "OPTIONS", status: 200,
			rule:   route.Rule{Filters: route.Filters{CORS: &route.CORS{Origins: []string{"https://*.page.example"}, Methods: []string{"PUT", "GET"}, Headers: []string{"x-a"}, Credentials: true}}},
			fields: http.Header{"Origin": {"https://my.page.example"}, "Access-Control-Request-Method": {"PUT"}, "Access-Control-Request-Headers": {"x-a"}},
			want: map[string]string{"Access-Control-Allow-Origin": "https://my.page.example", "Access-Control-Allow-Methods": "PUT, GET",
				"Access-Control-Allow-Headers": "x-a", "Access-Control-Allow-Credentials": "true", "Access-Control-Max-Age": "5", "X-Asked": ""},
		},
		{
			name: "preflight of a stranger", method: "OPTIONS", status: 200,
			rule:   route.Rule{Filters: route.Filters{CORS: &route.CORS{Origins: []string{"https://page.example"}, Methods: []string{"*"}}}},
			fields: http.Header{"Origin": {"https://evil.example"}, "Access-Control-Request-Method": {"PUT"}},
			want:   map[string]string{"Access-Control-Allow-Origin": "", "Access-Control-Allow-Methods": "", "X-Asked": ""},
		},
		{
			name:   "cross-origin response",
			rule:   route.Rule{Filters: route.Filters{CORS: &route.CORS{Origins: []string{"https://page.example"}, Expose: []string{"x-asked"}}}},
			fields: http.Header{"Origin": {"https://page.example"}},
			want:   map[string]string{"Access-Control-Allow-Origin": "https://page.example", "Access-Control-Expose-Headers": "x-asked", "Vary": "origin", "X-Asked": "GET shop.example/"},
		},
		{
			name:   "the program doesn't say who may read",
			rule:   route.Rule{Filters: route.Filters{CORS: &route.CORS{Origins: []string{"https://page.example"}}}},
			fields: http.Header{"Origin": {"https://evil.example"}},
			want:   map[string]string{"Access-Control-Allow-Origin": "", "X-Asked": "GET shop.example/"},
		},
		{
			name: "a page may read why there is no answer", status: 500,
			rule: route.Rule{
				Filters:  route.Filters{CORS: &route.CORS{Origins: []string{"*"}}, Response: modify(route.Modifier{Set: []route.Value{{Name: "x-more", Value: "m"}, {Name: "content-type", Value: "x/y"}}})},
				Backends: []route.Backend{{Weight: 1}},
			},
			fields: http.Header{"Origin": {"https://page.example"}},
			want:   map[string]string{"Access-Control-Allow-Origin": "https://page.example", "X-More": "m", "Content-Type": "text/plain; charset=utf-8"},
		},
	}
	eachVersion(t, func(t *testing.T, c *http.Client, declared view.Protocol) {
		app := program(t, told)
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				addr := start(t, filtersView(app, declared, test.rule), 1).addr(t, "http")
				for range 3 { // nothing of one request is left for the next
					req, err := http.NewRequest(or(test.method, "GET"), "http://"+addr+or(test.path, "/"), nil)
					if err != nil {
						t.Fatal(err)
					}
					req.Host = or(test.host, "shop.example")
					for name, values := range test.fields {
						req.Header[name] = values
					}
					resp, err := c.Do(req)
					if err != nil {
						t.Fatal(err)
					}
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					got := make(map[string]string)
					for name := range test.want {
						got[name] = strings.Join(resp.Header.Values(name), ",")
					}
					if diff := cmp.Diff(test.want, got); diff != "" || resp.StatusCode != orInt(test.status, 200) {
						t.Fatalf("status %d; want and got:\n%s\n%v", resp.StatusCode, diff, resp.Header)
					}
				}
			})
		}
	})
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func orInt(n, otherwise int) int {
	if n == 0 {
		return otherwise
	}
	return n
}

// TestModifierOrder: fields stay where they were, and with the case they had.
func TestModifierOrder(t *testing.T) {
	rule := route.Rule{Filters: route.Filters{Request: &route.Modifier{
		Set:    []route.Value{{Name: "B", Value: "set"}, {Name: "new-One", Value: "n"}},
		Add:    []route.Value{{Name: "a", Value: "2"}},
		Remove: []string{"c"},
	}}}
	app := serve(t, headBack)
	addr := start(t, filtersView(app, view.HTTP, rule), 1).addr(t, "http")
	got := talk(t, addr, "GET / HTTP/1.1\r\nHost: x\r\nA: 1\r\nb: old\r\nC: gone\r\nB: older\r\nD: 4\r\nConnection: close, x-hop\r\nX-Hop: h\r\n\r\n")
	_, body, _ := strings.Cut(got, "\r\n\r\n")
	want := "GET / HTTP/1.1\r\nHost: x\r\nA: 1\r\nb: set\r\nD: 4\r\n"
	if !strings.HasPrefix(body, want) || !strings.Contains(body, "\r\nnew-One: n\r\na: 2\r\n") {
		t.Errorf("got %q, want %q and what was added", body, want)
	}
}

// TestFieldsOfRules: several fields of one name count as one, fields that aren't
// passed on don't count, and Host is the authority in every version.
func TestFieldsOfRules(t *testing.T) {
	match := func(name, value string) []route.Match {
		return []route.Match{{Headers: []route.Field{{Name: name, Value: value}}}}
	}
	filters := func(v string) route.Filters {
		return route.Filters{Response: &route.Modifier{Set: []route.Value{{Name: "x-rule", Value: v}}}}
	}
	rules := []route.Rule{
		{Matches: match("x-t-a", "1,2"), Filters: filters("joined")},
		{Matches: match("host", "me.example"), Filters: filters("host")},
		{Matches: match("x-real-ip", "10.0.0.1"), Filters: filters("spoofed")},
		{Matches: []route.Match{{Query: []route.Field{{Name: "q", Value: "1"}}}}, Filters: filters("query")},
		{Filters: filters("none")},
	}
	eachVersion(t, func(t *testing.T, c *http.Client, declared view.Protocol) {
		addr := start(t, filtersView(program(t, told), declared, rules...), 1).addr(t, "http")
		for _, test := range []struct {
			host, query string
			fields      http.Header
			want        string
		}{
			{"x", "", http.Header{"X-T-A": {"1", "2"}}, "joined"},
			{"x", "", http.Header{"X-T-A": {"1"}}, "none"},
			{"me.example", "", nil, "host"},
			{"x", "", http.Header{"X-Real-Ip": {"10.0.0.1"}}, "none"},
			{"x", "?p=2&q=1", nil, "query"},
		} {
			req, _ := http.NewRequest("GET", "http://"+addr+"/"+test.query, nil)
			req.Host = test.host
			for name, values := range test.fields {
				req.Header[name] = values
			}
			resp, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if got := resp.Header.Get("X-Rule"); got != test.want {
				t.Errorf("%v%s %v: rule %q, want %q", test.host, test.query, test.fields, got, test.want)
			}
		}
	})
}

// TestReasons: the proxy's own answers have the registered phrases.
func TestReasons(t *testing.T) {
	p := start(t, filtersView(serve(t, answering(hello)), view.HTTP, route.Rule{Filters: route.Filters{Redirect: &route.Redirect{Status: 308}}}), 1)
	if got := talk(t, p.addr(t, "http"), "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 308 Permanent Redirect\r\n") {
		t.Errorf("got %.60q", got)
	}
}
