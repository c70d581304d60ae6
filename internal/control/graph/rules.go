package graph

import (
	"fmt"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/route"
)

// use is one use of a route by a parent, which decides what its backends may be
// and which policies reach its rules. It gathers what there is to say about it.
type use struct {
	b *Builder
	r *anyRoute
	// gateway and listener, or service and port, are the parent.
	gateway  Ref
	listener gatewayv1.SectionName
	service  mesh.Name
	port     uint16
	portName string
	// policed fills in the rules' policies too; a status doesn't need them.
	policed bool

	refs    Condition // ResolvedRefs
	rules   []route.Rule
	invalid []problem // one for each rule that can't be done
	partial []problem // of backends that can't be used because of their filters
	total   int       // rules of the route
	sources []mesh.FieldSource
}

// useOf makes the rules that a route's parent gets.
func (b *Builder) useOf(u use) *use {
	u.b, u.refs = b, resolved()
	switch r := u.r; {
	case r.http != nil:
		u.http(r.http)
	case r.grpc != nil:
		u.grpc(r.grpc)
	case r.tls != nil:
		u.total = len(r.tls.Spec.Rules)
		for i := range r.tls.Spec.Rules {
			u.stream(i, r.tls.Spec.Rules[i].Name, r.tls.Spec.Rules[i].BackendRefs)
		}
	case r.tcp != nil:
		u.total = len(r.tcp.Spec.Rules)
		for i := range r.tcp.Spec.Rules {
			u.stream(i, r.tcp.Spec.Rules[i].Name, r.tcp.Spec.Rules[i].BackendRefs)
		}
	}
	return &u
}

func (u *use) newRule(i int, section *gatewayv1.SectionName) route.Rule {
	return route.Rule{Name: fmt.Sprintf("%s#%d", objectName(u.r.Ref), i), Section: string(val(section, ""))}
}

// nowhere is the backend of a rule that can't be done: what matches is answered
// with an error, as if no such rule were meant to let it through.
var nowhere = []route.Backend{{Weight: 1}}

func (u *use) http(r *gatewayv1.HTTPRoute) {
	u.total = len(r.Spec.Rules)
	for i := range r.Spec.Rules {
		rule, at := &r.Spec.Rules[i], fmt.Sprintf("rules[%d]", i)
		to := u.newRule(i, rule.Name)
		prefix := len(rule.Matches) > 0
		var bad *problem
		for j := range rule.Matches {
			m, p := httpMatch(&rule.Matches[j])
			if p != nil && bad == nil {
				bad = &problem{p.reason, fmt.Sprintf("%s.matches[%d].%s", at, j, p.message)}
			}
			to.Matches = append(to.Matches, m)
			path := rule.Matches[j].Path
			prefix = prefix && (path == nil || val(path.Type, gatewayv1.PathMatchPathPrefix) == gatewayv1.PathMatchPathPrefix)
		}
		if bad == nil {
			bad = checked(at, &route.Rule{Matches: to.Matches})
		}
		if bad != nil { // nobody knows what the rule is about: it is dropped
			u.invalid = append(u.invalid, *bad)
			continue
		}
		to.Filters, bad = u.filters(at, rule.Filters, prefix)
		for j := range rule.BackendRefs {
			ref, at := &rule.BackendRefs[j], fmt.Sprintf("%s.backendRefs[%d]", at, j)
			k := route.Backend{Destination: u.backend(at, &ref.BackendObjectReference), Weight: weight(&ref.BackendRef)}
			var p *problem
			if k.Filters, p = u.filters(at, ref.Filters, prefix); p != nil {
				u.partial = append(u.partial, *p)
				k = route.Backend{Weight: k.Weight}
			}
			to.Backends = append(to.Backends, k)
		}
		own := ownFields{session: rule.SessionPersistence, timeouts: rule.Timeouts, retry: rule.Retry}
		u.finish(to, bad, own)
	}
}

func (u *use) grpc(r *gatewayv1.GRPCRoute) {
	u.total = len(r.Spec.Rules)
	for i := range r.Spec.Rules {
		rule, at := &r.Spec.Rules[i], fmt.Sprintf("rules[%d]", i)
		to := u.newRule(i, rule.Name)
		var bad *problem
		matches := rule.Matches
		if len(matches) == 0 {
			matches = []gatewayv1.GRPCRouteMatch{{}}
		}
		for j := range matches {
			m, p := grpcMatch(&matches[j])
			if p != nil && bad == nil {
				bad = &problem{p.reason, fmt.Sprintf("%s.matches[%d].%s", at, j, p.message)}
			}
			to.Matches = append(to.Matches, m)
		}
		if bad == nil {
			bad = checked(at, &route.Rule{Matches: to.Matches})
		}
		if bad != nil {
			u.invalid = append(u.invalid, *bad)
			continue
		}
		to.Filters, bad = u.filters(at, grpcFilters(rule.Filters), false)
		for j := range rule.BackendRefs {
			ref, at := &rule.BackendRefs[j], fmt.Sprintf("%s.backendRefs[%d]", at, j)
			k := route.Backend{Destination: u.backend(at, &ref.BackendObjectReference), Weight: weight(&ref.BackendRef)}
			var p *problem
			if k.Filters, p = u.filters(at, grpcFilters(ref.Filters), false); p != nil {
				u.partial = append(u.partial, *p)
				k = route.Backend{Weight: k.Weight}
			}
			to.Backends = append(to.Backends, k)
		}
		u.finish(to, bad, ownFields{session: rule.SessionPersistence})
	}
}

// stream translates a rule of a TCPRoute or TLSRoute, which has only backends.
func (u *use) stream(i int, section *gatewayv1.SectionName, refs []gatewayv1.BackendRef) {
	to := u.newRule(i, section)
	for j := range refs {
		at := fmt.Sprintf("rules[%d].backendRefs[%d]", i, j)
		to.Backends = append(to.Backends, route.Backend{Destination: u.backend(at, &refs[j].BackendObjectReference), Weight: weight(&refs[j])})
	}
	if len(to.Backends) == 0 {
		to.Backends = nowhere
	}
	u.rules = append(u.rules, to)
}

// finish adds a rule; one with a bad filter answers what it matches with an error.
func (u *use) finish(to route.Rule, bad *problem, own ownFields) {
	if bad != nil {
		u.invalid = append(u.invalid, *bad)
		to.Filters, to.Backends = route.Filters{}, nowhere
	}
	if len(to.Backends) == 0 {
		to.Backends = nowhere // nothing to send to: 500
	}
	if u.policed {
		u.policies(&to, own)
		u.guard(&to)
	}
	u.rules = append(u.rules, to)
}

// conditions are what is said of the route's use by a parent that takes it.
func (u *use) conditions(taken Condition) []Condition {
	if !taken.True || len(u.invalid)+len(u.partial) == 0 {
		return []Condition{taken, u.refs}
	}
	var text []string
	for _, p := range slices.Concat(u.invalid, u.partial) {
		text = append(text, p.message)
	}
	message := strings.Join(text, "; ")
	if len(u.invalid) == u.total {
		return []Condition{{Type: "Accepted", Reason: u.invalid[0].reason, Message: message}, u.refs}
	}
	return []Condition{taken, u.refs, {Type: string(gatewayv1.RouteConditionPartiallyInvalid), True: true, Reason: string(gatewayv1.RouteReasonUnsupportedValue),
		Message: "Dropped Rule: what it matches is answered with an error: " + message}}
}

func weight(b *gatewayv1.BackendRef) uint32 { return uint32(max(val(b.Weight, 1), 0)) }

// backend returns the destination that a reference means, or "" and says in the
// condition why there is none: its share is answered 500.
func (u *use) backend(at string, ref *gatewayv1.BackendObjectReference) string {
	n, service := u.r.backendOf(ref)
	no := func(reason gatewayv1.RouteConditionReason, format string, args ...any) string {
		u.refs = unresolved(u.refs, string(reason), at+": "+fmt.Sprintf(format, args...))
		return ""
	}
	switch port := val(ref.Port, 0); {
	case !service:
		return no(gatewayv1.RouteReasonInvalidKind, "%s of group %q: want a Service", val(ref.Kind, "Service"), val(ref.Group, ""))
	case u.gateway.Kind != nil && n.Namespace != u.r.Name.Namespace && !u.b.granted(u.r.Ref, Ref{object.Service, n}):
		// Routes with a Service as their parent need no grant (GEP-1294, Namespace boundaries).
		return no(gatewayv1.RouteReasonRefNotPermitted, "Service %s is in another namespace than the route: put the route in %s, or a ReferenceGrant there", n, n.Namespace)
	case findPort(u.b.services[n], port) == nil:
		return no(gatewayv1.RouteReasonBackendNotFound, "%s", u.b.missing(n, port))
	default:
		return fmt.Sprintf("%s:%d", n, port)
	}
}

// ownFields are what a route's rule itself says of policies.
type ownFields struct {
	session  *gatewayv1.SessionPersistence
	timeouts *gatewayv1.HTTPRouteTimeouts
	retry    *gatewayv1.HTTPRouteRetry
}
