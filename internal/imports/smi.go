package imports

import (
	"fmt"
	"strconv"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/api/v1alpha1"
)

// smiTarget translates access.smi-spec.io TrafficTarget: which service accounts
// may make which requests to the programs of one.
func smiTarget(w *world, d *document, s *source) {
	spec := s.top(d).under("spec")
	destination := spec.under("destination")
	account, namespace := smiAccount(d, destination, s.namespace)
	if account == "" {
		return
	}
	s.namespace = namespace
	service := w.options.Accounts[namespace+"/"+account]
	if service == "" {
		service = account
		d.note(destination.at("name"), "the programs of service account %s are taken for those of Service %s: say otherwise with --account %s/%s=SERVICE", account, service, namespace, account)
	}
	var from []v1alpha1.AccessSource
	for _, f := range spec.each("sources") {
		if name, ns := smiAccount(d, f, s.namespace); name != "" {
			from = append(from, v1alpha1.AccessSource{Callers: []string{name + "." + ns}})
		}
	}
	var to []v1alpha1.AccessOperation
	rules := spec.each("rules")
	whole := true
	for _, r := range rules {
		kind, name := r.text("kind"), r.text("name")
		wanted := r.texts("matches")
		found := w.find(kind, s.namespace, name)
		if found == nil || kind != "HTTPRouteGroup" && kind != "TCPRoute" {
			d.note(r.at("name"), "there is no %s %s in the documents: the rule was left out, so that it permits nothing", kind, name)
			whole = false
			continue
		}
		inner := &document{where: found.where}
		routes := inner.under("spec", found.m["spec"])
		if kind == "TCPRoute" {
			var ports []int32
			for _, p := range routes.under("matches").texts("ports") {
				if n, err := strconv.ParseInt(p, 10, 32); err == nil {
					ports = append(ports, int32(n))
				}
			}
			to = append(to, v1alpha1.AccessOperation{Ports: ports})
		} else {
			to = append(to, smiMatches(inner, routes, wanted)...)
		}
		inner.unread()
		w.out.Notes = append(w.out.Notes, inner.notes...)
	}
	if len(from) == 0 || len(rules) > 0 && len(to) == 0 && !whole {
		from, to = nobody().From, nil
	}
	p := w.access(s, "", []v1alpha1.TargetRef{{Kind: "Service", Name: gatewayName(service)}})
	p.Spec.Rules = []v1alpha1.AccessRule{{From: from, To: to}}
	w.add(p)
}

func smiAccount(d *document, f *fields, namespace string) (name, ns string) {
	if kind := f.text("kind"); kind != "ServiceAccount" {
		d.note(f.at("kind"), "%q: only a ServiceAccount has an equal; it was left out", kind)
		return "", ""
	}
	f.read["port"] = true
	if ns = f.text("namespace"); ns == "" {
		ns = namespace
	}
	return f.text("name"), ns
}

func smiMatches(d *document, spec *fields, wanted []string) []v1alpha1.AccessOperation {
	var out []v1alpha1.AccessOperation
	for _, m := range spec.each("matches") {
		name := m.text("name")
		var o v1alpha1.AccessOperation
		if expr := m.text("pathRegex"); expr != "" && expr != ".*" {
			o.Paths = []v1alpha1.AccessPath{{Type: "RegularExpression", Value: expr}}
		}
		for _, method := range m.texts("methods") {
			if method != "*" {
				o.Methods = append(o.Methods, method)
			}
		}
		// Headers are regular expressions, in a mapping or a list of them.
		headers := m.take("headers")
		list, ok := headers.([]any)
		if !ok && headers != nil {
			list = []any{headers}
		}
		for _, h := range list {
			pairs, _ := h.(map[string]any)
			for k, v := range pairs {
				value := fmt.Sprint(v)
				one := v1alpha1.AccessHeader{Name: gatewayv1.HTTPHeaderName(k)}
				if value != ".*" {
					if quote(value) != value {
						d.note(m.at("headers."+k), "%q is a regular expression, which has no equal: it is compared as it stands", value)
					}
					one.Values = []string{value}
				}
				o.Headers = append(o.Headers, one)
			}
		}
		used := len(wanted) == 0
		for _, n := range wanted {
			used = used || n == name
		}
		if used {
			out = append(out, o)
		}
	}
	return out
}
