package route

import (
	"slices"
	"strings"
	"testing"
)

// TestPrecedence lists matches that one request meets, the one that wins first. Each
// must win over all that follow, wherever the Spec has it.
func TestPrecedence(t *testing.T) {
	header := func(names ...string) (all []Field) {
		for _, n := range names {
			all = append(all, Field{Name: n, Value: "1"})
		}
		return all
	}
	var (
		exact  = Path{PathExact, "/a/b"}
		long   = Path{PathPrefix, "/a/b"}
		short  = Path{PathPrefix, "/a/"}
		root   = Path{PathPrefix, "/"}
		regex  = Path{PathRegex, "/a/.*"}
		longer = Path{PathRegex, "/a/[a-z]*"}
		call   = Path{PathGRPCMethod, "b"}
	)
	for _, c := range []struct {
		name    string
		matches []Match
	}{
		{"the kinds of paths (HTTPRoute)", []Match{{Path: exact}, {Path: longer}, {Path: regex}, {Path: long}, {Path: short}, {Path: root}}},
		{"service and method, service, method (GRPCRoute)", []Match{{Path: exact}, {Path: short}, {Path: call}, {Path: root}}},
		{"a path before a method before headers before parameters", []Match{
			{Path: exact},
			{Path: long, Method: "GET"},
			{Path: long, Headers: header("k", "l")},
			{Path: short, Method: "GET", Headers: header("k", "l")},
			{Path: short, Method: "GET", Headers: header("k"), Query: header("p", "q")},
			{Path: short, Method: "GET", Query: header("p", "q")},
			{Path: short, Method: "GET", Query: header("p")},
			{Path: short, Method: "GET"},
			{Path: short, Headers: header("k", "l")},
			{Path: short, Headers: header("k"), Query: header("p")},
			{Path: short, Headers: header("k")},
			{Path: short, Query: header("p", "q")},
			{Path: short, Query: header("p")},
			{Path: short},
			{Method: "GET"},
			{Headers: header("k", "l")},
			{Query: header("p", "q")},
			{},
		}},
		{"one name counts once", []Match{
			{Headers: header("k", "l")},
			{Headers: header("k", "K", "k")},
			{Query: header("p", "q")},
			{Query: header("p", "p", "p")},
		}},
		{"a GRPCRoute's headers", []Match{
			{Path: exact, Headers: header("k")},
			{Path: exact},
			{Path: short, Headers: header("k", "l")},
			{Path: short},
			{Path: call, Headers: header("k")},
			{Path: call},
			{Headers: header("k", "l")},
		}},
	} {
		for i := range c.matches {
			for _, after := range []bool{false, true} {
				// The others in both orders, before or after it.
				rest := slices.Clone(c.matches[i+1:])
				if after {
					slices.Reverse(rest)
				}
				var rules []Rule
				for _, m := range rest {
					rules = append(rules, rule("other", m))
				}
				rules = slices.Insert(rules, map[bool]int{true: len(rules)}[after], rule("best", c.matches[i]))
				table, err := Compile(Spec{Hosts: []Host{{Hostnames: []string{"*"}, Rules: rules}}})
				if err != nil {
					t.Fatal(err)
				}
				req := target("x", "/a/b?p=1&q=1")
				req.Fields = fields{"k": "1", "l": "1"}
				if r, _ := table.Match(req); r == nil || r.Name != "best" {
					t.Errorf("%s: %+v doesn't win over those after it", c.name, c.matches[i])
				}
			}
		}
	}
}

func TestEqualMatchesKeepTheirOrder(t *testing.T) {
	var h Host
	h.Hostnames = []string{"*"}
	for _, name := range []string{"first", "second", "third"} {
		h.Rules = append(h.Rules, rule(name, Match{Path: Path{PathPrefix, "/b"}}, Match{Path: Path{PathRegex, "/[a]"}}))
	}
	table, err := Compile(Spec{Hosts: []Host{h, {Hostnames: []string{"*"}, Rules: []Rule{rule("fourth", Match{Path: Path{PathPrefix, "/b/"}}, Match{Path: Path{PathRegex, "/[c]"}})}}}})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/a": "first 1", "/b/c": "first 0", "/c": "fourth 1"} {
		if got := named(table.Match(target("x", path))); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

func TestPaths(t *testing.T) {
	for _, c := range []struct {
		path    Path
		yes, no string // parted by spaces
	}{
		{Path{PathExact, "/abc"}, "/abc", "/abc/ /Abc /abcd /ab /"},
		{Path{PathPrefix, "/abc"}, "/abc /abc/ /abc/def /abc//", "/abcd /ABC /ab /"},
		{Path{PathPrefix, "/abc/"}, "/abc /abc/ /abc/def", "/abcd"},
		{Path{PathPrefix, "/a//"}, "/a/ /a// /a//b", "/a /a/b"},
		{Path{PathRegex, "/a|/b"}, "/a /b", "/ab /a/b /a/ x/a"},
		{Path{PathRegex, "/v[0-9]+/.*"}, "/v1/ /v12/a/b", "/v1 /v/a x/v1/"},
		{Path{PathRegex, "/(?i)ABC"}, "/abc /aBc", "/abcd"},
		{Path{PathRegex, "^/a$"}, "/a", "/a/ /b/a"},
		{Path{PathRegex, "/[^/]+/([a-z]+\\.)+Cart/Get.*"}, "/x/shop.Cart/GetItem", "/x/Cart/GetItem"},
		{Path{PathGRPCMethod, "Get"}, "/shop.Cart/Get /x/Get", "/Get /a/b/Get /shop.Cart/get /shop.Cart/Get/ //Get shop/Get"},
	} {
		table, err := Compile(Spec{Hosts: []Host{{Hostnames: []string{"*"}, Rules: []Rule{rule("r", Match{Path: c.path})}}}})
		if err != nil {
			t.Errorf("%v: %v", c.path, err)
			continue
		}
		for want, paths := range map[bool]string{true: c.yes, false: c.no} {
			for _, p := range strings.Fields(paths) {
				if r, _ := table.Match(&Request{Path: []byte(p)}); (r != nil) != want {
					t.Errorf("%v and %s: met is %v", c.path, p, !want)
				}
			}
		}
	}
}

func TestQuery(t *testing.T) {
	for _, c := range []struct {
		field   Field
		yes, no string
	}{
		{Field{Name: "a", Value: "1"}, "a=1 b=2&a=1 a=%31 %61=1 a=1&a=2 &&a=1 a=1&", "a=2 A=1 a= a b=1 a=11 a=2&a=1 a=1=1 ?a=1 a=1;b"},
		{Field{Name: "a", Value: ""}, "a a= b&a a=&a=1", "a=1 b a=1&a"},
		{Field{Name: "a b", Value: "c&d=e"}, "a%20b=c%26d=e a%20b=c%26d%3de", "a+b=c%26d=e a%20b=c&d=e"},
		{Field{Name: "a", Value: "b+c"}, "a=b+c a=b%2Bc a=b%2bc", "a=b%20c"},
		{Field{Name: "a", Value: "5%"}, "a=5% a=5%25", "a=5%2 a=5"},
		{Field{Name: "a", Value: "%zz"}, "a=%zz a=%25zz", "a=zz"},
		{Field{Name: "a", Value: "[0-9]+ x", Regex: true}, "a=12%20x a=%31%20x", "a=12+x a=y12%20x a=12%20xy a"},
		{Field{Name: "ключ", Value: "é"}, "%D0%BA%D0%BB%D1%8E%D1%87=%C3%A9 ключ=é", "ключ=e"},
	} {
		table, err := Compile(Spec{Hosts: []Host{{Hostnames: []string{"*"}, Rules: []Rule{rule("r", Match{Query: []Field{c.field}})}}}})
		if err != nil {
			t.Errorf("%v: %v", c.field, err)
			continue
		}
		for want, queries := range map[bool]string{true: c.yes, false: c.no} {
			for _, q := range strings.Fields(queries) {
				if r, _ := table.Match(&Request{Path: []byte("/"), Query: []byte(q)}); (r != nil) != want {
					t.Errorf("%v and %s: met is %v", c.field, q, !want)
				}
			}
		}
	}
	table, err := Compile(Spec{Hosts: []Host{{Hostnames: []string{"*"}, Rules: []Rule{rule("r", Match{Query: []Field{{Name: "a", Value: ".*", Regex: true}}})}}}})
	if err != nil {
		t.Fatal(err)
	}
	if r, _ := table.Match(&Request{Path: []byte("/")}); r != nil {
		t.Error("a parameter is found where there is no query")
	}
}

func TestHeaders(t *testing.T) {
	for _, c := range []struct {
		field Field
		value string
		want  bool
	}{
		{Field{Name: "X-A", Value: "1"}, "1", true},
		{Field{Name: "X-A", Value: "1"}, "1,2", false},
		{Field{Name: "X-A", Value: "a"}, "A", false},
		{Field{Name: "X-A", Value: "[0-9]", Regex: true}, "7", true},
		{Field{Name: "X-A", Value: "[0-9]", Regex: true}, "77", false},
		{Field{Name: "X-A", Value: "[0-9]|", Regex: true}, "", true},
		{Field{Name: "Host", Value: "shop.example:80"}, "", true},
		{Field{Name: "host", Value: "shop.example"}, "", false},
		{Field{Name: "host", Value: "shop\\.example(:[0-9]+)?", Regex: true}, "", true},
	} {
		table, err := Compile(Spec{Hosts: []Host{{Hostnames: []string{"*"}, Rules: []Rule{rule("r", Match{Headers: []Field{c.field}})}}}})
		if err != nil {
			t.Errorf("%v: %v", c.field, err)
			continue
		}
		req := target("shop.example:80", "/")
		req.Fields = fields{"x-a": c.value}
		if r, _ := table.Match(req); (r != nil) != c.want {
			t.Errorf("%v and %q: met is %v", c.field, c.value, !c.want)
		}
		req.Fields = fields{}
		if r, _ := table.Match(req); r != nil && !strings.EqualFold(c.field.Name, "host") {
			t.Errorf("%v: met without the field", c.field)
		}
	}
}

// counted counts what is looked up.
type counted struct {
	fields
	asked map[string]int
}

func (c counted) Field(name string) ([]byte, bool) {
	c.asked[name]++
	return c.fields.Field(name)
}

func TestFieldsAreLookedUpOnce(t *testing.T) {
	var h Host
	h.Hostnames = []string{"*"}
	for i := range 40 {
		h.Rules = append(h.Rules, rule("r", Match{Headers: []Field{{Name: "X-A", Value: strings.Repeat("a", i)}, {Name: "x-b", Value: "1"}}}))
		h.Rules = append(h.Rules, rule("r", Match{Path: Path{PathPrefix, "/a"}, Headers: []Field{{Name: "x-a", Value: "z"}}}))
	}
	table, err := Compile(Spec{Hosts: []Host{h}})
	if err != nil {
		t.Fatal(err)
	}
	c := counted{fields{"x-a": "none"}, map[string]int{}}
	table.Match(&Request{Path: []byte("/a"), Fields: c})
	if c.asked["x-a"] != 1 || c.asked["x-b"] > 1 || len(c.asked) > 2 {
		t.Errorf("looked up %v, want each once", c.asked)
	}
}

// TestManyNames has more distinct names than are remembered.
func TestManyNames(t *testing.T) {
	var h Host
	h.Hostnames = []string{"*"}
	for i := range 3 * cached {
		name := strings.Repeat("n", i+1)
		h.Rules = append(h.Rules, rule(name, Match{Headers: []Field{{Name: name, Value: "1"}}, Query: []Field{{Name: name, Value: "1"}}}))
	}
	table, err := Compile(Spec{Hosts: []Host{h}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 * cached {
		name := strings.Repeat("n", i+1)
		r, _ := table.Match(&Request{Fields: fields{name: "1"}, Query: []byte("x=1&" + name + "=1")})
		if r == nil || r.Name != name {
			t.Errorf("%d letters: got %s", i+1, named(r, 0))
		}
	}
}
