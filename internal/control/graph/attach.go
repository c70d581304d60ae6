package graph

import (
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/mesh"
)

// edge is a gateway with its listeners and routes.
type edge struct {
	listeners []*listener
	full      bool // more routes than fit
	standings
}

// edgeOf works out which routes belong to which listener of a gateway.
func (b *Builder) edgeOf(n mesh.Name) *edge {
	if e := b.dirty.edges[n]; e != nil {
		return e
	}
	g := b.gateways[n]
	e := &edge{standings: standings{}}
	b.dirty.edges[n] = e
	if g == nil {
		return e
	}
	e.listeners = b.listenersOf(n, g)
	tables := map[gatewayv1.PortNumber]*tableSize{}
	for _, l := range e.listeners {
		if tables[l.Port] == nil {
			tables[l.Port] = &tableSize{hosts: map[string]bool{}}
		}
		tables[l.Port].hosts[l.host] = true
	}
	self := Ref{object.Gateway, n}
	for _, r := range b.routesOf(self) {
		counted := map[*listener]bool{}
		for i := range r.parents {
			if parent, _ := r.parentOf(&r.parents[i]); parent != self {
				continue
			}
			closest := notAccepted(gatewayv1.RouteReasonNoMatchingParent, "Gateway %s has no listener with that name and port", n.Name)
			for _, l := range e.listeners {
				hosts, why := b.attach(n, l, r, &r.parents[i])
				if len(hosts) > 0 && !tables[l.Port].add(hosts, r.size()) {
					e.full = true
					hosts, why = nil, notAccepted(gatewayv1.RouteReasonNotAllowedByListeners, "port %d has as many hostnames or rules as a proxy takes (%d and %d): use another Gateway", l.Port, maxTableHosts, maxTableRules)
				}
				switch {
				case len(hosts) > 0:
					closest = accepted(reasonAccepted)
					l.members = append(l.members, member{r, i, hosts})
					if !counted[l] && !b.allInvalid(r, self) {
						counted[l] = true
						l.attachment++
					}
				case why.Reason != "" && !closest.True && closest.Reason == string(gatewayv1.RouteReasonNoMatchingParent):
					closest = why
				}
			}
			e.set(r, i, closest)
		}
	}
	return e
}

// tableSize counts what is in the table of a port.
type tableSize struct {
	hosts map[string]bool
	rules int
}

// add takes a route with some rules for each of its hosts, if there is room.
func (t *tableSize) add(hosts []string, rules int) bool {
	more := 0
	for _, h := range hosts {
		if !t.hosts[h] {
			more++
		}
	}
	if len(t.hosts)+more > maxTableHosts || t.rules+rules*len(hosts) > maxTableRules {
		return false
	}
	for _, h := range hosts {
		t.hosts[h] = true
	}
	t.rules += rules * len(hosts)
	return true
}

// allInvalid says that no rule of a route can be done, so that it isn't accepted.
func (b *Builder) allInvalid(r *anyRoute, gateway Ref) bool {
	u := b.useOf(use{r: r, gateway: gateway})
	return u.total > 0 && len(u.invalid) == u.total
}

// gatewayParent says whether any listener of the gateway takes the route; if
// none does, the reason that came closest.
func (b *Builder) gatewayParent(n mesh.Name, r *anyRoute, place int) Condition {
	if b.gateways[n] == nil {
		return notAccepted(gatewayv1.RouteReasonNoMatchingParent, "there is no Gateway %s in namespace %s", n.Name, n.Namespace)
	}
	return b.edgeOf(n).standings[r.Ref][place]
}

// attach returns the hostnames under which a listener serves a route, or why it
// doesn't. Older routes have been attached before.
func (b *Builder) attach(n mesh.Name, l *listener, r *anyRoute, p *gatewayv1.ParentReference) ([]string, Condition) {
	no := func(reason gatewayv1.RouteConditionReason, format string, args ...any) ([]string, Condition) {
		return nil, notAccepted(reason, format, args...)
	}
	if p.SectionName != nil && *p.SectionName != l.Name || p.Port != nil && *p.Port != l.Port {
		return nil, Condition{} // another listener is meant
	}
	if l.conflict.True {
		return no(gatewayv1.RouteReasonNoMatchingParent, "listener %s can't be used: %s", l.Name, l.conflict.Message)
	}
	if !slices.Contains(l.kinds, r.Kind) {
		return no(gatewayv1.RouteReasonNotAllowedByListeners, "listener %s of protocol %s takes %s, no %s", l.Name, l.Protocol, kindNames(l.kinds), r.Kind.Name)
	}
	if ok, message := b.allows(n, l, r.Name.Namespace); !ok {
		return no(gatewayv1.RouteReasonNotAllowedByListeners, "listener %s takes %s", l.Name, message)
	}
	var hosts []string
	switch {
	case r.tcp != nil || len(r.hostnames) == 0:
		hosts = []string{l.host}
	default:
		for _, h := range r.hostnames {
			if host := intersect(l.host, string(h)); host != "" && !slices.Contains(hosts, host) {
				hosts = append(hosts, host)
			}
		}
	}
	if len(hosts) == 0 {
		return no(gatewayv1.RouteReasonNoMatchingListenerHostname, "listener %s serves %s, none of the route's hostnames", l.Name, l.host)
	}
	// An HTTPRoute and a GRPCRoute never share a hostname: the older has it
	// (Gateway API v1, GRPCRouteSpec.Hostnames).
	for _, m := range l.members {
		if m.r.Kind != r.Kind && l.http() && overlap(m.hosts, hosts) {
			return no(reasonConflicted, "%s %s is older and has the same hostname at listener %s", m.r.Kind.Name, m.r.Name, l.Name)
		}
	}
	return hosts, accepted(reasonAccepted)
}

func overlap(a, b []string) bool {
	return slices.ContainsFunc(a, func(x string) bool {
		return slices.ContainsFunc(b, func(y string) bool { return intersect(x, y) != "" })
	})
}

func kindNames(kinds []*object.Kind) string {
	var names []string
	for _, k := range kinds {
		names = append(names, k.Name)
	}
	if len(names) == 0 {
		return "no routes"
	}
	return strings.Join(names, " and ")
}

// allows says whether a listener takes routes of a namespace, else which it takes.
func (b *Builder) allows(n mesh.Name, l *listener, namespace string) (ok bool, takes string) {
	from, selector := gatewayv1.NamespacesFromSame, (*metav1.LabelSelector)(nil)
	if l.AllowedRoutes != nil && l.AllowedRoutes.Namespaces != nil {
		from, selector = val(l.AllowedRoutes.Namespaces.From, from), l.AllowedRoutes.Namespaces.Selector
	}
	switch from {
	case gatewayv1.NamespacesFromAll:
		return true, ""
	case gatewayv1.NamespacesFromSame:
		return namespace == n.Namespace, "routes of namespace " + n.Namespace + " only: set allowedRoutes.namespaces.from to All there, or move the route"
	case gatewayv1.NamespacesFromSelector:
		s, err := metav1.LabelSelectorAsSelector(selector)
		if err != nil {
			return false, "no routes: allowedRoutes.namespaces.selector: " + err.Error()
		}
		return s.Matches(labels.Set(b.labelsOf(namespace))), "routes of namespaces with labels " + s.String() + " only: namespace " + namespace + " has others"
	}
	return false, "no routes"
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
