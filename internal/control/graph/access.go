package graph

import (
	"fmt"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/access"
)

// accessRules is an AccessPolicy, translated as far as that goes without knowing
// the port. It is immutable.
type accessRules struct {
	action  access.Action
	audit   bool
	said    v1alpha1.AccessAction // its default, "" when it has none
	explain bool
	// lenient lets pass what can't be looked at (ifUnenforceable: Allow).
	lenient bool
	// ported says that some rules are for some ports only.
	ported bool
	rules  []accessRule
}

// accessRule is one rule: its To is made of operations, those of a port.
type accessRule struct {
	access.Rule
	operations []portOperation
	// bad says why the rule can't be kept to; "" when it can.
	bad string
}

type portOperation struct {
	access.Operation
	ports []int32 // none is all
}

// accessOf translates a policy. What makes no sense isn't left out: see checked.
func accessOf(ref Ref, s *v1alpha1.AccessPolicySpec) *accessRules {
	out := &accessRules{audit: s.Mode == v1alpha1.AccessAudit, said: s.Default, explain: s.Explain,
		lenient: s.IfUnenforceable == v1alpha1.AccessAllow}
	if s.Action == v1alpha1.AccessAllow || s.Action == "" {
		out.action = access.Allow
	}
	if out.said != "" && out.said != v1alpha1.AccessAllow {
		out.said = v1alpha1.AccessDeny
	}
	for i := range s.Rules {
		r := &s.Rules[i]
		to := accessRule{Rule: access.Rule{Name: partName(ref, i), Action: out.action, Audit: out.audit, AllowUnenforceable: out.lenient}}
		for j := range r.From {
			to.From = append(to.From, sourcesOf(&r.From[j])...)
		}
		for j := range r.To {
			o, why := operationOf(&r.To[j])
			if why != "" && to.bad == "" {
				to.bad = fmt.Sprintf("to[%d]%s", j, why)
			}
			to.operations = append(to.operations, portOperation{o, r.To[j].Ports})
			out.ported = out.ported || len(r.To[j].Ports) > 0
		}
		for _, w := range r.When {
			to.When = append(to.When, access.Claim{Name: w.Claim, Values: w.Values})
		}
		to.check(i)
		out.rules = append(out.rules, to)
	}
	return out
}

// check finds out whether a proxy could keep to the rule. One that it couldn't
// keep to opens nothing: an Allow is never met, a Deny is met by all that come
// from where it says, or by all.
func (r *accessRule) check(i int) {
	whole := r.Rule
	for j := range r.operations {
		whole.To = append(whole.To, r.operations[j].Operation)
	}
	if r.bad == "" {
		r.bad = refusedRule(whole)
	}
	if r.bad == "" {
		return
	}
	r.bad = fmt.Sprintf("spec.rules[%d].%s", i, r.bad)
	r.operations, r.When = nil, nil
	if refusedRule(access.Rule{From: r.From}) != "" {
		r.From = nil
	}
}

// refusedRule is what access.Compile has against a rule, from the field on, or "".
func refusedRule(r access.Rule) string {
	_, err := access.Compile(access.Spec{Rules: []access.Rule{r}}, "")
	if err == nil {
		return ""
	}
	text := err.Error()
	if _, rest, ok := strings.Cut(text, fmt.Sprintf("(%s).", r.Name)); ok {
		return rest
	}
	return text
}

// sourcesOf translates a source: callers by account and those by namespace are
// two, for either is enough.
func sourcesOf(s *v1alpha1.AccessSource) []access.Source {
	one := access.Source{Identities: s.Identities, NotIdentities: s.NotIdentities, TrustDomains: s.TrustDomains,
		Networks: s.Networks, NotNetworks: s.NotNetworks}
	one.NotServiceAccounts, one.NotNamespaces = callersOf(s.NotCallers)
	accounts, namespaces := callersOf(s.Callers)
	if len(accounts) == 0 || len(namespaces) == 0 {
		one.ServiceAccounts, one.Namespaces = accounts, namespaces
		return []access.Source{one}
	}
	other := one
	one.ServiceAccounts, other.Namespaces = accounts, namespaces
	return []access.Source{one, other}
}

// callersOf tells accounts from namespaces. What is neither stays as it is, and is
// refused by access.Compile.
func callersOf(list []string) (accounts, namespaces []string) {
	for _, s := range list {
		account, namespace, ok := strings.Cut(s, ".")
		switch {
		case !ok || account == "" || namespace == "" || strings.ContainsAny(namespace, "./*"):
			accounts = append(accounts, strings.ReplaceAll(s, "/", "."))
		case account == "*":
			namespaces = append(namespaces, namespace)
		default:
			accounts = append(accounts, namespace+"/"+account)
		}
	}
	return accounts, namespaces
}

func operationOf(o *v1alpha1.AccessOperation) (out access.Operation, why string) {
	out = access.Operation{Methods: o.Methods, NotMethods: o.NotMethods, Hosts: o.Hosts, ServerNames: o.ServerNames}
	if out.Paths, why = pathsOf(o.Paths); why != "" {
		return out, ".paths" + why
	}
	if out.NotPaths, why = pathsOf(o.NotPaths); why != "" {
		return out, ".notPaths" + why
	}
	var grpc []access.Path
	for i, m := range o.GRPC {
		service, method, ok := strings.Cut(m, "/")
		switch {
		case !ok || service == "" || method == "" || strings.Contains(method, "/") || service == "*" && method == "*":
			return out, fmt.Sprintf(".grpc[%d]: %q: want SERVICE/METHOD, SERVICE/* or */METHOD", i, m)
		case service == "*":
			grpc = append(grpc, access.Path{Kind: access.PathMethod, Value: method})
		case method == "*":
			grpc = append(grpc, access.Path{Kind: access.PathPrefix, Value: "/" + service})
		default:
			grpc = append(grpc, access.Path{Kind: access.PathExact, Value: "/" + service + "/" + method})
		}
	}
	switch {
	case len(grpc) > 0 && len(out.Paths) > 0:
		return out, ".grpc: beside paths says twice what the path must be: keep one of them"
	case len(grpc) > 0:
		out.Paths = grpc
	}
	for i := range o.Headers {
		h := &o.Headers[i]
		out.Headers = append(out.Headers, access.Header{Name: string(h.Name), Values: h.Values, Not: h.Not})
	}
	return out, ""
}

func pathsOf(list []v1alpha1.AccessPath) ([]access.Path, string) {
	var out []access.Path
	for i, p := range list {
		kind := access.PathPrefix
		switch p.Type {
		case gatewayv1.PathMatchPathPrefix, "":
		case gatewayv1.PathMatchExact:
			kind = access.PathExact
		case gatewayv1.PathMatchRegularExpression:
			kind = access.PathRegex
		default:
			return out, fmt.Sprintf("[%d].type %q: want Exact, PathPrefix or RegularExpression", i, p.Type)
		}
		out = append(out, access.Path{Kind: kind, Value: p.Value})
	}
	return out, ""
}

// at are the rules as they hold for a port. A rule about other ports is left out;
// that its policy is an Allow counts all the same.
func (a *accessRules) at(port uint16) []access.Rule {
	var out []access.Rule
	for i := range a.rules {
		r := &a.rules[i]
		if r.bad != "" {
			if a.action == access.Deny {
				out = append(out, r.Rule)
			}
			continue
		}
		one := r.Rule
		for j := range r.operations {
			if o := &r.operations[j]; len(o.ports) == 0 || slices.Contains(o.ports, int32(port)) {
				one.To = append(one.To, o.Operation)
			}
		}
		if len(one.To) > 0 || len(r.operations) == 0 {
			out = append(out, one)
		}
	}
	return out
}

// accessPart is what one policy brings to the rules of a port.
type accessPart struct {
	*accessRules
	from  Ref
	rules []access.Rule
}

// maxAccessRules bounds the rules for one target: those of all levels fit in a
// view. What is over denies everything, for a Deny may be among it.
const maxAccessRules = access.MaxRules / 4

// tooMany stands in for the rules of a target that has more than it may.
var tooMany = accessPart{accessRules: &accessRules{}, rules: []access.Rule{{Name: "accesspolicy/too-many-rules", Action: access.Deny}}}

// accessParts gathers the policies along some levels, the nearest first; their
// rules are those of a port, and left to at.
func (b *Builder) accessParts(levels []level) []accessPart {
	if len(b.policies) == 0 {
		return nil
	}
	var out []accessPart
	seen := map[*anyPolicy]bool{}
	for _, l := range levels {
		count := 0
		for _, p := range b.policiesFor(l) {
			if p.access == nil {
				continue
			}
			if count += len(p.access.rules); count > maxAccessRules {
				out = append(out, tooMany)
				break
			}
			if !seen[p] {
				seen[p] = true
				out = append(out, accessPart{accessRules: p.access, from: p.Ref})
			}
		}
	}
	return out
}

// nobody is no caller: no namespace has such a name.
const nobody = "-"

// accessSpec adds parts up. It is nil when they decide nothing.
func accessSpec(parts []accessPart) *access.Spec {
	out := &access.Spec{Default: access.Allow}
	var said, audited v1alpha1.AccessAction
	var auditor Ref
	allows := false
	for _, p := range parts {
		out.Rules = append(out.Rules, p.rules...)
		out.Explain = out.Explain || p.explain
		allows = allows || p.action == access.Allow && !p.audit && len(p.accessRules.rules) > 0
		switch {
		case p.said == "":
		case p.audit && audited == "":
			audited, auditor = p.said, p.from
		case !p.audit && said == "":
			said = p.said
		}
	}
	if allows || said == v1alpha1.AccessDeny {
		out.Default = access.Deny
	}
	if audited == v1alpha1.AccessDeny && out.Default == access.Allow {
		// An Allow in audit that nobody meets has what it leaves out counted.
		out.Rules = append(out.Rules, access.Rule{Name: objectName(auditor) + "#default", Action: access.Allow, Audit: true,
			From: []access.Source{{Namespaces: []string{nobody}}}})
	}
	if out.Default == access.Allow && len(out.Rules) == 0 {
		return nil
	}
	if len(out.Rules) > access.MaxRules { // each of them compiles
		return &access.Spec{Rules: tooMany.rules, Explain: out.Explain}
	}
	return out
}

// accessAt is what the policies along some levels come to for a port, with what
// those for routes bring. Many ports have the same, so it is kept.
func (b *Builder) accessAt(levels []level, port uint16, routed []accessPart) *access.Spec {
	parts := b.accessParts(levels)
	if len(parts)+len(routed) == 0 {
		return nil
	}
	var key strings.Builder
	for i := range parts {
		if parts[i].rules != nil { // those that stand in for too many
			key.WriteByte('+')
			continue
		}
		key.WriteString(parts[i].from.String())
		if parts[i].ported {
			fmt.Fprintf(&key, ":%d", port)
		}
		key.WriteByte(' ')
	}
	spec, known := b.specs[key.String()]
	if !known || len(routed) > 0 {
		for i := range parts {
			if parts[i].rules == nil {
				parts[i].rules = parts[i].at(port)
			}
		}
		spec = accessSpec(append(routed, parts...))
		if len(routed) > 0 {
			return spec
		}
		if len(b.specs) >= maxEffective {
			clear(b.specs)
		}
		b.specs[key.String()] = spec
	}
	return spec
}

// accessTaken says what a target takes of an AccessPolicy.
func (b *Builder) accessTaken(p *anyPolicy, t section) []Condition {
	count := 0
	for _, o := range b.policiesFor(t) {
		if o.access != nil {
			count += len(o.access.rules)
		}
		if o == p {
			break
		}
	}
	if count > maxAccessRules {
		return []Condition{{Type: "Accepted", Reason: string(gatewayv1.PolicyReasonConflicted),
			Message: fmt.Sprintf("the target has more than %d rules with this policy's: everything is denied until there are fewer", maxAccessRules)}}
	}
	var bad []string
	for i := range p.access.rules {
		if why := p.access.rules[i].bad; why != "" {
			bad = append(bad, why)
		}
	}
	if len(bad) > 0 {
		effect := "until it is right an Allow allows nothing"
		if p.access.action == 0 {
			effect = "until it is right everything is denied that the rule could be about"
		}
		return []Condition{{Type: "Accepted", Reason: string(gatewayv1.PolicyReasonInvalid), Message: strings.Join(bad, "; ") + " (" + effect + ")"}}
	}
	ok := accepted(string(gatewayv1.PolicyReasonAccepted))
	if p.access.audit {
		ok.Message = "audit: what it would refuse is counted and let pass"
	}
	r := b.routes[t.Ref]
	if r == nil {
		return []Condition{ok}
	}
	o := b.routedAccess(p, r, t.name)
	const most = 8
	if len(o.problems) > most {
		o.problems = append(o.problems[:most], fmt.Sprintf("and %d more", len(o.problems)-most))
	}
	text := strings.Join(o.problems, "; ")
	if p.access.lenient {
		text += " (let pass: ifUnenforceable is Allow)"
	} else {
		text += " (denied: ifUnenforceable is Deny)"
	}
	switch {
	case len(o.problems) == 0:
		return []Condition{ok}
	case !o.holds:
		return []Condition{{Type: "Accepted", Reason: "Unenforceable", Message: text}}
	}
	return []Condition{ok, {Type: string(gatewayv1.RouteConditionPartiallyInvalid), True: true, Reason: "Unenforceable", Message: text}}
}
