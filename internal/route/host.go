package route

import (
	"bytes"
	"slices"
	"strings"
)

// host is the matches of one hostname, in an order and an index that find the one
// which wins without trying all.
type host struct {
	name    string
	entries []*entry // by precedence

	exact map[string][]*entry
	regex []*entry
	// prefixes are by their value without a final slash, and lengths theirs, the
	// longest first; the empty one is in rest.
	prefixes map[string]*prefixed
	lengths  []int
	grpc     map[string][]*entry // by method
	rest     []*entry            // with any path

	// headers and params are the distinct names that matches look at, the most
	// frequent first. Header names are in lower case.
	headers, params []string
}

// prefixed is the entries of one prefix; shorter is the next one that every path
// with this prefix has too.
type prefixed struct {
	entries []*entry
	shorter *prefixed
}

// entry is a match of a rule on one host.
type entry struct {
	rule  *Compiled
	index int // of the match in the rule; -1 when it has none
	// order is its place among the host's matches as the Spec has them.
	order int

	rank           rank
	path           string // without a prefix's final slash
	regex          *regex
	method         string
	headers, query []wanted
}

// wanted is a condition on a header field or query parameter.
type wanted struct {
	place int // in the host's headers or params
	name  string
	value string
	regex *regex
}

// rank is how a kind of path stands to the others; the highest wins.
type rank uint8

const (
	rankAny rank = iota
	rankGRPCMethod
	rankPrefix
	rankRegex
	rankExact
)

// add appends a rule's matches.
func (h *host) add(c *Compiled, regexes regexes) {
	if len(c.Matches) == 0 {
		h.entries = append(h.entries, &entry{rule: c, index: -1, order: len(h.entries)})
	}
	for i := range c.Matches {
		m := &c.Matches[i]
		e := &entry{rule: c, index: i, order: len(h.entries), method: m.Method}
		switch m.Path.Kind {
		case PathExact:
			e.rank, e.path = rankExact, m.Path.Value
		case PathRegex:
			e.rank, e.path, e.regex = rankRegex, m.Path.Value, regexes[m.Path.Value]
		case PathPrefix:
			if e.path = strings.TrimSuffix(m.Path.Value, "/"); e.path != "" {
				e.rank = rankPrefix
			}
		case PathGRPCMethod:
			e.rank, e.path = rankGRPCMethod, m.Path.Value
		}
		for _, f := range m.Headers {
			name := strings.ToLower(f.Name)
			// Of several of one name the first counts.
			if !slices.ContainsFunc(e.headers, func(w wanted) bool { return w.name == name }) {
				e.headers = append(e.headers, want(name, f, regexes))
			}
		}
		for _, f := range m.Query {
			if !slices.ContainsFunc(e.query, func(w wanted) bool { return w.name == f.Name }) {
				e.query = append(e.query, want(f.Name, f, regexes))
			}
		}
		h.entries = append(h.entries, e)
	}
}

func want(name string, f Field, regexes regexes) wanted {
	w := wanted{name: name, value: f.Value}
	if f.Regex {
		w.regex = regexes[f.Value]
	}
	return w
}

// index sorts the entries and makes the index of them; nothing is added afterwards.
func (h *host) index() {
	slices.SortFunc(h.entries, compare)
	h.exact, h.prefixes, h.grpc = make(map[string][]*entry), make(map[string]*prefixed), make(map[string][]*entry)
	headers, params := make(map[string]int), make(map[string]int)
	for _, e := range h.entries {
		switch e.rank {
		case rankExact:
			h.exact[e.path] = append(h.exact[e.path], e)
		case rankRegex:
			h.regex = append(h.regex, e)
		case rankPrefix:
			p := h.prefixes[e.path]
			if p == nil {
				p = &prefixed{}
				h.prefixes[e.path] = p
				h.lengths = append(h.lengths, len(e.path))
			}
			p.entries = append(p.entries, e)
		case rankGRPCMethod:
			h.grpc[e.path] = append(h.grpc[e.path], e)
		default:
			h.rest = append(h.rest, e)
		}
		for _, w := range e.headers {
			headers[w.name]++
		}
		for _, w := range e.query {
			params[w.name]++
		}
	}
	h.lengths = descending(h.lengths)
	for value, p := range h.prefixes {
		p.shorter = h.longest([]byte(value), len(value)-1)
	}
	h.headers, h.params = byUse(headers), byUse(params)
	for _, e := range h.entries {
		for i := range e.headers {
			e.headers[i].place = slices.Index(h.headers, e.headers[i].name)
		}
		for i := range e.query {
			e.query[i].place = slices.Index(h.params, e.query[i].name)
		}
	}
}

// byUse returns names, the most frequent first.
func byUse(uses map[string]int) []string {
	names := make([]string, 0, len(uses))
	for n := range uses {
		names = append(names, n)
	}
	slices.SortFunc(names, func(a, b string) int {
		if uses[a] != uses[b] {
			return uses[b] - uses[a]
		}
		return strings.Compare(a, b)
	})
	return names
}

// compare orders matches by precedence (Gateway API v1, HTTPRouteRule and
// GRPCRouteRule; doc.go says it in words). It never says that two are equal.
func compare(a, b *entry) int {
	if a.rank != b.rank {
		return int(b.rank) - int(a.rank)
	}
	if a.rank == rankPrefix || a.rank == rankRegex {
		if x, y := len(a.path), len(b.path); x != y {
			return y - x
		}
	}
	if x, y := a.method != "", b.method != ""; x != y {
		if x {
			return -1
		}
		return 1
	}
	if x, y := len(a.headers), len(b.headers); x != y {
		return y - x
	}
	if x, y := len(a.query), len(b.query); x != y {
		return y - x
	}
	return a.order - b.order
}

// longest returns the longest prefix of at most so many bytes that a path has.
func (h *host) longest(path []byte, most int) *prefixed {
	for _, n := range h.lengths {
		if n > most || n > len(path) || n < len(path) && path[n] != '/' {
			continue
		}
		if p := h.prefixes[string(path[:n])]; p != nil {
			return p
		}
	}
	return nil
}

// match returns the entry that wins, or nil.
func (h *host) match(r *Request) *entry {
	if len(h.headers) == 0 && len(h.params) == 0 {
		return h.best(&matcher{r: r})
	}
	return h.bestOfLookups(r)
}

// bestOfLookups is apart so that only hosts that look things up pay for its stack.
//
//go:noinline
func (h *host) bestOfLookups(r *Request) *entry {
	var seen lookups
	return h.best(&matcher{r: r, seen: &seen})
}

func (h *host) best(m *matcher) *entry {
	r := m.r
	if len(h.exact) > 0 {
		if e := m.first(h.exact[string(r.Path)]); e != nil {
			return e
		}
	}
	if e := m.first(h.regex); e != nil {
		return e
	}
	if len(h.lengths) > 0 {
		for p := h.longest(r.Path, len(r.Path)); p != nil; p = p.shorter {
			if e := m.first(p.entries); e != nil {
				return e
			}
		}
	}
	if len(h.grpc) > 0 {
		if method := grpcMethod(r.Path); method != nil {
			if e := m.first(h.grpc[string(method)]); e != nil {
				return e
			}
		}
	}
	return m.first(h.rest)
}

// grpcMethod returns the second of a path's two segments, or nil when there aren't
// exactly two.
func grpcMethod(path []byte) []byte {
	if len(path) == 0 || path[0] != '/' {
		return nil
	}
	i := bytes.IndexByte(path[1:], '/')
	if i <= 0 {
		return nil
	}
	method := path[i+2:]
	if len(method) == 0 || bytes.IndexByte(method, '/') >= 0 {
		return nil
	}
	return method
}

// hasPathPrefix compares whole segments (Gateway API v1, PathMatchPathPrefix); the
// prefix is without its final slash.
func hasPathPrefix(path []byte, prefix string) bool {
	if len(path) < len(prefix) || string(path[:len(prefix)]) != prefix {
		return false
	}
	return len(path) == len(prefix) || path[len(prefix)] == '/'
}
