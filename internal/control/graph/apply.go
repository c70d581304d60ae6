package graph

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/route"
)

// buildPolicies fills in the effective policies of a service's ports.
func (b *Builder) buildPolicies(out *mesh.Service, s *corev1.Service) {
	routed := b.routedParts(out.Name)
	for i := range s.Spec.Ports {
		port := uint16(s.Spec.Ports[i].Port)
		levels := levelsOf(out.Name, s.Spec.Ports[i].Name)
		chain := b.chain(levels)
		if len(chain) == 0 && len(routed[port]) == 0 {
			continue
		}
		auth := b.authenticationOf(levels)
		if e := auth.external; e != nil && e.Destination == fmt.Sprintf("%s:%d", out.Name, port) {
			auth.external = nil // who is asked isn't asked about being asked
		}
		guard := guardOf(b.accessAt(levels, port, routed[port]), auth)
		if auth.mutual != 0 {
			put(&out.MutualTLS, port, auth.mutual)
		}
		e := b.effectiveOf(chain)
		if e.request != nil {
			put(&out.Request, port, e.request)
		}
		if e.upstream != nil {
			put(&out.Upstream, port, e.upstream)
		}
		limits := slices.DeleteFunc(b.limitsOf(chain), func(l policy.RateLimit) bool {
			return l.Service != nil && l.Service.Destination == fmt.Sprintf("%s:%d", out.Name, port)
		})
		if limits != nil || e.overload != nil || guard != nil {
			put(&out.Inbound, port, &policy.Inbound{Guard: guard, Limits: limits, Overload: e.overload})
		}
		addSources(out, port, auth.sources)
		addSources(out, port, e.sources)
		addSources(out, port, extras("", chain))
	}
}

func addSources(out *mesh.Service, port uint16, list []mesh.FieldSource) {
	if len(list) > 0 {
		put(&out.Sources, port, append(slices.Clip(out.Sources[port]), list...))
	}
}

// extras are the sources of rate limits and faults, which add up.
func extras(rule string, chain []*anyPolicy) []mesh.FieldSource {
	var out []mesh.FieldSource
	for i, p := range chain {
		if slices.Contains(chain[:i], p) {
			continue
		}
		for j := range p.limits {
			l := &p.limits[j]
			out = append(out, mesh.FieldSource{Rule: rule, Field: fmt.Sprintf("limits[%d]", j), Value: limitText(l), From: objectName(p.Ref)})
		}
		for j := range p.faults {
			out = append(out, mesh.FieldSource{Rule: rule, Field: fmt.Sprintf("faults[%d]", j), Value: faultText(&p.faults[j]), From: objectName(p.Ref)})
		}
	}
	return out
}

func limitText(l *policy.RateLimit) string {
	if l.Service != nil {
		return "domain " + l.Service.Domain + " of another program"
	}
	return fmt.Sprintf("%d per %s", l.Requests, l.Per)
}

func faultText(f *policy.Fault) string {
	var parts []string
	if f.Delay > 0 {
		parts = append(parts, "delay "+f.Delay.String())
	}
	switch {
	case f.Status != 0:
		parts = append(parts, fmt.Sprintf("status %d", f.Status))
	case f.GRPC != 0:
		parts = append(parts, fmt.Sprintf("gRPC code %d", f.GRPC))
	case f.Reset:
		parts = append(parts, "reset")
	}
	if f.BytesPerSecond > 0 {
		parts = append(parts, fmt.Sprintf("%d bytes/s", f.BytesPerSecond))
	}
	text := fmt.Sprintf("%s for %g%%", strings.Join(parts, ", "), float64(f.Share)*100/float64(policy.All))
	if !f.Until.IsZero() {
		text += " until " + f.Until.UTC().Format(time.RFC3339)
	}
	return text
}

// policies fills in what policies come to for one rule. A rule of a mesh route
// has a policy of its own only when something is said for the route itself: else
// the destination's holds. A rule of a gateway has one when anything reaches it:
// of the mesh, the namespace and the service it leads to (if that is one), of the
// gateway, and of the route, the later the nearer.
func (u *use) policies(to *route.Rule, own ownFields) {
	b := u.b
	var near []level
	if to.Section != "" {
		near = append(near, level{u.r.Ref, to.Section})
	}
	near = append(near, level{u.r.Ref, ""})
	routed := b.chain(near)
	chain, special := routed, slices.Clone(routed)
	if u.gateway.Kind != nil {
		levels, rest := u.leadsTo(to)
		chain = append(slices.Clip(chain), b.chain(levels)...)
		at := []level{{u.gateway, string(u.listener)}, {u.gateway, ""}}
		special = append(special, b.chain(at)...)
		chain = append(chain, b.chain(append(at, rest...))...)
	} else {
		chain = append(slices.Clip(chain), b.chain(levelsOf(u.service, u.portName))...)
	}
	e := b.effectiveOf(chain)
	limits := u.b.limitsOf(special)
	say := func(field, value string) {
		u.sources = append(u.sources, mesh.FieldSource{Rule: to.Name, Field: field, Value: value, From: objectName(u.r.Ref)})
	}
	u.session(to, own.session, e, routed, say)
	if own.timeouts == nil && own.retry == nil && len(special) == 0 && (u.gateway.Kind == nil || e.request == nil) {
		return
	}
	if own.timeouts == nil && own.retry == nil && limits == nil && e.request == nil {
		return // the policies there are say nothing about requests
	}
	out := *policy.DefaultRequest
	if e.request != nil {
		out = *e.request
	}
	out.Limits = limits
	if t := own.timeouts; t != nil {
		if t.Request != nil {
			out.Timeout = duration(t.Request)
			to.Timeout = out.Timeout
			say("timeouts.request", string(*t.Request))
		}
		if t.BackendRequest != nil {
			out.Try = duration(t.BackendRequest)
			say("timeouts.backendRequest", string(*t.BackendRequest))
		}
	}
	if own.retry != nil {
		ownRetry(&out.Retry, own.retry, say)
	}
	to.Policy = &out
	overridden := func(field string) bool {
		return slices.ContainsFunc(u.sources, func(s mesh.FieldSource) bool {
			return s.Rule == to.Name && (s.Field == field || s.Field == "timeouts.backendRequest" && field == "timeouts.perTry")
		})
	}
	for _, s := range e.sources {
		// What holds for the whole port is said there.
		if mine := u.gateway.Kind != nil || slices.Contains(special, e.where[s.Field]); mine && under(s.Field, requestFields) && !overridden(s.Field) {
			s.Rule = to.Name
			u.sources = append(u.sources, s)
		}
	}
	if u.gateway.Kind != nil {
		for _, p := range chain {
			if p.faults != nil && !slices.Contains(special, p) {
				special = append(special, p)
			}
		}
	}
	u.sources = append(u.sources, extras(to.Name, special)...)
}

// session fills in a rule's own session: the route's, or that of a policy for the
// route. The service's goes with its endpoints.
func (u *use) session(to *route.Rule, own *gatewayv1.SessionPersistence, e *effective, routed []*anyPolicy, say func(field, value string)) {
	if own != nil {
		to.Session = policy.Session{Kind: policy.SessionCookie, Name: val(own.SessionName, defaultSession), Lifetime: duration(own.AbsoluteTimeout)}
		if val(own.Type, gatewayv1.CookieBasedSessionPersistence) == gatewayv1.HeaderBasedSessionPersistence {
			to.Session.Kind = policy.SessionHeader
		} else if c := own.CookieConfig; c == nil || val(c.LifetimeType, gatewayv1.SessionCookieLifetimeType) == gatewayv1.SessionCookieLifetimeType {
			to.Session.Tracked = to.Session.Lifetime > 0
		}
		say("sessionPersistence", to.Session.Name)
		return
	}
	for field, p := range e.where {
		if under(field, []string{"session"}) && slices.Contains(routed, p) {
			to.Session = e.session
			break
		}
	}
	if to.Session.Kind != policy.NoSession {
		for _, s := range e.sources {
			if under(s.Field, []string{"session"}) {
				s.Rule = to.Name
				u.sources = append(u.sources, s)
			}
		}
	}
}

// ownRetry takes an HTTPRoute's retry: statuses of its own, and what shows that
// a connection failed (Gateway API v1, HTTPRouteRetry). Its backoff is a minimum.
func ownRetry(out *policy.Retry, r *gatewayv1.HTTPRouteRetry, say func(field, value string)) {
	out.On |= policy.Unsent | policy.ConnectFailure | policy.Reset | policy.TryTimeout
	out.Statuses = nil
	out.On &^= policy.Statuses
	var codes []string
	for _, c := range r.Codes {
		out.On |= policy.Statuses
		out.Statuses = append(out.Statuses, clamp[uint16](int32(c)))
		codes = append(codes, fmt.Sprint(c))
	}
	if codes != nil {
		say("retry.codes", strings.Join(codes, ","))
	}
	if r.Attempts != nil {
		out.Attempts = uint8(min(max(*r.Attempts, 0), maxAttempts))
		say("retry.attempts", fmt.Sprint(*r.Attempts))
	}
	if r.Backoff != nil {
		out.MinBackoff = duration(r.Backoff)
		out.Backoff = 2 * out.MinBackoff
		out.MaxBackoff = max(out.MaxBackoff, out.Backoff)
		say("retry.backoff", string(*r.Backoff))
	}
}

// maxAttempts is what policy.Retry.Attempts may be.
const maxAttempts = 10

// leadsTo are the levels of the one service port that a gateway's rule leads to,
// and those above it; of several services only what they have in common.
func (u *use) leadsTo(to *route.Rule) (service, rest []level) {
	var one string
	var namespaces []string
	several := false
	for i := range to.Backends {
		d := to.Backends[i].Destination
		if d == "" {
			continue
		}
		several = several || one != "" && one != d
		one = d
		n, _ := parseDestination(d)
		if !slices.Contains(namespaces, n.Namespace) {
			namespaces = append(namespaces, n.Namespace)
		}
	}
	if one != "" && !several {
		n, port := parseDestination(one)
		if p := findPort(u.b.services[n], port); p != nil {
			service = levelsOf(n, p.Name)
			service = service[:len(service)-2]
		}
	}
	if len(namespaces) == 1 {
		rest = append(rest, namespaceLevel(namespaces[0]))
	}
	return service, append(rest, meshLevel)
}

// parseDestination reads what backend wrote.
func parseDestination(d string) (n mesh.Name, port int32) {
	host, number, _ := strings.Cut(d, ":")
	n.Name, n.Namespace, _ = strings.Cut(host, ".")
	for _, c := range number {
		port = port*10 + c - '0'
	}
	return n, port
}

// sortSources orders what is said for people.
func sortSources(list []mesh.FieldSource) {
	slices.SortFunc(list, func(a, b mesh.FieldSource) int {
		if c := strings.Compare(a.Rule, b.Rule); c != 0 {
			return c
		}
		if c := strings.Compare(a.Field, b.Field); c != 0 {
			return c
		}
		return strings.Compare(a.From, b.From)
	})
}
