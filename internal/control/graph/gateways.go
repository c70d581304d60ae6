package graph

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/route"
)

func (b *Builder) buildGateway(next *mesh.Snapshot, n mesh.Name) {
	g := b.gateways[n]
	if g == nil {
		if next.Gateways[n] != nil {
			b.dirty.changed.Gateways[n] = true
		}
		delete(next.Gateways, n)
		return
	}
	out := &mesh.Gateway{Name: n, Identity: identity.ID{TrustDomain: b.trustDomain, Namespace: n.Namespace, ServiceAccount: n.Name}}
	addresses := []netip.Addr{loopback}
	if len(g.Spec.Addresses) > 0 {
		addresses = addresses[:0]
		for _, a := range g.Spec.Addresses {
			if ip, err := netip.ParseAddr(a.Value); err == nil {
				addresses = append(addresses, ip)
			}
		}
	}
	status := &Status{Generation: g.Generation}
	for _, a := range addresses {
		status.Addresses = append(status.Addresses, a.String())
	}
	e, usable, refused := b.edgeOf(n), 0, refusal(g)
	b.noteFull(Ref{object.Gateway, n}, e.full)
	for _, l := range e.listeners {
		status.Listeners = append(status.Listeners, l.status())
		if !l.usable() || refused != nil {
			continue
		}
		usable++
		made := mesh.GatewayListener{Name: string(l.Name), Hostname: l.host, Certificates: l.certs, TCP: !l.http(),
			ProxyProtocol: g.Annotations[object.AnnotationProxyProtocol] == object.ProxyProtocolAccept}
		made.TrustedHops, made.TrustedProxies, _ = object.TrustedProxies(g.Annotations[object.AnnotationTrustedProxies])
		table := b.tableOf(out, e, l)
		if made.TCP {
			made.Streams = table.streams()
		} else {
			made.Routes = table.spec()
		}
		made.Inbound = b.guardListener(out, l)
		for _, a := range addresses {
			made.Listen = netip.AddrPortFrom(a, uint16(l.Port))
			out.Listeners = append(out.Listeners, made)
		}
	}
	settleShared(out)
	status.Conditions = []Condition{accepted(reasonAccepted), {Type: "Programmed", True: true, Reason: "Programmed"}}
	if bad := len(g.Spec.Listeners) - usable; bad > 0 {
		status.Conditions[0] = Condition{Type: "Accepted", True: usable > 0, Reason: "ListenersNotValid",
			Message: fmt.Sprintf("%d of %d listeners can't be used: see their conditions", bad, len(g.Spec.Listeners))}
		if usable == 0 {
			status.Conditions[1] = Condition{Type: "Programmed", Reason: "Invalid", Message: "no listener can be used"}
		}
	}
	if refused != nil {
		status.refuse(refused)
	}
	status.Conditions = append(status.Conditions, b.affected(Ref{object.Gateway, n}, listenerNames(g))...)
	b.dirty.newStatuses[Ref{object.Gateway, n}] = status
	if reflect.DeepEqual(next.Gateways[n], out) {
		return
	}
	b.dirty.changed.Gateways[n] = true
	next.Gateways[n] = out
}

// status is what is said of a listener.
func (l *listener) status() ListenerStatus {
	out := ListenerStatus{Name: string(l.Name), Attached: l.attachment, Kinds: []string{}}
	for _, k := range l.kinds {
		out.Kinds = append(out.Kinds, k.Name)
	}
	take, programmed := accepted(reasonAccepted), Condition{Type: "Programmed", True: true, Reason: "Programmed"}
	invalid := func(message string) {
		programmed = Condition{Type: "Programmed", Reason: "Invalid", Message: message}
	}
	switch {
	case l.unusable != nil:
		take = Condition{Type: "Accepted", Reason: l.unusable.reason, Message: l.unusable.message}
		invalid(l.unusable.message)
	case l.conflict.True:
		take = Condition{Type: "Accepted", Reason: l.conflict.Reason, Message: l.conflict.Message}
		invalid(l.conflict.Message)
	case !l.usable():
		invalid(l.refs.Message)
	}
	out.Conditions = []Condition{take, l.conflict, l.refs, programmed}
	if l.overlap != "" {
		out.Conditions = append(out.Conditions, Condition{Type: string(gatewayv1.ListenerConditionOverlappingTLSConfig), True: true,
			Reason: string(gatewayv1.ListenerReasonOverlappingHostnames), Message: "hostnames overlap with those of listeners on the same port: " + l.overlap})
	}
	return out
}

// tableOf is the table of one listener. A request belongs to the listener with
// the most specific hostname alone (Gateway API v1, Listener.Hostname): a
// hostname that another listener of the port covers more closely is left to that
// one, and a listener without a route for it answers 404, or refuses.
func (b *Builder) tableOf(g *mesh.Gateway, e *edge, l *listener) hostRules {
	var table hostRules
	if l.host != "*" || !l.http() {
		table.add(l.host, nil)
	}
	done := map[string][]Ref{}
	for _, m := range l.members {
		var rules []route.Rule
		for _, h := range m.hosts {
			if slices.Contains(done[h], m.r.Ref) || covered(e, l, h) {
				continue
			}
			done[h] = append(done[h], m.r.Ref)
			if rules == nil {
				u := b.useOf(use{r: m.r, gateway: Ref{object.Gateway, g.Name}, listener: l.Name, policed: true})
				rules = u.rules
				for _, s := range u.sources {
					if !slices.Contains(g.Sources[string(l.Name)], s) {
						put(&g.Sources, string(l.Name), append(g.Sources[string(l.Name)], s))
					}
				}
			}
			table.add(h, rules)
		}
	}
	return table
}

// covered reports whether another listener's hostname fits a host more closely.
func covered(e *edge, l *listener, host string) bool {
	return slices.ContainsFunc(e.listeners, func(o *listener) bool {
		return o != l && o.Port == l.Port && o.usable() && closer(o.host, l.host) && intersect(o.host, host) == host
	})
}

// closer says whether hostname a is more specific than b: exact before wildcard,
// and the longer wildcard (Gateway API v1, GatewaySpec.Listeners).
func closer(a, b string) bool {
	aWild, bWild := strings.HasPrefix(a, "*"), strings.HasPrefix(b, "*")
	if aWild != bWild {
		return bWild
	}
	return aWild && len(a) > len(b)
}
