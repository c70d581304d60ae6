package graph

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/policy"
)

const (
	// externalTimeout is how long another program may think about a request.
	externalTimeout = 200 * time.Millisecond
	// maxKeys bounds an issuer's keys, in bytes, as views do.
	maxKeys = 64 << 10
	// discovery is where an OpenID Connect issuer says where its keys are.
	discovery = "/.well-known/openid-configuration"
)

// authentication is what AuthenticationPolicies come to; what nobody says is nil.
type authentication struct {
	mutual   mesh.MutualTLS
	jwt      *policy.JWT
	external *policy.External
	sources  []mesh.FieldSource
}

// authenticationOf works out what holds along some levels: field by field the
// nearest, and of several for one target the oldest.
func (b *Builder) authenticationOf(levels []level) *authentication {
	out := &authentication{}
	if len(b.policies) == 0 {
		return out
	}
	for _, l := range levels {
		for _, p := range b.policiesFor(l) {
			s := p.auth
			if s == nil {
				continue
			}
			say := func(field, value string) {
				out.sources = append(out.sources, mesh.FieldSource{Field: field, Value: value, From: objectName(p.Ref)})
			}
			if m := mutualTLS(s.MutualTLS); m != 0 && out.mutual == 0 && hasProxy(l.Kind) {
				out.mutual = m
				say("mutualTLS", string(s.MutualTLS))
			}
			if s.JWT != nil && out.jwt == nil {
				out.jwt = b.jwtOf(p)
				var names []string
				for i := range s.JWT.Issuers {
					names = append(names, s.JWT.Issuers[i].Issuer)
				}
				say("jwt", strings.Join(names, ", "))
			}
			if s.External != nil && out.external == nil {
				out.external, _ = b.externalOf(p)
				say("external", out.external.Destination)
			}
		}
	}
	return out
}

// hasProxy says whether a target is workloads, with proxies that take mutual TLS.
func hasProxy(k *object.Kind) bool {
	return k == object.Mesh || k == object.Namespace || k == object.Service
}

// mutualTLS reads a mode; one that is unknown is strict.
func mutualTLS(m v1alpha1.MutualTLS) mesh.MutualTLS {
	switch m {
	case "":
		return 0
	case v1alpha1.MutualTLSPermissive:
		return mesh.MutualPermissive
	case v1alpha1.MutualTLSOff:
		return mesh.MutualOff
	}
	return mesh.MutualStrict
}

func (b *Builder) jwtOf(p *anyPolicy) *policy.JWT {
	out, s := b.tokens[p], p.auth.JWT
	if out != nil {
		return out
	}
	out = &policy.JWT{Required: s.Required}
	b.tokens[p] = out
	for i := range s.Issuers {
		u := &s.Issuers[i]
		to := policy.Issuer{Name: u.Issuer, Audiences: u.Audiences, Forward: u.Forward, Keys: []byte(u.JWKS)}
		if url := keysURL(u); url != "" {
			to.Keys = b.keys[url]
			if domain, ok := strings.CutPrefix(url, "spiffe://"); ok {
				to.Domain, _, _ = strings.Cut(domain, "/")
			}
		}
		if len(to.Keys) > maxKeys {
			to.Keys = nil
		}
		for _, h := range u.FromHeaders {
			to.Headers = append(to.Headers, policy.TokenHeader{Name: string(h.Name), Prefix: h.Prefix})
		}
		for _, c := range u.ClaimHeaders {
			to.Claims = append(to.Claims, policy.ClaimHeader{Claim: c.Claim, Header: string(c.Header)})
		}
		out.Issuers = append(out.Issuers, to)
	}
	return out
}

// keysURL is where an issuer's keys come from: a JWK set, or a document that says
// where that is. It is "" for keys that are written down.
func keysURL(u *v1alpha1.JWTIssuer) string {
	switch {
	case u.JWKS != "":
		return ""
	case u.JWKSURI != "":
		return u.JWKSURI
	}
	return strings.TrimSuffix(u.Issuer, "/") + discovery
}

// KeyURLs are where the issuers that policies name have their keys, sorted: JWK
// sets, or documents of OpenID Connect Discovery.
func (b *Builder) KeyURLs() []string {
	urls := map[string]bool{}
	for _, p := range b.policies {
		if p.auth == nil || p.auth.JWT == nil {
			continue
		}
		for i := range p.auth.JWT.Issuers {
			if u := keysURL(&p.auth.JWT.Issuers[i]); u != "" {
				urls[u] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(urls))
}

// Keys takes in the JWK sets that issuers publish now, by their URL (see KeyURLs).
// The next Apply makes use of them.
func (b *Builder) Keys(keys map[string][]byte) { b.fetched = keys }

// takeKeys marks what is made of keys that changed.
func (b *Builder) takeKeys() {
	if b.fetched == nil {
		return
	}
	old := b.keys
	b.keys, b.fetched = b.fetched, nil
	clear(b.tokens)
	for _, p := range b.policies {
		if p.auth == nil || p.auth.JWT == nil {
			continue
		}
		for i := range p.auth.JWT.Issuers {
			if u := keysURL(&p.auth.JWT.Issuers[i]); u != "" && string(old[u]) != string(b.keys[u]) {
				b.touchPolicy(p)
				break
			}
		}
	}
}

// externalOf says whom a policy has asked. A reference that may not be made leads
// nowhere, and then nothing passes.
func (b *Builder) externalOf(p *anyPolicy) (*policy.External, string) {
	s := p.auth.External
	out := &policy.External{GRPC: s.Protocol != v1alpha1.ExternalHTTP, Path: s.Path, Timeout: externalTimeout, FailOpen: s.FailOpen}
	setDuration(&out.Timeout, s.Timeout)
	if out.Timeout <= 0 {
		out.Timeout = externalTimeout
	}
	for _, h := range s.SendHeaders {
		out.Send = append(out.Send, string(h))
	}
	for _, h := range s.TakeHeaders {
		out.Take = append(out.Take, string(h))
	}
	var why string
	if out.Destination, why = b.asked(p, &s.BackendRef); out.Destination == "" {
		out.FailOpen = false
	}
	return out, why
}

// asked is the port that a policy has asked, empty when it may not be, and what is
// wrong with it.
func (b *Builder) asked(p *anyPolicy, ref *gatewayv1.BackendObjectReference) (key, why string) {
	n, port := askedService(p, ref)
	switch {
	case port == 0:
		return "", "backendRef: want a Service and its port"
	case n.Namespace != p.Name.Namespace && !b.granted(p.Ref, Ref{object.Service, n}):
		return "", fmt.Sprintf("backendRef: Service %s is in another namespace than the policy: put a ReferenceGrant in %s", n, n.Namespace)
	}
	if findPort(b.services[n], port) == nil {
		why = "backendRef: " + b.missing(n, port)
	}
	return fmt.Sprintf("%s:%d", n, port), why
}

// askedService is the Service that a policy has asked, port 0 when it names none.
func askedService(p *anyPolicy, ref *gatewayv1.BackendObjectReference) (mesh.Name, int32) {
	n := mesh.Name{Namespace: string(val(ref.Namespace, gatewayv1.Namespace(p.Name.Namespace))), Name: string(ref.Name)}
	if val(ref.Kind, "Service") != "Service" || val(ref.Group, "") != "" {
		return n, 0
	}
	return n, val(ref.Port, 0)
}

// touchAsked marks the policies that ask a Service, by its namespace when name is
// empty, and what they are for.
func (b *Builder) touchAsked(namespace, name string) {
	for _, p := range b.policies {
		ref := p.counter
		if p.auth != nil && p.auth.External != nil {
			ref = &p.auth.External.BackendRef
		}
		if ref == nil {
			continue
		}
		if n, _ := askedService(p, ref); n.Namespace == namespace && (name == "" || n.Name == name) {
			b.touchPolicy(p)
		}
	}
}

// authenticationTaken says what a target takes of an AuthenticationPolicy.
func (b *Builder) authenticationTaken(p *anyPolicy, t section) []Condition {
	said := map[string]string{} // fields that older ones say, and which
	var lost, wrong []string
	took := 0
	for _, o := range b.policiesFor(t) {
		if o.auth == nil {
			continue
		}
		for _, field := range authFields(o.auth) {
			by, there := said[field]
			switch {
			case o == p && there:
				lost = append(lost, field+" (of "+by+")")
			case o == p && field == "mutualTLS" && !hasProxy(t.Kind):
				wrong = append(wrong, fmt.Sprintf("spec.mutualTLS: a %s has no proxy of its own", t.Kind.Name))
			case o == p && field != "mutualTLS" && b.serviceOfRoute(t) != "":
				wrong = append(wrong, fmt.Sprintf("spec.%s: the route's parent is a Service, and its rules are for callers' proxies, which aren't asked for proof: target %s%s", field, b.serviceOfRoute(t),
					map[string]string{"jwt": ", and ask for a claim at this route with an AccessPolicy (when)"}[field]))
				took++
			case o == p:
				took++
			}
			if !there {
				said[field] = objectName(o.Ref)
			}
		}
		if o == p {
			break
		}
	}
	if len(wrong) > 0 {
		return []Condition{{Type: "Accepted", Reason: string(gatewayv1.PolicyReasonInvalid), Message: strings.Join(wrong, "; ")}}
	}
	out := []Condition{accepted(string(gatewayv1.PolicyReasonAccepted))}
	switch {
	case len(lost) > 0 && took == 0:
		return []Condition{{Type: "Accepted", Reason: string(gatewayv1.PolicyReasonConflicted), Message: "older policies for the same target say all of it: " + strings.Join(lost, ", ")}}
	case len(lost) > 0:
		out = append(out, Condition{Type: "Conflicted", True: true, Reason: string(gatewayv1.PolicyReasonConflicted),
			Message: "older policies for the same target win for some fields: " + strings.Join(lost, ", ")})
	}
	refs := resolved()
	if p.auth.JWT != nil {
		for i := range p.auth.JWT.Issuers {
			if u := keysURL(&p.auth.JWT.Issuers[i]); u != "" && len(b.keys[u]) == 0 {
				refs = unresolved(refs, "NoKeys", fmt.Sprintf("spec.jwt.issuers[%d]: no keys from %s yet: until then its tokens are refused", i, u))
			}
		}
	}
	if p.auth.External != nil {
		if _, why := b.externalOf(p); why != "" {
			refs = unresolved(refs, string(gatewayv1.RouteReasonBackendNotFound), "spec.external."+why)
		}
	}
	if p.auth.JWT != nil || p.auth.External != nil {
		out = append(out, refs)
	}
	return out
}

func authFields(s *v1alpha1.AuthenticationPolicySpec) []string {
	var out []string
	if s.MutualTLS != "" {
		out = append(out, "mutualTLS")
	}
	if s.JWT != nil {
		out = append(out, "jwt")
	}
	if s.External != nil {
		out = append(out, "external")
	}
	return out
}

// serviceOfRoute is the Service among a route's parents; empty when there is none.
func (b *Builder) serviceOfRoute(t section) string {
	r := b.routes[t.Ref]
	if r == nil {
		return ""
	}
	for i := range r.parents {
		if parent, _ := r.parentOf(&r.parents[i]); parent.Kind == object.Service {
			return "Service " + parent.Name.String()
		}
	}
	return ""
}
