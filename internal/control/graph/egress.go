package graph

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/policy"
)

// caKey is where a Secret has certificates of authorities.
const caKey = "ca.crt"

// egressPorts are those of a destination that names none.
var egressPorts = []uint16{443, 80}

// buildEgress works out where the workloads of each namespace may call, and marks
// the proxies that are told otherwise than before. The nearest policy holds as a
// whole, and of several for one target the oldest.
func (b *Builder) buildEgress(next *mesh.Snapshot) {
	out := map[string]*mesh.Egress{}
	for t := range b.byTarget {
		if t.Kind != object.Mesh && t.Kind != object.Namespace || b.missingTarget(t) != "" {
			continue
		}
		p := b.egressFor(t)
		if p == nil {
			continue
		}
		namespace := t.Name.Name
		if t.Kind == object.Mesh {
			namespace = ""
		}
		e, _ := b.egressOf(p)
		if old := next.Egress[namespace]; old != nil && reflect.DeepEqual(old, e) {
			e = old
		}
		out[namespace] = e
	}
	changed := func(namespace string) bool { return next.Egress[namespace] != out[namespace] }
	// Where a namespace says nothing, before or now, the mesh's holds.
	differs := func(n mesh.Name) bool {
		return changed(n.Namespace) || out[n.Namespace] == nil && changed("")
	}
	for n := range next.Workloads {
		if differs(n) {
			b.dirty.changed.Egress[n] = true
		}
	}
	for n := range next.Gateways {
		if differs(n) {
			b.dirty.changed.Egress[n] = true
		}
	}
	if !maps.Equal(next.Egress, out) {
		next.Egress = out
	}
}

// egressFor is the policy that holds for exactly that target, nil when there is none.
func (b *Builder) egressFor(t section) *anyPolicy {
	if t.name != "" {
		return nil
	}
	for _, p := range b.policiesFor(t) {
		if p.egress != nil {
			return p
		}
	}
	return nil
}

// egressOf translates a policy. problems say what of it can't be kept to: calls
// that it is about are refused.
func (b *Builder) egressOf(p *anyPolicy) (out *mesh.Egress, problems []string) {
	s := p.egress
	out = &mesh.Egress{From: objectName(p.Ref), Allow: s.Default == v1alpha1.AccessAllow, Audit: s.Mode == v1alpha1.AccessAudit}
	for i := range s.To {
		to := &s.To[i]
		bad := func(format string, args ...any) {
			problems = append(problems, fmt.Sprintf("spec.to[%d]"+format, append([]any{i}, args...)...))
		}
		d := mesh.EgressDestination{Callers: to.Callers}
		d.Name = to.Name
		for j, h := range to.Hosts {
			if !isEgressHost(h) {
				bad(".hosts[%d]: %q is no DNS name in lower case, nor *. and one", j, h)
				continue
			}
			d.Hosts = append(d.Hosts, h)
		}
		for j, n := range to.Networks {
			prefix, err := netip.ParsePrefix(n)
			if err != nil || prefix.Addr().Is4In6() {
				bad(".networks[%d]: %q: want a network such as 10.0.0.0/8", j, n)
				continue
			}
			d.Networks = append(d.Networks, prefix.Masked().String())
		}
		if d.Name == "" {
			d.Name = slices.Concat(to.Hosts, to.Networks, []string{fmt.Sprint(i)})[0]
		}
		d.Ports = egressPorts
		if len(to.Ports) > 0 {
			d.Ports = nil
			for _, port := range to.Ports {
				d.Ports = append(d.Ports, uint16(port))
			}
		}
		if to.TLS != nil {
			var why string
			d.TLS, why = b.egressTLS(p.Ref, to.TLS)
			if why != "" {
				bad(".tls.%s: until it is right calls to it are refused", why)
				d.TLS, d.Refused = nil, true
			}
		}
		out.Destinations = append(out.Destinations, d)
	}
	return out, problems
}

// isEgressHost reports whether a host can be kept to: it is a name, not an address,
// for the latter say nothing of what is there.
func isEgressHost(h string) bool {
	name := strings.TrimPrefix(h, "*.")
	labels := strings.Split(name, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return len(name) <= 253 && strings.Trim(labels[len(labels)-1], "0123456789") != ""
}

// egressTLS resolves what TLS needs, or says what is missing.
func (b *Builder) egressTLS(from Ref, s *v1alpha1.EgressTLS) (out *policy.EgressTLS, why string) {
	out = &policy.EgressTLS{ServerName: s.ServerName}
	if r := s.CACertificateRef; r != nil {
		secret, why := b.egressSecret(from, r)
		if why != "" {
			return nil, "caCertificateRef: " + why
		}
		if out.Roots = secret.Data[caKey]; !x509.NewCertPool().AppendCertsFromPEM(out.Roots) {
			return nil, fmt.Sprintf("caCertificateRef: Secret %s has no certificate in %s", r.Name, caKey)
		}
	}
	if r := s.ClientCertificateRef; r != nil {
		secret, why := b.egressSecret(from, r)
		if why != "" {
			return nil, "clientCertificateRef: " + why
		}
		out.Certificate, out.Key = secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey]
		if _, err := tls.X509KeyPair(out.Certificate, out.Key); err != nil {
			return nil, fmt.Sprintf("clientCertificateRef: Secret %s has no certificate and key that fit each other: %s", r.Name, strings.TrimPrefix(err.Error(), "tls: "))
		}
	}
	return out, ""
}

// egressSecret finds a Secret that a policy names, or says why it may not.
func (b *Builder) egressSecret(from Ref, r *gatewayv1.SecretObjectReference) (*corev1.Secret, string) {
	if val(r.Kind, "Secret") != "Secret" || val(r.Group, "") != "" {
		return nil, fmt.Sprintf("%s of group %q: want a Secret", val(r.Kind, "Secret"), val(r.Group, ""))
	}
	n := secretName(from.Name.Namespace, r)
	if n.Namespace != from.Name.Namespace && !b.granted(from, Ref{object.Secret, n}) {
		return nil, fmt.Sprintf("Secret %s is in another namespace than the policy: put it in %s, or a ReferenceGrant in %s", n, from.Name.Namespace, n.Namespace)
	}
	s := b.secrets[n]
	if s == nil {
		return nil, fmt.Sprintf("there is no Secret %s in namespace %s", n.Name, n.Namespace)
	}
	return s, ""
}

// touchEgress marks the policies about calls that leave the mesh which name a
// Secret, by its namespace when name is empty.
func (b *Builder) touchEgress(namespace, name string) {
	for _, p := range b.policies {
		if p.egress == nil {
			continue
		}
		for i := range p.egress.To {
			t := p.egress.To[i].TLS
			if t == nil {
				continue
			}
			for _, r := range []*gatewayv1.SecretObjectReference{t.CACertificateRef, t.ClientCertificateRef} {
				if r == nil {
					continue
				}
				if n := secretName(p.Name.Namespace, r); n.Namespace == namespace && (name == "" || n.Name == name) {
					b.touchPolicy(p)
				}
			}
		}
	}
}

// egressTaken says what a target takes of an EgressPolicy.
func (b *Builder) egressTaken(p *anyPolicy, t section) []Condition {
	if t.Kind != object.Mesh && t.Kind != object.Namespace || t.name != "" {
		return []Condition{{Type: "Accepted", Reason: string(gatewayv1.PolicyReasonInvalid),
			Message: fmt.Sprintf("calls that leave the mesh are a matter of the Mesh or a Namespace: who calls, not %s %s", t.Kind.Name, t.Name.Name)}}
	}
	if first := b.egressFor(t); first != p {
		return []Condition{{Type: "Accepted", Reason: string(gatewayv1.PolicyReasonConflicted),
			Message: "an older policy for the same target holds: " + objectName(first.Ref)}}
	}
	ok := accepted(string(gatewayv1.PolicyReasonAccepted))
	if p.egress.Mode == v1alpha1.AccessAudit {
		ok.Message = "audit: what it would refuse is counted and let pass"
	}
	refs := resolved()
	if _, problems := b.egressOf(p); len(problems) > 0 {
		const most = 8
		if len(problems) > most {
			problems = append(problems[:most], fmt.Sprintf("and %d more", len(problems)-most))
		}
		refs = unresolved(refs, string(gatewayv1.PolicyReasonInvalid), strings.Join(problems, "; "))
	}
	return []Condition{ok, refs}
}
