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
	"tulle.dev/tulle/internal/access"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/policy"
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
	// Egress are the workloads and gateways that may call elsewhere than before,
	// though nothing else of them differs.
	Egress map[mesh.Name]bool
}

// Empty reports whether nothing differs.
func (c *Changed) Empty() bool {
	return !c.All && len(c.Services)+len(c.Endpoints)+len(c.Workloads)+len(c.Gateways)+len(c.Egress) == 0
}

// Builder keeps the objects and the snapshot made of them. It belongs to one
// goroutine; the snapshots it returns are immutable and belong to everybody.
type Builder struct {
	trustDomain identity.TrustDomain

	services   map[mesh.Name]*corev1.Service
	slices     map[mesh.Name]*discoveryv1.EndpointSlice
	secrets    map[mesh.Name]*corev1.Secret
	namespaces map[mesh.Name]*corev1.Namespace
	gateways   map[mesh.Name]*gatewayv1.Gateway
	grants     map[mesh.Name]*gatewayv1.ReferenceGrant
	routes     map[Ref]*anyRoute
	policies   map[Ref]*anyPolicy
	workloads  map[mesh.Name]*v1alpha1.Workload
	mesh       *v1alpha1.Mesh

	// slicesOf and workloadsOf find what serves a service; byParent and byBackend
	// the routes that name a Gateway or Service; byTarget the policies for a
	// target; grantsIn the ReferenceGrants of a namespace.
	slicesOf    map[mesh.Name]map[mesh.Name]bool
	workloadsOf map[mesh.Name]map[mesh.Name]bool
	byParent    map[Ref]map[Ref]bool
	byBackend   map[mesh.Name]map[Ref]bool
	byTarget    map[section]map[Ref]bool
	grantsIn    map[string]map[mesh.Name]bool
	virtual     map[int]mesh.Name // who has which virtual address
	// full are the Gateways and Services that had more routes than fit.
	full map[Ref]bool
	// effective keeps what chains of policies come to, until a policy changes.
	effective map[string]*effective
	// specs and tokens keep what policies' rules and issuers come to, for as long.
	specs  map[string]*access.Spec
	tokens map[*anyPolicy]*policy.JWT
	// keys are issuers' JWK sets by their URL, fetched those that the next Apply takes.
	keys, fetched map[string][]byte

	snapshot *mesh.Snapshot
	statuses map[Ref]*Status
	dirty    dirty
}

// dirty is what the current Apply has to rebuild, and what it worked out so far.
type dirty struct {
	all, egress                       bool
	services, endpoints, gates, works map[mesh.Name]bool
	routes, policies                  map[Ref]bool // whose statuses
	attachments                       map[mesh.Name]*attachments
	edges                             map[mesh.Name]*edge
	newStatuses                       map[Ref]*Status
	changed                           Changed
}

// NewBuilder makes a builder with no objects. The trust domain is the CA's; a
// Mesh object that names another gets a condition.
func NewBuilder(d identity.TrustDomain) *Builder {
	return &Builder{
		trustDomain: d,
		services:    map[mesh.Name]*corev1.Service{},
		slices:      map[mesh.Name]*discoveryv1.EndpointSlice{},
		secrets:     map[mesh.Name]*corev1.Secret{},
		namespaces:  map[mesh.Name]*corev1.Namespace{},
		gateways:    map[mesh.Name]*gatewayv1.Gateway{},
		grants:      map[mesh.Name]*gatewayv1.ReferenceGrant{},
		routes:      map[Ref]*anyRoute{},
		policies:    map[Ref]*anyPolicy{},
		workloads:   map[mesh.Name]*v1alpha1.Workload{},
		slicesOf:    map[mesh.Name]map[mesh.Name]bool{},
		workloadsOf: map[mesh.Name]map[mesh.Name]bool{},
		byParent:    map[Ref]map[Ref]bool{},
		byBackend:   map[mesh.Name]map[Ref]bool{},
		byTarget:    map[section]map[Ref]bool{},
		grantsIn:    map[string]map[mesh.Name]bool{},
		virtual:     map[int]mesh.Name{},
		full:        map[Ref]bool{},
		effective:   map[string]*effective{},
		specs:       map[string]*access.Spec{},
		tokens:      map[*anyPolicy]*policy.JWT{},
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
	names := func() map[mesh.Name]bool { return map[mesh.Name]bool{} }
	b.dirty = dirty{
		all:      b.snapshot == nil,
		services: names(), endpoints: names(), gates: names(), works: names(),
		routes: map[Ref]bool{}, policies: map[Ref]bool{},
		attachments: map[mesh.Name]*attachments{}, edges: map[mesh.Name]*edge{},
		newStatuses: map[Ref]*Status{},
		changed: Changed{All: b.snapshot == nil, Services: names(), Endpoints: map[mesh.PortKey]bool{},
			Workloads: names(), Gateways: names(), Egress: names()},
	}
	d := &b.dirty
	for _, c := range changes {
		b.take(c)
	}
	b.takeKeys()
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
	for n := range b.namespaces {
		add(object.Namespace, n)
	}
	for n := range b.grants {
		add(object.ReferenceGrant, n)
	}
	out = slices.AppendSeq(out, maps.Keys(b.routes))
	out = slices.AppendSeq(out, maps.Keys(b.policies))
	for n := range b.workloads {
		add(object.Workload, n)
	}
	if b.mesh != nil {
		add(object.Mesh, mesh.Name{Name: b.mesh.Name})
	}
	slices.SortFunc(out, func(a, b Ref) int { return strings.Compare(a.String(), b.String()) })
	return out
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
		mark(d.services, maps.Keys(b.services))
		mark(d.endpoints, maps.Keys(b.services))
		mark(d.gates, maps.Keys(b.gateways))
		mark(d.works, maps.Keys(b.workloads))
		mark(d.routes, maps.Keys(b.routes))
		mark(d.policies, maps.Keys(b.policies))
		b.virtual = map[int]mesh.Name{}
	} else {
		if len(d.services) > 0 {
			next.Services = maps.Clone(old.Services)
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
	if len(d.changed.Services) > 0 || d.all {
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
	if len(d.endpoints) > 0 && !d.all { // buildService may have marked some
		next.Endpoints = maps.Clone(old.Endpoints)
	}
	for _, n := range sorted(d.endpoints) {
		b.buildEndpoints(&next, n)
	}
	for _, n := range sorted(d.gates) {
		b.buildGateway(&next, n)
	}
	if d.all || d.egress {
		b.buildEgress(&next)
	}
	for ref := range d.routes {
		b.routeStatus(ref)
	}
	for ref := range d.policies {
		b.policyStatus(ref)
	}
	if b.mesh != nil && d.all {
		b.meshStatus()
	}
}

func mark[K comparable](m map[K]bool, keys func(func(K) bool)) {
	for k := range keys {
		m[k] = true
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
		Federated:      federated(m.Spec.FederatedTrustDomains),
		Plaintext:      m.Spec.Plaintext != v1alpha1.PlaintextRefused,
		EndExpired:     m.Spec.ExpiredConnections == v1alpha1.ExpiredEnd,
		AccessLog:      accessLog(m.Spec.AccessLog.Mode, m.Spec.AccessLog.SamplePercent),
		AccessLogs:     accessLogs(m.Spec.AccessLog.Overrides),
		Proxy: mesh.ProxySettings{
			ConnectTimeout: s.ConnectTimeout.Duration, HeadTimeout: s.HeadTimeout.Duration,
			IdleTimeout: s.IdleTimeout.Duration, PoolIdle: s.PoolIdle.Duration,
			StreamIdle: s.StreamIdle.Duration, DrainTimeout: s.DrainTimeout.Duration,
			MaxHead: uint32(s.MaxHead), MaxFields: uint32(s.MaxFields), MaxConnections: uint32(s.MaxConnections),
			PeerProtocol: s.PeerProtocol, MinBodyRate: s.MinBodyRate,
		},
	}
}

var logModes = map[v1alpha1.AccessLogMode]policy.LogMode{v1alpha1.AccessLogFailed: policy.LogFailed, v1alpha1.AccessLogAll: policy.LogAll}

func accessLog(mode v1alpha1.AccessLogMode, sample int32) policy.AccessLog {
	return policy.AccessLog{Mode: logModes[mode], Sample: clamp[uint8](sample)}
}

func accessLogs(list []v1alpha1.AccessLogOverride) []mesh.AccessLogOverride {
	var out []mesh.AccessLogOverride
	for _, o := range list {
		out = append(out, mesh.AccessLogOverride{Namespace: o.Namespace, Service: o.Service, Workload: o.Workload, Gateway: o.Gateway,
			AccessLog: accessLog(o.Mode, o.SamplePercent)})
	}
	return out
}

func federated(list []v1alpha1.FederatedTrustDomain) []mesh.Federated {
	var out []mesh.Federated
	for _, d := range list {
		f := mesh.Federated{Domain: identity.TrustDomain(d.TrustDomain), Endpoint: d.Endpoint, Web: d.Profile == v1alpha1.ProfileWeb, ID: d.EndpointSPIFFEID, Bundle: d.Bundle}
		if f.ID == "" && !f.Web {
			f.ID = identity.ControlPlane(f.Domain).String()
		}
		out = append(out, f)
	}
	return out
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
