package graph

import (
	"fmt"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/internal/access"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/route"
)

// A route of the mesh is held to by callers' proxies, an AccessPolicy by those of
// the workloads that are called, which don't see routes. A policy for such a route
// becomes operations that mean the same requests, at the ports that the route leads
// to. What can't be said so is denied, unless ifUnenforceable says otherwise: a Deny
// is met by more than it is about, an Allow by nothing.

// routeRule is a rule of a route as access rules see it.
type routeRule struct {
	section string
	at      string
	matches []route.Match
	// rewrites says that the path isn't the one that was matched, and writes which
	// header fields aren't, in lower case.
	rewrites bool
	writes   map[string]bool
	backends []mesh.PortKey
	foreign  []string // backends of other namespaces
}

// routeRules are the rules of an HTTPRoute or GRPCRoute.
func (b *Builder) routeRules(r *anyRoute) []routeRule {
	var out []routeRule
	add := func(i int, section *gatewayv1.SectionName, filters []gatewayv1.HTTPRouteFilter) *routeRule {
		out = append(out, routeRule{section: string(val(section, "")), at: fmt.Sprintf("%s rules[%d]", objectName(r.Ref), i), writes: map[string]bool{}})
		to := &out[len(out)-1]
		to.filtered(filters)
		return to
	}
	backend := func(to *routeRule, ref *gatewayv1.BackendObjectReference, filters []gatewayv1.HTTPRouteFilter) {
		to.filtered(filters)
		n, service := r.backendOf(ref)
		switch port := val(ref.Port, 0); {
		case !service || findPort(b.services[n], port) == nil: // answered 500
		case n.Namespace != r.Name.Namespace:
			to.foreign = append(to.foreign, fmt.Sprintf("%s:%d", n, port))
		default:
			to.backends = append(to.backends, mesh.PortKey{Service: n, Port: uint16(port)})
		}
	}
	switch {
	case r.http != nil:
		for i := range r.http.Spec.Rules {
			rule := &r.http.Spec.Rules[i]
			to := add(i, rule.Name, rule.Filters)
			for j := range rule.Matches {
				if m, p := httpMatch(&rule.Matches[j]); p == nil {
					to.matches = append(to.matches, m)
				}
			}
			if len(to.matches) == 0 && len(rule.Matches) == 0 {
				to.matches = []route.Match{{}}
			}
			for j := range rule.BackendRefs {
				backend(to, &rule.BackendRefs[j].BackendObjectReference, rule.BackendRefs[j].Filters)
			}
		}
	case r.grpc != nil:
		for i := range r.grpc.Spec.Rules {
			rule := &r.grpc.Spec.Rules[i]
			to := add(i, rule.Name, grpcFilters(rule.Filters))
			for j := range rule.Matches {
				if m, p := grpcMatch(&rule.Matches[j]); p == nil {
					to.matches = append(to.matches, m)
				}
			}
			if len(rule.Matches) == 0 {
				m, _ := grpcMatch(&gatewayv1.GRPCRouteMatch{})
				to.matches = []route.Match{m}
			}
			for j := range rule.BackendRefs {
				backend(to, &rule.BackendRefs[j].BackendObjectReference, grpcFilters(rule.BackendRefs[j].Filters))
			}
		}
	}
	return out
}

// filtered notes what filters change of a request.
func (r *routeRule) filtered(list []gatewayv1.HTTPRouteFilter) {
	for i := range list {
		f := &list[i]
		if f.URLRewrite != nil && f.URLRewrite.Path != nil {
			r.rewrites = true
		}
		if m := f.RequestHeaderModifier; m != nil {
			for _, h := range slices.Concat(m.Set, m.Add) {
				r.writes[strings.ToLower(string(h.Name))] = true
			}
			for _, name := range m.Remove {
				r.writes[strings.ToLower(name)] = true
			}
		}
	}
}

// operation says a match as an operation, and what of it can't be said.
func (r *routeRule) operation(m *route.Match) (o access.Operation, lost []string) {
	switch kind := m.Path.Kind; {
	case kind == route.PathAny:
	case r.rewrites:
		lost = append(lost, "the path, which a filter changes")
	default:
		p := access.Path{Value: m.Path.Value}
		switch kind {
		case route.PathExact:
			p.Kind = access.PathExact
		case route.PathPrefix:
			p.Kind = access.PathPrefix
		case route.PathGRPCMethod:
			p.Kind = access.PathMethod
		default:
			p.Kind = access.PathRegex
		}
		if why := refusedRule(access.Rule{To: []access.Operation{{Paths: []access.Path{p}}}}); why != "" {
			lost = append(lost, "the path "+m.Path.Value)
		} else {
			o.Paths = []access.Path{p}
		}
	}
	if m.Method != "" {
		o.Methods = []string{m.Method}
	}
	for _, h := range m.Headers {
		switch {
		case h.Regex:
			lost = append(lost, "header "+h.Name+", a regular expression")
		case strings.HasSuffix(h.Value, "*"):
			lost = append(lost, "header "+h.Name+", whose value ends in *")
		case r.writes[strings.ToLower(h.Name)]:
			lost = append(lost, "header "+h.Name+", which a filter changes")
		default:
			o.Headers = append(o.Headers, access.Header{Name: h.Name, Values: []string{h.Value}})
		}
	}
	for _, q := range m.Query {
		lost = append(lost, "query parameter "+q.Name)
	}
	return o, lost
}

// routedPolicy is a policy for a route of the mesh, translated.
type routedPolicy struct {
	p     *anyPolicy
	ports map[mesh.PortKey][]access.Rule
	// problems say what of it can't be kept to as it is; holds that something can.
	problems []string
	holds    bool
}

// ownParents are the ports of Services of its own namespace that are a route's
// parents, and what others there are.
func (b *Builder) ownParents(r *anyRoute) (own []mesh.PortKey, foreign []string, gateways bool) {
	for i := range r.parents {
		p, ok := r.parentOf(&r.parents[i])
		switch {
		case ok && p.Kind == object.Gateway:
			gateways = true
		case !ok:
		case p.Name.Namespace != r.Name.Namespace:
			foreign = append(foreign, p.Name.String())
		default:
			ports, _ := b.portsOf(p.Name, b.services[p.Name], r, &r.parents[i])
			for _, port := range ports {
				if k := (mesh.PortKey{Service: p.Name, Port: port}); !slices.Contains(own, k) {
					own = append(own, k)
				}
			}
		}
	}
	return own, foreign, gateways
}

// routedAccess translates an AccessPolicy for a route, or for rules of it, of that
// name if section isn't empty.
func (b *Builder) routedAccess(p *anyPolicy, r *anyRoute, section string) *routedPolicy {
	out := &routedPolicy{p: p, ports: map[mesh.PortKey][]access.Rule{}}
	own, foreign, gateways := b.ownParents(r)
	out.holds = gateways
	for _, f := range foreign {
		out.problems = append(out.problems, fmt.Sprintf("Service %s is of another namespace: what may call it is said there", f))
	}
	mine, others := b.rulesAround(r, section)
	for i := range mine {
		rule := &mine[i]
		for _, f := range rule.foreign {
			out.problems = append(out.problems, fmt.Sprintf("%s leads to %s, of another namespace", rule.at, f))
		}
		reached := own
		if len(own)+len(foreign) > 0 {
			reached = slices.Concat(own, rule.backends)
		}
		for _, k := range reached {
			if _, done := out.ports[k]; !done {
				out.ports[k] = nil // that there is an Allow counts wherever requests get
			}
		}
	}
	for k := range out.ports {
		for i := range p.access.rules {
			out.ports[k] = append(out.ports[k], out.translate(&p.access.rules[i], k, own, mine, others)...)
		}
		out.holds = out.holds || len(out.ports[k]) > 0
	}
	slices.Sort(out.problems)
	out.problems = slices.Compact(out.problems)
	return out
}

// rulesAround are the rules that a target means and the others that are tried with
// them.
func (b *Builder) rulesAround(r *anyRoute, section string) (mine, others []routeRule) {
	for _, rule := range b.routeRules(r) {
		if section == "" || rule.section == section {
			mine = append(mine, rule)
		} else {
			others = append(others, rule)
		}
	}
	seen := map[*anyRoute]bool{r: true}
	for i := range r.parents {
		parent, _ := r.parentOf(&r.parents[i])
		if parent.Kind != object.Service {
			continue
		}
		for _, o := range b.routesOf(parent) {
			if !seen[o] && o.Name.Namespace == r.Name.Namespace {
				seen[o] = true
				others = append(others, b.routeRules(o)...)
			}
		}
	}
	return mine, others
}

// translate makes one rule of a policy into rules about the requests that some
// rules of a route take, at a port that they get to.
func (o *routedPolicy) translate(r *accessRule, at mesh.PortKey, own []mesh.PortKey, mine, others []routeRule) []access.Rule {
	if r.bad != "" {
		if r.Action == access.Deny {
			return []access.Rule{r.Rule}
		}
		return nil
	}
	deny := r.Action == access.Deny
	one := r.Rule
	operations := r.operations
	if len(operations) == 0 {
		operations = []portOperation{{}}
	}
	for i := range mine {
		rule := &mine[i]
		if !slices.Contains(own, at) && !slices.Contains(rule.backends, at) {
			continue
		}
		for j := range rule.matches {
			m := &rule.matches[j]
			made, lost := rule.operation(m)
			if !deny {
				lost = append(lost, exclude(&made, m, others)...)
			}
			if len(lost) > 0 {
				o.problems = append(o.problems, fmt.Sprintf("%s.matches[%d]: the called workload's proxy can't tell %s", rule.at, j, strings.Join(lost, ", ")))
				if !deny || r.AllowUnenforceable {
					continue
				}
			}
			for k := range operations {
				if p := operations[k].ports; len(p) > 0 && len(own) > 0 && !slices.ContainsFunc(own, func(k mesh.PortKey) bool { return slices.Contains(p, int32(k.Port)) }) {
					continue
				}
				both, ok, exact := bothOperations(&made, &operations[k].Operation, deny)
				if !exact {
					o.problems = append(o.problems, fmt.Sprintf("%s.matches[%d]: nothing says which paths it has in common with the policy's", rule.at, j))
					if !deny || r.AllowUnenforceable {
						continue
					}
				}
				if ok {
					one.To = append(one.To, both)
				}
			}
		}
	}
	if len(one.To) == 0 {
		return nil
	}
	if refusedRule(one) != "" {
		o.problems = append(o.problems, r.Name+": with the route's matches it is more than a proxy takes")
		if !deny {
			return nil
		}
		one.To, one.When = nil, nil
	}
	return []access.Rule{one}
}

// routedParts are what policies for routes bring to the ports of a service.
func (b *Builder) routedParts(n mesh.Name) map[uint16][]accessPart {
	if len(b.policies) == 0 {
		return nil
	}
	refs := map[Ref]bool{}
	for ref := range b.byParent[Ref{object.Service, n}] {
		refs[ref] = true
	}
	for ref := range b.byBackend[n] {
		refs[ref] = true
	}
	var out map[uint16][]accessPart
	var routes []*anyRoute
	for ref := range refs {
		if r := b.routes[ref]; r != nil && ref.Name.Namespace == n.Namespace {
			routes = append(routes, r)
		}
	}
	slices.SortFunc(routes, older)
	for _, r := range routes {
		b.eachRouted(r, func(o *routedPolicy) {
			for k, rules := range o.ports {
				if k.Service == n {
					put(&out, k.Port, append(out[k.Port], accessPart{o.p.access, o.p.Ref, rules}))
				}
			}
		})
	}
	return out
}

// eachRouted translates each AccessPolicy for a route or for rules of it.
func (b *Builder) eachRouted(r *anyRoute, f func(*routedPolicy)) {
	levels := []level{{r.Ref, ""}}
	for _, s := range sortedSections(r) {
		levels = append(levels, level{r.Ref, s})
	}
	for _, l := range levels {
		for _, p := range b.policiesFor(l) {
			if p.access != nil {
				f(b.routedAccess(p, r, l.name))
			}
		}
	}
}

func sortedSections(r *anyRoute) []string {
	var out []string
	for s := range r.sections() {
		out = append(out, string(s))
	}
	slices.Sort(out)
	return out
}

// touchRouted marks what policies for routes of a parent come to, and their
// statuses: what a rule takes depends on the others.
func (b *Builder) touchRouted(parent Ref) {
	for ref := range b.byParent[parent] {
		b.touchRoutedOf(b.routes[ref])
	}
}

func (b *Builder) touchRoutedOf(r *anyRoute) {
	if r == nil || len(b.policies) == 0 {
		return
	}
	found := false
	for _, s := range append(sortedSections(r), "") {
		for ref := range b.byTarget[section{r.Ref, s}] {
			if p := b.policies[ref]; p != nil && p.access != nil {
				found = true
				b.dirty.policies[ref] = true
			}
		}
	}
	if found {
		b.touchReached(r)
	}
}

// touchReached marks the services that a route is for or leads to.
func (b *Builder) touchReached(r *anyRoute) {
	if r == nil {
		return
	}
	b.touchParents(r)
	for n := range r.backends() {
		b.dirty.services[n] = true
	}
}

// unenforced says whether what a rule of a mesh route takes must be denied at the
// callers' side: a policy is for it, and it leads where nobody keeps to that.
func (b *Builder) unenforced(r *anyRoute, levels []level, to *route.Rule) bool {
	if !slices.ContainsFunc(to.Backends, func(k route.Backend) bool {
		n, _ := parseDestination(k.Destination)
		return k.Destination != "" && n.Namespace != r.Name.Namespace
	}) {
		return false
	}
	return slices.ContainsFunc(b.chain(levels), func(p *anyPolicy) bool {
		return p.access != nil && !p.access.audit && !p.access.lenient && len(p.access.rules) > 0
	})
}
