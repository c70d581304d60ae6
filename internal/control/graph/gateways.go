package graph

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/route"
)

func secretName(g *gatewayv1.Gateway, r *gatewayv1.SecretObjectReference) mesh.Name {
	n := mesh.Name{Namespace: g.Namespace, Name: string(r.Name)}
	if r.Namespace != nil {
		n.Namespace = string(*r.Namespace)
	}
	return n
}

func usesSecret(g *gatewayv1.Gateway, n mesh.Name) bool {
	for i := range g.Spec.Listeners {
		if t := g.Spec.Listeners[i].TLS; t != nil {
			for j := range t.CertificateRefs {
				if secretName(g, &t.CertificateRefs[j]) == n {
					return true
				}
			}
		}
	}
	return false
}

// buildGateway makes one listener per port: HTTP listeners that share a port
// differ by hostname and become one route table.
func (b *Builder) buildGateway(next *mesh.Snapshot, n mesh.Name) {
	b.dirty.changed.Gateways[n] = true
	g := b.gateways[n]
	if g == nil {
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
	sockets, order, usable := b.sockets(g, status)
	for _, port := range order {
		s := sockets[port]
		if len(s.listeners) == 0 {
			continue
		}
		table := s.routes(b, g)
		for i, a := range addresses {
			name := string(s.first.Name)
			if i > 0 {
				name = fmt.Sprintf("%s-%d", name, i+1)
			}
			out.Listeners = append(out.Listeners, mesh.GatewayListener{
				Name: name, Listen: netip.AddrPortFrom(a, uint16(port)), Certificate: s.cert, Key: s.key, Routes: table,
				ProxyProtocol: g.Annotations[object.AnnotationProxyProtocol] == object.ProxyProtocolAccept,
			})
		}
	}
	status.Conditions = []Condition{accepted(reasonAccepted), {Type: "Programmed", True: true, Reason: "Programmed"}}
	if bad := len(g.Spec.Listeners) - usable; bad > 0 {
		status.Conditions[0] = Condition{Type: "Accepted", True: usable > 0, Reason: "ListenersNotValid",
			Message: fmt.Sprintf("%d of %d listeners can't be used: see their conditions", bad, len(g.Spec.Listeners))}
		if usable == 0 {
			status.Conditions[1] = Condition{Type: "Programmed", Reason: "Invalid", Message: "no listener can be used"}
		}
	}
	next.Gateways[n] = out
	b.dirty.newStatuses[Ref{object.Gateway, n}] = status
}

// socket is one port of a gateway: HTTP listeners share it, each with hostnames
// of its own.
type socket struct {
	first     *gatewayv1.Listener
	listeners []*gatewayv1.Listener // those that can be used
	cert, key []byte
}

// sockets sorts a gateway's listeners by port, says in status what is wrong with
// which, and counts those that can be used.
func (b *Builder) sockets(g *gatewayv1.Gateway, status *Status) (sockets map[int32]*socket, order []int32, usable int) {
	sockets = map[int32]*socket{}
	for i := range g.Spec.Listeners {
		l := &g.Spec.Listeners[i]
		s := sockets[l.Port]
		if s == nil {
			s = &socket{first: l}
			sockets[l.Port] = s
			order = append(order, l.Port)
		}
		conflicted, refs := s.conflict(l), resolved()
		var cert, key []byte
		if l.Protocol == gatewayv1.HTTPSProtocolType {
			cert, key, refs = b.certificate(g, l)
		}
		ls := ListenerStatus{Name: string(l.Name), Conditions: []Condition{accepted(reasonAccepted), conflicted, refs, {Type: "Programmed", True: true, Reason: "Programmed"}}}
		if conflicted.True || !refs.True {
			why := conflicted.Message
			if conflicted.True {
				ls.Conditions[0] = Condition{Type: "Accepted", Reason: conflicted.Reason, Message: why}
			} else {
				why = refs.Message
			}
			ls.Conditions[3] = Condition{Type: "Programmed", Reason: "Invalid", Message: why}
		} else {
			s.listeners = append(s.listeners, l)
			if cert != nil {
				s.cert, s.key = cert, key
			}
			ls.Attached = b.attached(g, l)
			usable++
		}
		status.Listeners = append(status.Listeners, ls)
	}
	return sockets, order, usable
}

// conflict says whether a listener can't share its port with those before it.
func (s *socket) conflict(l *gatewayv1.Listener) Condition {
	yes := func(reason, format string, args ...any) Condition {
		return Condition{Type: "Conflicted", True: true, Reason: reason, Message: fmt.Sprintf(format, args...)}
	}
	switch {
	case s.first == l:
	case s.first.Protocol != l.Protocol:
		return yes("ProtocolConflict", "port %d is %s in listener %s", l.Port, s.first.Protocol, s.first.Name)
	case l.Protocol == gatewayv1.HTTPSProtocolType:
		return yes("HostnameConflict", "several HTTPS listeners on port %d are not supported yet: use another port", l.Port)
	case slices.ContainsFunc(s.listeners, func(o *gatewayv1.Listener) bool { return listenerHost(o) == listenerHost(l) }):
		return yes("HostnameConflict", "port %d has a listener with the same hostname already", l.Port)
	}
	return Condition{Type: "Conflicted", Reason: "NoConflicts"}
}

// routes is the table of the whole socket. A request belongs to the listener
// with the most specific hostname alone (Gateway API v1, Listener.Hostname): a
// hostname that another listener covers more closely is left to that one, and a
// listener without a route for it answers 404.
func (s *socket) routes(b *Builder, g *gatewayv1.Gateway) route.Spec {
	var table hostRules
	for _, l := range s.listeners {
		own := listenerHost(l)
		if own != "*" {
			table.add(own, nil)
		}
		for _, r := range b.ordered() {
			var done []string
			for i := range r.Spec.ParentRefs {
				hosts, _ := b.attachment(g, l, r, &r.Spec.ParentRefs[i])
				for _, h := range hosts {
					if slices.Contains(done, h) || s.covered(l, h) {
						continue
					}
					done = append(done, h)
					rules, _ := b.rules(r)
					table.add(h, rules)
				}
			}
		}
	}
	return table.spec()
}

// covered reports whether another listener's hostname fits a host more closely.
func (s *socket) covered(l *gatewayv1.Listener, host string) bool {
	own := listenerHost(l)
	return slices.ContainsFunc(s.listeners, func(o *gatewayv1.Listener) bool {
		h := listenerHost(o)
		return o != l && len(h) > len(own) && intersect(h, host) == host
	})
}

func (b *Builder) certificate(g *gatewayv1.Gateway, l *gatewayv1.Listener) (cert, key []byte, refs Condition) {
	bad := func(reason, format string, args ...any) ([]byte, []byte, Condition) {
		return nil, nil, unresolved(resolved(), reason, fmt.Sprintf(format, args...))
	}
	r := &l.TLS.CertificateRefs[0]
	if *r.Kind != "Secret" || *r.Group != "" {
		return bad("InvalidCertificateRef", "certificateRefs[0] is a %s: want a Secret", *r.Kind)
	}
	n := secretName(g, r)
	if n.Namespace != g.Namespace {
		return bad("RefNotPermitted", "Secret %s is in another namespace than the Gateway: put it in %s", n, g.Namespace)
	}
	s := b.secrets[n]
	if s == nil {
		return bad("InvalidCertificateRef", "there is no Secret %s in namespace %s", n.Name, n.Namespace)
	}
	if s.Type != corev1.SecretTypeTLS {
		return bad("InvalidCertificateRef", "Secret %s is of type %s: want %s", n, s.Type, corev1.SecretTypeTLS)
	}
	return s.Data[corev1.TLSCertKey], s.Data[corev1.TLSPrivateKeyKey], resolved()
}

func listenerHost(l *gatewayv1.Listener) string {
	if l.Hostname == nil || *l.Hostname == "" {
		return "*"
	}
	return string(*l.Hostname)
}
