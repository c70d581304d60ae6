package graph

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/mesh"
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
	type socket struct {
		first    *gatewayv1.Listener
		hosts    hostRules
		cert     []byte
		key      []byte
		usable   bool
		hostname map[string]bool
	}
	sockets := map[int32]*socket{}
	var order []int32
	valid := 0
	for i := range g.Spec.Listeners {
		l := &g.Spec.Listeners[i]
		ls := ListenerStatus{Name: string(l.Name)}
		acceptedCond, refs := accepted(reasonAccepted), resolved()
		conflicted := Condition{Type: "Conflicted", Reason: "NoConflicts"}
		s := sockets[l.Port]
		if s == nil {
			s = &socket{first: l, hostname: map[string]bool{}}
			sockets[l.Port] = s
			order = append(order, l.Port)
		} else {
			switch {
			case s.first.Protocol != l.Protocol:
				conflicted = Condition{Type: "Conflicted", True: true, Reason: "ProtocolConflict",
					Message: fmt.Sprintf("port %d is %s in listener %s", l.Port, s.first.Protocol, s.first.Name)}
			case s.hostname[listenerHost(l)]:
				conflicted = Condition{Type: "Conflicted", True: true, Reason: "HostnameConflict",
					Message: fmt.Sprintf("port %d has a listener with the same hostname already", l.Port)}
			case l.Protocol == gatewayv1.HTTPSProtocolType:
				conflicted = Condition{Type: "Conflicted", True: true, Reason: "HostnameConflict",
					Message: fmt.Sprintf("several HTTPS listeners on port %d are not supported yet: use another port", l.Port)}
			}
		}
		var cert, key []byte
		if l.Protocol == gatewayv1.HTTPSProtocolType {
			cert, key, refs = b.certificate(g, l)
		}
		usable := !conflicted.True && (l.Protocol != gatewayv1.HTTPSProtocolType || refs.True)
		if usable {
			s.usable = true
			s.hostname[listenerHost(l)] = true
			if cert != nil {
				s.cert, s.key = cert, key
			}
			ls.Attached = b.attach(g, l, &s.hosts)
			valid++
		} else if conflicted.True {
			acceptedCond = Condition{Type: "Accepted", Reason: conflicted.Reason, Message: conflicted.Message}
		}
		programmed := Condition{Type: "Programmed", True: usable, Reason: "Programmed"}
		if !usable {
			programmed.Reason = "Invalid"
			programmed.Message = refs.Message + conflicted.Message
		}
		ls.Conditions = []Condition{acceptedCond, conflicted, refs, programmed}
		status.Listeners = append(status.Listeners, ls)
	}
	for _, port := range order {
		s := sockets[port]
		if !s.usable {
			continue
		}
		for i, a := range addresses {
			name := string(s.first.Name)
			if i > 0 {
				name = fmt.Sprintf("%s-%d", name, i+1)
			}
			out.Listeners = append(out.Listeners, mesh.GatewayListener{
				Name: name, Listen: netip.AddrPortFrom(a, uint16(port)),
				Certificate: s.cert, Key: s.key, Routes: s.hosts.spec(),
			})
		}
	}
	status.Conditions = []Condition{accepted(reasonAccepted), {Type: "Programmed", True: true, Reason: "Programmed"}}
	if bad := len(g.Spec.Listeners) - valid; bad > 0 {
		status.Conditions[0] = Condition{Type: "Accepted", True: valid > 0, Reason: "ListenersNotValid",
			Message: fmt.Sprintf("%d of %d listeners can't be used: see their conditions", bad, len(g.Spec.Listeners))}
		if valid == 0 {
			status.Conditions[1] = Condition{Type: "Programmed", Reason: "Invalid", Message: "no listener can be used"}
		}
	}
	next.Gateways[n] = out
	b.dirty.newStatuses[Ref{object.Gateway, n}] = status
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
