package graph

import (
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/mesh"
)

// granted reports whether a ReferenceGrant in the namespace of to lets from name it.
func (b *Builder) granted(from, to Ref) bool {
	for n := range b.grantsIn[to.Name.Namespace] {
		spec := &b.grants[n].Spec
		is := false
		for i := range spec.From {
			f := &spec.From[i]
			is = is || string(f.Group) == from.Kind.Group && string(f.Kind) == from.Kind.Name && string(f.Namespace) == from.Name.Namespace
		}
		if !is {
			continue
		}
		for i := range spec.To {
			t := &spec.To[i]
			if string(t.Group) == to.Kind.Group && string(t.Kind) == to.Kind.Name && (t.Name == nil || *t.Name == "" || string(*t.Name) == to.Name.Name) {
				return true
			}
		}
	}
	return false
}

// touchGrants marks what may depend on the grants of a namespace: gateways with a
// Secret there, and routes of gateways with a Service there.
func (b *Builder) touchGrants(namespace string) {
	d := &b.dirty
	b.touchAsked(namespace, "")
	b.touchEgress(namespace, "")
	for n, g := range b.gateways {
		for s := range secretsOf(g) {
			if s.Namespace == namespace && n.Namespace != namespace {
				d.gates[n] = true
			}
		}
	}
	for service, routes := range b.byBackend {
		if service.Namespace != namespace {
			continue
		}
		for ref := range routes {
			r := b.routes[ref]
			if r.Name.Namespace == namespace {
				continue
			}
			for i := range r.parents {
				if p, ok := r.parentOf(&r.parents[i]); ok && p.Kind == object.Gateway {
					d.gates[p.Name], d.routes[ref] = true, true
				}
			}
		}
	}
}

// index adds or removes a member of a set.
func index[K, V comparable](m map[K]map[V]bool, key K, member V, there bool) {
	if there {
		if m[key] == nil {
			m[key] = map[V]bool{}
		}
		m[key][member] = true
		return
	}
	delete(m[key], member)
	if len(m[key]) == 0 {
		delete(m, key)
	}
}

// labelsOf are a namespace's labels; every namespace has one with its name, with
// or without an object (Kubernetes, kubernetes.io/metadata.name).
func (b *Builder) labelsOf(namespace string) map[string]string {
	out := map[string]string{}
	if ns := b.namespaces[mesh.Name{Name: namespace}]; ns != nil {
		for k, v := range ns.Labels {
			out[k] = v
		}
	}
	out["kubernetes.io/metadata.name"] = namespace
	return out
}
