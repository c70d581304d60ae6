package graph

import (
	"net/netip"
	"reflect"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/internal/access"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/route"
)

// guardOf is who may come in, nil when nothing is said.
func guardOf(spec *access.Spec, a *authentication) *policy.Guard {
	out := &policy.Guard{Access: spec, JWT: a.jwt, External: a.external}
	if *out == (policy.Guard{}) {
		return nil
	}
	return out
}

// guard fills in who may take a gateway's rule. A rule of a mesh route is guarded
// where it leads; where nobody there keeps to it, it leads nowhere.
func (u *use) guard(to *route.Rule) {
	levels := []level{{u.r.Ref, ""}}
	if to.Section != "" {
		levels = []level{{u.r.Ref, to.Section}, {u.r.Ref, ""}}
	}
	if u.gateway.Kind == nil {
		if u.b.unenforced(u.r, levels, to) {
			to.Filters, to.Backends = route.Filters{}, nowhere
		}
		return
	}
	auth := u.b.authenticationOf(levels)
	g := guardOf(u.b.accessAt(levels, u.b.listenerPort(u.gateway.Name, u.listener), nil), auth)
	if g == nil {
		return
	}
	guarded(to, g)
	for _, s := range auth.sources {
		s.Rule = to.Name
		u.sources = append(u.sources, s)
	}
}

// guarded gives a rule a guard of its own.
func guarded(to *route.Rule, g *policy.Guard) {
	p := *policy.DefaultRequest
	if to.Policy != nil {
		p = *to.Policy
	}
	p.Guard = g
	to.Policy = &p
}

func (b *Builder) listenerPort(n mesh.Name, name gatewayv1.SectionName) uint16 {
	if g := b.gateways[n]; g != nil {
		for i := range g.Spec.Listeners {
			if g.Spec.Listeners[i].Name == name {
				return uint16(g.Spec.Listeners[i].Port)
			}
		}
	}
	return 0
}

// guardListener is who may come in to a gateway's listener. What is said of the
// mesh and of namespaces is for the workloads there, not for their edge.
func (b *Builder) guardListener(g *mesh.Gateway, l *listener) *policy.Inbound {
	self := Ref{object.Gateway, g.Name}
	levels := []level{{self, string(l.Name)}, {self, ""}}
	auth := b.authenticationOf(levels)
	guard := guardOf(b.accessAt(levels, uint16(l.Port), nil), auth)
	if guard == nil {
		return nil
	}
	for _, s := range auth.sources {
		put(&g.Sources, string(l.Name), append(g.Sources[string(l.Name)], s))
	}
	return &policy.Inbound{Guard: guard}
}

// settleShared moves the guards of listeners that share a port and say different
// things to their routes: the proxy has one listener for the port.
func settleShared(g *mesh.Gateway) {
	at := map[netip.AddrPort]*policy.Inbound{}
	differ := map[netip.AddrPort]bool{}
	for i := range g.Listeners {
		l := &g.Listeners[i]
		if first, there := at[l.Listen]; there && !reflect.DeepEqual(first, l.Inbound) {
			differ[l.Listen] = true
		}
		at[l.Listen] = l.Inbound
	}
	for i := range g.Listeners {
		l := &g.Listeners[i]
		if !differ[l.Listen] || l.Inbound == nil {
			continue
		}
		guard := l.Inbound.Guard
		l.Inbound = nil
		l.Routes = copyRules(l.Routes, func(r *route.Rule) bool {
			both := guard
			if r.Policy != nil {
				both = bothGuards(guard, r.Policy.Guard)
			}
			guarded(r, both)
			return true
		})
		// Of bytes that aren't looked at nothing is asked but at the listener's door.
		l.Streams = copyRules(l.Streams, func(*route.Rule) bool { return false })
	}
}

// copyRules is a table with other rules: those that f keeps.
func copyRules(s route.Spec, f func(*route.Rule) bool) route.Spec {
	var out route.Spec
	for _, h := range s.Hosts {
		var rules []route.Rule
		for _, r := range h.Rules {
			if f(&r) {
				rules = append(rules, r)
			}
		}
		h.Rules = rules
		out.Hosts = append(out.Hosts, h)
	}
	return out
}

// bothGuards asks for what each asks for. Where that is two different things of
// one sort nobody gets in.
func bothGuards(x, y *policy.Guard) *policy.Guard {
	if y == nil || reflect.DeepEqual(x, y) {
		return x
	}
	out := *x
	clash := x.Access != nil && y.Access != nil || x.JWT != nil && y.JWT != nil || x.External != nil && y.External != nil
	if y.Access != nil {
		out.Access = y.Access
	}
	if y.JWT != nil {
		out.JWT = y.JWT
	}
	if y.External != nil {
		out.External = y.External
	}
	if clash {
		out.Access = &access.Spec{Rules: []access.Rule{{Name: "accesspolicy/route-and-shared-listener", Action: access.Deny}}}
	}
	return &out
}
