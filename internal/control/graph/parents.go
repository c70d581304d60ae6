package graph

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/route"
)

// standings say how routes stand with one parent: the Accepted condition of each
// of their parentRefs to it, by the parentRef's place.
type standings map[Ref]map[int]Condition

func (s standings) set(r *anyRoute, i int, c Condition) {
	if s[r.Ref] == nil {
		s[r.Ref] = map[int]Condition{}
	}
	s[r.Ref][i] = c
}

func notAccepted(reason gatewayv1.RouteConditionReason, format string, args ...any) Condition {
	return Condition{Type: "Accepted", Reason: string(reason), Message: fmt.Sprintf(format, args...)}
}

// reasonConflicted is of a route that gives way to one of another kind.
const reasonConflicted gatewayv1.RouteConditionReason = "Conflicted"

// attachments are the routes of a service: those that count, by the namespace
// whose callers they are for (the service's own: everyone else's) and by port.
type attachments struct {
	routes map[string]map[uint16][]*anyRoute
	full   bool // more routes than fit
	standings
}

// attachmentsOf works out which routes a service has. Routes of its own
// namespace are its producer's and hold for all callers; those of another one
// are consumers' and hold for callers of that namespace, in place of the
// producer's. Of several kinds at one port only the first counts (GEP-1294).
func (b *Builder) attachmentsOf(n mesh.Name) *attachments {
	if a := b.dirty.attachments[n]; a != nil {
		return a
	}
	a := &attachments{routes: map[string]map[uint16][]*anyRoute{}, standings: standings{}}
	b.dirty.attachments[n] = a
	s, self := b.services[n], Ref{object.Service, n}
	rules := map[string]map[uint16]int{}
	type claim struct {
		r     *anyRoute
		place int
		ports []uint16
	}
	var claims []claim
	for _, r := range b.routesOf(self) {
		for i := range r.parents {
			p := &r.parents[i]
			if parent, _ := r.parentOf(p); parent != self {
				continue
			}
			ports, why := b.portsOf(n, s, r, p)
			size := rules[r.Name.Namespace]
			if slices.ContainsFunc(ports, func(port uint16) bool { return size[port]+r.size() > maxTableRules }) {
				a.full = true
				ports, why = nil, notAccepted(gatewayv1.RouteReasonNoMatchingParent, "Service %s has as many rules as a proxy takes (%d)", n, maxTableRules)
			}
			if len(ports) == 0 {
				a.set(r, i, why)
				continue
			}
			for _, port := range ports {
				put(&size, port, size[port]+r.size())
			}
			rules[r.Name.Namespace] = size
			claims = append(claims, claim{r, i, ports})
			for _, port := range ports {
				group := a.routes[r.Name.Namespace]
				if group == nil {
					group = map[uint16][]*anyRoute{}
					a.routes[r.Name.Namespace] = group
				}
				if !slices.Contains(group[port], r) {
					group[port] = append(group[port], r)
				}
			}
		}
	}
	for _, group := range a.routes {
		for port, list := range group {
			first := slices.MinFunc(list, func(x, y *anyRoute) int { return x.rank() - y.rank() }).rank()
			group[port] = slices.DeleteFunc(list, func(r *anyRoute) bool { return r.rank() != first })
		}
	}
	for _, c := range claims {
		won := func(port uint16) bool { return slices.Contains(a.routes[c.r.Name.Namespace][port], c.r) }
		if slices.ContainsFunc(c.ports, won) {
			a.set(c.r, c.place, accepted(reasonAccepted))
			continue
		}
		over := a.routes[c.r.Name.Namespace][c.ports[0]][0]
		a.set(c.r, c.place, notAccepted(reasonConflicted, "%s %s holds for the same port of Service %s, and of several kinds of routes the first of GRPCRoute, HTTPRoute, TLSRoute and TCPRoute counts", over.Kind.Name, over.Name, n))
	}
	return a
}

// noteFull marks the statuses of a parent's routes when one that comes or goes may
// let others in or keep them out.
func (b *Builder) noteFull(parent Ref, full bool) {
	if full || b.full[parent] {
		mark(b.dirty.routes, maps.Keys(b.byParent[parent]))
	}
	set(b.full, parent, true, full)
}

// portsOf are the ports of a service that a parentRef means. A port that is
// declared to be TCP has no requests: routes for those leave it out.
func (b *Builder) portsOf(n mesh.Name, s *corev1.Service, r *anyRoute, p *gatewayv1.ParentReference) ([]uint16, Condition) {
	if s == nil {
		return nil, notAccepted(gatewayv1.RouteReasonNoMatchingParent, "there is no Service %s in namespace %s", n.Name, n.Namespace)
	}
	var out []uint16
	opaque := false
	for i := range s.Spec.Ports {
		sp := &s.Spec.Ports[i]
		if p.Port != nil && *p.Port != sp.Port || p.SectionName != nil && string(*p.SectionName) != sp.Name {
			continue
		}
		if (r.http != nil || r.grpc != nil) && protocolOf(sp.AppProtocol) == mesh.TCP {
			opaque = true
			continue
		}
		out = append(out, uint16(sp.Port))
	}
	switch {
	case len(out) > 0:
		return out, Condition{}
	case opaque:
		return nil, notAccepted(gatewayv1.RouteReasonUnsupportedProtocol, "Service %s has no requests to route there: the port's appProtocol says that it is TCP; use a TCPRoute, or take appProtocol away", n)
	case p.SectionName != nil:
		return nil, notAccepted(gatewayv1.RouteReasonNoMatchingParent, "Service %s has no port named %q", n, *p.SectionName)
	case p.Port != nil:
		return nil, notAccepted(gatewayv1.RouteReasonNoMatchingParent, "%s", b.missing(n, *p.Port))
	}
	return nil, notAccepted(gatewayv1.RouteReasonNoMatchingParent, "Service %s has no ports", n)
}

// buildRoutes fills in the tables of a service's ports.
func (b *Builder) buildRoutes(out *mesh.Service, s *corev1.Service) {
	a := b.attachmentsOf(out.Name)
	b.noteFull(Ref{object.Service, out.Name}, a.full)
	for namespace, ports := range a.routes {
		for port, list := range ports {
			var table hostRules
			for _, r := range list {
				u := b.useOf(use{r: r, service: out.Name, port: port, portName: findPort(s, int32(port)).Name, policed: true})
				addSources(out, port, u.sources)
				table.add("*", u.rules) // hostnames mean nothing to a mesh (GEP-1294)
			}
			http := list[0].http != nil || list[0].grpc != nil
			spec := table.spec()
			if !http {
				spec = table.streams()
			}
			switch {
			case namespace == out.Name.Namespace && http:
				put(&out.Routes, port, spec)
			case namespace == out.Name.Namespace:
				put(&out.Streams, port, spec)
			case http:
				putIn(&out.Consumers, namespace, port, spec)
			default:
				putIn(&out.ConsumerStreams, namespace, port, spec)
			}
		}
	}
}

func put[K comparable, V any](m *map[K]V, k K, v V) {
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[k] = v
}

func putIn(m *map[string]map[uint16]route.Spec, namespace string, port uint16, spec route.Spec) {
	inner := (*m)[namespace]
	put(&inner, port, spec)
	put(m, namespace, inner)
}

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

// streams is the table of connections that aren't HTTP: nothing tells them apart
// within a hostname, so the first rule takes all.
func (h *hostRules) streams() route.Spec {
	s := h.spec()
	for i := range s.Hosts {
		if len(s.Hosts[i].Rules) > 1 {
			s.Hosts[i].Rules = s.Hosts[i].Rules[:1]
		}
	}
	return s
}

// routeStatus says how a route stands with each of its parents.
func (b *Builder) routeStatus(ref Ref) {
	r := b.routes[ref]
	if r == nil {
		return
	}
	s, policies := &Status{Generation: r.generation}, b.affected(ref, r.sections())
	for i := range r.parents {
		p := &r.parents[i]
		parent, ok := r.parentOf(p)
		u, taken := use{r: r}, Condition{}
		switch {
		case !ok:
			taken = notAccepted(gatewayv1.RouteReasonNoMatchingParent, "%s of group %q is no parent: want a Gateway, or a Service with group \"\"",
				val(p.Kind, "Gateway"), val(p.Group, gatewayv1.GroupName))
		case parent.Kind == object.Service:
			u.service = parent.Name
			taken = b.attachmentsOf(parent.Name).standings[ref][i]
		default:
			u.gateway = parent
			taken = b.gatewayParent(parent.Name, r, i)
		}
		s.Parents = append(s.Parents, ParentStatus{Ref: *p, Conditions: append(b.useOf(u).conditions(taken), policies...)})
	}
	b.dirty.newStatuses[ref] = s
}
