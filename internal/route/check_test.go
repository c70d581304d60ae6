package route

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"tulle.dev/tulle/internal/policy"
)

func TestCompileErrors(t *testing.T) {
	of := func(m Match) Rule { return Rule{Name: "r", Matches: []Match{m}} }
	with := func(f Filters, m ...Match) Rule { return Rule{Name: "r", Matches: m, Filters: f} }
	set := func(name, value string) *Modifier { return &Modifier{Set: []Value{{name, value}}} }
	for _, c := range []struct {
		rule Rule
		want string
	}{
		{Rule{Name: "r", Timeout: -1}, "timeout: -1ns is negative"},
		{of(Match{Path: Path{PathPrefix, "a"}}), `matches[0].path: "a" must begin with /`},
		{of(Match{Path: Path{PathExact, ""}}), `matches[0].path: "" must begin with /`},
		{of(Match{Path: Path{PathExact, "/" + strings.Repeat("a", maxPath)}}), "matches[0].path: has 1025 bytes"},
		{of(Match{Path: Path{PathGRPCMethod, ""}}), "matches[0].path: \"\" is no gRPC method"},
		{of(Match{Path: Path{PathGRPCMethod, "a/b"}}), "matches[0].path: \"a/b\" is no gRPC method"},
		{of(Match{Path: Path{9, "/a"}}), "matches[0].path: kind 9 is unknown"},
		{of(Match{Path: Path{PathRegex, ""}}), "matches[0].path: the regular expression is empty"},
		{of(Match{Path: Path{PathRegex, "/a)(b"}}), "matches[0].path: the regular expression is not RE2: unexpected )"},
		{of(Match{Path: Path{PathRegex, "/a(?=b)"}}), "matches[0].path: the regular expression is not RE2"},
		{of(Match{Path: Path{PathRegex, strings.Repeat("a", 1025)}}), "matches[0].path: the regular expression has 1025 bytes, want at most 1024"},
		{of(Match{Path: Path{PathRegex, "/[^/]{1000}[^/]{1000}[^/]{1000}"}}), "matches[0].path: the regular expression compiles to 3"},
		{of(Match{Method: "GE T"}), "matches[0].method: \"GE T\" is no token"},
		{of(Match{Headers: []Field{{}}}), "matches[0].headers[0].name: \"\" is no token"},
		{of(Match{Headers: []Field{{Name: "a"}, {Name: "b", Value: "[", Regex: true}}}), "matches[0].headers[1].value: the regular expression is not RE2: missing closing ]"},
		{of(Match{Headers: []Field{{Name: "b", Value: strings.Repeat("a", 4097)}}}), "matches[0].headers[0].value: has 4097 bytes"},
		{of(Match{Query: []Field{{}}}), "matches[0].query[0].name: is empty"},
		{of(Match{Query: []Field{{Name: "a", Value: "(", Regex: true}}}), "matches[0].query[0].value: the regular expression"},
		{with(Filters{CORS: &CORS{Origins: []string{"x"}}}), "filters.cors.origins[0]: \"x\": want"},
		{with(Filters{Redirect: &Redirect{Status: 302}, Rewrite: &Rewrite{}}), "filters.rewrite: can't be beside redirect"},
		{with(Filters{Redirect: &Redirect{}}), "filters.redirect.status: 0, want"},
		{with(Filters{Redirect: &Redirect{Status: 302, Scheme: "ftp"}}), "filters.redirect.scheme: \"ftp\", want http or https"},
		{with(Filters{Redirect: &Redirect{Status: 302, Host: "a/b"}}), "filters.redirect.host: \"a/b\" is no hostname"},
		{with(Filters{Redirect: &Redirect{Status: 302, Change: FullPath, Path: "a"}}), "filters.redirect.path: \"a\" must begin with /"},
		{with(Filters{Redirect: &Redirect{Status: 302, Change: FullPath, Path: "/a\r\nb"}}), "filters.redirect.path: \"/a\\r\\nb\" has '\\r' in it"},
		{with(Filters{Redirect: &Redirect{Status: 302, Change: FullPath, Path: "/a#b"}}), "filters.redirect.path: \"/a#b\" has '#' in it"},
		{with(Filters{Rewrite: &Rewrite{Host: "a b"}}), "filters.rewrite.host: \"a b\" is neither"},
		{with(Filters{Rewrite: &Rewrite{Host: "a:"}}), "filters.rewrite.host"},
		{with(Filters{Rewrite: &Rewrite{Change: 7}}), "filters.rewrite.path: change 7 is unknown"},
		{with(Filters{Rewrite: &Rewrite{Change: PrefixPath, Path: "/a?b"}}), "filters.rewrite.path: \"/a?b\" has a query"},
		{with(Filters{Rewrite: &Rewrite{Change: PrefixPath, Path: "/a"}}, Match{Path: Path{PathPrefix, "/"}}, Match{Path: Path{PathExact, "/x"}}), "filters.rewrite.path: replaces a prefix, but"},
		{with(Filters{Rewrite: &Rewrite{Change: FullPath, Path: "/" + strings.Repeat("a", maxPath)}}), "filters.rewrite.path: has 1025 bytes"},
		{with(Filters{Request: set("Host", "a")}), "filters.request.set[0].name: \"Host\" may not be written"},
		{with(Filters{Response: set("x-a", "a\nb")}), "filters.response.set[0].value: \"a\\nb\" is no field value"},
		{with(Filters{Request: &Modifier{Remove: []string{"x", "connection"}}}), "filters.request.remove[1]: \"connection\" may not be removed"},
		{with(Filters{Request: &Modifier{Add: make([]Value, 65)}}), "filters.request.add: has 65 fields, want at most 64"},
		{with(Filters{Mirrors: make([]Mirror, 17)}), "filters.mirrors: has 17"},
		{with(Filters{Mirrors: []Mirror{{Share: policy.All + 1}}}), "filters.mirrors[0].share: 1000001 is more than all"},
		{Rule{Name: "r", Backends: []Backend{{}, {Filters: Filters{Request: set("", "a")}}}}, "backends[1].filters.request.set[0].name"},
	} {
		want := "hosts[0].rules[0] (r): " + c.want
		_, err := Compile(Spec{Hosts: []Host{{Hostnames: []string{"*"}, Rules: []Rule{c.rule}}}})
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got error %v\nwant one that begins %s", err, want)
		}
		if err := c.rule.Check(); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("Check: got error %v\nwant one that begins %s", err, c.want)
		}
	}
	for name, want := range map[string]string{
		"": "is empty", "a.*": "wildcard", "*a": "wildcard", "*.": "wildcard", "a*.b": "wildcard", "*.*": "wildcard", ".": "is empty",
		strings.Repeat("a", 256): "more than 255 bytes",
	} {
		if _, err := Compile(Spec{Hosts: []Host{{Hostnames: []string{"ok", name}}}}); err == nil || !strings.HasPrefix(err.Error(), "hosts[0].hostnames: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("hostname %q: error %v, want one with %q", name, err, want)
		}
	}
	if _, err := Compile(Spec{Hosts: []Host{{}}}); err == nil || !strings.Contains(err.Error(), "hosts[0].hostnames: is empty") {
		t.Errorf("no hostnames: error %v", err)
	}
}

func TestGoodRules(t *testing.T) {
	prefix := []Match{{Path: Path{PathPrefix, "/a"}}, {Method: "GET"}}
	for _, r := range []Rule{
		{Matches: prefix, Filters: Filters{Redirect: &Redirect{Status: 308, Scheme: "https", Host: "Shop.example", Port: 8443, Change: PrefixPath}}},
		{Matches: prefix, Backends: []Backend{{Filters: Filters{Rewrite: &Rewrite{Host: "shop.example:8080", Change: PrefixPath, Path: "/%7Eb/"}}}}},
		{Filters: Filters{Rewrite: &Rewrite{Host: "[::1]:80", Change: PrefixPath, Path: "/"}}},
		{Filters: Filters{Rewrite: &Rewrite{Host: "[::1]", Change: FullPath, Path: "/a?b=c"}}},
		{Filters: Filters{Redirect: &Redirect{Status: 301, Change: FullPath}}},
		{Filters: Filters{Mirrors: []Mirror{{Destination: "a.b:80", Share: policy.All}, {}}}},
		{Timeout: time.Hour, Matches: []Match{{Path: Path{PathRegex, "/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"}}}},
		{Matches: []Match{{Path: Path{PathRegex, "/[^/]{1,255}"}}}},
	} {
		if err := r.Check(); err != nil {
			t.Errorf("%+v: %v", r, err)
		}
	}
}

// FuzzCompile makes a rule of odd values: it is refused, or compiled and then
// whatever it does to requests is well-formed and explained.
func FuzzCompile(f *testing.F) {
	f.Add(uint8(1), "/a", "GET", "x-a", "1", "shop.example", "https", "/b", "https://*.shop.example", "/a/b?c=d", uint64(1))
	f.Add(uint8(3), "/a|(b", "", "host", ".*", "*.example", "", "/b?c", "*", "/%zz?%=%", uint64(77))
	f.Add(uint8(2), "/a/", "", "x", "\\pL+", "*", "http", "", "http://a:80", "*", uint64(0xffff))
	f.Add(uint8(4), "Get", "", "K", "(?i)k", "[::1]", "", "/", "null", "/x/Get", uint64(12345))
	f.Fuzz(func(t *testing.T, kind uint8, path, method, name, value, hostname, scheme, to, origin, at string, bits uint64) {
		flag := func(i int) bool { return bits>>i&1 == 1 }
		m := Match{Path: Path{PathKind(kind), path}, Method: method}
		if flag(0) {
			m.Headers = []Field{{name, value, flag(1)}, {value, name, flag(2)}}
		}
		if flag(3) {
			m.Query = []Field{{value, name, flag(4)}, {name, value, flag(5)}}
		}
		r := Rule{Name: "r", Matches: []Match{m, {Path: m.Path}, {Method: method}, {}}[:1+bits>>6&3]}
		change := PathChange(bits >> 8 & 3)
		if flag(10) {
			r.Filters.Redirect = &Redirect{Scheme: scheme, Host: hostname, Port: uint16(bits >> 32), Change: change, Path: to, Status: 302}
		} else {
			r.Filters.Rewrite = &Rewrite{Host: hostname, Change: change, Path: to}
		}
		if flag(11) {
			r.Filters.CORS = &CORS{Origins: []string{origin}, Methods: []string{method}, Headers: []string{name}, Credentials: flag(12)}
		}
		if flag(13) {
			r.Filters.Request = &Modifier{Set: []Value{{name, value}}, Remove: []string{value}}
		}
		table, err := Compile(Spec{Hosts: []Host{{Hostnames: []string{hostname, "*"}, Rules: []Rule{r, rule("all")}}}})
		if err != nil {
			if !strings.HasPrefix(err.Error(), "hosts[0].") {
				t.Fatalf("the error names no field: %v", err)
			}
			return
		}
		req := target(hostname, strings.TrimPrefix(at, "*"))
		req.Method, req.Fields = []byte(method), fields{name: value}
		won, match := table.Match(req)
		if e := table.Explain(req); e.Rule != won || e.Match != match {
			t.Fatalf("explained %s, matched %s", named(e.Rule, e.Match), named(won, match))
		}
		if won == nil {
			t.Fatal("a rule without matches isn't met")
		}
		// What comes of a clean request is clean.
		if bytes.ContainsFunc([]byte(hostname+at), func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			return
		}
		var out []byte
		if r := won.Filters.Redirect; r != nil {
			out = r.AppendLocation(nil, req, "http", 8080, won.Prefix(match))
			if !bytes.HasPrefix(out, []byte("http://")) && !bytes.HasPrefix(out, []byte("https://")) {
				t.Fatalf("location %q", out)
			}
		}
		if w := won.Filters.Rewrite; w != nil && strings.HasPrefix(at, "/") {
			if out = w.AppendPath(nil, []byte(at), won.Prefix(match)); out[0] != '/' {
				t.Fatalf("path %q", out)
			}
		}
		if bytes.ContainsFunc(out, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			t.Fatalf("%q of a clean request", out)
		}
		if c := won.CrossOrigin(-1); c != nil {
			c.AppendPreflight(nil, &Preflight{Origin: []byte(origin), Method: []byte(method)})
		}
	})
}

// TestCompileManyRegexes compiles each source once.
func TestCompileManyRegexes(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	var h Host
	h.Hostnames = []string{"a", "b", "c"}
	for range 200 {
		h.Rules = append(h.Rules, rule("r", Match{Path: Path{PathRegex, fmt.Sprint("/", rng.IntN(3))}}))
	}
	table, err := Compile(Spec{Hosts: []Host{h}})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[*regex]bool{}
	for _, host := range table.exact {
		for _, e := range host.regex {
			seen[e.regex] = true
		}
	}
	if len(seen) != 3 {
		t.Errorf("%d expressions were compiled of 3 sources", len(seen))
	}
}
