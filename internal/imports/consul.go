package imports

import (
	"fmt"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/api/v1alpha1"
)

// consulIntentions translates service-intentions, as a custom resource or as a
// config entry. Of several sources the exact one holds before "*"; of a source's
// permissions the first one that is met.
func consulIntentions(w *world, d *document, s *source) {
	spec := s.top(d)
	if spec.has("spec") {
		spec = spec.under("spec")
		destination := spec.under("destination")
		s.name = destination.text("name")
		if ns := destination.text("namespace"); ns != "" {
			s.namespace = ns
		}
	} else { // a config entry's keys begin with a capital
		lowerKeys(spec.m)
		for _, k := range []string{"apiVersion", "kind", "metadata", "name", "namespace"} {
			spec.read[k] = true
		}
	}
	var targets []v1alpha1.TargetRef
	if s.name == "*" {
		targets = []v1alpha1.TargetRef{{Kind: "Namespace", Name: gatewayName(s.namespace)}}
		s.name = "any"
	} else {
		targets = []v1alpha1.TargetRef{{Kind: "Service", Name: gatewayName(s.name)}}
	}
	if spec.has("jwt") {
		spec.take("jwt")
		d.note("jwt", "needs an AuthenticationPolicy with jwt, and a rule's when; it was left out, and with it the intention's requirement: the sources below are denied")
		p := w.access(s, "-intentions", targets)
		p.Spec.Rules = []v1alpha1.AccessRule{nobody()}
		w.add(p)
		spec.take("sources")
		return
	}
	var named []string
	var allow, deny []v1alpha1.AccessRule
	sources := spec.each("sources")
	// Exact sources first: what "*" says doesn't hold for them.
	slices.SortStableFunc(sources, func(a, b *fields) int {
		x, y := fmt.Sprint(a.m["name"]) == "*", fmt.Sprint(b.m["name"]) == "*"
		switch {
		case x == y:
			return 0
		case x:
			return 1
		}
		return -1
	})
	for _, src := range sources {
		name, namespace := src.text("name"), src.text("namespace")
		src.read["description"], src.read["type"], src.read["precedence"] = true, true, true
		if namespace == "" {
			namespace = s.namespace
		}
		foreign := ""
		for _, key := range []string{"peer", "partition", "samenessGroup"} {
			if v := src.text(key); v != "" && v != "default" {
				foreign = key
			}
		}
		if foreign != "" {
			d.note(src.at(foreign), "has no equal: the source was left out, so that it may not call")
			src.take("action")
			src.take("permissions")
			continue
		}
		from := v1alpha1.AccessSource{Callers: []string{name + "." + namespace}}
		if name == "*" {
			from = v1alpha1.AccessSource{Identities: []string{"spiffe://*"}, NotCallers: slices.Clone(named)}
			if namespace != "*" && namespace != s.namespace {
				from = v1alpha1.AccessSource{Callers: []string{"*." + namespace}, NotCallers: slices.Clone(named)}
			}
		} else {
			named = append(named, from.Callers[0])
		}
		permissions := src.each("permissions")
		switch action := src.text("action"); {
		case len(permissions) > 0:
			if to := w.consulPermissions(d, permissions); len(to) > 0 {
				allow = append(allow, v1alpha1.AccessRule{From: []v1alpha1.AccessSource{from}, To: to})
			}
		case action == "allow":
			allow = append(allow, v1alpha1.AccessRule{From: []v1alpha1.AccessSource{from}})
		case action == "deny":
			// Where anything is allowed, all else is denied: nothing has to be said.
			if name == "*" && len(allow) == 0 {
				deny = append(deny, nobody())
			}
		default:
			d.note(src.at("action"), "%q is unknown: the source may not call", action)
		}
	}
	p := w.access(s, "-intentions", targets)
	p.Spec.Rules = allow
	if len(p.Spec.Rules) == 0 {
		p.Spec.Rules = deny
	}
	if len(p.Spec.Rules) == 0 {
		p.Spec.Rules = []v1alpha1.AccessRule{nobody()}
	}
	d.note("sources", "callers that no source names may not call; in Consul the default of its ACLs decides about them")
	w.add(p)
}

// consulPermissions translates an ordered list: a deny takes what it is about out
// of the allows that follow it, where that can be said.
func (w *world) consulPermissions(d *document, list []*fields) []v1alpha1.AccessOperation {
	var out []v1alpha1.AccessOperation
	var before []v1alpha1.AccessOperation // denied by now
	for _, p := range list {
		action := p.text("action")
		o, ok := consulHTTP(d, p.under("http"))
		if p.has("jwt") {
			p.take("jwt")
			d.note(p.at("jwt"), "needs an AuthenticationPolicy with jwt: the permission was left out")
			ok = false
		}
		switch {
		case action == "deny" && !ok:
			d.note(p.path, "the denial can't be said exactly: what follows it was left out, so that it permits nothing")
			return out
		case action == "deny":
			before = append(before, o)
		case !ok: // an allow that can't be said permits nothing
		default:
			narrowed, ok := without(o, before)
			if !ok {
				d.note(p.path, "an earlier denial overlaps in a way that can't be said: the permission was left out")
				continue
			}
			out = append(out, narrowed)
		}
	}
	return out
}

// without takes denied operations out of one: each must be about paths alone, or
// about methods alone.
func without(o v1alpha1.AccessOperation, denied []v1alpha1.AccessOperation) (v1alpha1.AccessOperation, bool) {
	for _, n := range denied {
		switch {
		case len(n.Headers) > 0 || len(n.NotMethods)+len(n.NotPaths) > 0:
			return o, false
		case len(n.Paths) > 0 && len(n.Methods) == 0:
			o.NotPaths = append(slices.Clone(o.NotPaths), n.Paths...)
		case len(n.Methods) > 0 && len(n.Paths) == 0:
			o.NotMethods = append(slices.Clone(o.NotMethods), n.Methods...)
		case len(n.Methods) > 0: // a method of a path: apart when the allow is of other methods
			if len(o.Methods) == 0 || overlap(o.Methods, n.Methods) {
				return o, false
			}
		default: // denies everything
			return o, false
		}
	}
	return o, true
}

func overlap(a, b []string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
}

func consulHTTP(d *document, h *fields) (o v1alpha1.AccessOperation, ok bool) {
	ok = true
	for key, kind := range map[string]gatewayv1.PathMatchType{"pathExact": "Exact", "pathRegex": "RegularExpression"} {
		if v := h.text(key); v != "" {
			o.Paths = append(o.Paths, v1alpha1.AccessPath{Type: kind, Value: v})
		}
	}
	if v := h.text("pathPrefix"); v != "" { // of characters, not of segments
		if strings.HasSuffix(v, "/") && v != "/" {
			o.Paths = append(o.Paths, v1alpha1.AccessPath{Type: "RegularExpression", Value: quote(v) + ".*"})
		} else if v == "/" {
			o.Paths = append(o.Paths, v1alpha1.AccessPath{Type: "PathPrefix", Value: "/"})
		} else {
			o.Paths = append(o.Paths, v1alpha1.AccessPath{Type: "RegularExpression", Value: quote(v) + ".*"})
		}
	}
	o.Methods = h.texts("methods")
	for _, f := range h.each("header") {
		one := v1alpha1.AccessHeader{Name: gatewayv1.HTTPHeaderName(f.text("name")), Not: f.flag("invert")}
		switch {
		case f.has("exact"):
			one.Values = []string{f.text("exact")}
		case f.has("prefix"):
			one.Values = []string{f.text("prefix") + "*"}
		case f.flag("present"):
		default:
			for _, k := range []string{"suffix", "contains", "regex", "ignoreCase"} {
				if f.has(k) {
					f.take(k)
					d.note(f.at(k), "has no equal")
				}
			}
			ok = false
		}
		o.Headers = append(o.Headers, one)
	}
	return o, ok
}

// lowerKeys gives a config entry's keys the form that resources have.
func lowerKeys(m map[string]any) {
	for k, v := range m {
		switch v := v.(type) {
		case map[string]any:
			lowerKeys(v)
		case []any:
			for _, e := range v {
				if inner, ok := e.(map[string]any); ok {
					lowerKeys(inner)
				}
			}
		}
		if low := strings.ToLower(k[:1]) + k[1:]; low != k && k != "HTTP" && k != "JWT" {
			delete(m, k)
			m[low] = v
		}
	}
	for from, to := range map[string]string{"HTTP": "http", "JWT": "jwt"} {
		if v, ok := m[from]; ok {
			delete(m, from)
			m[to] = v
		}
	}
}
