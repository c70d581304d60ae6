package route

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// naive states the precedence directly: of all matches of the winning host that a
// request meets, the best by the rules of doc.go, compared one by one.
func naive(spec Spec, authority, method, path, query string, f fields) string {
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
		found, best := false, ""
		var bestScore []int
		for _, h := range spec.Hosts {
			for _, n := range h.Hostnames {
				if n != candidate {
					continue
				}
				found = true
				for _, r := range h.Rules {
					matches := r.Matches
					if len(matches) == 0 {
						matches = []Match{{}}
					}
					for i, m := range matches {
						score, ok := naiveScore(m, authority, method, path, query, f)
						if ok && slices.Compare(score, bestScore) > 0 {
							best, bestScore = r.Name, score
							if len(r.Matches) > 0 {
								best += fmt.Sprint(" ", i)
							}
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

func naiveScore(m Match, authority, method, path, query string, f fields) (score []int, ok bool) {
	rank, length := 0, 0
	switch m.Path.Kind {
	case PathExact:
		if path != m.Path.Value {
			return nil, false
		}
		rank = 4
	case PathRegex:
		if !wholly(m.Path.Value, path) {
			return nil, false
		}
		rank, length = 3, len(m.Path.Value)
	case PathPrefix:
		p := strings.TrimSuffix(m.Path.Value, "/")
		if path != p && !strings.HasPrefix(path, p+"/") {
			return nil, false
		}
		if length = len(p); length > 0 {
			rank = 2
		}
	case PathGRPCMethod:
		parts := strings.Split(path, "/")
		if len(parts) != 3 || parts[0] != "" || parts[1] == "" || parts[2] != m.Path.Value {
			return nil, false
		}
		rank = 1
	}
	if m.Method != "" && m.Method != method {
		return nil, false
	}
	seen := map[string]bool{}
	for _, want := range m.Headers {
		name := strings.ToLower(want.Name)
		if seen["h"+name] {
			continue
		}
		seen["h"+name] = true
		v, ok := f.Field(name)
		if name == "host" {
			v, ok = []byte(authority), authority != ""
		}
		if !ok || !want.Regex && string(v) != want.Value || want.Regex && !wholly(want.Value, string(v)) {
			return nil, false
		}
	}
	headers := len(seen)
	for _, want := range m.Query {
		if seen["q"+want.Name] {
			continue
		}
		seen["q"+want.Name] = true
		met := false
		for _, pair := range strings.Split(query, "&") {
			name, value, _ := strings.Cut(pair, "=")
			if unescaped(name) == want.Name {
				value = unescaped(value)
				met = !want.Regex && value == want.Value || want.Regex && wholly(want.Value, value)
				break
			}
		}
		if !met {
			return nil, false
		}
	}
	hasMethod := 0
	if m.Method != "" {
		hasMethod = 1
	}
	return []int{rank, length, hasMethod, headers, len(seen) - headers}, true
}

func unescaped(s string) string {
	s, err := url.PathUnescape(s)
	if err != nil {
		panic(err)
	}
	return s
}

func wholly(expression, s string) bool {
	return regexp.MustCompile("^(?:" + expression + ")$").MatchString(s)
}

// random makes specs and requests of so few words that they meet.
type random struct{ *rand.Rand }

func (r random) pick(of ...string) string { return of[r.IntN(len(of))] }

func (r random) path() string {
	p := ""
	for range 1 + r.IntN(3) {
		p += "/" + r.pick("a", "b", "a", "ab", "")
	}
	return p
}

func (r random) match() Match {
	var m Match
	switch m.Path.Kind = PathKind(r.IntN(5)); m.Path.Kind {
	case PathExact, PathPrefix:
		m.Path.Value = r.path()
	case PathRegex:
		m.Path.Value = r.pick("/a.*", "/[ab]/.*", "/a|/b", "/.*", "(/a)+", "/a/b", "(?i)/A.*")
	case PathGRPCMethod:
		m.Path.Value = r.pick("a", "b")
	}
	m.Method = r.pick("", "", "GET")
	for range r.IntN(3) {
		m.Headers = append(m.Headers, Field{Name: r.pick("k", "K", "l", "Host"), Value: r.pick("1", "2", "x.y"), Regex: r.IntN(4) == 0})
	}
	for range r.IntN(3) {
		m.Query = append(m.Query, Field{Name: r.pick("p", "q", "P"), Value: r.pick("1", "2", "a b"), Regex: r.IntN(4) == 0})
	}
	return m
}

func (r random) spec() Spec {
	var spec Spec
	for range 1 + r.IntN(4) {
		h := Host{Hostnames: []string{r.pick("x.y", "*.y", "*", "*.x.y", "z")}}
		for range r.IntN(8) {
			rule := Rule{Name: fmt.Sprint("r", r.IntN(1<<30))}
			for range r.IntN(4) {
				rule.Matches = append(rule.Matches, r.match())
			}
			h.Rules = append(h.Rules, rule)
		}
		spec.Hosts = append(spec.Hosts, h)
	}
	return spec
}

func TestMatchAgainstNaive(t *testing.T) {
	rng := random{rand.New(rand.NewPCG(1, 2))}
	reached := map[string]int{}
	for range 2000 {
		spec := rng.spec()
		table, err := Compile(spec)
		if err != nil {
			t.Fatal(err)
		}
		for range 30 {
			authority, method, path, f := rng.pick("x.y", "q.y", "w.x.y", "z", "none"), rng.pick("GET", "PUT"), rng.path(), fields{}
			for range rng.IntN(3) {
				f[rng.pick("K", "l")] = rng.pick("1", "2")
			}
			query := ""
			for range rng.IntN(4) {
				query += rng.pick("p", "q", "%70", "%50") + rng.pick("=1", "=2", "=%31", "=a%20b", "=a+b", "", "=") + rng.pick("&", "&&")
			}
			req := &Request{Authority: []byte(authority), Method: []byte(method), Path: []byte(path), Query: []byte(query), Fields: f}
			r, match := table.Match(req)
			got := named(r, match)
			if want := naive(spec, authority, method, path, query, f); got != want {
				t.Fatalf("%s %s%s?%s %v: got %q, want %q\n%+v", method, authority, path, query, f, got, want, spec)
			}
			explained(t, table, req, r, match)
			switch {
			case r == nil:
				reached["none"]++
			case match < 0:
				reached["rule without matches"]++
			default:
				m := r.Matches[match]
				reached[fmt.Sprint("path ", m.Path.Kind)]++
				if len(m.Headers) > 0 {
					reached["headers"]++
				}
				if len(m.Query) > 0 {
					reached["query"]++
				}
			}
		}
	}
	t.Log(reached)
	for _, what := range []string{"none", "rule without matches", "path 0", "path 1", "path 2", "path 3", "path 4", "headers", "query"} {
		if reached[what] < 100 {
			t.Errorf("%s: won %d times: the requests are too much alike", what, reached[what])
		}
	}
}

func named(r *Compiled, match int) string {
	switch {
	case r == nil:
		return ""
	case match < 0:
		return r.Name
	}
	return fmt.Sprint(r.Name, " ", match)
}

// explained checks that an explanation says what Match did, and that each clause it
// names is one that isn't met.
func explained(t *testing.T, table *Table, req *Request, r *Compiled, match int) {
	t.Helper()
	e := table.Explain(req)
	if e.Rule != r || e.Match != match {
		t.Fatalf("%s%s: explained %q, matched %q", req.Authority, req.Path, named(e.Rule, e.Match), named(r, match))
	}
	if (e.Host == "") != (table.find(req.Authority) == nil) {
		t.Fatalf("%s: host %q", req.Authority, e.Host)
	}
	for i, c := range e.Candidates {
		last := i == len(e.Candidates)-1
		if c.Failed == ClauseMet != (last && r != nil) {
			t.Fatalf("%s: candidate %d of %d failed by %s", req.Path, i, len(e.Candidates), c.Failed)
		}
		var m Match
		if c.Match >= 0 {
			m = c.Rule.Matches[c.Match]
		}
		// With that clause alone, the request must not be met either.
		switch c.Failed {
		case ClausePath:
			m = Match{Path: m.Path}
		case ClauseMethod:
			m = Match{Method: m.Method}
		case ClauseHeader:
			m = Match{Headers: only(m.Headers, c.Name, strings.EqualFold)}
		case ClauseQuery:
			m = Match{Query: only(m.Query, c.Name, func(a, b string) bool { return a == b })}
		}
		_, met := naiveScore(m, string(req.Authority), string(req.Method), string(req.Path), string(req.Query), req.Fields.(fields))
		if met != (c.Failed == ClauseMet) {
			t.Fatalf("%s %s%s?%s %v: %+v failed by %s %q, which is met", req.Method, req.Authority, req.Path, req.Query, req.Fields, m, c.Failed, c.Name)
		}
	}
}

func only(all []Field, name string, same func(a, b string) bool) []Field {
	return slices.DeleteFunc(slices.Clone(all), func(f Field) bool { return !same(f.Name, name) })
}
