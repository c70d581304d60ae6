package graph

import (
	"maps"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// conditionAffected is of a route or Gateway that policies are for, so that whoever
// looks at it learns of them (GEP-713, Discoverability).
const conditionAffected = "tulle.dev/PolicyAffected"

// affected says which policies are for an object or a section of it.
func (b *Builder) affected(ref Ref, sections map[gatewayv1.SectionName]bool) []Condition {
	if len(b.policies) == 0 {
		return nil
	}
	names := map[string]bool{}
	add := func(t section) {
		for _, p := range b.policiesFor(t) {
			if p.egress != nil { // who calls out is the Mesh's or a Namespace's
				continue
			}
			names[objectName(p.Ref)] = true
		}
	}
	add(section{ref, ""})
	for s := range sections {
		add(section{ref, string(s)})
	}
	if len(names) == 0 {
		return nil
	}
	return []Condition{{Type: conditionAffected, True: true, Reason: "PolicyAffected", Message: strings.Join(slices.Sorted(maps.Keys(names)), ", ")}}
}

// listenerNames are the sections of a Gateway.
func listenerNames(g *gatewayv1.Gateway) map[gatewayv1.SectionName]bool {
	out := map[gatewayv1.SectionName]bool{}
	for i := range g.Spec.Listeners {
		out[g.Spec.Listeners[i].Name] = true
	}
	return out
}
