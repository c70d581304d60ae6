package route

import (
	"fmt"
	"math/rand/v2"
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

func TestCompileErrors(t *testing.T) {
	for _, c := range []struct {
		spec Spec
		want string
	}{
		{Spec{Hosts: []Host{{}}}, "hosts[0].hostnames: is empty"},
		{Spec{Hosts: []Host{{Hostnames: []string{"a.*"}}}}, "wildcard"},
		{Spec{Hosts: []Host{{Hostnames: []string{""}}}}, "empty"},
		{Spec{Hosts: []Host{{Hostnames: []string{"*"}, Rules: []Rule{rule("r", Match{Path: Path{PathPrefix, "a"}})}}}}, "rules[0] (r): matches[0].path"},
		{Spec{Hosts: []Host{{Hostnames: []string{"*"}, Rules: []Rule{rule("r", Match{Headers: []Field{{}}})}}}}, "headers[0].name"},
	} {
		if _, err := Compile(c.spec); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v, want one with %q", c.spec, err, c.want)
		}
	}
}

func TestPick(t *testing.T) {
	table, err := Compile(Spec{Hosts: []Host{{Hostnames: []string{"*"}, Rules: []Rule{
		{Name: "split", Backends: []Backend{{Destination: "a", Weight: 8}, {Destination: "none"}, {Destination: "b", Weight: 2}}},
		{Name: "dry", Backends: []Backend{{Destination: "a"}}},
		{Name: "empty"},
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	var counts [3]int
	for i := range uint64(1000) {
		counts[table.Rules()[0].Pick(i)]++
	}
	if counts != [3]int{800, 0, 200} {
		t.Errorf("shares %v, want 800, 0, 200", counts)
	}
	for _, c := range table.Rules()[1:] {
		if got := c.Pick(7); got != -1 {
			t.Errorf("%s: picked %d, want -1", c.Name, got)
		}
	}
}

// naive states the precedence rules directly: of all matches of the winning
// host that a request meets, the best.
func naive(spec Spec, authority, method, path string, f fields) string {
	name := strings.ToLower(authority)
	hostnames := []string{name}
	for rest := name; ; {
		i := strings.IndexByte(rest, '.')
		if i < 0 {
			break
		}
		rest = rest[i+1:]
		hostnames = append(hostnames, "*."+rest)
	}
	hostnames = append(hostnames, "*")
	for _, candidate := range hostnames {
		found := false
		best, bestScore := "", -1
		for _, h := range spec.Hosts {
			for _, n := range h.Hostnames {
				if n != candidate {
					continue
				}
				found = true
				for _, r := range h.Rules {
					for _, m := range r.Matches {
						score := 0
						switch m.Path.Kind {
						case PathExact:
							if path != m.Path.Value {
								continue
							}
							score += 1 << 24
						case PathPrefix:
							p := strings.TrimSuffix(m.Path.Value, "/")
							if path != p && !strings.HasPrefix(path, p+"/") {
								continue
							}
							score += len(p) << 12
						}
						if m.Method != "" {
							if m.Method != method {
								continue
							}
							score += 1 << 8
						}
						met := true
						for _, want := range m.Headers {
							if v, ok := f.Field(want.Name); !ok || string(v) != want.Value {
								met = false
							}
						}
						if !met {
							continue
						}
						if score += len(m.Headers); score > bestScore {
							best, bestScore = r.Name, score
						}
					}
				}
			}
		}
		if found {
			return best
		}
	}
	return ""
}

func TestMatchAgainstNaive(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	pick := func(of ...string) string { return of[rng.IntN(len(of))] }
	path := func() string {
		return "/" + strings.Join([]string{pick("a", "b"), pick("a", "b", "")}[:1+rng.IntN(2)], "/")
	}
	for range 300 {
		var spec Spec
		for range 1 + rng.IntN(4) {
			h := Host{Hostnames: []string{pick("x.y", "*.y", "*", "*.x.y", "z")}}
			for range 1 + rng.IntN(4) {
				m := Match{Path: Path{PathKind(rng.IntN(3)), path()}, Method: pick("", "", "GET")}
				if rng.IntN(3) == 0 {
					m.Headers = []Field{{Name: "k", Value: pick("1", "2")}}
				}
				h.Rules = append(h.Rules, rule(fmt.Sprint(rng.Int()), m))
			}
			spec.Hosts = append(spec.Hosts, h)
		}
		table, err := Compile(spec)
		if err != nil {
			t.Fatal(err)
		}
		for range 30 {
			authority, method, p, f := pick("x.y", "q.y", "w.x.y", "z", "none"), pick("GET", "PUT"), path(), fields{"K": pick("1", "2")}
			got := ""
			if r, _ := table.Match(&Request{Authority: []byte(authority), Method: []byte(method), Path: []byte(p), Fields: f}); r != nil {
				got = r.Name
			}
			if want := naive(spec, authority, method, p, f); got != want {
				t.Fatalf("%s %s%s %v: got %q, want %q\n%+v", method, authority, p, f, got, want, spec)
			}
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

func BenchmarkMatch(b *testing.B) {
	table, _ := Compile(Spec{Hosts: []Host{{Hostnames: []string{"*"}, Rules: []Rule{rule("all")}}}})
	req := &Request{Authority: []byte("shop.example:80"), Method: []byte("GET"), Path: []byte("/a/b")}
	b.ReportAllocs()
	for b.Loop() {
		table.Match(req)
	}
}
