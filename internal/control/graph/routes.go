package graph

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/route"
)

// hostRules gathers rules by hostname, in the order they come.
type hostRules struct {
	order []string
	rules map[string][]route.Rule
}

func (h *hostRules) add(host string, rules []route.Rule) {
	if h.rules == nil {
		h.rules = map[string][]route.Rule{}
	}
	if _, ok := h.rules[host]; !ok {
		h.order = append(h.order, host)
	}
	h.rules[host] = append(h.rules[host], rules...)
}

func (h *hostRules) spec() route.Spec {
	var s route.Spec
	for _, host := range h.order {
		s.Hosts = append(s.Hosts, route.Host{Hostnames: []string{host}, Rules: h.rules[host]})
	}
	return s
}

func parentName(r *gatewayv1.HTTPRoute, p *gatewayv1.ParentReference) mesh.Name {
	n := mesh.Name{Namespace: r.Namespace, Name: string(p.Name)}
	if p.Namespace != nil {
		n.Namespace = string(*p.Namespace)
	}
	return n
}

func parentsGateway(r *gatewayv1.HTTPRoute, n mesh.Name) bool {
	for i := range r.Spec.ParentRefs {
		if p := &r.Spec.ParentRefs[i]; *p.Kind == "Gateway" && parentName(r, p) == n {
			return true
		}
	}
	return false
}

// namesService reports whether a route has a service as a parent or a backend.
func namesService(r *gatewayv1.HTTPRoute, n mesh.Name) bool {
	for i := range r.Spec.ParentRefs {
		if p := &r.Spec.ParentRefs[i]; *p.Kind == "Service" && parentName(r, p) == n {
			return true
		}
	}
	for i := range r.Spec.Rules {
		for j := range r.Spec.Rules[i].BackendRefs {
			if backendName(r, &r.Spec.Rules[i].BackendRefs[j]) == n {
				return true
			}
		}
	}
	return false
}

func backendName(r *gatewayv1.HTTPRoute, b *gatewayv1.HTTPBackendRef) mesh.Name {
	n := mesh.Name{Namespace: r.Namespace, Name: string(b.Name)}
	if b.Namespace != nil {
		n.Namespace = string(*b.Namespace)
	}
	return n
}

// ordered returns the routes by age, then by name: the order in which equal
// matches win (Gateway API v1, HTTPRouteRule).
func (b *Builder) ordered() []*gatewayv1.HTTPRoute {
	if b.byAge != nil {
		return b.byAge
	}
	out := make([]*gatewayv1.HTTPRoute, 0, len(b.routes))
	for _, r := range b.routes {
		out = append(out, r)
	}
	slices.SortFunc(out, func(x, y *gatewayv1.HTTPRoute) int {
		if c := x.CreationTimestamp.Time.Compare(y.CreationTimestamp.Time); c != 0 {
			return c
		}
		return compareNames(mesh.Name{Namespace: x.Namespace, Name: x.Name}, mesh.Name{Namespace: y.Namespace, Name: y.Name})
	})
	b.byAge = out
	return out
}

// attached counts the routes that belong to a listener.
func (b *Builder) attached(g *gatewayv1.Gateway, l *gatewayv1.Listener) int32 {
	n := int32(0)
	for _, r := range b.routes {
		for i := range r.Spec.ParentRefs {
			if hosts, _ := b.attachment(g, l, r, &r.Spec.ParentRefs[i]); len(hosts) > 0 {
				n++
				break
			}
		}
	}
	return n
}

// attachment returns the hostnames under which a route is served by a listener,
// or the condition's reason and message why it is not.
func (b *Builder) attachment(g *gatewayv1.Gateway, l *gatewayv1.Listener, r *gatewayv1.HTTPRoute, p *gatewayv1.ParentReference) (hosts []string, why Condition) {
	no := func(reason, format string, args ...any) ([]string, Condition) {
		return nil, Condition{Type: "Accepted", Reason: reason, Message: fmt.Sprintf(format, args...)}
	}
	if *p.Kind != "Gateway" || parentName(r, p) != (mesh.Name{Namespace: g.Namespace, Name: g.Name}) {
		return no("NoMatchingParent", "another parent")
	}
	if p.SectionName != nil && *p.SectionName != l.Name || p.Port != nil && *p.Port != l.Port {
		return no("NoMatchingParent", "Gateway %s has no listener with that name and port", g.Name)
	}
	switch *l.AllowedRoutes.Namespaces.From {
	case gatewayv1.NamespacesFromAll:
	case gatewayv1.NamespacesFromSame:
		if r.Namespace != g.Namespace {
			return no("NotAllowedByListeners", "listener %s takes routes of namespace %s only: set allowedRoutes.namespaces.from to All there, or move the route", l.Name, g.Namespace)
		}
	default:
		return no("NotAllowedByListeners", "listener %s takes no routes", l.Name)
	}
	listener := listenerHost(l)
	if len(r.Spec.Hostnames) == 0 {
		return []string{listener}, accepted(reasonAccepted)
	}
	for _, h := range r.Spec.Hostnames {
		if host := intersect(listener, string(h)); host != "" && !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	if len(hosts) == 0 {
		return no("NoMatchingListenerHostname", "listener %s serves %s, none of the route's hostnames", l.Name, listener)
	}
	return hosts, accepted(reasonAccepted)
}

// intersect returns the hostnames that two patterns have in common, as one
// pattern, or "" when there are none (Gateway API v1, HTTPRouteSpec.Hostnames).
func intersect(a, b string) string {
	switch {
	case a == b || b == "*":
		return a
	case a == "*":
		return b
	}
	as, aWild := strings.CutPrefix(a, "*")
	bs, bWild := strings.CutPrefix(b, "*")
	switch {
	case aWild && strings.HasSuffix(b, as) && len(b) > len(as):
		return b
	case bWild && strings.HasSuffix(a, bs) && len(a) > len(bs):
		return a
	}
	return ""
}

// rules turns a route's rules into the table's; a backend that can't be used
// keeps its share, answered 500, and makes the condition false.
func (b *Builder) rules(r *gatewayv1.HTTPRoute) ([]route.Rule, Condition) {
	refs := resolved()
	var out []route.Rule
	for i := range r.Spec.Rules {
		rule := &r.Spec.Rules[i]
		to := route.Rule{Name: fmt.Sprintf("httproute/%s/%s#%d", r.Namespace, r.Name, i)}
		if rule.Timeouts != nil && rule.Timeouts.Request != nil {
			to.Timeout, _ = object.Duration(*rule.Timeouts.Request)
		}
		for j := range rule.Matches {
			to.Matches = append(to.Matches, match(&rule.Matches[j]))
		}
		for j := range rule.BackendRefs {
			ref := &rule.BackendRefs[j]
			destination, reason, message := b.backend(r, ref)
			if reason != "" {
				refs = unresolved(refs, reason, fmt.Sprintf("rules[%d].backendRefs[%d]: %s", i, j, message))
			}
			to.Backends = append(to.Backends, route.Backend{Destination: destination, Weight: uint32(*ref.Weight)})
		}
		if len(to.Backends) == 0 {
			to.Backends = []route.Backend{{Weight: 1}} // nothing to send to: 500
		}
		out = append(out, to)
	}
	return out, refs
}

func (b *Builder) backend(r *gatewayv1.HTTPRoute, ref *gatewayv1.HTTPBackendRef) (destination, reason, message string) {
	if *ref.Kind != "Service" || *ref.Group != "" {
		return "", "InvalidKind", fmt.Sprintf("%s of group %q: want a Service", *ref.Kind, *ref.Group)
	}
	n := backendName(r, ref)
	if n.Namespace != r.Namespace {
		return "", "RefNotPermitted", fmt.Sprintf("Service %s is in another namespace than the route: put the route in %s", n, n.Namespace)
	}
	if findPort(b.services[n], *ref.Port) == nil {
		return "", "BackendNotFound", b.missing(n, *ref.Port)
	}
	return fmt.Sprintf("%s:%d", n, *ref.Port), "", ""
}

func match(m *gatewayv1.HTTPRouteMatch) route.Match {
	out := route.Match{Path: route.Path{Kind: route.PathPrefix, Value: *m.Path.Value}}
	switch {
	case *m.Path.Type == gatewayv1.PathMatchExact:
		out.Path.Kind = route.PathExact
	case *m.Path.Value == "/":
		out.Path = route.Path{Kind: route.PathAny}
	}
	if m.Method != nil {
		out.Method = string(*m.Method)
	}
	seen := map[string]bool{}
	for _, h := range m.Headers {
		// Of several entries for one name the first counts (HTTPHeaderMatch.Name).
		if name := strings.ToLower(string(h.Name)); !seen[name] {
			seen[name] = true
			out.Headers = append(out.Headers, route.Field{Name: string(h.Name), Value: h.Value})
		}
	}
	return out
}

// serviceRoutes are the tables of a service's ports: routes that have the
// service as their parent (Gateway API for service mesh). Hostnames don't count there.
func (b *Builder) serviceRoutes(n mesh.Name, s *corev1.Service) map[uint16]route.Spec {
	tables := map[uint16]*hostRules{}
	for _, r := range b.ordered() {
		var done []uint16
		for i := range r.Spec.ParentRefs {
			p := &r.Spec.ParentRefs[i]
			if *p.Kind != "Service" || parentName(r, p) != n || !b.serviceParent(r, p).True {
				continue
			}
			for _, sp := range s.Spec.Ports {
				port := uint16(sp.Port)
				if p.Port != nil && *p.Port != sp.Port || slices.Contains(done, port) {
					continue
				}
				done = append(done, port)
				if tables[port] == nil {
					tables[port] = &hostRules{}
				}
				rules, _ := b.rules(r)
				tables[port].add("*", rules)
			}
		}
	}
	if len(tables) == 0 {
		return nil
	}
	out := map[uint16]route.Spec{}
	for port, t := range tables {
		out[port] = t.spec()
	}
	return out
}

// serviceParent says whether a route may have that service as its parent.
func (b *Builder) serviceParent(r *gatewayv1.HTTPRoute, p *gatewayv1.ParentReference) Condition {
	n := parentName(r, p)
	no := func(reason, message string) Condition {
		return Condition{Type: "Accepted", Reason: reason, Message: message}
	}
	switch s := b.services[n]; {
	case s == nil:
		return no("NoMatchingParent", fmt.Sprintf("there is no Service %s in namespace %s", n.Name, n.Namespace))
	case n.Namespace != r.Namespace:
		return no("NotAllowedByListeners", fmt.Sprintf("Service %s is in another namespace: put the route in %s", n, n.Namespace))
	case p.Port != nil && findPort(s, *p.Port) == nil:
		return no("NoMatchingParent", b.missing(n, *p.Port))
	}
	return accepted(reasonAccepted)
}

func (b *Builder) routeStatus(n mesh.Name) {
	r := b.routes[n]
	if r == nil {
		return
	}
	_, refs := b.rules(r)
	s := &Status{Generation: r.Generation}
	for i := range r.Spec.ParentRefs {
		p := &r.Spec.ParentRefs[i]
		var c Condition
		if *p.Kind == "Service" {
			c = b.serviceParent(r, p)
		} else {
			c = b.gatewayParent(r, p)
		}
		s.Parents = append(s.Parents, ParentStatus{Ref: *p, Conditions: []Condition{c, refs}})
	}
	b.dirty.newStatuses[Ref{object.HTTPRoute, n}] = s
}

// gatewayParent says whether any listener of the gateway takes the route; if
// none does, the reason that came closest.
func (b *Builder) gatewayParent(r *gatewayv1.HTTPRoute, p *gatewayv1.ParentReference) Condition {
	n := parentName(r, p)
	g := b.gateways[n]
	if g == nil {
		return Condition{Type: "Accepted", Reason: "NoMatchingParent", Message: fmt.Sprintf("there is no Gateway %s in namespace %s", n.Name, n.Namespace)}
	}
	closest := Condition{Type: "Accepted", Reason: "NoMatchingParent", Message: fmt.Sprintf("Gateway %s has no such listener", n)}
	for i := range g.Spec.Listeners {
		hosts, why := b.attachment(g, &g.Spec.Listeners[i], r, p)
		if len(hosts) > 0 {
			return why
		}
		if closest.Reason == "NoMatchingParent" {
			closest = why
		}
	}
	return closest
}
