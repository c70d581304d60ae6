package graph

import (
	"fmt"
	"slices"
	"strings"
	"time"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/policy"
)

// anyPolicy is what the kinds of policies have in common; one of traffic, limits,
// faults, access, auth and egress is set. It is immutable.
type anyPolicy struct {
	Ref
	created    time.Time
	generation int64
	targets    []v1alpha1.TargetRef

	traffic *v1alpha1.TrafficPolicySpec
	limits  []policy.RateLimit
	counter *gatewayv1.BackendObjectReference // whom limits ask
	faults  []policy.Fault
	until   time.Time // of faults
	access  *accessRules
	auth    *v1alpha1.AuthenticationPolicySpec
	egress  *v1alpha1.EgressPolicySpec
}

// policyOf wraps a policy, nil when o is none.
func policyOf(ref Ref, o object.Object) *anyPolicy {
	p := &anyPolicy{Ref: ref}
	switch o := o.(type) {
	case *v1alpha1.TrafficPolicy:
		p.targets, p.traffic = o.Spec.TargetRefs, &o.Spec
	case *v1alpha1.RateLimitPolicy:
		p.targets, p.limits = o.Spec.TargetRefs, rateLimits(ref, &o.Spec)
		if s := o.Spec.Service; s != nil {
			p.counter = &s.BackendRef
		}
	case *v1alpha1.FaultPolicy:
		p.targets = o.Spec.TargetRefs
		switch {
		case o.Spec.Until != nil:
			p.until = o.Spec.Until.Time
		case o.Spec.Duration != nil:
			// From its creation: an object in a file has no such time yet and holds
			// for good, as nothing here knows what time it is.
			if created := o.GetCreationTimestamp().Time; !created.IsZero() {
				p.until = created.Add(duration(o.Spec.Duration))
			}
		}
		p.faults = faults(ref, &o.Spec, p.until)
	case *v1alpha1.AccessPolicy:
		p.targets, p.access = o.Spec.TargetRefs, accessOf(ref, &o.Spec)
	case *v1alpha1.AuthenticationPolicy:
		p.targets, p.auth = o.Spec.TargetRefs, &o.Spec
	case *v1alpha1.EgressPolicy:
		p.targets, p.egress = o.Spec.TargetRefs, &o.Spec
	default:
		return nil
	}
	p.created, p.generation = o.GetCreationTimestamp().Time, o.GetGeneration()
	return p
}

// section is a target as a whole, or one section of it.
type section struct {
	Ref
	name string
}

// targetKinds are what policies may be for.
var targetKinds = []*object.Kind{object.Mesh, object.Namespace, object.Service, object.HTTPRoute, object.GRPCRoute, object.Gateway}

// target returns what a targetRef of the policy means, or why it means nothing.
func (p *anyPolicy) target(t *v1alpha1.TargetRef) (section, string) {
	at := slices.IndexFunc(targetKinds, func(k *object.Kind) bool { return k.Name == string(t.Kind) })
	if at < 0 {
		return section{}, fmt.Sprintf("a policy can't be for a %s", t.Kind)
	}
	out := section{Ref{targetKinds[at], mesh.Name{Namespace: p.Name.Namespace, Name: string(t.Name)}}, string(val(t.SectionName, ""))}
	switch out.Kind {
	case object.Mesh:
		if p.Name.Namespace != v1alpha1.MeshNamespace {
			return section{}, "policies for the whole Mesh belong in namespace " + v1alpha1.MeshNamespace
		}
		out.Name.Namespace = ""
	case object.Namespace:
		if string(t.Name) != p.Name.Namespace {
			return section{}, fmt.Sprintf("a policy of namespace %s can't be for namespace %s: put it there", p.Name.Namespace, t.Name)
		}
		out.Name.Namespace = ""
	}
	return out, ""
}

// indexPolicy keeps the index of policies by their targets.
func (b *Builder) indexPolicy(p *anyPolicy, there bool) {
	for i := range p.targets {
		if t, why := p.target(&p.targets[i]); why == "" {
			index(b.byTarget, t, p.Ref, there)
		}
	}
}

// maxPerTarget bounds the policies of one kind that add up for one target, so that
// what comes of all levels fits in a view.
const maxPerTarget = 8

// policiesFor returns the policies for exactly that target that count, the oldest
// first.
func (b *Builder) policiesFor(t section) []*anyPolicy {
	refs := b.byTarget[t]
	if len(refs) == 0 {
		return nil
	}
	out := make([]*anyPolicy, 0, len(refs))
	for ref := range refs {
		out = append(out, b.policies[ref])
	}
	slices.SortFunc(out, func(x, y *anyPolicy) int {
		if c := x.created.Compare(y.created); c != 0 {
			return c
		}
		if c := compareNames(x.Name, y.Name); c != 0 {
			return c
		}
		return strings.Compare(x.Kind.Name, y.Kind.Name)
	})
	counted := map[*object.Kind]int{}
	return slices.DeleteFunc(out, func(p *anyPolicy) bool {
		counted[p.Kind]++
		return (p.limits != nil || p.faults != nil) && counted[p.Kind] > maxPerTarget
	})
}

// touchPolicy marks what a policy's targets are made into, and the statuses of
// the other policies for them.
func (b *Builder) touchPolicy(p *anyPolicy) {
	if p == nil {
		return
	}
	d := &b.dirty
	d.policies[p.Ref] = true
	for i := range p.targets {
		t, why := p.target(&p.targets[i])
		if why != "" {
			continue
		}
		for ref := range b.byTarget[t] {
			d.policies[ref] = true
		}
		if p.egress != nil {
			d.egress = true
			continue
		}
		switch t.Kind {
		case object.Mesh:
			for n := range b.services {
				d.services[n] = true
			}
			for n := range b.gateways {
				d.gates[n] = true
			}
		case object.Namespace:
			for n := range b.services {
				if n.Namespace == t.Name.Name {
					b.touchPolicyOf(n)
				}
			}
		case object.Service:
			b.touchPolicyOf(t.Name)
		case object.Gateway:
			d.gates[t.Name] = true
		default:
			d.routes[t.Ref] = true
			b.touchReached(b.routes[t.Ref])
		}
	}
}

// touchPolicyOf marks a service and the gateways with rules that lead to it:
// such a rule takes the service's policies with its own.
func (b *Builder) touchPolicyOf(n mesh.Name) {
	b.dirty.services[n] = true
	for ref := range b.byBackend[n] {
		r := b.routes[ref]
		for i := range r.parents {
			if p, ok := r.parentOf(&r.parents[i]); ok && p.Kind == object.Gateway {
				b.dirty.gates[p.Name] = true
			}
		}
	}
}

// touchTarget marks the statuses of the policies for an object that comes, goes
// or changes its sections.
func (b *Builder) touchTarget(ref Ref) {
	for t, refs := range b.byTarget {
		if t.Ref != ref {
			continue
		}
		for p := range refs {
			b.dirty.policies[p] = true
		}
	}
}

// missingTarget says why a target isn't there, or "".
func (b *Builder) missingTarget(t section) string {
	there, sections := true, map[string]bool{}
	switch t.Kind {
	case object.Mesh, object.Namespace: // both are there without an object
		if t.Kind == object.Mesh && t.Name.Name != "mesh" {
			return `there is one Mesh, named "mesh"`
		}
	case object.Service:
		s := b.services[t.Name]
		if there = s != nil; there {
			for i := range s.Spec.Ports {
				sections[s.Spec.Ports[i].Name] = true
			}
		}
	case object.Gateway:
		g := b.gateways[t.Name]
		if there = g != nil; there {
			for i := range g.Spec.Listeners {
				sections[string(g.Spec.Listeners[i].Name)] = true
			}
		}
	default:
		r := b.routes[t.Ref]
		if there = r != nil; there {
			for n := range r.sections() {
				sections[string(n)] = true
			}
		}
	}
	what := map[*object.Kind]string{object.Service: "port", object.Gateway: "listener"}[t.Kind]
	if what == "" {
		what = "rule"
	}
	switch {
	case !there:
		return fmt.Sprintf("there is no %s %s in namespace %s", t.Kind.Name, t.Name.Name, t.Name.Namespace)
	case t.name != "" && !sections[t.name]:
		return fmt.Sprintf("%s %s has no %s named %q", t.Kind.Name, t.Name.Name, what, t.name)
	}
	return ""
}

// policyStatus says of each target whether it takes the policy (GEP-713). Of
// fields that an older policy for the same target says too, the older's counts.
func (b *Builder) policyStatus(ref Ref) {
	p := b.policies[ref]
	if p == nil {
		return
	}
	s := &Status{Generation: p.generation}
	for i := range p.targets {
		t := &p.targets[i]
		group := t.TargetGroup()
		ancestor := gatewayv1.ParentReference{Group: &group, Kind: &t.Kind, Name: t.Name, SectionName: t.SectionName}
		target, why := p.target(t)
		no := func(reason gatewayv1.PolicyConditionReason, message string) []Condition {
			return []Condition{{Type: "Accepted", Reason: string(reason), Message: message}}
		}
		var conditions []Condition
		switch {
		case why != "":
			conditions = no(gatewayv1.PolicyReasonInvalid, why)
		case b.missingTarget(target) != "":
			conditions = no(gatewayv1.PolicyReasonTargetNotFound, b.missingTarget(target))
		default:
			conditions = b.fieldsTaken(p, target)
		}
		if !slices.ContainsFunc(s.Ancestors, func(a ParentStatus) bool { return sameParent(&a.Ref, &ancestor) }) {
			s.Ancestors = append(s.Ancestors, ParentStatus{Ref: ancestor, Conditions: conditions})
		}
	}
	b.dirty.newStatuses[ref] = s
}

func sameParent(a, b *gatewayv1.ParentReference) bool {
	return *a.Group == *b.Group && *a.Kind == *b.Kind && a.Name == b.Name && val(a.SectionName, "") == val(b.SectionName, "")
}

// fieldsTaken says what a target takes of a policy.
func (b *Builder) fieldsTaken(p *anyPolicy, t section) []Condition {
	ok := accepted(string(gatewayv1.PolicyReasonAccepted))
	if !slices.Contains(b.policiesFor(t), p) {
		return []Condition{{Type: "Accepted", Reason: string(gatewayv1.PolicyReasonConflicted),
			Message: fmt.Sprintf("the target has %d older policies of this kind already: that is as many as one takes", maxPerTarget)}}
	}
	switch {
	case !p.until.IsZero():
		ok.Message = "the faults end by themselves at " + p.until.UTC().Format(time.RFC3339)
	case p.faults != nil:
		ok.Message = "the faults stay until the policy is deleted"
	}
	switch {
	case p.access != nil:
		return b.accessTaken(p, t)
	case p.auth != nil:
		return b.authenticationTaken(p, t)
	case p.egress != nil:
		return b.egressTaken(p, t)
	case p.counter != nil:
		refs := resolved()
		if _, why := b.asked(p, p.counter); why != "" {
			refs = unresolved(refs, string(gatewayv1.RouteReasonBackendNotFound), "spec.service."+why)
		}
		return []Condition{ok, refs}
	case p.traffic == nil:
		return []Condition{ok}
	}
	m := newMerger()
	for _, o := range b.policiesFor(t) {
		if o.traffic == nil {
			continue
		}
		took, lost := m.add(o)
		if o != p {
			continue
		}
		switch {
		case len(lost) == 0:
			return []Condition{ok}
		case took == 0:
			return []Condition{{Type: "Accepted", Reason: string(gatewayv1.PolicyReasonConflicted), Message: "older policies for the same target say all of it: " + strings.Join(lost, ", ")}}
		}
		return []Condition{ok, {Type: "Conflicted", True: true, Reason: string(gatewayv1.PolicyReasonConflicted),
			Message: "older policies for the same target win for some fields: " + strings.Join(lost, ", ")}}
	}
	return []Condition{ok}
}
