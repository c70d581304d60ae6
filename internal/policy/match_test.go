package policy

import (
	"strings"
	"testing"
)

type fieldMap map[string]string

func (f fieldMap) Field(name string) ([]byte, bool) {
	v, ok := f[strings.ToLower(name)]
	return []byte(v), ok
}

func TestAppendPath(t *testing.T) {
	for _, c := range []struct{ in, literal, resolved string }{
		{"", "", ""},
		{"/", "/", "/"},
		{"*", "*", "*"},
		{"/a/b", "/a/b", "/a/b"},
		{"/a/b?c=/d", "/a/b", "/a/b"},
		{"/a/b/", "/a/b", "/a/b"},
		{"//a///b//", "/a/b", "/a/b"},
		{"/Login", "/login", "/login"},
		{"/l%6fgin", "/login", "/login"},
		{"/l%6Fgin", "/login", "/login"},
		{"/l%256fgin", "/login", "/login"},
		{"/a%2Fb", "/a/b", "/a/b"},
		{"/a%5cb", "/a/b", "/a/b"},
		{`/a\b`, "/a/b", "/a/b"},
		{"/a;v=1/b;w", "/a/b", "/a/b"},
		{"/a%3bv=1/b", "/a/b", "/a/b"},
		{"/a/./b", "/a/./b", "/a/b"},
		{"/a/%2e/b", "/a/./b", "/a/b"},
		{"/x/../a", "/x/../a", "/a"},
		{"/x/%2E%2e/a", "/x/../a", "/a"},
		{"/x/..;p/a", "/x/../a", "/a"},
		{"/../../a", "/../../a", "/a"},
		{"/a/..", "/a/..", "/"},
		{"/a/.", "/a/.", "/a"},
		{"/a/.b/..c", "/a/.b/..c", "/a/.b/..c"},
		{"/%", "/%", "/%"},
		{"/%4", "/%4", "/%4"},
		{"/%zz", "/%zz", "/%zz"},
		{"/a%3fb", "/a?b", "/a?b"}, // an escaped "?" begins no query
	} {
		if got := string(AppendPath(nil, []byte(c.in), false)); got != c.literal {
			t.Errorf("%q: %q, want %q", c.in, got, c.literal)
		}
		if got := string(AppendPath([]byte("x"), []byte(c.in), true)); got != "x"+c.resolved {
			t.Errorf("%q resolved: %q, want %q", c.in, got, "x"+c.resolved)
		}
	}
}

func TestMatcher(t *testing.T) {
	login := Match{Paths: []Path{{Value: "/login"}}}
	api := Match{Paths: []Path{{Prefix: true, Value: "/api/"}}}
	header := Match{Headers: []Header{{Name: "X-Plan", Value: "free"}}}
	for name, c := range map[string]struct {
		match Match
		s     Subject
		want  bool
	}{
		"empty":                {Match{}, Subject{}, true},
		"exact":                {login, Subject{Path: []byte("/login")}, true},
		"with a query":         {login, Subject{Path: []byte("/login?a=b")}, true},
		"below":                {login, Subject{Path: []byte("/login/x")}, false},
		"other":                {login, Subject{Path: []byte("/logins")}, false},
		"no path":              {login, Subject{}, false},
		"asterisk":             {login, Subject{Path: []byte("*")}, false},
		"slashes":              {login, Subject{Path: []byte("//login/")}, true},
		"escaped":              {login, Subject{Path: []byte("/%6cogin")}, true},
		"capitals":             {login, Subject{Path: []byte("/LOGIN")}, true},
		"dots":                 {login, Subject{Path: []byte("/x/../login")}, true},
		"escaped dots":         {login, Subject{Path: []byte("/x/%2e%2e/login")}, true},
		"parameter":            {login, Subject{Path: []byte("/login;jsessionid=1")}, true},
		"prefix":               {api, Subject{Path: []byte("/api/items")}, true},
		"prefix itself":        {api, Subject{Path: []byte("/api")}, true},
		"prefix of a word":     {api, Subject{Path: []byte("/apis")}, false},
		"dots taken literally": {api, Subject{Path: []byte("/api/../x")}, true},
		"dots resolved":        {api, Subject{Path: []byte("/x/../api/y")}, true},
		"everything":           {Match{Paths: []Path{{Prefix: true, Value: "/"}}}, Subject{Path: []byte("/x")}, true},
		"one of two paths":     {Match{Paths: []Path{{Value: "/a"}, {Value: "/b"}}}, Subject{Path: []byte("/b")}, true},

		"method":         {Match{Methods: []string{"GET", "HEAD"}}, Subject{Method: []byte("HEAD")}, true},
		"another method": {Match{Methods: []string{"GET"}}, Subject{Method: []byte("get")}, false},

		"caller":               {Match{From: []string{"web.default"}}, Subject{Caller: "web.default"}, true},
		"another caller":       {Match{From: []string{"web.default"}}, Subject{Caller: "web.other"}, false},
		"nobody":               {Match{From: []string{"*.default"}}, Subject{}, false},
		"namespace":            {Match{From: []string{"*.default"}}, Subject{Caller: "a.web.default"}, true},
		"end of a namespace":   {Match{From: []string{"*.default"}}, Subject{Caller: "web.my-default"}, false},
		"namespace as account": {Match{From: []string{"*.default"}}, Subject{Caller: ".default"}, false},

		"header":            {header, Subject{Fields: fieldMap{"x-plan": "free"}}, true},
		"header elsewhere":  {header, Subject{Fields: fieldMap{"x-plan": "paid"}}, false},
		"header twice":      {header, Subject{Fields: fieldMap{"x-plan": "free,free"}}, true},
		"header in a list":  {header, Subject{Fields: fieldMap{"x-plan": "paid, free"}}, true},
		"header of commas":  {Match{Headers: []Header{{Name: "d", Value: "a, b"}}}, Subject{Fields: fieldMap{"d": "a, b"}}, true},
		"no header":         {header, Subject{Fields: fieldMap{}}, false},
		"no headers at all": {header, Subject{}, false},
		"present":           {Match{Headers: []Header{{Name: "x", Present: true}}}, Subject{Fields: fieldMap{"x": ""}}, true},
		"all parts": {Match{Methods: []string{"GET"}, Paths: []Path{{Value: "/a"}}, From: []string{"a.b"}},
			Subject{Method: []byte("GET"), Path: []byte("/a"), Caller: "a.b"}, true},
		"one part short": {Match{Methods: []string{"GET"}, Paths: []Path{{Value: "/a"}}, From: []string{"a.b"}},
			Subject{Method: []byte("GET"), Path: []byte("/a")}, false},
	} {
		if got := NewMatcher(c.match).Met(&c.s); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestMatcherAllocations(t *testing.T) {
	m := NewMatcher(Match{From: []string{"*.default"}, Methods: []string{"GET"}, Paths: []Path{{Value: "/login"}}})
	s := &Subject{Caller: "web.default", Method: []byte("GET"), Path: []byte("/x/%2e./Login?a=b")}
	if n := testing.AllocsPerRun(100, func() {
		if !m.Met(s) {
			t.Fatal("not met")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzAppendPath: the form is a form of itself, and keeps to its rules.
func FuzzAppendPath(f *testing.F) {
	for _, s := range []string{"/", "//a/%2e%2e/b;c", "/%252e/", `\..\a`, "/a/.", "*"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, path []byte) {
		before := string(path)
		got := AppendPath(nil, path, true)
		if string(path) != before {
			t.Fatal("the path was changed")
		}
		if s := string(got); strings.Contains(s, "//") || strings.ContainsAny(s, `\;`) || strings.Contains(s+"/", "/../") || strings.Contains(s+"/", "/./") {
			t.Errorf("%q became %q", path, got)
		}
	})
}
