package cli

import (
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/control/object"
)

// trafficColumns are the columns of routes, policies and what belongs to them.
func (a *app) trafficColumns(kind *object.Kind) (columns, more []column) {
	switch kind {
	case object.HTTPRoute:
		columns = []column{
			col("HOSTNAMES", func(r *gatewayv1.HTTPRoute) string { return joined(r.Spec.Hostnames) }),
			col("PARENTS", func(r *gatewayv1.HTTPRoute) string { return parents(&r.Spec.CommonRouteSpec) }),
			col("RULES", func(r *gatewayv1.HTTPRoute) string { return strconv.Itoa(len(r.Spec.Rules)) }),
			col("ACCEPTED", func(r *gatewayv1.HTTPRoute) string { return a.byParents(&r.Status.RouteStatus) }),
		}
		more = []column{col("BACKENDS", func(r *gatewayv1.HTTPRoute) string {
			return backends(r.Spec.Rules, func(rule *gatewayv1.HTTPRouteRule) []gatewayv1.BackendRef {
				return refsOf(rule.BackendRefs, func(b *gatewayv1.HTTPBackendRef) gatewayv1.BackendRef { return b.BackendRef })
			})
		})}
	case object.GRPCRoute:
		columns = []column{
			col("HOSTNAMES", func(r *gatewayv1.GRPCRoute) string { return joined(r.Spec.Hostnames) }),
			col("PARENTS", func(r *gatewayv1.GRPCRoute) string { return parents(&r.Spec.CommonRouteSpec) }),
			col("RULES", func(r *gatewayv1.GRPCRoute) string { return strconv.Itoa(len(r.Spec.Rules)) }),
			col("ACCEPTED", func(r *gatewayv1.GRPCRoute) string { return a.byParents(&r.Status.RouteStatus) }),
		}
		more = []column{col("BACKENDS", func(r *gatewayv1.GRPCRoute) string {
			return backends(r.Spec.Rules, func(rule *gatewayv1.GRPCRouteRule) []gatewayv1.BackendRef {
				return refsOf(rule.BackendRefs, func(b *gatewayv1.GRPCBackendRef) gatewayv1.BackendRef { return b.BackendRef })
			})
		})}
	case object.TLSRoute:
		columns = []column{
			col("HOSTNAMES", func(r *gatewayv1.TLSRoute) string { return joined(r.Spec.Hostnames) }),
			col("PARENTS", func(r *gatewayv1.TLSRoute) string { return parents(&r.Spec.CommonRouteSpec) }),
			col("ACCEPTED", func(r *gatewayv1.TLSRoute) string { return a.byParents(&r.Status.RouteStatus) }),
		}
		more = []column{col("BACKENDS", func(r *gatewayv1.TLSRoute) string {
			return backends(r.Spec.Rules, func(rule *gatewayv1.TLSRouteRule) []gatewayv1.BackendRef { return rule.BackendRefs })
		})}
	case object.TCPRoute:
		columns = []column{
			col("PARENTS", func(r *gatewayv1.TCPRoute) string { return parents(&r.Spec.CommonRouteSpec) }),
			col("ACCEPTED", func(r *gatewayv1.TCPRoute) string { return a.byParents(&r.Status.RouteStatus) }),
		}
		more = []column{col("BACKENDS", func(r *gatewayv1.TCPRoute) string {
			return backends(r.Spec.Rules, func(rule *gatewayv1.TCPRouteRule) []gatewayv1.BackendRef { return rule.BackendRefs })
		})}
	case object.ReferenceGrant:
		columns = []column{col("FROM", grantFrom), col("TO", grantTo)}
	case object.TrafficPolicy:
		columns = []column{
			col("TARGETS", func(p *v1alpha1.TrafficPolicy) string { return targets(p.Spec.TargetRefs) }),
			col("ACCEPTED", func(p *v1alpha1.TrafficPolicy) string { return a.byAncestors(&p.Status) }),
		}
	case object.RateLimitPolicy:
		columns = []column{
			col("TARGETS", func(p *v1alpha1.RateLimitPolicy) string { return targets(p.Spec.TargetRefs) }),
			col("LIMITS", limits),
			col("ACCEPTED", func(p *v1alpha1.RateLimitPolicy) string { return a.byAncestors(&p.Status) }),
		}
	case object.AccessPolicy:
		columns = []column{
			col("TARGETS", func(p *v1alpha1.AccessPolicy) string { return targets(p.Spec.TargetRefs) }),
			col("ACTION", func(p *v1alpha1.AccessPolicy) string {
				if p.Spec.Mode == v1alpha1.AccessAudit {
					return string(p.Spec.Action) + " (audit)"
				}
				return string(p.Spec.Action)
			}),
			col("RULES", func(p *v1alpha1.AccessPolicy) string { return strconv.Itoa(len(p.Spec.Rules)) }),
			col("ACCEPTED", func(p *v1alpha1.AccessPolicy) string { return a.byAncestors(&p.Status) }),
		}
		more = []column{col("DEFAULT", func(p *v1alpha1.AccessPolicy) string { return orDash(string(p.Spec.Default)) })}
	case object.AuthenticationPolicy:
		columns = []column{
			col("TARGETS", func(p *v1alpha1.AuthenticationPolicy) string { return targets(p.Spec.TargetRefs) }),
			col("MUTUAL_TLS", func(p *v1alpha1.AuthenticationPolicy) string { return orDash(string(p.Spec.MutualTLS)) }),
			col("JWT", func(p *v1alpha1.AuthenticationPolicy) string {
				if p.Spec.JWT == nil {
					return "-"
				}
				return strconv.Itoa(len(p.Spec.JWT.Issuers)) + " issuers"
			}),
			col("ACCEPTED", func(p *v1alpha1.AuthenticationPolicy) string { return a.byAncestors(&p.Status) }),
		}
	case object.FaultPolicy:
		columns = []column{
			col("TARGETS", func(p *v1alpha1.FaultPolicy) string { return targets(p.Spec.TargetRefs) }),
			col("FAULTS", func(p *v1alpha1.FaultPolicy) string { return strconv.Itoa(len(p.Spec.Faults)) }),
			col("UNTIL", until),
			col("ACCEPTED", func(p *v1alpha1.FaultPolicy) string { return a.byAncestors(&p.Status) }),
		}
	}
	return columns, more
}

func parents(spec *gatewayv1.CommonRouteSpec) string {
	var all []string
	for _, p := range spec.ParentRefs {
		kind := "gateway"
		if p.Kind != nil {
			kind = strings.ToLower(string(*p.Kind))
		}
		all = append(all, kind+"/"+string(p.Name))
	}
	return strings.Join(all, ",")
}

func (a *app) byParents(s *gatewayv1.RouteStatus) string {
	var all []metav1.Condition
	for _, p := range s.Parents {
		all = append(all, p.Conditions...)
	}
	return a.condition(all, "Accepted")
}

func (a *app) byAncestors(s *gatewayv1.PolicyStatus) string {
	var all []metav1.Condition
	for _, p := range s.Ancestors {
		all = append(all, p.Conditions...)
	}
	return a.condition(all, "Accepted")
}

func refsOf[T any](in []T, ref func(*T) gatewayv1.BackendRef) []gatewayv1.BackendRef {
	var out []gatewayv1.BackendRef
	for i := range in {
		out = append(out, ref(&in[i]))
	}
	return out
}

// backends are those of all rules, each once, with weights where a rule has several.
func backends[T any](rules []T, refs func(*T) []gatewayv1.BackendRef) string {
	var all []string
	for i := range rules {
		of := refs(&rules[i])
		for _, b := range of {
			text := string(b.Name)
			if b.Port != nil {
				text += ":" + strconv.Itoa(int(*b.Port))
			}
			if b.Weight != nil && len(of) > 1 {
				text += "=" + strconv.Itoa(int(*b.Weight))
			}
			if !slices.Contains(all, text) {
				all = append(all, text)
			}
		}
	}
	return strings.Join(all, ",")
}

func grantFrom(g *gatewayv1.ReferenceGrant) string {
	var all []string
	for _, f := range g.Spec.From {
		all = append(all, strings.ToLower(string(f.Kind))+"."+string(f.Namespace))
	}
	return strings.Join(all, ",")
}

func grantTo(g *gatewayv1.ReferenceGrant) string {
	var all []string
	for _, t := range g.Spec.To {
		text := strings.ToLower(string(t.Kind))
		if t.Name != nil {
			text += "/" + string(*t.Name)
		}
		all = append(all, text)
	}
	return strings.Join(all, ",")
}

func targets(refs []v1alpha1.TargetRef) string {
	var all []string
	for _, r := range refs {
		text := strings.ToLower(string(r.Kind)) + "/" + string(r.Name)
		if r.SectionName != nil {
			text += "#" + string(*r.SectionName)
		}
		all = append(all, text)
	}
	return strings.Join(all, ",")
}

func limits(p *v1alpha1.RateLimitPolicy) string {
	var all []string
	for i := range p.Spec.Limits {
		l := &p.Spec.Limits[i]
		text := strconv.Itoa(int(l.Requests))
		if l.Per != nil {
			text += "/" + string(*l.Per)
		}
		all = append(all, text)
	}
	return strings.Join(all, ",")
}

// until is when a policy's faults end, if they do.
func until(p *v1alpha1.FaultPolicy) string {
	switch {
	case p.Spec.Until != nil:
		return p.Spec.Until.UTC().Format(time.RFC3339)
	case p.Spec.Duration != nil:
		if d, err := object.Duration(*p.Spec.Duration); err == nil && !p.CreationTimestamp.IsZero() {
			return p.CreationTimestamp.Add(d).UTC().Format(time.RFC3339)
		}
	}
	return ""
}
