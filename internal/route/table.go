package route

import (
	"fmt"
	"slices"
	"strings"
)

// Table is a compiled Spec. It is immutable and safe for concurrent use.
type Table struct {
	rules []*Compiled
	exact map[string]*host
	// suffixes are the hosts of wildcards, by ".example" of "*.example", and
	// lengths theirs, the longest first.
	suffixes map[string]*host
	lengths  []int
	any      *host
}

// Compile makes a Table, or says which host, rule and field make no sense.
func Compile(spec Spec) (*Table, error) {
	t := &Table{exact: make(map[string]*host), suffixes: make(map[string]*host)}
	regexes := make(regexes)
	for i, h := range spec.Hosts {
		if len(h.Hostnames) == 0 {
			return nil, fmt.Errorf("hosts[%d].hostnames: is empty, want a hostname or \"*\"", i)
		}
		compiled := make([]*Compiled, 0, len(h.Rules))
		for j, r := range h.Rules {
			c, err := compileRule(r, len(t.rules), regexes)
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
			for _, c := range compiled {
				into.add(c, regexes)
			}
		}
	}
	for _, h := range t.exact {
		h.index()
	}
	for suffix, h := range t.suffixes {
		h.index()
		t.lengths = append(t.lengths, len(suffix))
	}
	if t.any != nil {
		t.any.index()
	}
	t.lengths = descending(t.lengths)
	return t, nil
}

// descending sorts lengths, the longest first, and drops what is there twice.
func descending(lengths []int) []int {
	slices.SortFunc(lengths, func(a, b int) int { return b - a })
	return slices.Compact(lengths)
}

// host finds or makes the host of a hostname.
func (t *Table) host(name string) (*host, error) {
	lower := strings.ToLower(name)
	if lower != "*." {
		lower = strings.TrimSuffix(lower, ".")
	}
	switch {
	case lower == "":
		return nil, fmt.Errorf("a hostname is empty, want a name or \"*\"")
	case lower == "*":
		if t.any == nil {
			t.any = &host{name: lower}
		}
		return t.any, nil
	case len(lower) > maxHostname:
		return nil, fmt.Errorf("%q: has more than %d bytes", name, maxHostname)
	}
	hosts, key := t.exact, lower
	if suffix, ok := strings.CutPrefix(lower, "*"); ok && suffix[0] == '.' && len(suffix) > 1 {
		hosts, key = t.suffixes, suffix
	}
	if strings.Contains(key, "*") {
		return nil, fmt.Errorf("%q: a wildcard stands alone or before the first dot", name)
	}
	h := hosts[key]
	if h == nil {
		h = &host{name: lower}
		hosts[key] = h
	}
	return h, nil
}

// Rules returns every rule, by Index. The slice must not be changed.
func (t *Table) Rules() []*Compiled { return t.rules }

// Match returns the rule that serves a request and the place of the match that was
// met in its Matches, -1 when it has none. The rule is nil when there is none: then
// the answer is 404, never another host's rule. It doesn't allocate, but for what
// regular expressions need the first time.
func (t *Table) Match(r *Request) (rule *Compiled, match int) {
	if h := t.find(r.Authority); h != nil {
		if e := h.match(r); e != nil {
			return e.rule, e.index
		}
	}
	return nil, -1
}

// find returns the host with the most specific hostname for an authority.
func (t *Table) find(authority []byte) *host {
	if len(t.exact) == 0 && len(t.lengths) == 0 {
		return t.any
	}
	var lower [maxHostname]byte
	name, ok := hostname(lower[:0], authority)
	if !ok {
		return t.any
	}
	if h := t.exact[string(name)]; h != nil {
		return h
	}
	for _, n := range t.lengths {
		// Something has to stand before the dot.
		if at := len(name) - n; at > 0 && name[at] == '.' {
			if h := t.suffixes[string(name[at:])]; h != nil {
				return h
			}
		}
	}
	return t.any
}
