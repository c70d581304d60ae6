package graph

import (
	"slices"
	"strings"

	"tulle.dev/tulle/internal/access"
	"tulle.dev/tulle/internal/route"
)

// exclude takes out of an Allow's operation what other rules take first, so that
// it opens nothing that those are about. It returns what can't be taken out.
func exclude(o *access.Operation, m *route.Match, others []routeRule) (lost []string) {
	for i := range others {
		for j := range others[i].matches {
			x := &others[i].matches[j]
			if x.Method != "" && m.Method != "" && x.Method != m.Method {
				continue
			}
			switch relate(m.Path, x.Path) {
			case disjoint, inside:
			case around:
				p := access.Path{Kind: access.PathPrefix, Value: x.Path.Value}
				if x.Path.Kind == route.PathExact {
					p.Kind = access.PathExact
				}
				if !slices.Contains(o.NotPaths, p) {
					o.NotPaths = append(o.NotPaths, p)
				}
			case same:
				switch {
				case x.Method != "" && m.Method == "":
					if !slices.Contains(o.NotMethods, x.Method) {
						o.NotMethods = append(o.NotMethods, x.Method)
					}
				case x.Method == "" && m.Method != "":
				case len(x.Headers)+len(x.Query) == 0 && len(m.Headers)+len(m.Query) > 0:
				default:
					lost = append(lost, "what "+others[i].at+" takes first")
				}
			default:
				lost = append(lost, "what "+others[i].at+" takes first")
			}
		}
	}
	if len(o.NotPaths) > maxExcluded || len(o.NotMethods) > maxExcluded {
		lost = append(lost, "so many paths and methods that other rules take first")
	}
	return lost
}

// maxExcluded bounds what an operation excludes: with what the policy itself does,
// it fits in a view.
const maxExcluded = 128

// relation is how the paths of two matches lie to each other.
type relation uint8

const (
	disjoint relation = iota
	same
	inside // the first is within the second, and so is tried before it
	around // the second is within the first
	unclear
)

func relate(a, b route.Path) relation {
	if a == b {
		return same
	}
	for _, k := range []route.PathKind{a.Kind, b.Kind} {
		if k != route.PathAny && k != route.PathExact && k != route.PathPrefix {
			return unclear
		}
	}
	whole := func(p route.Path) string { return strings.TrimSuffix(p.Value, "/") }
	within := func(x, y route.Path) bool { // x's paths are all y's
		return y.Kind == route.PathAny || y.Kind == route.PathPrefix && x.Kind != route.PathAny && (whole(x) == whole(y) || strings.HasPrefix(whole(x), whole(y)+"/"))
	}
	switch {
	case within(a, b) && within(b, a):
		return same
	case within(a, b):
		return inside
	case within(b, a):
		return around
	}
	return disjoint
}

// bothOperations is met by what meets both operations. ok is false when nothing
// does; exact is false when nobody can say, and then it is met by more.
func bothOperations(x, y *access.Operation, deny bool) (o access.Operation, ok, exact bool) {
	o = access.Operation{
		NotMethods: slices.Concat(x.NotMethods, y.NotMethods), NotPaths: slices.Concat(x.NotPaths, y.NotPaths),
		Headers: slices.Concat(x.Headers, y.Headers), Hosts: y.Hosts, ServerNames: y.ServerNames,
	}
	switch {
	case len(x.Methods) == 0:
		o.Methods = y.Methods
	case len(y.Methods) == 0:
		o.Methods = x.Methods
	default:
		for _, m := range x.Methods {
			if slices.Contains(y.Methods, m) {
				o.Methods = append(o.Methods, m)
			}
		}
		if len(o.Methods) == 0 {
			return o, false, true
		}
	}
	switch {
	case len(x.Paths) == 0:
		o.Paths = y.Paths
	case len(y.Paths) == 0:
		o.Paths = x.Paths
	default:
		for _, p := range x.Paths {
			for _, q := range y.Paths {
				both, ok, exact := bothPaths(p, q, deny)
				if !exact {
					o.Paths = y.Paths
					return o, true, false
				}
				if ok {
					o.Paths = append(o.Paths, both)
				}
			}
		}
		if len(o.Paths) == 0 {
			return o, false, true
		}
	}
	return o, true, true
}

// bothPaths is what two paths have in common. folded compares in any case.
func bothPaths(p, q access.Path, folded bool) (both access.Path, ok, exact bool) {
	if p == q {
		return p, true, true
	}
	if p.Kind == access.PathRegex || q.Kind == access.PathRegex || p.Kind == access.PathMethod && q.Kind == access.PathMethod {
		return p, false, p.Kind == q.Kind && p.Kind == access.PathMethod
	}
	if p.Kind == access.PathMethod {
		p, q = q, p
	}
	text := func(s string) string {
		if folded {
			s = strings.ToLower(s)
		}
		return strings.TrimSuffix(s, "/")
	}
	a, b := text(p.Value), text(q.Value)
	if q.Kind == access.PathMethod {
		service, method, two := strings.Cut(strings.TrimPrefix(a, "/"), "/")
		switch {
		case two:
			return access.Path{Kind: access.PathExact, Value: p.Value}, method == b, true
		case a == "" && p.Kind == access.PathPrefix:
			return q, true, true
		case p.Kind == access.PathPrefix:
			return access.Path{Kind: access.PathExact, Value: "/" + service + "/" + q.Value}, true, true
		}
		return p, false, true
	}
	within := func(x, y string) bool { return x == y || strings.HasPrefix(x, y+"/") }
	switch {
	case p.Kind == access.PathExact && q.Kind == access.PathExact:
		return p, p.Value == q.Value || folded && strings.EqualFold(p.Value, q.Value), true
	case p.Kind == access.PathExact:
		return p, within(a, b), true
	case q.Kind == access.PathExact:
		return q, within(b, a), true
	case within(a, b):
		return p, true, true
	}
	return q, within(b, a), true
}
