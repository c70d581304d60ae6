package access

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"tulle.dev/tulle/internal/identity"
)

// Bounds of a Spec.
const (
	MaxRules = 4096
	// maxList bounds each list of a rule.
	maxList = 1024
	// maxRegex bounds a regular expression, in bytes.
	maxRegex = 1024
)

// Table is a compiled Spec. It is immutable and safe for concurrent use.
type Table struct {
	domain  identity.TrustDomain
	spec    Spec
	shadow  Action     // the default, if what is in audit were done
	sources [][]source // by rule
	deny    index
	allow   index
	enforce bool // there is a rule, or a default that denies
}

// index finds the clauses of one action by path.
type index struct {
	clauses []clause
	exact   map[string][]int32
	prefix  map[string][]int32 // without the final slash
	depth   int                // segments of the longest prefix
	rest    []int32            // clauses whose path isn't looked up
}

// clause is one way in which a rule may be met: its sources apart, one operation
// of it, and of that one path.
type clause struct {
	rule  int32
	op    *Operation // nil is everything
	regex *regexp.Regexp
	not   []notPath
	path  Path
	paths bool // it has a path at all
}

type notPath struct {
	Path
	regex *regexp.Regexp
}

// Compile makes a Table for workloads of a trust domain, or says which rule and
// field make no sense.
func Compile(spec Spec, domain identity.TrustDomain) (*Table, error) {
	if len(spec.Rules) > MaxRules {
		return nil, fmt.Errorf("rules: %d of them, want at most %d", len(spec.Rules), MaxRules)
	}
	t := &Table{domain: domain, spec: spec, shadow: spec.Default, enforce: spec.Default == Deny || len(spec.Rules) > 0}
	for i := range spec.Rules {
		r := &spec.Rules[i]
		if r.Audit && r.Action == Allow {
			t.shadow = Deny
		}
		into := &t.deny
		if r.Action == Allow {
			into = &t.allow
		}
		from, err := sources(r)
		if err == nil {
			err = into.add(int32(i), r)
		}
		if err != nil {
			return nil, fmt.Errorf("rules[%d] (%s).%w", i, r.Name, err)
		}
		t.sources = append(t.sources, from)
	}
	return t, nil
}

func (x *index) add(i int32, r *Rule) error {
	if len(r.From) > maxList || len(r.To) > maxList || len(r.When) > maxList {
		return fmt.Errorf("from, to, when: want at most %d entries", maxList)
	}
	if len(r.To) == 0 {
		x.put(clause{rule: i})
	}
	for j := range r.To {
		o := &r.To[j]
		if err := x.operation(i, o, r.Action == Deny); err != nil {
			return fmt.Errorf("to[%d].%w", j, err)
		}
	}
	return nil
}

// source is a Source with its networks read.
type source struct {
	*Source
	networks, notNetworks []netip.Prefix
}

func sources(r *Rule) ([]source, error) {
	var out []source
	for j := range r.From {
		s := source{Source: &r.From[j]}
		err := s.check()
		if err == nil {
			s.networks, err = prefixes("networks", s.Networks)
		}
		if err == nil {
			s.notNetworks, err = prefixes("notNetworks", s.NotNetworks)
		}
		if err != nil {
			return nil, fmt.Errorf("from[%d].%w", j, err)
		}
		out = append(out, s)
	}
	return out, nil
}

func prefixes(field string, list []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for i, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("%s[%d]: %q: want a network such as 10.0.0.0/8", field, i, s)
		}
		out = append(out, p)
	}
	return out, nil
}

func (s *Source) check() error {
	for _, list := range [][]string{s.Identities, s.NotIdentities} {
		for _, id := range list {
			rest, ok := strings.CutPrefix(id, "spiffe://")
			if !ok || strings.Contains(strings.TrimSuffix(rest, "*"), "*") {
				return fmt.Errorf("identities: %q: want a SPIFFE id, or its beginning and a final *", id)
			}
		}
	}
	for _, a := range append(s.ServiceAccounts[:len(s.ServiceAccounts):len(s.ServiceAccounts)], s.NotServiceAccounts...) {
		if ns, name, ok := strings.Cut(a, "/"); !ok || ns == "" || name == "" || strings.Contains(name, "/") {
			return fmt.Errorf("serviceAccounts: %q: want NAMESPACE/NAME", a)
		}
	}
	return nil
}

func (x *index) operation(rule int32, o *Operation, deny bool) error {
	c := clause{rule: rule, op: o}
	for i, p := range o.NotPaths {
		n := notPath{Path: p}
		var err error
		// What a rule excludes is read the other way round: a Deny excludes only
		// what is exactly that.
		if n.Value, n.regex, err = compilePath(p, !deny); err != nil {
			return fmt.Errorf("notPaths[%d]: %w", i, err)
		}
		c.not = append(c.not, n)
	}
	if len(o.Paths) == 0 {
		x.put(c)
		return nil
	}
	for i, p := range o.Paths {
		one := c
		one.paths = true
		var err error
		one.path.Kind = p.Kind
		if one.path.Value, one.regex, err = compilePath(p, deny); err != nil {
			return fmt.Errorf("paths[%d]: %w", i, err)
		}
		x.put(one)
	}
	return nil
}

// compilePath checks a path of a rule. folded says that it is compared without
// regard to case.
func compilePath(p Path, folded bool) (value string, regex *regexp.Regexp, err error) {
	value = p.Value
	switch p.Kind {
	case PathRegex:
		if len(value) > maxRegex {
			return "", nil, fmt.Errorf("a regular expression of %d bytes, want at most %d", len(value), maxRegex)
		}
		source := "^(?:" + value + ")$"
		if folded {
			source = "(?i)" + source
		}
		if _, err = regexp.Compile(value); err == nil {
			regex, err = regexp.Compile(source)
		}
		if err != nil {
			return "", nil, fmt.Errorf("%q: %w", value, err)
		}
		return value, regex, nil
	case PathMethod:
		if value == "" || strings.Contains(value, "/") {
			return "", nil, fmt.Errorf("%q: want a method's name without a slash", value)
		}
	case PathExact, PathPrefix:
		form, odd := normal(nil, []byte(value))
		if odd {
			return "", nil, fmt.Errorf("%q: write it in its plain form, %q", value, form)
		}
		value = string(form)
		if p.Kind == PathPrefix {
			value = strings.TrimSuffix(value, "/")
		}
	default:
		return "", nil, fmt.Errorf("kind %d is unknown", p.Kind)
	}
	if folded {
		value = strings.ToLower(value)
	}
	return value, nil, nil
}

func (x *index) put(c clause) {
	i := int32(len(x.clauses))
	x.clauses = append(x.clauses, c)
	switch {
	case c.paths && c.path.Kind == PathExact:
		if x.exact == nil {
			x.exact = map[string][]int32{}
		}
		x.exact[c.path.Value] = append(x.exact[c.path.Value], i)
	case c.paths && c.path.Kind == PathPrefix:
		if x.prefix == nil {
			x.prefix = map[string][]int32{}
		}
		x.prefix[c.path.Value] = append(x.prefix[c.path.Value], i)
		x.depth = max(x.depth, strings.Count(c.path.Value, "/"))
	default:
		x.rest = append(x.rest, i)
	}
}

// Foreign reports whether an id is of another trust domain than the table's.
// Without a domain of its own none is.
func (t *Table) Foreign(id identity.ID) bool {
	return !id.IsZero() && t.domain != "" && id.TrustDomain != t.domain
}

// Enforces reports whether the table can refuse anything or has anything in
// audit: without, nobody needs to ask it but for foreign callers.
func (t *Table) Enforces() bool { return t != nil && t.enforce }

// Rule returns the name of a rule by its place, "" for -1: the default.
func (t *Table) Rule(i int32) string {
	if i < 0 {
		return ""
	}
	return t.spec.Rules[i].Name
}

// Explains reports whether a refusal may say why to the client.
func (t *Table) Explains() bool { return t.spec.Explain }

// LooksAtServerNames reports whether the table must know what a client's TLS asks
// for.
func (t *Table) LooksAtServerNames() bool {
	if t == nil {
		return false
	}
	for i := range t.spec.Rules {
		for j := range t.spec.Rules[i].To {
			if len(t.spec.Rules[i].To[j].ServerNames) > 0 {
				return true
			}
		}
	}
	return false
}
