package route

import (
	"strings"
	"testing"
)

type fields map[string]string

func (f fields) Field(name string) ([]byte, bool) {
	for k, v := range f {
		if strings.EqualFold(k, name) {
			return []byte(v), true
		}
	}
	return nil, false
}

func rule(name string, matches ...Match) Rule {
	return Rule{Name: name, Matches: matches, Backends: []Backend{{Destination: name, Weight: 1}}}
}

func TestMatch(t *testing.T) {
	exact := func(p string) Match { return Match{Path: Path{PathExact, p}} }
	prefix := func(p string) Match { return Match{Path: Path{PathPrefix, p}} }
	table, err := Compile(Spec{Hosts: []Host{
		{Hostnames: []string{"shop.example"}, Rules: []Rule{
			rule("all"),
			rule("short", prefix("/a")),
			rule("long", prefix("/a/b")),
			rule("exact", exact("/a/b")),
			rule("slash", prefix("/s/")),
			rule("post", Match{Path: Path{PathPrefix, "/a"}, Method: "POST"}),
			rule("beta", Match{Path: Path{PathPrefix, "/a"}, Headers: []Field{{Name: "X-Beta", Value: "1"}}}),
			rule("both", Match{Path: Path{PathPrefix, "/a"}, Headers: []Field{{Name: "X-Beta", Value: "1"}, {Name: "X-Who", Value: "me"}}}),
			rule("later", prefix("/a")),
		}},
		{Hostnames: []string{"*.example"}, Rules: []Rule{rule("wild", prefix("/w"))}},
		{Hostnames: []string{"*.deep.example"}, Rules: []Rule{rule("deep")}},
		{Hostnames: []string{"*"}, Rules: []Rule{rule("star")}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		authority, method, path string
		fields                  fields
		want                    string
	}{
		{"shop.example", "GET", "/", nil, "all"},
		{"SHOP.Example:8080", "GET", "/x", nil, "all"},
		{"shop.example.", "GET", "/x", nil, "all"},
		{"shop.example", "GET", "/a", nil, "short"},
		{"shop.example", "GET", "/ab", nil, "all"},
		{"shop.example", "GET", "/a/", nil, "short"},
		{"shop.example", "GET", "/a/b", nil, "exact"},
		{"shop.example", "GET", "/a/b/c", nil, "long"},
		{"shop.example", "GET", "/a/bc", nil, "short"},
		{"shop.example", "GET", "/s", nil, "slash"},
		{"shop.example", "GET", "/s/t", nil, "slash"},
		{"shop.example", "GET", "/st", nil, "all"},
		{"shop.example", "POST", "/a", nil, "post"},
		{"shop.example", "post", "/a", nil, "short"}, // methods are case-sensitive
		{"shop.example", "GET", "/a", fields{"x-beta": "1"}, "beta"},
		{"shop.example", "GET", "/a", fields{"x-beta": "2"}, "short"},
		{"shop.example", "GET", "/a", fields{"x-beta": "1", "x-who": "me"}, "both"},
		{"shop.example", "POST", "/a", fields{"x-beta": "1", "x-who": "me"}, "post"}, // a method outranks headers
		{"other.example", "GET", "/w", nil, "wild"},
		{"other.example", "GET", "/", nil, ""}, // the host is known: no other host's rule serves it
		{"a.b.example", "GET", "/w/x", nil, "wild"},
		{"x.deep.example", "GET", "/", nil, "deep"},
		{"example", "GET", "/", nil, "star"}, // the wildcard needs a label before it
		{"[::1]:80", "GET", "/", nil, "star"},
		{"", "GET", "/", nil, "star"},
	} {
		got := ""
		req := Request{Authority: []byte(c.authority), Method: []byte(c.method), Path: []byte(c.path)}
		if c.fields != nil {
			req.Fields = c.fields
		}
		if r, _ := table.Match(&req); r != nil {
			got = r.Name
			if table.Rules()[r.Index] != r {
				t.Errorf("rule %s: Index %d points elsewhere", r.Name, r.Index)
			}
		}
		if got != c.want {
			t.Errorf("%s %s%s %v: got rule %q, want %q", c.method, c.authority, c.path, c.fields, got, c.want)
		}
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	table, err := Compile(Spec{Hosts: []Host{{Hostnames: []string{"shop.example"}, Rules: []Rule{
		rule("h", Match{Path: Path{PathPrefix, "/a"}, Headers: []Field{{Name: "k", Value: "v"}}}), rule("all")}}}})
	if err != nil {
		t.Fatal(err)
	}
	req := &Request{Authority: []byte("Shop.Example:80"), Method: []byte("GET"), Path: []byte("/a/b")}
	if n := testing.AllocsPerRun(100, func() { table.Match(req) }); n != 0 {
		t.Errorf("%v allocations for a match, want 0", n)
	}
}
