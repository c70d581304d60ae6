package graph

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/mesh"
)

// listener is one listener of a gateway as it turned out.
type listener struct {
	*gatewayv1.Listener
	host       string
	kinds      []*object.Kind // of routes that it takes
	conflict   Condition      // Conflicted
	refs       Condition      // ResolvedRefs
	unusable   *problem       // why it can't be accepted
	overlap    string         // names listeners whose hostnames overlap, or ""
	certs      []mesh.Certificate
	members    []member
	attachment int32
}

// member is a route that a listener takes, under some hostnames.
type member struct {
	r     *anyRoute
	place int
	hosts []string
}

func (l *listener) http() bool {
	return l.Protocol == gatewayv1.HTTPProtocolType || l.Protocol == gatewayv1.HTTPSProtocolType
}

func (l *listener) tls() bool {
	return l.Protocol == gatewayv1.HTTPSProtocolType || l.Protocol == gatewayv1.TLSProtocolType
}

// passthrough says that TLS doesn't end at the gateway.
func (l *listener) passthrough() bool {
	return l.TLS != nil && val(l.TLS.Mode, gatewayv1.TLSModeTerminate) == gatewayv1.TLSModePassthrough
}

// usable says whether the listener can be opened.
func (l *listener) usable() bool {
	return l.unusable == nil && !l.conflict.True && (!l.tls() || l.passthrough() || len(l.certs) > 0)
}

func listenerHost(l *gatewayv1.Listener) string {
	if l.Hostname == nil || *l.Hostname == "" || l.Protocol == gatewayv1.TCPProtocolType {
		return "*"
	}
	return string(*l.Hostname)
}

// listenersOf works out a gateway's listeners: what is wrong with which, and
// which routes belong to which.
func (b *Builder) listenersOf(n mesh.Name, g *gatewayv1.Gateway) []*listener {
	var all []*listener
	for i := range g.Spec.Listeners {
		l := &listener{Listener: &g.Spec.Listeners[i], refs: resolved(), conflict: Condition{Type: "Conflicted", Reason: "NoConflicts"}}
		l.host = listenerHost(l.Listener)
		b.kindsOf(l)
		switch {
		case len(l.kinds) == 0 && l.unusable == nil && l.refs.True:
			l.unusable = &problem{string(gatewayv1.ListenerReasonUnsupportedProtocol), fmt.Sprintf("protocol %q is not supported: want HTTP, HTTPS, TLS or TCP", l.Protocol)}
		case l.tls() && !l.passthrough():
			b.certificates(n, l)
		case l.passthrough() && l.Protocol == gatewayv1.HTTPSProtocolType:
			l.unusable = &problem{string(gatewayv1.ListenerReasonUnsupportedValue), "tls.mode Passthrough is for listeners of protocol TLS"}
		}
		all = append(all, l)
	}
	for i, l := range all {
		for _, o := range all[i+1:] {
			clash(l, o)
		}
	}
	return all
}

// kindsOf says which kinds of routes a listener takes: those of its protocol,
// narrowed by allowedRoutes.kinds.
func (b *Builder) kindsOf(l *listener) {
	switch {
	case l.http():
		l.kinds = []*object.Kind{object.HTTPRoute, object.GRPCRoute}
	case l.Protocol == gatewayv1.TLSProtocolType && l.passthrough():
		l.kinds = []*object.Kind{object.TLSRoute}
	case l.Protocol == gatewayv1.TLSProtocolType:
		l.kinds = []*object.Kind{object.TLSRoute, object.TCPRoute}
	case l.Protocol == gatewayv1.TCPProtocolType:
		l.kinds = []*object.Kind{object.TCPRoute}
	default:
		return
	}
	if l.AllowedRoutes == nil || len(l.AllowedRoutes.Kinds) == 0 {
		return
	}
	var some []*object.Kind
	for i, want := range l.AllowedRoutes.Kinds {
		at := slices.IndexFunc(l.kinds, func(k *object.Kind) bool {
			return k.Name == string(want.Kind) && k.Group == string(val(want.Group, gatewayv1.GroupName))
		})
		if at < 0 {
			l.refs = Condition{Type: "ResolvedRefs", Reason: string(gatewayv1.ListenerReasonInvalidRouteKinds),
				Message: fmt.Sprintf("allowedRoutes.kinds[%d]: %s is no kind that a listener of protocol %s takes", i, want.Kind, l.Protocol)}
			continue
		}
		if !slices.Contains(some, l.kinds[at]) {
			some = append(some, l.kinds[at])
		}
	}
	l.kinds = some
}

// clash notes what is wrong with two listeners of one port. Neither wins
// (Gateway API v1, GatewaySpec.Listeners, Handling indistinct Listeners).
func clash(x, y *listener) {
	if x.Port != y.Port || x.Protocol == gatewayv1.UDPProtocolType || y.Protocol == gatewayv1.UDPProtocolType {
		return
	}
	conflict := func(reason gatewayv1.ListenerConditionReason, what string) {
		for _, pair := range [][2]*listener{{x, y}, {y, x}} {
			if l, o := pair[0], pair[1]; !l.conflict.True {
				l.conflict = Condition{Type: "Conflicted", True: true, Reason: string(reason), Message: fmt.Sprintf("port %d: listener %s has %s", l.Port, o.Name, what)}
			}
		}
	}
	tcp := gatewayv1.TCPProtocolType
	switch {
	case x.Protocol == tcp || y.Protocol == tcp:
		conflict(gatewayv1.ListenerReasonProtocolConflict, "it too, and TCP shares a port with nothing")
	case x.tls() != y.tls():
		conflict(gatewayv1.ListenerReasonProtocolConflict, "it too, with TLS on one side only")
	case x.Protocol != y.Protocol && !x.passthrough() && !y.passthrough():
		conflict(gatewayv1.ListenerReasonProtocolConflict, "it too, and HTTPS shares a port with TLS only when that has mode Passthrough")
	case x.host == y.host && x.Protocol != y.Protocol:
		conflict(gatewayv1.ListenerReasonProtocolConflict, "the same hostname with another protocol")
	case x.host == y.host:
		conflict(gatewayv1.ListenerReasonHostnameConflict, "the same hostname")
	case x.tls() && intersect(x.host, y.host) != "":
		for _, pair := range [][2]*listener{{x, y}, {y, x}} {
			if l, o := pair[0], pair[1]; l.overlap == "" {
				l.overlap = string(o.Name)
			} else {
				l.overlap += ", " + string(o.Name)
			}
		}
	}
}

func secretName(namespace string, r *gatewayv1.SecretObjectReference) mesh.Name {
	return mesh.Name{Namespace: string(val(r.Namespace, gatewayv1.Namespace(namespace))), Name: string(r.Name)}
}

// secretsOf are the secrets that a gateway names.
func secretsOf(g *gatewayv1.Gateway) map[mesh.Name]bool {
	out := map[mesh.Name]bool{}
	for i := range g.Spec.Listeners {
		if t := g.Spec.Listeners[i].TLS; t != nil {
			for j := range t.CertificateRefs {
				out[secretName(g.Namespace, &t.CertificateRefs[j])] = true
			}
		}
	}
	return out
}

// certificates resolves a listener's certificates. The first is for its
// hostname, further ones for the names of it that they are made out for.
func (b *Builder) certificates(n mesh.Name, l *listener) {
	if l.TLS == nil || len(l.TLS.CertificateRefs) == 0 {
		l.refs = unresolved(l.refs, string(gatewayv1.ListenerReasonInvalidCertificateRef), "tls.certificateRefs is missing: name a Secret of type kubernetes.io/tls")
		return
	}
	for i := range l.TLS.CertificateRefs {
		cert, reason, message := b.certificate(n, &l.TLS.CertificateRefs[i])
		if message != "" {
			l.refs = unresolved(l.refs, string(reason), fmt.Sprintf("tls.certificateRefs[%d]: %s", i, message))
			continue
		}
		cert.Hostnames = []string{l.host}
		if len(l.certs) > 0 {
			if cert.Hostnames = namesOf(cert.Chain, l.host); len(cert.Hostnames) == 0 {
				continue // nobody asks for it here
			}
		}
		l.certs = append(l.certs, cert)
	}
}

func (b *Builder) certificate(gateway mesh.Name, r *gatewayv1.SecretObjectReference) (cert mesh.Certificate, reason gatewayv1.ListenerConditionReason, message string) {
	bad := func(reason gatewayv1.ListenerConditionReason, format string, args ...any) (mesh.Certificate, gatewayv1.ListenerConditionReason, string) {
		return mesh.Certificate{}, reason, fmt.Sprintf(format, args...)
	}
	const invalid = gatewayv1.ListenerReasonInvalidCertificateRef
	if val(r.Kind, "Secret") != "Secret" || val(r.Group, "") != "" {
		return bad(invalid, "%s of group %q: want a Secret", val(r.Kind, "Secret"), val(r.Group, ""))
	}
	n := secretName(gateway.Namespace, r)
	if n.Namespace != gateway.Namespace && !b.granted(Ref{object.Gateway, gateway}, Ref{object.Secret, n}) {
		return bad(gatewayv1.ListenerReasonRefNotPermitted, "Secret %s is in another namespace than the Gateway: put it in %s, or a ReferenceGrant in %s", n, gateway.Namespace, n.Namespace)
	}
	s := b.secrets[n]
	if s == nil {
		return bad(invalid, "there is no Secret %s in namespace %s", n.Name, n.Namespace)
	}
	if s.Type != corev1.SecretTypeTLS {
		return bad(invalid, "Secret %s is of type %s: want %s", n, s.Type, corev1.SecretTypeTLS)
	}
	cert = mesh.Certificate{Chain: s.Data[corev1.TLSCertKey], Key: s.Data[corev1.TLSPrivateKeyKey]}
	if _, err := tls.X509KeyPair(cert.Chain, cert.Key); err != nil {
		return bad(invalid, "Secret %s has no certificate and key that fit each other: %s", n, strings.TrimPrefix(err.Error(), "tls: "))
	}
	return cert, "", ""
}

// namesOf are the names within host that a certificate is made out for.
func namesOf(chain []byte, host string) []string {
	block, _ := pem.Decode(chain)
	if block == nil {
		return nil
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil
	}
	var out []string
	for _, name := range c.DNSNames {
		if h := intersect(host, strings.ToLower(name)); h != "" && !slices.Contains(out, h) {
			out = append(out, h)
		}
	}
	slices.SortFunc(out, cmp.Compare[string])
	return out
}
