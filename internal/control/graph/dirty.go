package graph

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/mesh"
)

func set[K comparable, T any](m map[K]T, k K, v T, there bool) {
	if there {
		m[k] = v
	} else {
		delete(m, k)
	}
}

// take stores a change and marks what depends on it.
func (b *Builder) take(c Change) {
	d, n, there := &b.dirty, c.Name, c.Object != nil
	if !there {
		delete(b.statuses, c.Ref)
	}
	switch c.Kind {
	case object.Service:
		s, _ := c.Object.(*corev1.Service)
		set(b.services, n, s, there)
		b.touchService(n)
	case object.EndpointSlice:
		if old := b.slices[n]; old != nil {
			index(b.slicesOf, serviceOf(old), n, false)
			d.endpoints[serviceOf(old)] = true
		}
		s, _ := c.Object.(*discoveryv1.EndpointSlice)
		set(b.slices, n, s, there)
		if there {
			index(b.slicesOf, serviceOf(s), n, true)
			d.endpoints[serviceOf(s)] = true
		}
	case object.Workload:
		w, _ := c.Object.(*v1alpha1.Workload)
		b.takeWorkload(n, w, there)
	case object.Secret:
		s, _ := c.Object.(*corev1.Secret)
		set(b.secrets, n, s, there)
		b.touchEgress(n.Namespace, n.Name)
		for name, g := range b.gateways {
			if secretsOf(g)[n] {
				b.touchGateway(name)
			}
		}
	case object.Namespace:
		ns, _ := c.Object.(*corev1.Namespace)
		set(b.namespaces, n, ns, there)
		for name, g := range b.gateways {
			if selectsNamespaces(g) {
				b.touchGateway(name)
			}
		}
	case object.ReferenceGrant:
		g, _ := c.Object.(*gatewayv1.ReferenceGrant)
		set(b.grants, n, g, there)
		index(b.grantsIn, n.Namespace, n, there)
		b.touchGrants(n.Namespace)
	case object.Gateway:
		g, _ := c.Object.(*gatewayv1.Gateway)
		set(b.gateways, n, g, there)
		b.touchGateway(n)
		b.touchTarget(c.Ref)
	case object.HTTPRoute, object.GRPCRoute, object.TLSRoute, object.TCPRoute:
		b.takeRoute(c)
	case object.TrafficPolicy, object.RateLimitPolicy, object.FaultPolicy, object.AccessPolicy, object.AuthenticationPolicy, object.EgressPolicy:
		clear(b.effective)
		clear(b.specs)
		clear(b.tokens)
		if old := b.policies[c.Ref]; old != nil {
			b.touchPolicy(old)
			b.indexPolicy(old, false)
		}
		p := policyOf(c.Ref, c.Object)
		set(b.policies, c.Ref, p, there)
		if there {
			b.indexPolicy(p, true)
			b.touchPolicy(p)
		}
	case object.Mesh:
		b.mesh, _ = c.Object.(*v1alpha1.Mesh)
		d.all = true
	}
}

func (b *Builder) takeWorkload(n mesh.Name, w *v1alpha1.Workload, there bool) {
	d, old := &b.dirty, b.workloads[n]
	for _, s := range workloadServices(old) {
		index(b.workloadsOf, s, n, false)
		d.endpoints[s] = true
	}
	for name := range b.selecting(old) {
		d.endpoints[name] = true
	}
	set(b.workloads, n, w, there)
	for _, s := range workloadServices(w) {
		index(b.workloadsOf, s, n, true)
		d.endpoints[s] = true
	}
	for name := range b.selecting(w) {
		d.endpoints[name] = true
	}
	d.works[n] = true
}

// takeRoute stores a route. Its parents are built again, and routes of other
// kinds with the same parents may win or lose a conflict with it.
func (b *Builder) takeRoute(c Change) {
	old, r := b.routes[c.Ref], routeOf(c.Ref, c.Object)
	if old != nil {
		b.indexRoute(old, false)
	}
	set(b.routes, c.Ref, r, c.Object != nil)
	if r != nil {
		b.indexRoute(r, true)
	}
	for _, r := range []*anyRoute{old, r} {
		if r == nil {
			continue
		}
		b.touchReached(r)
		for i := range r.parents {
			p, _ := r.parentOf(&r.parents[i])
			siblings := b.byParent[p]
			if p.Kind == object.Service {
				b.touchRouted(p)
			}
			for sibling := range siblings {
				if sibling.Kind != r.Kind { // then one of the same kind may win or lose in turn
					mark(b.dirty.routes, maps.Keys(siblings))
					break
				}
			}
		}
	}
	b.dirty.routes[c.Ref] = true
	b.touchTarget(c.Ref)
}

// touchService marks a service and all that names it.
func (b *Builder) touchService(n mesh.Name) {
	d := &b.dirty
	d.services[n], d.endpoints[n] = true, true
	for w := range b.workloadsOf[n] {
		d.works[w] = true
	}
	for name, w := range b.workloads {
		for _, o := range w.Spec.Outbound {
			if nameOf(o.Service, name.Namespace) == n {
				d.works[name] = true
			}
		}
	}
	for ref := range b.byBackend[n] {
		d.routes[ref] = true
		b.touchParents(b.routes[ref])
		b.touchRoutedOf(b.routes[ref])
	}
	self := Ref{object.Service, n}
	for ref := range b.byParent[self] {
		d.routes[ref] = true
	}
	b.touchRouted(self)
	b.touchAsked(n.Namespace, n.Name)
	b.touchTarget(self)
}

// touchParents marks the gateways and services a route is attached to.
func (b *Builder) touchParents(r *anyRoute) {
	if r == nil {
		return
	}
	for i := range r.parents {
		switch p, _ := r.parentOf(&r.parents[i]); p.Kind {
		case object.Service:
			b.dirty.services[p.Name] = true
		case object.Gateway:
			b.dirty.gates[p.Name] = true
		}
	}
}

// touchGateway marks a gateway and the statuses of its routes.
func (b *Builder) touchGateway(n mesh.Name) {
	b.dirty.gates[n] = true
	for ref := range b.byParent[Ref{object.Gateway, n}] {
		b.dirty.routes[ref] = true
	}
}

// selectsNamespaces reports whether a gateway looks at namespaces' labels.
func selectsNamespaces(g *gatewayv1.Gateway) bool {
	for i := range g.Spec.Listeners {
		if a := g.Spec.Listeners[i].AllowedRoutes; a != nil && a.Namespaces != nil && val(a.Namespaces.From, "") == gatewayv1.NamespacesFromSelector {
			return true
		}
	}
	return false
}
