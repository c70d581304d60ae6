package graph

import (
	"slices"
	"strings"
	"time"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/mesh"
)

// anyRoute is what the kinds of routes have in common; one of http, grpc, tls
// and tcp is set. It is immutable.
type anyRoute struct {
	Ref
	created    time.Time
	generation int64
	parents    []gatewayv1.ParentReference
	hostnames  []gatewayv1.Hostname

	http *gatewayv1.HTTPRoute
	grpc *gatewayv1.GRPCRoute
	tls  *gatewayv1.TLSRoute
	tcp  *gatewayv1.TCPRoute
}

// routeKinds are the kinds of routes; where several apply to one port of a
// Service the first wins (GEP-1294, Route types).
var routeKinds = []*object.Kind{object.GRPCRoute, object.HTTPRoute, object.TLSRoute, object.TCPRoute}

// routeOf wraps a route, nil when o is none.
func routeOf(ref Ref, o object.Object) *anyRoute {
	r := &anyRoute{Ref: ref}
	switch o := o.(type) {
	case *gatewayv1.HTTPRoute:
		r.http, r.parents, r.hostnames = o, o.Spec.ParentRefs, o.Spec.Hostnames
	case *gatewayv1.GRPCRoute:
		r.grpc, r.parents, r.hostnames = o, o.Spec.ParentRefs, o.Spec.Hostnames
	case *gatewayv1.TLSRoute:
		r.tls, r.parents, r.hostnames = o, o.Spec.ParentRefs, o.Spec.Hostnames
	case *gatewayv1.TCPRoute:
		r.tcp, r.parents = o, o.Spec.ParentRefs
	default:
		return nil
	}
	r.created, r.generation = o.GetCreationTimestamp().Time, o.GetGeneration()
	return r
}

// objectName writes a ref as "httproute/NAMESPACE/NAME".
func objectName(r Ref) string {
	return strings.ToLower(r.Kind.Name) + "/" + r.Name.Namespace + "/" + r.Name.Name
}

// rank is the kind's place in routeKinds.
func (r *anyRoute) rank() int { return slices.Index(routeKinds, r.Kind) }

// older orders routes by age, then by name: the order in which equal matches win
// and in which conflicts are decided (Gateway API v1, HTTPRouteRule.Matches).
func older(x, y *anyRoute) int {
	if c := x.created.Compare(y.created); c != 0 {
		return c
	}
	if c := compareNames(x.Name, y.Name); c != 0 {
		return c
	}
	return x.rank() - y.rank()
}

// val is what a pointer points to, or what an absent field defaults to.
func val[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

// parentOf returns the object that a parentRef names, ok only for the kinds that
// may be parents.
func (r *anyRoute) parentOf(p *gatewayv1.ParentReference) (Ref, bool) {
	n := mesh.Name{Namespace: string(val(p.Namespace, gatewayv1.Namespace(r.Name.Namespace))), Name: string(p.Name)}
	switch group, kind := val(p.Group, gatewayv1.GroupName), val(p.Kind, "Gateway"); {
	case kind == "Gateway" && group == gatewayv1.GroupName:
		return Ref{object.Gateway, n}, true
	case kind == "Service" && group == "":
		return Ref{object.Service, n}, true
	}
	return Ref{Name: n}, false
}

// backendOf returns the Service that a reference names, ok only when it is one.
func (r *anyRoute) backendOf(b *gatewayv1.BackendObjectReference) (mesh.Name, bool) {
	n := mesh.Name{Namespace: string(val(b.Namespace, gatewayv1.Namespace(r.Name.Namespace))), Name: string(b.Name)}
	return n, val(b.Kind, "Service") == "Service" && val(b.Group, "") == ""
}

// eachBackend calls f with each reference of the route to a backend, those of
// mirrors too.
func (r *anyRoute) eachBackend(f func(*gatewayv1.BackendObjectReference)) {
	mirror := func(m *gatewayv1.HTTPRequestMirrorFilter) {
		if m != nil {
			f(&m.BackendRef)
		}
	}
	switch {
	case r.http != nil:
		for i := range r.http.Spec.Rules {
			rule := &r.http.Spec.Rules[i]
			for j := range rule.Filters {
				mirror(rule.Filters[j].RequestMirror)
			}
			for j := range rule.BackendRefs {
				b := &rule.BackendRefs[j]
				f(&b.BackendObjectReference)
				for k := range b.Filters {
					mirror(b.Filters[k].RequestMirror)
				}
			}
		}
	case r.grpc != nil:
		for i := range r.grpc.Spec.Rules {
			rule := &r.grpc.Spec.Rules[i]
			for j := range rule.Filters {
				mirror(rule.Filters[j].RequestMirror)
			}
			for j := range rule.BackendRefs {
				b := &rule.BackendRefs[j]
				f(&b.BackendObjectReference)
				for k := range b.Filters {
					mirror(b.Filters[k].RequestMirror)
				}
			}
		}
	case r.tls != nil:
		for i := range r.tls.Spec.Rules {
			for j := range r.tls.Spec.Rules[i].BackendRefs {
				f(&r.tls.Spec.Rules[i].BackendRefs[j].BackendObjectReference)
			}
		}
	case r.tcp != nil:
		for i := range r.tcp.Spec.Rules {
			for j := range r.tcp.Spec.Rules[i].BackendRefs {
				f(&r.tcp.Spec.Rules[i].BackendRefs[j].BackendObjectReference)
			}
		}
	}
}

// backends are the services that the route names, each once.
func (r *anyRoute) backends() map[mesh.Name]bool {
	out := map[mesh.Name]bool{}
	r.eachBackend(func(b *gatewayv1.BackendObjectReference) {
		if n, ok := r.backendOf(b); ok {
			out[n] = true
		}
	})
	return out
}

// sections are the names of the route's rules.
func (r *anyRoute) sections() map[gatewayv1.SectionName]bool {
	out := map[gatewayv1.SectionName]bool{}
	add := func(n *gatewayv1.SectionName) {
		if n != nil {
			out[*n] = true
		}
	}
	switch {
	case r.http != nil:
		for i := range r.http.Spec.Rules {
			add(r.http.Spec.Rules[i].Name)
		}
	case r.grpc != nil:
		for i := range r.grpc.Spec.Rules {
			add(r.grpc.Spec.Rules[i].Name)
		}
	}
	return out
}

// size is the number of the route's rules.
func (r *anyRoute) size() int {
	switch {
	case r.http != nil:
		return len(r.http.Spec.Rules)
	case r.grpc != nil:
		return len(r.grpc.Spec.Rules)
	}
	return 1
}

// The largest table that a proxy takes: hostnames of a port, and rules.
const (
	maxTableHosts = 4096
	maxTableRules = 16384
)

// indexRoute keeps the indexes of routes by their parents and backends.
func (b *Builder) indexRoute(r *anyRoute, there bool) {
	for i := range r.parents {
		if p, ok := r.parentOf(&r.parents[i]); ok {
			index(b.byParent, p, r.Ref, there)
		}
	}
	for n := range r.backends() {
		index(b.byBackend, n, r.Ref, there)
	}
}

// routesOf returns the routes that name a parent, the oldest first.
func (b *Builder) routesOf(parent Ref) []*anyRoute {
	out := make([]*anyRoute, 0, len(b.byParent[parent]))
	for ref := range b.byParent[parent] {
		out = append(out, b.routes[ref])
	}
	slices.SortFunc(out, older)
	return out
}
