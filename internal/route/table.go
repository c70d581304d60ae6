package route

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// Table is a compiled Spec. It is immutable and safe for concurrent use.
type Table struct {
	rules    []*Compiled
	exact    map[string]*host
	suffixes []suffix // longest first
	any      *host
}

// host holds the matches of one hostname, the one that wins first.
type host struct {
	entries []entry
}

type suffix struct {
	value string // ".example" of "*.example"
	host  *host
}

type entry struct {
	match Match
	rule  *Compiled
	index int // of the match in the rule; -1 when it has none
}

// Compiled is one rule of a Table.
type Compiled struct {
	Rule
	// Index is the rule's place in Table.Rules, so that a caller can keep what
	// belongs to it (resolved backends, metrics) in a slice beside the table.
	Index int

	total uint64
	// origins are the rule's CORS, and then each backend's; nil when none has any.
	origins []*CrossOrigin
}

// Prefix is the path prefix of one of the rule's matches, for AppendLocation and
// AppendPath. match is as Table.Match says; other matches than of a prefix, and a
// rule without matches, have "/".
func (c *Compiled) Prefix(match int) string {
	if match >= 0 && match < len(c.Matches) && c.Matches[match].Path.Kind == PathPrefix {
		return c.Matches[match].Path.Value
	}
	return "/"
}

// CrossOrigin is the CORS of a backend of the rule, by its place in Backends, or
// the rule's own when that has none or backend is -1; nil when neither has any.
func (c *Compiled) CrossOrigin(backend int) *CrossOrigin {
	if c.origins == nil {
		return nil
	}
	if o := c.origins[1+backend]; o != nil {
		return o
	}
	return c.origins[0]
}

// Request is what a rule is matched against. Its bytes are only read.
type Request struct {
	// Authority is the Host or :authority value, with or without a port.
	Authority []byte
	// Path is the request target's path without the query; empty for the
	// authority and asterisk forms.
	Path []byte
	// Query is what follows the path's question mark; nil when there is none.
	Query  []byte
	Method []byte
	// Fields looks header fields up; nil means there are none.
	Fields Fields
}

// Fields looks up a header field by name, in any case. Several fields of one
// name count as one whose values are joined by commas (RFC 9110, 5.3).
type Fields interface {
	Field(name string) (value []byte, ok bool)
}

// Compile makes a Table, or says which host, rule and match make no sense.
func Compile(spec Spec) (*Table, error) {
	t := &Table{exact: make(map[string]*host)}
	for i, h := range spec.Hosts {
		if len(h.Hostnames) == 0 {
			return nil, fmt.Errorf("hosts[%d].hostnames: is empty, want a hostname or \"*\"", i)
		}
		compiled := make([]*Compiled, 0, len(h.Rules))
		for j, r := range h.Rules {
			c, err := compileRule(r, len(t.rules))
			if err != nil {
				return nil, fmt.Errorf("hosts[%d].rules[%d] (%s): %w", i, j, r.Name, err)
			}
			t.rules = append(t.rules, c)
			compiled = append(compiled, c)
		}
		for _, name := range h.Hostnames {
			into, err := t.host(name)
			if err != nil {
				return nil, fmt.Errorf("hosts[%d].hostnames: %w", i, err)
			}
			into.add(compiled)
		}
	}
	for _, h := range t.hosts() {
		slices.SortStableFunc(h.entries, func(a, b entry) int { return compare(a.match, b.match) })
	}
	slices.SortFunc(t.suffixes, func(a, b suffix) int { return len(b.value) - len(a.value) })
	return t, nil
}

func compileRule(r Rule, index int) (*Compiled, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	c := &Compiled{Rule: r, Index: index}
	for i := -1; i < len(r.Backends); i++ {
		cors := r.Filters.CORS
		if i >= 0 {
			c.total += uint64(r.Backends[i].Weight)
			cors = r.Backends[i].Filters.CORS
		}
		if cors == nil {
			continue
		}
		if c.origins == nil {
			c.origins = make([]*CrossOrigin, 1+len(r.Backends))
		}
		var err error
		if c.origins[1+i], err = cors.Compile(); err != nil {
			return nil, err // Check has seen it
		}
	}
	return c, nil
}

// host finds or makes the entry of one hostname.
func (t *Table) host(name string) (*host, error) {
	name = strings.ToLower(name)
	switch {
	case name == "":
		return nil, fmt.Errorf("a hostname is empty, want a name or \"*\"")
	case name == "*":
		if t.any == nil {
			t.any = &host{}
		}
		return t.any, nil
	case strings.HasPrefix(name, "*."):
		value := name[1:]
		for _, s := range t.suffixes {
			if s.value == value {
				return s.host, nil
			}
		}
		h := &host{}
		t.suffixes = append(t.suffixes, suffix{value: value, host: h})
		return h, nil
	case strings.Contains(name, "*"):
		return nil, fmt.Errorf("%q: a wildcard stands alone or before the first dot", name)
	}
	h := t.exact[name]
	if h == nil {
		h = &host{}
		t.exact[name] = h
	}
	return h, nil
}

func (t *Table) hosts() []*host {
	var all []*host
	for _, h := range t.exact {
		all = append(all, h)
	}
	for _, s := range t.suffixes {
		all = append(all, s.host)
	}
	if t.any != nil {
		all = append(all, t.any)
	}
	return all
}

func (h *host) add(rules []*Compiled) {
	for _, c := range rules {
		if len(c.Matches) == 0 {
			h.entries = append(h.entries, entry{rule: c, index: -1})
		}
		for i, m := range c.Matches {
			h.entries = append(h.entries, entry{match: m, rule: c, index: i})
		}
	}
}

// compare orders matches by precedence (Gateway API v1, HTTPRouteRule):
// an exact path, the longest prefix, a method, the most headers. What is
// equal keeps the order of the Spec.
func compare(a, b Match) int {
	if x, y := a.Path.Kind == PathExact, b.Path.Kind == PathExact; x != y {
		return first(x)
	}
	if x, y := prefixLen(a), prefixLen(b); x != y {
		return y - x
	}
	if x, y := a.Method != "", b.Method != ""; x != y {
		return first(x)
	}
	return len(b.Headers) - len(a.Headers)
}

func first(x bool) int {
	if x {
		return -1
	}
	return 1
}

func prefixLen(m Match) int {
	if m.Path.Kind != PathPrefix {
		return 0
	}
	return len(strings.TrimSuffix(m.Path.Value, "/"))
}

// Rules returns every rule, by Index. The slice must not be changed.
func (t *Table) Rules() []*Compiled { return t.rules }

// Match returns the rule that serves a request and the place of the match that was
// met in its Matches, -1 when it has none. The rule is nil when there is none: then
// the answer is 404, never another host's rule. It doesn't allocate.
func (t *Table) Match(r *Request) (rule *Compiled, match int) {
	if len(t.exact) > 0 || len(t.suffixes) > 0 {
		var lower [maxHostname]byte
		if name, ok := hostname(lower[:0], r.Authority); ok {
			if h := t.exact[string(name)]; h != nil {
				return h.match(r)
			}
			for i := range t.suffixes {
				s := &t.suffixes[i]
				if len(name) > len(s.value) && string(name[len(name)-len(s.value):]) == s.value {
					return s.host.match(r)
				}
			}
		}
	}
	if t.any != nil {
		return t.any.match(r)
	}
	return nil, -1
}

// maxHostname is the longest DNS name (RFC 1035, 2.3.4).
const maxHostname = 255

// hostname appends an authority's host in lower case, without the port and
// the final dot. It reports false for a name longer than maxHostname.
func hostname(dst, authority []byte) ([]byte, bool) {
	host := authority
	if len(host) > 0 && host[0] == '[' {
		if i := bytes.IndexByte(host, ']'); i > 0 {
			host = host[1:i]
		}
	} else if i := bytes.LastIndexByte(host, ':'); i >= 0 {
		host = host[:i]
	}
	if n := len(host); n > 0 && host[n-1] == '.' {
		host = host[:n-1]
	}
	if len(host) > maxHostname {
		return nil, false
	}
	for _, c := range host {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst, true
}

func (h *host) match(r *Request) (*Compiled, int) {
	for i := range h.entries {
		if e := &h.entries[i]; e.match.meets(r) {
			return e.rule, e.index
		}
	}
	return nil, -1
}

func (m *Match) meets(r *Request) bool {
	switch m.Path.Kind {
	case PathExact:
		if string(r.Path) != m.Path.Value {
			return false
		}
	case PathPrefix:
		if !hasPathPrefix(r.Path, m.Path.Value) {
			return false
		}
	}
	if m.Method != "" && string(r.Method) != m.Method {
		return false
	}
	for i := range m.Headers {
		if r.Fields == nil {
			return false
		}
		if v, ok := r.Fields.Field(m.Headers[i].Name); !ok || string(v) != m.Headers[i].Value {
			return false
		}
	}
	return true
}

// hasPathPrefix compares whole segments; a final slash of the prefix counts
// for nothing (Gateway API v1, PathMatchPathPrefix).
func hasPathPrefix(path []byte, prefix string) bool {
	prefix = strings.TrimSuffix(prefix, "/")
	if len(path) < len(prefix) || string(path[:len(prefix)]) != prefix {
		return false
	}
	return len(path) == len(prefix) || path[len(prefix)] == '/'
}

// Pick chooses a backend by weight. random is uniform over all uint64 values.
// It returns the backend's place in Backends, or -1 when no backend has weight.
func (c *Compiled) Pick(random uint64) int {
	if len(c.Backends) == 1 && c.total > 0 {
		return 0
	}
	if c.total == 0 {
		return -1
	}
	at := random % c.total
	for i := range c.Backends {
		w := uint64(c.Backends[i].Weight)
		if at < w {
			return i
		}
		at -= w
	}
	return -1
}
