package graph

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/mesh"
)

// Ref names an object.
type Ref struct {
	Kind *object.Kind
	Name mesh.Name // Namespace is empty for a Mesh
}

// String returns "Kind/NAMESPACE/NAME".
func (r Ref) String() string { return r.Kind.Name + "/" + r.Name.Namespace + "/" + r.Name.Name }

// Change is one object as it is now; Object is nil when it is gone.
type Change struct {
	Ref
	Object object.Object
}

// ChangeOf makes a Change of an object that is there.
func ChangeOf(o object.Object) Change {
	return Change{Ref{object.Of(o), mesh.Name{Namespace: o.GetNamespace(), Name: o.GetName()}}, o}
}

// Changed says which parts of the snapshot differ from the one before.
type Changed struct {
	// All: anything may differ (settings, or the first snapshot).
	All       bool
	Services  map[mesh.Name]bool
	Endpoints map[mesh.PortKey]bool
	Workloads map[mesh.Name]bool
	Gateways  map[mesh.Name]bool
}

// Empty reports whether nothing differs.
func (c *Changed) Empty() bool {
	return !c.All && len(c.Services)+len(c.Endpoints)+len(c.Workloads)+len(c.Gateways) == 0
}

// Builder keeps the objects and the snapshot made of them. It belongs to one
// goroutine; the snapshots it returns are immutable and belong to everybody.
type Builder struct {
	trustDomain identity.TrustDomain

	services  map[mesh.Name]*corev1.Service
	slices    map[mesh.Name]*discoveryv1.EndpointSlice
	secrets   map[mesh.Name]*corev1.Secret
	gateways  map[mesh.Name]*gatewayv1.Gateway
	routes    map[mesh.Name]*gatewayv1.HTTPRoute
	workloads map[mesh.Name]*v1alpha1.Workload
	mesh      *v1alpha1.Mesh

	// slicesOf and workloadsOf find what serves a service.
	slicesOf    map[mesh.Name]map[mesh.Name]bool
	workloadsOf map[mesh.Name]map[mesh.Name]bool
	virtual     map[int]mesh.Name      // who has which virtual address
	byAge       []*gatewayv1.HTTPRoute // see ordered; nil when a route changed

	snapshot *mesh.Snapshot
	statuses map[Ref]*Status

	// What the current Apply has to rebuild.
	dirty struct {
		all                               bool
		services, endpoints, gates, works map[mesh.Name]bool
		routes                            map[mesh.Name]bool
		newStatuses                       map[Ref]*Status
		changed                           Changed
	}
}

// NewBuilder makes a builder with no objects. The trust domain is the CA's; a
// Mesh object that names another gets a condition.
func NewBuilder(d identity.TrustDomain) *Builder {
	return &Builder{
		trustDomain: d,
		services:    map[mesh.Name]*corev1.Service{},
		slices:      map[mesh.Name]*discoveryv1.EndpointSlice{},
		secrets:     map[mesh.Name]*corev1.Secret{},
		gateways:    map[mesh.Name]*gatewayv1.Gateway{},
		routes:      map[mesh.Name]*gatewayv1.HTTPRoute{},
		workloads:   map[mesh.Name]*v1alpha1.Workload{},
		slicesOf:    map[mesh.Name]map[mesh.Name]bool{},
		workloadsOf: map[mesh.Name]map[mesh.Name]bool{},
		virtual:     map[int]mesh.Name{},
		statuses:    map[Ref]*Status{},
	}
}

// Result is what an Apply made.
type Result struct {
	Snapshot *mesh.Snapshot
	Changed  Changed
	// Statuses holds the objects whose conditions were worked out again; those
	// that are the same as before are left out.
	Statuses map[Ref]*Status
}

// Apply takes changes into the mesh and returns the snapshot of that version.
func (b *Builder) Apply(version uint64, changes []Change) Result {
	d := &b.dirty
	d.all = b.snapshot == nil
	d.services, d.endpoints, d.gates = map[mesh.Name]bool{}, map[mesh.Name]bool{}, map[mesh.Name]bool{}
	d.works, d.routes = map[mesh.Name]bool{}, map[mesh.Name]bool{}
	d.newStatuses = map[Ref]*Status{}
	d.changed = Changed{All: d.all, Services: map[mesh.Name]bool{}, Endpoints: map[mesh.PortKey]bool{},
		Workloads: map[mesh.Name]bool{}, Gateways: map[mesh.Name]bool{}}
	for _, c := range changes {
		b.take(c)
	}
	b.build(version)
	out := Result{Snapshot: b.snapshot, Changed: d.changed, Statuses: map[Ref]*Status{}}
	for ref, s := range d.newStatuses {
		if old := b.statuses[ref]; old == nil || !old.equal(s) {
			b.statuses[ref] = s
			out.Statuses[ref] = s
		}
	}
	return out
}

// Snapshot returns the last snapshot, nil before the first Apply.
func (b *Builder) Snapshot() *mesh.Snapshot { return b.snapshot }

// Statuses returns the status of every object that has one.
func (b *Builder) Statuses() map[Ref]*Status { return maps.Clone(b.statuses) }

// Objects returns the refs of every object it holds.
func (b *Builder) Objects() []Ref {
	var out []Ref
	add := func(k *object.Kind, n mesh.Name) { out = append(out, Ref{k, n}) }
	for n := range b.services {
		add(object.Service, n)
	}
	for n := range b.slices {
		add(object.EndpointSlice, n)
	}
	for n := range b.secrets {
		add(object.Secret, n)
	}
	for n := range b.gateways {
		add(object.Gateway, n)
	}
	for n := range b.routes {
		add(object.HTTPRoute, n)
	}
	for n := range b.workloads {
		add(object.Workload, n)
	}
	if b.mesh != nil {
		add(object.Mesh, mesh.Name{Name: b.mesh.Name})
	}
	slices.SortFunc(out, func(a, b Ref) int { return strings.Compare(a.String(), b.String()) })
	return out
}

func set[T any](m map[mesh.Name]T, n mesh.Name, v T, there bool) {
	if there {
		m[n] = v
	} else {
		delete(m, n)
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
			b.index(b.slicesOf, serviceOf(old), n, false)
			d.endpoints[serviceOf(old)] = true
		}
		s, _ := c.Object.(*discoveryv1.EndpointSlice)
		set(b.slices, n, s, there)
		if there {
			b.index(b.slicesOf, serviceOf(s), n, true)
			d.endpoints[serviceOf(s)] = true
		}
	case object.Workload:
		old := b.workloads[n]
		w, _ := c.Object.(*v1alpha1.Workload)
		for _, s := range workloadServices(old) {
			b.index(b.workloadsOf, s, n, false)
			d.endpoints[s] = true
		}
		for name := range b.selecting(old) {
			d.endpoints[name] = true
		}
		set(b.workloads, n, w, there)
		for _, s := range workloadServices(w) {
			b.index(b.workloadsOf, s, n, true)
			d.endpoints[s] = true
		}
		for name := range b.selecting(w) {
			d.endpoints[name] = true
		}
		d.works[n] = true
	case object.Secret:
		s, _ := c.Object.(*corev1.Secret)
		set(b.secrets, n, s, there)
		for name, g := range b.gateways {
			if usesSecret(g, n) {
				d.gates[name] = true
			}
		}
	case object.Gateway:
		g, _ := c.Object.(*gatewayv1.Gateway)
		set(b.gateways, n, g, there)
		d.gates[n] = true
		for name, r := range b.routes {
			if parentsGateway(r, n) {
				d.routes[name] = true
			}
		}
	case object.HTTPRoute:
		b.touchParents(b.routes[n])
		r, _ := c.Object.(*gatewayv1.HTTPRoute)
		set(b.routes, n, r, there)
		b.touchParents(r)
		d.routes[n] = true
		b.byAge = nil
	case object.Mesh:
		b.mesh, _ = c.Object.(*v1alpha1.Mesh)
		d.all = true
	}
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
	for name, r := range b.routes {
		if namesService(r, n) {
			d.routes[name] = true
			b.touchParents(r)
		}
	}
}

// touchParents marks the gateways and services a route is attached to.
func (b *Builder) touchParents(r *gatewayv1.HTTPRoute) {
	if r == nil {
		return
	}
	for i := range r.Spec.ParentRefs {
		p := &r.Spec.ParentRefs[i]
		n := parentName(r, p)
		if *p.Kind == "Service" {
			b.dirty.services[n] = true
		} else {
			b.dirty.gates[n] = true
		}
	}
}

func (b *Builder) index(m map[mesh.Name]map[mesh.Name]bool, service, member mesh.Name, there bool) {
	if there {
		if m[service] == nil {
			m[service] = map[mesh.Name]bool{}
		}
		m[service][member] = true
		return
	}
	delete(m[service], member)
	if len(m[service]) == 0 {
		delete(m, service)
	}
}

// build makes the next snapshot: maps are copied when something in them
// changes, their values are shared.
func (b *Builder) build(version uint64) {
	d := &b.dirty
	old := b.snapshot
	if old == nil {
		old = &mesh.Snapshot{}
	}
	next := *old
	next.Version = version
	if d.all {
		next.Settings = b.settings()
		d.changed.All = true
		next.Services, next.Workloads = map[mesh.Name]*mesh.Service{}, map[mesh.Name]*mesh.Workload{}
		next.Gateways, next.Endpoints = map[mesh.Name]*mesh.Gateway{}, map[mesh.PortKey]*mesh.EndpointSet{}
		mark := func(m map[mesh.Name]bool, names func(func(mesh.Name) bool)) {
			for n := range names {
				m[n] = true
			}
		}
		mark(d.services, maps.Keys(b.services))
		mark(d.endpoints, maps.Keys(b.services))
		mark(d.gates, maps.Keys(b.gateways))
		mark(d.routes, maps.Keys(b.routes))
		mark(d.works, maps.Keys(b.workloads))
		b.virtual = map[int]mesh.Name{}
	} else {
		if len(d.services) > 0 {
			next.Services = maps.Clone(old.Services)
		}
		if len(d.endpoints) > 0 {
			next.Endpoints = maps.Clone(old.Endpoints)
		}
		if len(d.works) > 0 {
			next.Workloads = maps.Clone(old.Workloads)
		}
		if len(d.gates) > 0 {
			next.Gateways = maps.Clone(old.Gateways)
		}
	}
	b.snapshot = &next
	b.reserveAddresses()
	for _, n := range sorted(d.services) {
		b.buildService(&next, n)
	}
	if len(d.services) > 0 {
		next.Addresses = map[netip.Addr]mesh.Name{}
		for _, n := range sortedKeys(next.Services) {
			for _, a := range next.Services[n].Addresses {
				if _, taken := next.Addresses[a]; !taken {
					next.Addresses[a] = n
				}
			}
		}
	}
	for _, n := range sorted(d.works) {
		b.buildWorkload(&next, n)
	}
	for _, n := range sorted(d.endpoints) {
		b.buildEndpoints(&next, n)
	}
	for _, n := range sorted(d.gates) {
		b.buildGateway(&next, n)
	}
	for _, n := range sorted(d.routes) {
		b.routeStatus(n)
	}
	if b.mesh != nil && d.all {
		b.meshStatus()
	}
}

func sorted(m map[mesh.Name]bool) []mesh.Name {
	return slices.SortedFunc(maps.Keys(m), compareNames)
}

func compareNames(a, b mesh.Name) int {
	if c := strings.Compare(a.Namespace, b.Namespace); c != 0 {
		return c
	}
	return strings.Compare(a.Name, b.Name)
}

func (b *Builder) settings() mesh.Settings {
	m := b.mesh
	if m == nil {
		m = object.Mesh.New().(*v1alpha1.Mesh)
		object.Default(m)
	}
	s := &m.Spec.Settings
	return mesh.Settings{
		TrustDomain:    b.trustDomain,
		CertificateTTL: m.Spec.CertificateTTL.Duration,
		ClusterDomain:  m.Spec.ClusterDomain,
		Denied:         slices.Compact(slices.Sorted(slices.Values(m.Spec.DeniedIdentities))),
		Plaintext:      m.Spec.Plaintext != v1alpha1.PlaintextRefused,
		Proxy: mesh.ProxySettings{
			ConnectTimeout: s.ConnectTimeout.Duration, HeadTimeout: s.HeadTimeout.Duration,
			IdleTimeout: s.IdleTimeout.Duration, PoolIdle: s.PoolIdle.Duration,
			StreamIdle: s.StreamIdle.Duration, DrainTimeout: s.DrainTimeout.Duration,
			MaxHead: uint32(s.MaxHead), MaxFields: uint32(s.MaxFields), MaxConnections: uint32(s.MaxConnections),
			PeerProtocol: s.PeerProtocol,
		},
	}
}

// nameOf reads "cart" or "cart.shop"; an unreadable name (it was validated) is
// the zero Name.
func nameOf(service, namespace string) mesh.Name {
	p, err := object.ServiceName(service, namespace)
	if err != nil {
		return mesh.Name{}
	}
	return mesh.Name{Name: p[0], Namespace: p[1]}
}

func serviceOf(s *discoveryv1.EndpointSlice) mesh.Name {
	return mesh.Name{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]}
}

func workloadServices(w *v1alpha1.Workload) []mesh.Name {
	if w == nil {
		return nil
	}
	var out []mesh.Name
	for _, p := range w.Spec.Ports {
		if n := nameOf(p.Service, w.Namespace); !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}
