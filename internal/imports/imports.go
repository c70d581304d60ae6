package imports

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/control/object"
)

// MaxDocuments bounds what is translated at once.
const MaxDocuments = 10_000

// Options say what documents don't.
type Options struct {
	// TrustDomain and its namespace for policies of the whole mesh are Tulle's.
	// Foreign is the other mesh's own trust domain, whose identities become ours.
	Foreign string
	// RootNamespace is Istio's, in which policies are for the whole mesh.
	RootNamespace string
	// Accounts say which service a service account's programs serve, where the two
	// names differ: "NAMESPACE/ACCOUNT" to the service's name.
	Accounts map[string]string
}

// Result is a translation.
type Result struct {
	Objects []object.Object
	Notes   []Note
}

// source is a document that is to be translated.
type source struct {
	group, kind     string
	namespace, name string
	where           string
	m               map[string]any
}

// world is all documents of one translation: they refer to each other.
type world struct {
	options Options
	sources []*source
	out     Result
}

// Translate reads YAML documents and translates those it knows. Documents of other
// kinds are looked at only where others refer to them (Services, for their
// selectors).
func Translate(file string, data []byte, o Options) (*Result, error) {
	if o.Foreign == "" {
		o.Foreign = "cluster.local"
	}
	if o.RootNamespace == "" {
		o.RootNamespace = "istio-system"
	}
	w := &world{options: o}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for i := 0; ; i++ {
		var v any
		err := dec.Decode(&v)
		m, _ := keyed(v).(map[string]any)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		list := []any{m}
		if items, ok := m["items"].([]any); ok && m["kind"] == "List" { // as kubectl get writes
			list = items
		}
		for _, v := range list {
			if len(w.sources) >= MaxDocuments {
				return nil, fmt.Errorf("%s: more than %d documents", file, MaxDocuments)
			}
			if m, ok := v.(map[string]any); ok && m != nil {
				w.sources = append(w.sources, identify(file, i, m))
			}
		}
	}
	for _, s := range w.sources {
		if f := translators[s.group+"/"+s.kind]; f != nil {
			d := &document{where: s.where}
			f(w, d, s)
			d.unread()
			w.out.Notes = append(w.out.Notes, d.notes...)
		} else if !quiet[s.kind] {
			w.out.Notes = append(w.out.Notes, Note{s.where, "kind", "is not one that is translated; the document was left out"})
		}
	}
	return &w.out, nil
}

// keyed gives every mapping keys of text: a port as a key is a number in YAML.
func keyed(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			v[k] = keyed(e)
		}
	case map[any]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[fmt.Sprint(k)] = keyed(e)
		}
		return out
	case []any:
		for i, e := range v {
			v[i] = keyed(e)
		}
	}
	return v
}

// translators by "GROUP/KIND".
var translators = map[string]func(*world, *document, *source){
	"security.istio.io/AuthorizationPolicy":  istioAuthorization,
	"security.istio.io/PeerAuthentication":   istioPeer,
	"policy.linkerd.io/AuthorizationPolicy":  linkerdAuthorization,
	"policy.linkerd.io/ServerAuthorization":  linkerdServerAuthorization,
	"policy.linkerd.io/Server":               linkerdServer,
	"consul.hashicorp.com/ServiceIntentions": consulIntentions,
	"consul/service-intentions":              consulIntentions,
	"access.smi-spec.io/TrafficTarget":       smiTarget,
}

// quiet are kinds that others refer to.
var quiet = map[string]bool{"Service": true, "MeshTLSAuthentication": true, "NetworkAuthentication": true, "HTTPRoute": true,
	"HTTPRouteGroup": true, "TCPRoute": true, "ServiceAccount": true, "Namespace": true, "Deployment": true}

func identify(file string, i int, m map[string]any) *source {
	text := func(m map[string]any, keys ...string) string {
		for _, k := range keys {
			if s, ok := m[k].(string); ok {
				return s
			}
		}
		return ""
	}
	s := &source{m: m, kind: text(m, "kind", "Kind")}
	s.group, _, _ = strings.Cut(text(m, "apiVersion"), "/")
	meta, _ := m["metadata"].(map[string]any)
	s.name, s.namespace = text(meta, "name"), text(meta, "namespace")
	if s.group == "" && s.kind == "service-intentions" { // a Consul config entry
		s.group, s.name, s.namespace = "consul", text(m, "Name", "name"), text(m, "Namespace", "namespace")
	}
	if s.namespace == "" {
		s.namespace = object.DefaultNamespace
	}
	s.where = fmt.Sprintf("%s: %s/%s", file, s.kind, s.name)
	if s.name == "" {
		s.where = fmt.Sprintf("%s: document %d", file, i+1)
	}
	return s
}

// top reads a document's own fields, without what every one has.
func (s *source) top(d *document) *fields {
	f := d.under("", s.m)
	for _, k := range []string{"apiVersion", "kind", "Kind", "metadata", "status", "Name", "name", "Namespace", "namespace"} {
		f.read[k] = true
	}
	return f
}

func (w *world) find(kind, namespace, name string) *source {
	for _, s := range w.sources {
		if s.kind == kind && s.namespace == namespace && s.name == name {
			return s
		}
	}
	return nil
}

// services are those whose selector picks what has at least these labels: as far
// as the documents tell.
func (w *world) services(namespace string, labels map[string]string) []string {
	var out []string
	for _, s := range w.sources {
		if s.kind != "Service" || s.namespace != namespace {
			continue
		}
		spec, _ := s.m["spec"].(map[string]any)
		selector, _ := spec["selector"].(map[string]any)
		if len(selector) == 0 {
			continue
		}
		fits := true
		for k, v := range labels {
			fits = fits && fmt.Sprint(selector[k]) == v
		}
		if fits {
			out = append(out, s.name)
		}
	}
	slices.Sort(out)
	return out
}

// labels reads a label selector's matchLabels.
func labels(f *fields) map[string]string {
	out := map[string]string{}
	m, _ := f.take("matchLabels").(map[string]any)
	for k, v := range m {
		out[k] = fmt.Sprint(v)
	}
	return out
}

// targets are what a policy that selects workloads is for: the Services that have
// them, or all of the namespace when it selects none.
func (w *world) targets(d *document, field string, s *source, selected map[string]string) []v1alpha1.TargetRef {
	if len(selected) == 0 {
		return []v1alpha1.TargetRef{{Kind: "Namespace", Name: gatewayName(s.namespace)}}
	}
	names := w.services(s.namespace, selected)
	if len(names) == 0 {
		d.note(field, "selects workloads, and no Service in the documents has that selector: give the Services too; the policy was left out")
		return nil
	}
	var out []v1alpha1.TargetRef
	for _, n := range names {
		out = append(out, v1alpha1.TargetRef{Kind: "Service", Name: gatewayName(n)})
	}
	return out
}

func (w *world) access(s *source, suffix string, targets []v1alpha1.TargetRef) *v1alpha1.AccessPolicy {
	p := object.AccessPolicy.New().(*v1alpha1.AccessPolicy)
	p.Name, p.Namespace = clean(s.name+suffix), s.namespace
	p.Spec.TargetRefs = targets
	p.Spec.Action, p.Spec.Mode, p.Spec.IfUnenforceable = v1alpha1.AccessAllow, v1alpha1.AccessEnforce, v1alpha1.AccessDeny
	return p
}

func (w *world) add(o object.Object) { w.out.Objects = append(w.out.Objects, o) }

// nobody is a rule that nothing meets: an Allow of it alone denies everything.
func nobody() v1alpha1.AccessRule {
	return v1alpha1.AccessRule{From: []v1alpha1.AccessSource{{Identities: []string{"spiffe://nobody.invalid/ns/none/sa/none"}}}}
}

// clean makes a name of what may be none.
func clean(s string) string {
	s = strings.ToLower(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '-'
	}, s))
	return strings.Trim(s, "-.")
}
