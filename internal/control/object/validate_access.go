package object

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"k8s.io/apimachinery/pkg/util/validation"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/identity"
)

// networks checks addresses of networks.
func (is *issues) networks(field string, list []string) {
	for i, s := range list {
		if p, err := netip.ParsePrefix(s); err != nil {
			is.add(fmt.Sprintf("%s[%d]", field, i), "%q: want a network such as 10.0.0.0/8", s)
		} else if p != p.Masked() {
			is.add(fmt.Sprintf("%s[%d]", field, i), "%q: has bits beyond its length: write %s", s, p.Masked())
		}
	}
}

// callers checks SERVICE-ACCOUNT.NAMESPACE and *.NAMESPACE.
func (is *issues) callers(field string, list []string) {
	for i, s := range list {
		account, namespace, ok := strings.Cut(s, ".")
		if !ok || account == "" || namespace == "" || strings.Contains(namespace, ".") || strings.Contains(account, "*") && account != "*" {
			is.add(fmt.Sprintf("%s[%d]", field, i), "%q: want SERVICE-ACCOUNT.NAMESPACE, or *.NAMESPACE for all of a namespace", s)
		}
	}
}

func (is *issues) spiffe(field string, list []string, wildcard bool) {
	for i, s := range list {
		at := fmt.Sprintf("%s[%d]", field, i)
		if prefix, ok := strings.CutSuffix(s, "*"); ok && wildcard {
			if !strings.HasPrefix(prefix, "spiffe://") || strings.Contains(prefix, "*") {
				is.add(at, "%q: want a SPIFFE id, or its beginning and a final *", s)
			}
			continue
		}
		if _, err := identity.Parse(s); err != nil {
			is.add(at, "%s", err)
		}
	}
}

func validateAccessPolicy(p *v1alpha1.AccessPolicy) []Issue {
	is := issues(validateTargets(p.Namespace, p.Spec.TargetRefs))
	for i := range p.Spec.Rules {
		r, at := &p.Spec.Rules[i], fmt.Sprintf("spec.rules[%d]", i)
		for j := range r.From {
			s, at := &r.From[j], fmt.Sprintf("%s.from[%d]", at, j)
			is.callers(at+".callers", s.Callers)
			is.callers(at+".notCallers", s.NotCallers)
			is.spiffe(at+".identities", s.Identities, true)
			is.spiffe(at+".notIdentities", s.NotIdentities, true)
			is.networks(at+".networks", s.Networks)
			is.networks(at+".notNetworks", s.NotNetworks)
			for k, d := range s.TrustDomains {
				if _, err := identity.ParseTrustDomain(d); err != nil {
					is.add(fmt.Sprintf("%s.trustDomains[%d]", at, k), "%s", err)
				}
			}
		}
		for j := range r.To {
			for k, m := range r.To[j].GRPC {
				service, method, ok := strings.Cut(m, "/")
				if !ok || service == "" || method == "" || strings.Contains(method, "/") || service == "*" && method == "*" ||
					strings.Contains(strings.ReplaceAll(m, "*", ""), "*") || strings.Contains(service, "*") && service != "*" || strings.Contains(method, "*") && method != "*" {
					is.add(fmt.Sprintf("%s.to[%d].grpc[%d]", at, j, k), "%q: want SERVICE/METHOD, SERVICE/* or */METHOD", m)
				}
			}
		}
	}
	return is
}

func validateAuthenticationPolicy(p *v1alpha1.AuthenticationPolicy) []Issue {
	is := issues(validateTargets(p.Namespace, p.Spec.TargetRefs))
	if p.Spec.MutualTLS == "" && p.Spec.JWT == nil && p.Spec.External == nil {
		is.add("spec", "says nothing: want mutualTLS, jwt or external")
	}
	for i := range p.Spec.TargetRefs {
		if k := p.Spec.TargetRefs[i].Kind; p.Spec.MutualTLS != "" && k != "Mesh" && k != "Namespace" && k != "Service" {
			is.add("spec.mutualTLS", "is for a Mesh, Namespace or Service: %s has no proxy of its own", k)
		}
	}
	if p.Spec.JWT != nil {
		seen := map[string]bool{}
		for i := range p.Spec.JWT.Issuers {
			s, at := &p.Spec.JWT.Issuers[i], fmt.Sprintf("spec.jwt.issuers[%d]", i)
			if seen[s.Issuer] {
				is.add(at+".issuer", "%q is there twice", s.Issuer)
			}
			seen[s.Issuer] = true
			if s.JWKS != "" && s.JWKSURI != "" {
				is.add(at+".jwks", "is written down, and jwksURI says where it is: keep one of them")
			}
			if s.JWKS != "" {
				var set jose.JSONWebKeySet
				if err := json.Unmarshal([]byte(s.JWKS), &set); err != nil {
					is.add(at+".jwks", "isn't a JWK set (RFC 7517): %s", err)
				} else if len(set.Keys) == 0 {
					is.add(at+".jwks", "is a JWK set without a key")
				}
			}
			if s.JWKSURI != "" {
				is.tokenKeys(at+".jwksURI", s.JWKSURI)
			}
			if s.JWKS == "" && s.JWKSURI == "" {
				is.tokenKeys(at+".issuer", s.Issuer)
			}
			if s.JWKS == "" && len(s.Audiences) == 0 && strings.HasPrefix(cmp.Or(s.JWKSURI, s.Issuer), "spiffe://") {
				is.add(at+".audiences", "are missing: whoever a JWT-SVID was shown to could show it here")
			}
		}
	}
	return is
}

// tokenKeys checks whose keys tokens are judged by: a trust domain's, or those at a URL.
func (is *issues) tokenKeys(field, s string) {
	domain, ok := strings.CutPrefix(s, "spiffe://")
	if !ok {
		is.keysURL(field, s)
		return
	}
	if _, err := identity.ParseTrustDomain(domain); err != nil {
		is.add(field, "%q: want spiffe://TRUST-DOMAIN: %s", s, err)
	}
}

// keysURL checks where keys are fetched from: over TLS, or from this machine.
func (is *issues) keysURL(field, s string) {
	if strings.HasPrefix(s, "https://") || strings.HasPrefix(s, "http://127.0.0.1") || strings.HasPrefix(s, "http://localhost") || strings.HasPrefix(s, "http://[::1]") {
		return
	}
	is.add(field, "%q: want an https URL, for the keys that tokens are judged by come from there", s)
}

func validateEgressPolicy(p *v1alpha1.EgressPolicy) []Issue {
	is := issues(validateTargets(p.Namespace, p.Spec.TargetRefs))
	for i := range p.Spec.TargetRefs {
		if k := p.Spec.TargetRefs[i].Kind; k != "Mesh" && k != "Namespace" {
			is.add(fmt.Sprintf("spec.targetRefs[%d].kind", i), "%q: want Mesh or Namespace: who calls", k)
		}
	}
	for i := range p.Spec.To {
		d, at := &p.Spec.To[i], fmt.Sprintf("spec.to[%d]", i)
		if len(d.Hosts)+len(d.Networks) == 0 {
			is.add(at, "names nothing: want hosts or networks")
		}
		for j, h := range d.Hosts {
			if len(validation.IsDNS1123Subdomain(strings.TrimPrefix(h, "*."))) > 0 {
				is.add(fmt.Sprintf("%s.hosts[%d]", at, j), "%q: want a DNS name in lower case, or *. and one", h)
			}
		}
		is.networks(at+".networks", d.Networks)
		is.callers(at+".callers", d.Callers)
		for j, port := range d.Ports {
			is.port(fmt.Sprintf("%s.ports[%d]", at, j), port)
		}
		if d.TLS != nil && len(d.Hosts) == 0 && d.TLS.ServerName == "" {
			is.add(at+".tls.serverName", "is missing: a network has no name that could be verified")
		}
	}
	return is
}

func validateOperator(o *v1alpha1.Operator) []Issue {
	var is issues
	is.spiffe("spec.identities", o.Spec.Identities, false)
	if len(o.Spec.Identities)+len(o.Spec.Tokens)+len(o.Spec.OIDC) == 0 && o.Name == "" {
		is.add("spec", "names nobody: want identities, tokens or oidc")
	}
	for i := range o.Spec.OIDC {
		is.keysURL(fmt.Sprintf("spec.oidc[%d].issuer", i), o.Spec.OIDC[i].Issuer)
	}
	return is
}
