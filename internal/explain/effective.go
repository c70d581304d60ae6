package explain

import (
	"slices"
	"strings"

	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/route"
)

// Effective is a set of policies that are in force somewhere.
type Effective struct {
	// At is the service port, "cart.default:8080", or the gateway's listener.
	At string `json:"at"`
	// Rule is the rule that it is for; empty is what holds for all requests whose
	// rule says nothing.
	Rule string `json:"rule,omitempty"`
	// Request goes with requests, Upstream with the endpoints; Inbound is what the
	// serving proxies keep to.
	Request  []Field `json:"request,omitempty"`
	Upstream []Field `json:"upstream,omitempty"`
	Inbound  []Field `json:"inbound,omitempty"`
}

// ServicePolicies lists what is in force for a service, port by port, and for the
// rules of its routes that say something of their own.
func ServicePolicies(s *mesh.Snapshot, n mesh.Name) []Effective {
	svc := s.Services[n]
	if svc == nil {
		return nil
	}
	var out []Effective
	for _, p := range svc.Ports {
		at, sources := portText(n, p.Port), svc.Sources[p.Port]
		out = append(out, Effective{At: at,
			Request:  sourced(Request(svc.Request[p.Port]), sources, ""),
			Upstream: sourced(Upstream(svc.Upstream[p.Port]), sources, ""),
			Inbound:  sourced(append(mutualTLS(svc, p.Port), Inbound(svc.Inbound[p.Port])...), sources, ""),
		})
		specs := []route.Spec{svc.Routes[p.Port]}
		for _, ns := range sortedKeys(svc.Consumers) {
			specs = append(specs, svc.Consumers[ns][p.Port])
		}
		for i := range specs {
			out = append(out, rulePolicies(at, &specs[i], sources, "")...)
		}
	}
	return out
}

// RoutePolicies lists what is in force for the rules of a route, wherever it is
// attached; prefix is "httproute/NAMESPACE/NAME#".
func RoutePolicies(s *mesh.Snapshot, prefix string) []Effective {
	var out []Effective
	for _, n := range namesOf(s.Services) {
		svc := s.Services[n]
		for _, p := range svc.Ports {
			specs := []route.Spec{svc.Routes[p.Port]}
			for _, ns := range sortedKeys(svc.Consumers) {
				specs = append(specs, svc.Consumers[ns][p.Port])
			}
			for i := range specs {
				out = append(out, rulePolicies(portText(n, p.Port), &specs[i], svc.Sources[p.Port], prefix)...)
			}
		}
	}
	for _, n := range namesOf(s.Gateways) {
		g := s.Gateways[n]
		for i := range g.Listeners {
			l := &g.Listeners[i]
			for _, e := range rulePolicies("gateway "+n.String()+", "+l.Name, &l.Routes, g.Sources[l.Name], prefix) {
				// A listener may be there once for each address.
				if !slices.ContainsFunc(out, func(o Effective) bool { return o.At == e.At && o.Rule == e.Rule }) {
					out = append(out, e)
				}
			}
		}
	}
	return out
}

// rulePolicies are those of rules that have a policy of their own, each once.
func rulePolicies(at string, spec *route.Spec, sources []mesh.FieldSource, prefix string) []Effective {
	var out []Effective
	for i := range spec.Hosts {
		for j := range spec.Hosts[i].Rules {
			r := &spec.Hosts[i].Rules[j]
			if r.Policy == nil || !strings.HasPrefix(r.Name, prefix) || slices.ContainsFunc(out, func(e Effective) bool { return e.Rule == r.Name }) {
				continue
			}
			out = append(out, Effective{At: at, Rule: r.Name, Request: sourced(Request(r.Policy), sources, r.Name)})
		}
	}
	return out
}
