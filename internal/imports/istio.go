package imports

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/control/object"
)

func gatewayName(s string) gatewayv1.ObjectName { return gatewayv1.ObjectName(s) }

// istioTargets reads selector and targetRefs.
func (w *world) istioTargets(d *document, spec *fields, s *source) []v1alpha1.TargetRef {
	if s.namespace == w.options.RootNamespace && !spec.has("selector") && !spec.has("targetRefs") && !spec.has("targetRef") {
		s.namespace = v1alpha1.MeshNamespace
		return []v1alpha1.TargetRef{{Kind: "Mesh", Name: v1alpha1.MeshName}}
	}
	refs := spec.each("targetRefs")
	if spec.has("targetRef") {
		refs = append(refs, spec.under("targetRef"))
	}
	var out []v1alpha1.TargetRef
	for _, r := range refs {
		r.read["group"] = true
		switch kind := r.text("kind"); kind {
		case "Service", "Gateway":
			out = append(out, v1alpha1.TargetRef{Kind: gatewayv1.Kind(kind), Name: gatewayName(r.text("name"))})
		default:
			d.note(r.at("kind"), "%q has no equal: the target was left out", kind)
			r.text("name")
		}
	}
	if len(refs) > 0 {
		return out
	}
	selector := spec.under("selector")
	return w.targets(d, "spec.selector", s, labels(selector))
}

// istioAuthorization translates security.istio.io AuthorizationPolicy.
func istioAuthorization(w *world, d *document, s *source) {
	spec := s.top(d).under("spec")
	targets := w.istioTargets(d, spec, s)
	action := spec.text("action")
	if action == "CUSTOM" {
		provider := spec.under("provider").text("name")
		spec.take("rules")
		d.note("spec.action", "CUSTOM asks the provider %q: write an AuthenticationPolicy with external; the policy was left out", provider)
		return
	}
	p := w.access(s, "", targets)
	switch action {
	case "", "ALLOW":
	case "DENY":
		p.Spec.Action = v1alpha1.AccessDeny
	case "AUDIT":
		d.note("spec.action", "AUDIT logs requests without a decision, and there is a record of every decision anyway: the policy was left out")
		spec.take("rules")
		return
	default:
		d.note("spec.action", "%q is unknown: the policy was left out", action)
		return
	}
	rules := spec.each("rules")
	for _, r := range rules {
		if rule, ok := w.istioRule(d, r, p.Spec.Action == v1alpha1.AccessDeny); ok {
			p.Spec.Rules = append(p.Spec.Rules, rule)
		}
	}
	if len(targets) == 0 {
		return
	}
	if len(p.Spec.Rules) == 0 {
		if p.Spec.Action == v1alpha1.AccessDeny {
			return // denies nothing
		}
		p.Spec.Rules = []v1alpha1.AccessRule{nobody()}
	}
	w.add(p)
}

// istioRule translates a rule. What can't be said makes an Allow narrower (the
// rule goes) and a Deny wider (the condition goes).
func (w *world) istioRule(d *document, r *fields, deny bool) (rule v1alpha1.AccessRule, ok bool) {
	ok = true
	lost := func(at, format string, args ...any) {
		what := "the rule was left out, so that it permits nothing"
		if deny {
			what = "the condition was left out, so that the rule denies more"
		} else {
			ok = false
		}
		d.note(at, "%s: %s", fmt.Sprintf(format, args...), what)
	}
	for _, from := range r.each("from") {
		src := from.under("source")
		var a v1alpha1.AccessSource
		a.Identities = w.principals(src.texts("principals"), src.at("principals"), lost)
		a.NotIdentities = w.principals(src.texts("notPrincipals"), src.at("notPrincipals"), lost)
		for _, n := range src.texts("namespaces") {
			a.Callers = append(a.Callers, w.anyOf(n, src.at("namespaces"), lost)...)
		}
		for _, n := range src.texts("notNamespaces") {
			a.NotCallers = append(a.NotCallers, w.anyOf(n, src.at("notNamespaces"), lost)...)
		}
		for key, into := range map[string]*[]string{"serviceAccounts": &a.Callers, "notServiceAccounts": &a.NotCallers} {
			for _, account := range src.texts(key) {
				ns, name, found := strings.Cut(account, "/")
				if !found {
					lost(src.at(key), "%q needs its policy's namespace", account)
					continue
				}
				*into = append(*into, name+"."+ns)
			}
		}
		a.Networks = append(networks(src.texts("ipBlocks")), networks(src.texts("remoteIpBlocks"))...)
		a.NotNetworks = append(networks(src.texts("notIpBlocks")), networks(src.texts("notRemoteIpBlocks"))...)
		for _, key := range []string{"requestPrincipals", "notRequestPrincipals"} {
			list := src.texts(key)
			switch {
			case len(list) == 0:
			case key == "requestPrincipals" && len(list) == 1 && list[0] == "*":
				rule.When = append(rule.When, v1alpha1.AccessClaim{Claim: "sub"})
			case key == "requestPrincipals" && len(list) == 1 && !strings.Contains(list[0], "*") && strings.Contains(list[0], "/"):
				i := strings.LastIndexByte(list[0], '/')
				rule.When = append(rule.When, v1alpha1.AccessClaim{Claim: "iss", Values: []string{list[0][:i]}}, v1alpha1.AccessClaim{Claim: "sub", Values: []string{list[0][i+1:]}})
			default:
				lost(src.at(key), "%v can't be said in claims", list)
			}
		}
		rule.From = append(rule.From, a)
	}
	for _, to := range r.each("to") {
		op := to.under("operation")
		var o v1alpha1.AccessOperation
		o.Methods, o.NotMethods = op.texts("methods"), op.texts("notMethods")
		o.Paths = paths(op.texts("paths"), op.at("paths"), lost)
		o.NotPaths = paths(op.texts("notPaths"), op.at("notPaths"), lost)
		for _, h := range op.texts("hosts") {
			o.Hosts = append(o.Hosts, withoutPort(h))
		}
		if n := op.texts("notHosts"); len(n) > 0 {
			lost(op.at("notHosts"), "hosts can't be excluded")
		}
		for _, port := range op.texts("ports") {
			n, err := strconv.ParseInt(port, 10, 32)
			if err != nil {
				lost(op.at("ports"), "%q is no port", port)
				continue
			}
			o.Ports = append(o.Ports, int32(n))
		}
		if n := op.texts("notPorts"); len(n) > 0 {
			lost(op.at("notPorts"), "ports can't be excluded")
		}
		rule.To = append(rule.To, o)
	}
	for _, when := range r.each("when") {
		w.istioWhen(d, when, &rule, lost)
	}
	return rule, ok
}

type loss func(at, format string, args ...any)

func (w *world) istioWhen(d *document, when *fields, rule *v1alpha1.AccessRule, lost loss) {
	key, values, not := when.text("key"), when.texts("values"), when.texts("notValues")
	bracket := func() string {
		_, rest, _ := strings.Cut(key, "[")
		return strings.TrimSuffix(rest, "]")
	}
	// every adds a condition to each of the rule's operations or sources.
	ops := func() []v1alpha1.AccessOperation {
		if len(rule.To) == 0 {
			rule.To = []v1alpha1.AccessOperation{{}}
		}
		return rule.To
	}
	froms := func() []v1alpha1.AccessSource {
		if len(rule.From) == 0 {
			rule.From = []v1alpha1.AccessSource{{}}
		}
		return rule.From
	}
	switch {
	case strings.HasPrefix(key, "request.headers["):
		for i := range ops() {
			if len(values) > 0 {
				rule.To[i].Headers = append(rule.To[i].Headers, v1alpha1.AccessHeader{Name: gatewayv1.HTTPHeaderName(bracket()), Values: headerValues(values, when.at("values"), lost)})
			}
			if len(not) > 0 {
				rule.To[i].Headers = append(rule.To[i].Headers, v1alpha1.AccessHeader{Name: gatewayv1.HTTPHeaderName(bracket()), Values: headerValues(not, when.at("notValues"), lost), Not: true})
			}
		}
	case strings.HasPrefix(key, "request.auth.claims[") && len(not) == 0:
		claim := strings.ReplaceAll(strings.TrimSuffix(strings.TrimPrefix(key, "request.auth.claims["), "]"), "][", ".")
		rule.When = append(rule.When, v1alpha1.AccessClaim{Claim: claim, Values: values})
	case key == "request.auth.audiences" && len(not) == 0:
		rule.When = append(rule.When, v1alpha1.AccessClaim{Claim: "aud", Values: values})
	case key == "source.ip" || key == "remote.ip":
		for i := range froms() {
			rule.From[i].Networks = append(rule.From[i].Networks, networks(values)...)
			rule.From[i].NotNetworks = append(rule.From[i].NotNetworks, networks(not)...)
		}
	case key == "source.namespace":
		for i := range froms() {
			for _, n := range values {
				rule.From[i].Callers = append(rule.From[i].Callers, w.anyOf(n, when.at("values"), lost)...)
			}
			for _, n := range not {
				rule.From[i].NotCallers = append(rule.From[i].NotCallers, w.anyOf(n, when.at("notValues"), lost)...)
			}
		}
	case key == "source.principal":
		for i := range froms() {
			rule.From[i].Identities = append(rule.From[i].Identities, w.principals(values, when.at("values"), lost)...)
			rule.From[i].NotIdentities = append(rule.From[i].NotIdentities, w.principals(not, when.at("notValues"), lost)...)
		}
	case key == "connection.sni" && len(not) == 0:
		for i := range ops() {
			rule.To[i].ServerNames = append(rule.To[i].ServerNames, values...)
		}
	case key == "destination.port" && len(not) == 0:
		for i := range ops() {
			for _, v := range values {
				if n, err := strconv.ParseInt(v, 10, 32); err == nil {
					rule.To[i].Ports = append(rule.To[i].Ports, int32(n))
				}
			}
		}
	default:
		lost(when.at("key"), "%q has no equal", key)
	}
}

// principals are TRUST-DOMAIN/ns/NAMESPACE/sa/NAME with a wildcard at one end, or
// "*" for whoever proves anything.
func (w *world) principals(list []string, at string, lost loss) []string {
	var out []string
	for _, p := range list {
		switch {
		case p == "*":
			out = append(out, "spiffe://*")
		case strings.HasPrefix(p, "*"):
			lost(at, "%q begins with a wildcard: only an end can be left open", p)
		default:
			domain, rest, _ := strings.Cut(p, "/")
			if domain == w.options.Foreign {
				domain = object.DefaultTrustDomain
			}
			out = append(out, "spiffe://"+domain+"/"+rest)
		}
	}
	return out
}

// anyOf is everybody in a namespace.
func (w *world) anyOf(namespace, at string, lost loss) []string {
	if strings.Contains(namespace, "*") {
		lost(at, "%q: a namespace with a wildcard can't be said", namespace)
		return nil
	}
	return []string{"*." + namespace}
}

func networks(list []string) []string {
	var out []string
	for _, n := range list {
		if !strings.Contains(n, "/") {
			if strings.Contains(n, ":") {
				n += "/128"
			} else {
				n += "/32"
			}
		}
		out = append(out, n)
	}
	return out
}

// paths are exact, or with a wildcard at an end, or with {*} and {**} for one and
// any segments.
func paths(list []string, at string, lost loss) []v1alpha1.AccessPath {
	var out []v1alpha1.AccessPath
	for _, p := range list {
		switch {
		case p == "*" || p == "/*":
			out = append(out, v1alpha1.AccessPath{Type: "PathPrefix", Value: "/"})
		case strings.Contains(p, "{*}") || strings.Contains(p, "{**}"):
			expr := quote(p)
			expr = strings.ReplaceAll(strings.ReplaceAll(expr, `\{\*\*\}`, ".*"), `\{\*\}`, "[^/]+")
			out = append(out, v1alpha1.AccessPath{Type: "RegularExpression", Value: expr})
		case strings.HasSuffix(p, "/*"):
			// "/a/*" has "/a/" and what is below, not "/a": a prefix would have both.
			out = append(out, v1alpha1.AccessPath{Type: "RegularExpression", Value: quote(strings.TrimSuffix(p, "*")) + ".*"})
		case strings.HasSuffix(p, "*"):
			out = append(out, v1alpha1.AccessPath{Type: "RegularExpression", Value: quote(strings.TrimSuffix(p, "*")) + ".*"})
		case strings.HasPrefix(p, "*"):
			out = append(out, v1alpha1.AccessPath{Type: "RegularExpression", Value: ".*" + quote(strings.TrimPrefix(p, "*"))})
		default:
			out = append(out, v1alpha1.AccessPath{Type: "Exact", Value: p})
		}
	}
	return out
}

// quote is regexp.QuoteMeta, with * and { as themselves too.
func quote(s string) string {
	var b strings.Builder
	for _, c := range s {
		if strings.ContainsRune(`\.+*?()|[]{}^$`, c) {
			b.WriteByte('\\')
		}
		b.WriteRune(c)
	}
	return b.String()
}

func headerValues(list []string, at string, lost loss) []string {
	var out []string
	for _, v := range list {
		switch {
		case v == "*":
			return nil // any value
		case strings.HasPrefix(v, "*"):
			lost(at, "%q begins with a wildcard", v)
		default:
			out = append(out, v)
		}
	}
	return out
}

func withoutPort(h string) string {
	if i := strings.LastIndexByte(h, ':'); i >= 0 && !strings.Contains(h[i:], "]") {
		return h[:i]
	}
	return h
}

// istioPeer translates security.istio.io PeerAuthentication.
func istioPeer(w *world, d *document, s *source) {
	spec := s.top(d).under("spec")
	targets := w.istioTargets(d, spec, s)
	mode, ok := istioMode(d, spec.under("mtls"))
	if ok && mode != "" && len(targets) > 0 {
		w.add(w.authentication(s, "", targets, mode))
	}
	ports := spec.under("portLevelMtls")
	for _, port := range slices.Sorted(maps.Keys(ports.m)) {
		mode, ok := istioMode(d, ports.under(port))
		if !ok || mode == "" {
			continue
		}
		var sections []v1alpha1.TargetRef
		for _, t := range targets {
			if t.Kind == "Service" {
				section, found := w.portName(s.namespace, string(t.Name), port)
				if !found {
					d.note(ports.at(port), "no port of Service %s leads there: that Service was left out", t.Name)
					continue
				}
				t.SectionName = &section
				sections = append(sections, t)
			}
		}
		if len(sections) == 0 {
			d.note(ports.at(port), "needs a selector with Services that have that port; it was left out")
			continue
		}
		w.add(w.authentication(s, "-"+port, sections, mode))
	}
}

func istioMode(d *document, f *fields) (v1alpha1.MutualTLS, bool) {
	switch mode := f.text("mode"); mode {
	case "", "UNSET":
		return "", true
	case "STRICT":
		return v1alpha1.MutualTLSStrict, true
	case "PERMISSIVE":
		return v1alpha1.MutualTLSPermissive, true
	case "DISABLE":
		return v1alpha1.MutualTLSOff, true
	default:
		d.note(f.at("mode"), "%q is unknown and was left out", mode)
		return "", false
	}
}

func (w *world) authentication(s *source, suffix string, targets []v1alpha1.TargetRef, mode v1alpha1.MutualTLS) *v1alpha1.AuthenticationPolicy {
	p := object.AuthenticationPolicy.New().(*v1alpha1.AuthenticationPolicy)
	p.Name, p.Namespace = clean(s.name+suffix), s.namespace
	p.Spec.TargetRefs, p.Spec.MutualTLS = targets, mode
	return p
}

// portName finds the name of a Service's port by the workload's port.
func (w *world) portName(namespace, service, port string) (gatewayv1.SectionName, bool) {
	s := w.find("Service", namespace, service)
	if s == nil {
		return "", false
	}
	spec, _ := s.m["spec"].(map[string]any)
	ports, _ := spec["ports"].([]any)
	for _, p := range ports {
		m, _ := p.(map[string]any)
		target := m["targetPort"]
		if target == nil {
			target = m["port"]
		}
		if name, ok := m["name"].(string); ok && fmt.Sprint(target) == port {
			return gatewayv1.SectionName(name), true
		}
	}
	return "", false
}
