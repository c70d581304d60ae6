package imports

import (
	"fmt"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/api/v1alpha1"
)

// linkerdTargets are the Service ports that lead to a Server.
func (w *world) linkerdTargets(d *document, field string, server *source) []v1alpha1.TargetRef {
	spec, _ := server.m["spec"].(map[string]any)
	selector, _ := spec["podSelector"].(map[string]any)
	match, _ := selector["matchLabels"].(map[string]any)
	wanted := map[string]string{}
	for k, v := range match {
		wanted[k] = fmt.Sprint(v)
	}
	if _, ok := selector["matchExpressions"]; ok {
		d.note(field, "Server %s selects by matchExpressions, which have no equal: it was left out", server.name)
		return nil
	}
	if len(wanted) == 0 {
		d.note(field, "Server %s selects every workload: write a policy for the Namespace by hand; it was left out", server.name)
		return nil
	}
	var out []v1alpha1.TargetRef
	port := fmt.Sprint(spec["port"])
	for _, name := range w.services(server.namespace, wanted) {
		section, ok := w.portName(server.namespace, name, port)
		if !ok {
			d.note(field, "Service %s has no named port that leads to port %s of Server %s: it was left out", name, port, server.name)
			continue
		}
		out = append(out, v1alpha1.TargetRef{Kind: "Service", Name: gatewayName(name), SectionName: &section})
	}
	if len(out) == 0 {
		d.note(field, "no Service in the documents leads to Server %s: give the Services too; the policy was left out", server.name)
	}
	return out
}

// linkerdServer translates policy.linkerd.io Server: a port that nobody may call
// but whom an authorization lets.
func linkerdServer(w *world, d *document, s *source) {
	spec := s.top(d).under("spec")
	for _, k := range []string{"podSelector", "port", "proxyProtocol"} { // read with the targets; the Service says the protocol
		spec.read[k] = true
	}
	targets := w.linkerdTargets(d, "spec.podSelector", s)
	p := w.access(s, "", targets)
	switch access := spec.text("accessPolicy"); access {
	case "", "deny":
		p.Spec.Rules = []v1alpha1.AccessRule{nobody()}
	case "all-unauthenticated":
		p.Spec.Rules = []v1alpha1.AccessRule{{}}
	case "all-authenticated":
		p.Spec.Rules = []v1alpha1.AccessRule{{From: []v1alpha1.AccessSource{{Identities: []string{"spiffe://*"}}}}}
	case "audit":
		p.Spec.Mode, p.Spec.Rules = v1alpha1.AccessAudit, []v1alpha1.AccessRule{nobody()}
	default:
		d.note("spec.accessPolicy", "%q has no equal: nobody is permitted but whom an authorization lets", access)
		p.Spec.Rules = []v1alpha1.AccessRule{nobody()}
	}
	if len(targets) > 0 {
		w.add(p)
	}
}

// linkerdAuthorization translates policy.linkerd.io AuthorizationPolicy.
func linkerdAuthorization(w *world, d *document, s *source) {
	spec := s.top(d).under("spec")
	ref := spec.under("targetRef")
	ref.read["group"] = true
	kind, name := ref.text("kind"), ref.text("name")
	var targets []v1alpha1.TargetRef
	var to []v1alpha1.AccessOperation
	switch kind {
	case "Namespace":
		targets = []v1alpha1.TargetRef{{Kind: "Namespace", Name: gatewayName(s.namespace)}}
	case "Server":
		if server := w.find("Server", s.namespace, name); server != nil {
			targets = w.linkerdTargets(d, ref.at("name"), server)
		} else {
			d.note(ref.at("name"), "there is no Server %s in the documents: the policy was left out", name)
		}
	case "HTTPRoute":
		targets, to = w.linkerdRoute(d, ref.at("name"), s.namespace, name)
	default:
		d.note(ref.at("kind"), "%q has no equal: the policy was left out", kind)
	}
	from, ok := w.linkerdRequired(d, spec, s)
	if !ok || len(targets) == 0 {
		return
	}
	p := w.access(s, "", targets)
	p.Spec.Rules = []v1alpha1.AccessRule{{From: from, To: to}}
	w.add(p)
}

// linkerdRoute finds what an HTTPRoute of a Server stands for.
func (w *world) linkerdRoute(d *document, field, namespace, name string) (targets []v1alpha1.TargetRef, to []v1alpha1.AccessOperation) {
	route := w.find("HTTPRoute", namespace, name)
	if route == nil {
		d.note(field, "there is no HTTPRoute %s in the documents: the policy was left out", name)
		return nil, nil
	}
	inner := &document{where: route.where}
	spec := inner.under("spec", route.m["spec"])
	for _, p := range spec.each("parentRefs") {
		if p.text("kind") == "Server" {
			if server := w.find("Server", namespace, p.text("name")); server != nil {
				targets = append(targets, w.linkerdTargets(d, field, server)...)
			}
		}
	}
	for _, rule := range spec.each("rules") {
		for _, m := range rule.each("matches") {
			var o v1alpha1.AccessOperation
			path := m.under("path")
			if v := path.text("value"); v != "" {
				kind := gatewayv1.PathMatchType(path.text("type"))
				if kind == "" {
					kind = "PathPrefix"
				}
				o.Paths = []v1alpha1.AccessPath{{Type: kind, Value: v}}
			}
			if method := m.text("method"); method != "" {
				o.Methods = []string{method}
			}
			for _, h := range m.each("headers") {
				if t := h.text("type"); t != "" && t != "Exact" {
					d.note(field, "HTTPRoute %s compares header %s by %s, which has no equal: the match was left out, so that it permits nothing", name, h.text("name"), t)
					o.Methods = []string{"NONE"}
				}
				o.Headers = append(o.Headers, v1alpha1.AccessHeader{Name: gatewayv1.HTTPHeaderName(h.text("name")), Values: []string{h.text("value")}})
			}
			to = append(to, o)
		}
	}
	if len(targets) == 0 {
		d.note(field, "HTTPRoute %s has no Server as a parent: the policy was left out", name)
	}
	return targets, to
}

// linkerdRequired reads requiredAuthenticationRefs: all of them must hold.
func (w *world) linkerdRequired(d *document, spec *fields, s *source) ([]v1alpha1.AccessSource, bool) {
	refs := spec.each("requiredAuthenticationRefs")
	var who [][]v1alpha1.AccessSource // each list is alternatives
	for _, r := range refs {
		r.read["group"] = true
		kind, name, namespace := r.text("kind"), r.text("name"), r.text("namespace")
		if namespace == "" {
			namespace = s.namespace
		}
		if kind == "ServiceAccount" {
			who = append(who, []v1alpha1.AccessSource{{Callers: []string{name + "." + namespace}}})
			continue
		}
		found := w.find(kind, namespace, name)
		if found == nil {
			d.note(r.at("name"), "there is no %s %s in the documents: the policy was left out", kind, name)
			return nil, false
		}
		inner := &document{where: found.where}
		authentication := inner.under("spec", found.m["spec"])
		switch kind {
		case "MeshTLSAuthentication":
			one := w.linkerdIdentities(inner, authentication)
			who = append(who, []v1alpha1.AccessSource{one})
		case "NetworkAuthentication":
			who = append(who, linkerdNetworks(authentication))
		default:
			d.note(r.at("kind"), "%q has no equal: the policy was left out", kind)
			return nil, false
		}
		inner.unread()
		w.out.Notes = append(w.out.Notes, inner.notes...)
	}
	all := []v1alpha1.AccessSource{{}}
	for _, alternatives := range who {
		var next []v1alpha1.AccessSource
		for _, a := range all {
			for _, b := range alternatives {
				both, ok := meet(a, b)
				if !ok {
					d.note("spec.requiredAuthenticationRefs", "two of the same kind must hold at once, which has no equal: the policy was left out")
					return nil, false
				}
				next = append(next, both)
			}
		}
		all = next
	}
	if len(refs) == 0 {
		d.note("spec.requiredAuthenticationRefs", "is empty: everybody is permitted")
	}
	return all, true
}

// meet is what both of two sources hold.
func meet(a, b v1alpha1.AccessSource) (v1alpha1.AccessSource, bool) {
	identity := func(s v1alpha1.AccessSource) bool { return len(s.Callers)+len(s.Identities) > 0 }
	if identity(a) && identity(b) || len(a.Networks) > 0 && len(b.Networks) > 0 {
		return a, false
	}
	return v1alpha1.AccessSource{Callers: append(a.Callers, b.Callers...), Identities: append(a.Identities, b.Identities...),
		Networks: append(a.Networks, b.Networks...), NotNetworks: append(a.NotNetworks, b.NotNetworks...)}, true
}

// linkerdIdentities reads MeshTLSAuthentication.
func (w *world) linkerdIdentities(d *document, f *fields) v1alpha1.AccessSource {
	var out v1alpha1.AccessSource
	for _, id := range f.texts("identities") {
		w.linkerdIdentity(d, f.at("identities"), id, &out)
	}
	for _, r := range f.each("identityRefs") {
		r.read["group"] = true
		kind, name, namespace := r.text("kind"), r.text("name"), r.text("namespace")
		switch kind {
		case "ServiceAccount":
			out.Callers = append(out.Callers, name+"."+namespace)
		case "Namespace":
			out.Callers = append(out.Callers, "*."+name)
		default:
			d.note(r.at("kind"), "%q has no equal and was left out", kind)
		}
	}
	if len(out.Callers)+len(out.Identities) == 0 {
		return nobody().From[0]
	}
	return out
}

// linkerdIdentity reads NAME.NAMESPACE.serviceaccount.identity.LINKERD.DOMAIN.
func (w *world) linkerdIdentity(d *document, field, id string, out *v1alpha1.AccessSource) {
	parts := strings.Split(id, ".")
	switch {
	case id == "*":
		out.Identities = append(out.Identities, "spiffe://*")
	case strings.HasPrefix(id, "spiffe://"):
		out.Identities = append(out.Identities, id)
	case len(parts) >= 4 && parts[2] == "serviceaccount" && !strings.Contains(parts[1], "*"):
		out.Callers = append(out.Callers, parts[0]+"."+parts[1])
	default:
		d.note(field, "%q has no equal and was left out", id)
	}
}

func linkerdNetworks(f *fields) []v1alpha1.AccessSource {
	var out []v1alpha1.AccessSource
	for _, n := range f.each("networks") {
		out = append(out, v1alpha1.AccessSource{Networks: networks(n.texts("cidr")), NotNetworks: networks(n.texts("except"))})
	}
	return out
}

// linkerdServerAuthorization translates policy.linkerd.io ServerAuthorization.
func linkerdServerAuthorization(w *world, d *document, s *source) {
	spec := s.top(d).under("spec")
	ref := spec.under("server")
	var targets []v1alpha1.TargetRef
	if name := ref.text("name"); name != "" {
		if server := w.find("Server", s.namespace, name); server != nil {
			targets = w.linkerdTargets(d, ref.at("name"), server)
		} else {
			d.note(ref.at("name"), "there is no Server %s in the documents: the policy was left out", name)
		}
	}
	if ref.has("selector") {
		wanted := labels(ref.under("selector"))
		for _, server := range w.sources {
			if server.kind != "Server" || server.namespace != s.namespace {
				continue
			}
			meta, _ := server.m["metadata"].(map[string]any)
			have, _ := meta["labels"].(map[string]any)
			fits := true
			for k, v := range wanted {
				fits = fits && fmt.Sprint(have[k]) == v
			}
			if fits {
				targets = append(targets, w.linkerdTargets(d, ref.at("selector"), server)...)
			}
		}
	}
	client := spec.under("client")
	nets := linkerdNetworks(client)
	who := v1alpha1.AccessSource{}
	meshed := client.under("meshTLS")
	switch {
	case client.flag("unauthenticated"):
	case meshed.flag("unauthenticatedTLS"):
		d.note(meshed.at("unauthenticatedTLS"), "TLS without an identity has no equal: an identity is asked for")
		who.Identities = []string{"spiffe://*"}
	default:
		for _, id := range meshed.texts("identities") {
			w.linkerdIdentity(d, meshed.at("identities"), id, &who)
		}
		for _, a := range meshed.each("serviceAccounts") {
			namespace := a.text("namespace")
			if namespace == "" {
				namespace = s.namespace
			}
			who.Callers = append(who.Callers, a.text("name")+"."+namespace)
		}
		if len(who.Callers)+len(who.Identities) == 0 {
			who = nobody().From[0]
		}
	}
	if len(nets) == 0 {
		nets = []v1alpha1.AccessSource{{}}
	}
	var from []v1alpha1.AccessSource
	for _, n := range nets {
		both, _ := meet(who, n)
		from = append(from, both)
	}
	if len(targets) == 0 {
		return
	}
	p := w.access(s, "", slices.Clip(targets))
	p.Spec.Rules = []v1alpha1.AccessRule{{From: from}}
	w.add(p)
}
