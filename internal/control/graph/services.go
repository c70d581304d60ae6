package graph

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/policy"
)

// reserveAddresses notes which virtual addresses are written in services, so
// that those given to the others (in files, where no store has assigned any)
// don't meet them.
func (b *Builder) reserveAddresses() {
	for i, n := range b.virtual {
		if b.services[n] == nil {
			delete(b.virtual, i)
		}
	}
	for _, n := range sorted(b.dirty.services) {
		if s := b.services[n]; s != nil {
			for _, text := range s.Spec.ClusterIPs {
				if a, err := netip.ParseAddr(text); err == nil {
					if i := object.IndexOfVirtual(a); i >= 0 {
						b.virtual[i] = n
					}
				}
			}
		}
	}
}

func (b *Builder) addresses(n mesh.Name, s *corev1.Service) []netip.Addr {
	if len(s.Spec.ClusterIPs) > 0 {
		var out []netip.Addr
		for _, text := range s.Spec.ClusterIPs {
			if a, err := netip.ParseAddr(text); err == nil { // "None" has none
				out = append(out, a)
			}
		}
		slices.SortStableFunc(out, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
		return out
	}
	first := object.VirtualIndex(n.Namespace, n.Name)
	for i := range object.VirtualAddressCount {
		at := (first + i) % object.VirtualAddressCount
		if owner, taken := b.virtual[at]; !taken || owner == n {
			b.virtual[at] = n
			v4, v6 := object.VirtualAddresses(at)
			return []netip.Addr{v4, v6}
		}
	}
	return nil
}

func protocolOf(appProtocol *string) mesh.Protocol {
	if appProtocol == nil {
		return mesh.Detect
	}
	switch strings.ToLower(*appProtocol) {
	case "http", "http/1.1":
		return mesh.HTTP
	case "kubernetes.io/h2c", "h2c", "http2", "grpc":
		return mesh.HTTP2
	case "tcp", "redis", "mysql", "mongo", "postgres", "postgresql", "smtp", "kubernetes.io/tcp":
		return mesh.TCP
	}
	return mesh.Detect
}

func (b *Builder) buildService(next *mesh.Snapshot, n mesh.Name) {
	s, old := b.services[n], next.Services[n]
	if s == nil {
		if old != nil {
			b.dirty.changed.Services[n] = true
		}
		delete(next.Services, n)
		return
	}
	out := &mesh.Service{Name: n, Addresses: b.addresses(n, s), Selector: s.Spec.Selector}
	for _, p := range s.Spec.Ports {
		target := uint16(p.Port)
		if p.TargetPort.Type == intstr.Int && p.TargetPort.IntVal != 0 {
			target = uint16(p.TargetPort.IntVal)
		}
		out.Ports = append(out.Ports, mesh.Port{Name: p.Name, Port: uint16(p.Port), Target: target, Protocol: protocolOf(p.AppProtocol)})
	}
	b.buildPolicies(out, s)
	b.buildRoutes(out, s)
	for _, list := range out.Sources {
		sortSources(list)
	}
	if old != nil && reflect.DeepEqual(old, out) {
		return
	}
	if old == nil || !reflect.DeepEqual(old.Upstream, out.Upstream) || !reflect.DeepEqual(old.MutualTLS, out.MutualTLS) {
		b.dirty.endpoints[n] = true // they carry the policy, the labels it asks for, and who must answer
	}
	b.dirty.changed.Services[n] = true
	next.Services[n] = out
}

func findPort(s *corev1.Service, port int32) *corev1.ServicePort {
	if s == nil {
		return nil
	}
	for i := range s.Spec.Ports {
		if s.Spec.Ports[i].Port == port {
			return &s.Spec.Ports[i]
		}
	}
	return nil
}

func (b *Builder) workloadIdentity(w *v1alpha1.Workload) identity.ID {
	domain := b.trustDomain
	if w.Spec.TrustDomain != "" {
		domain = identity.TrustDomain(w.Spec.TrustDomain)
	}
	return identity.ID{TrustDomain: domain, Namespace: w.Namespace, ServiceAccount: w.Spec.ServiceAccount}
}

func (b *Builder) buildWorkload(next *mesh.Snapshot, n mesh.Name) {
	b.dirty.changed.Workloads[n] = true
	w := b.workloads[n]
	if w == nil {
		delete(next.Workloads, n)
		return
	}
	out := &mesh.Workload{
		Name: n, Labels: w.Labels, Identity: b.workloadIdentity(w), Zone: w.Spec.Zone, UniqueID: w.Status.UniqueID,
		Capture: addrPorts(w.Spec.Capture), Forward: addrPorts(w.Spec.Forward), Names: addrPorts(w.Spec.Names),
	}
	out.Address, _ = netip.ParseAddr(w.Spec.Address)
	refs := resolved()
	for i := range w.Spec.Ports {
		p := &w.Spec.Ports[i]
		s := nameOf(p.Service, n.Namespace)
		if sp := findPort(b.services[s], p.Port); sp == nil {
			refs = unresolved(refs, "BackendNotFound", fmt.Sprintf("spec.ports[%d]: %s", i, b.missing(s, p.Port)))
		}
		out.Ports = append(out.Ports, b.workloadPort(w, p))
	}
	for i, o := range w.Spec.Outbound {
		s := nameOf(o.Service, n.Namespace)
		if findPort(b.services[s], o.Port) == nil {
			refs = unresolved(refs, "BackendNotFound", fmt.Sprintf("spec.outbound[%d]: %s", i, b.missing(s, o.Port)))
		}
		listen, err := netip.ParseAddrPort(o.Listen)
		if err == nil {
			out.Outbound = append(out.Outbound, mesh.OutboundListener{Listen: listen, To: mesh.PortKey{Service: s, Port: uint16(o.Port)}})
		}
	}
	next.Workloads[n] = out
	b.dirty.newStatuses[Ref{object.Workload, n}] = &Status{Generation: w.Generation,
		Conditions: []Condition{accepted("Accepted"), refs}}
}

// missing says which service or port isn't there, and what is.
func (b *Builder) missing(s mesh.Name, port int32) string {
	svc := b.services[s]
	if svc == nil {
		return fmt.Sprintf("there is no Service %s in namespace %s", s.Name, s.Namespace)
	}
	have := make([]string, len(svc.Spec.Ports))
	for i, p := range svc.Spec.Ports {
		have[i] = fmt.Sprint(p.Port)
	}
	return fmt.Sprintf("Service %s has no port %d, it has %s", s, port, strings.Join(have, ", "))
}

func addrPorts(list []string) []netip.AddrPort {
	var out []netip.AddrPort
	for _, s := range list {
		if a, err := netip.ParseAddrPort(s); err == nil {
			out = append(out, a)
		}
	}
	return out
}

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

func (b *Builder) workloadPort(w *v1alpha1.Workload, p *v1alpha1.WorkloadPort) mesh.WorkloadPort {
	s := nameOf(p.Service, w.Namespace)
	out := mesh.WorkloadPort{Service: s, Port: uint16(p.Port), ProxyProtocol: p.ProxyProtocol}
	address, _ := netip.ParseAddr(w.Spec.Address)
	sp := findPort(b.services[s], p.Port)
	switch p.Protocol {
	case "http":
		out.Protocol = mesh.HTTP
	case "http2", "grpc":
		out.Protocol = mesh.HTTP2
	case "tcp":
		out.Protocol = mesh.TCP
	default:
		if sp != nil {
			out.Protocol = protocolOf(sp.AppProtocol)
		}
	}
	switch {
	case p.MeshAddress != "":
		out.Mesh, _ = netip.ParseAddrPort(p.MeshAddress)
	case p.MeshPort != 0:
		out.Mesh = netip.AddrPortFrom(address, uint16(p.MeshPort))
	}
	host := address
	if out.Mesh.IsValid() {
		host = loopback
	}
	switch {
	case p.AppAddress != "":
		out.App, _ = netip.ParseAddrPort(p.AppAddress)
	case p.AppPort != 0:
		out.App = netip.AddrPortFrom(host, uint16(p.AppPort))
	case sp != nil && sp.TargetPort.Type == intstr.Int && sp.TargetPort.IntVal != 0:
		out.App = netip.AddrPortFrom(host, uint16(sp.TargetPort.IntVal))
	default:
		out.App = netip.AddrPortFrom(host, uint16(p.Port))
	}
	return out
}

// health says whether a workload may be called, by what is known of it.
func health(w *v1alpha1.Workload) mesh.Health {
	st := &w.Status
	switch {
	case st.Draining:
		return mesh.Draining
	case st.Lease == v1alpha1.LeaseEnded:
		return mesh.Unhealthy
	case st.Ready != nil && !*st.Ready:
		return mesh.Unhealthy
	case w.Spec.Ephemeral && st.Lease == "":
		return mesh.Unhealthy // its proxy has not come yet
	case st.Lease == v1alpha1.LeaseHeld && st.Ready == nil:
		return mesh.Unhealthy // its proxy hasn't said yet
	case st.Lease == v1alpha1.LeaseSuspect:
		return mesh.Suspect
	}
	return mesh.Healthy
}

// selecting returns the services whose selector picks a workload that doesn't
// name them itself.
func (b *Builder) selecting(w *v1alpha1.Workload) map[mesh.Name]bool {
	out := map[mesh.Name]bool{}
	if w == nil || len(w.Labels) == 0 {
		return out
	}
	for n, s := range b.services {
		if b.selects(s, w) {
			out[n] = true
		}
	}
	return out
}

func (b *Builder) selects(s *corev1.Service, w *v1alpha1.Workload) bool {
	if len(s.Spec.Selector) == 0 || s.Namespace != w.Namespace {
		return false
	}
	for k, v := range s.Spec.Selector {
		if w.Labels[k] != v {
			return false
		}
	}
	return !slices.Contains(workloadServices(w), mesh.Name{Namespace: s.Namespace, Name: s.Name})
}

func (b *Builder) buildEndpoints(next *mesh.Snapshot, n mesh.Name) {
	s := b.services[n]
	want := map[mesh.PortKey]bool{}
	if s != nil {
		for i := range s.Spec.Ports {
			p := &s.Spec.Ports[i]
			key := mesh.PortKey{Service: n, Port: uint16(p.Port)}
			want[key] = true
			set := &mesh.EndpointSet{Key: key, Policy: next.Services[n].Upstream[key.Port]}
			set.Endpoints = b.endpoints(n, s, p, set.Policy)
			if next.Services[n].MutualTLS[key.Port] == mesh.MutualOff {
				for i := range set.Endpoints {
					set.Endpoints[i].Identity = identity.ID{}
				}
			}
			if old := next.Endpoints[key]; old == nil || !slices.Equal(old.Endpoints, set.Endpoints) || !reflect.DeepEqual(old.Policy, set.Policy) {
				next.Endpoints[key] = set
				b.dirty.changed.Endpoints[key] = true
			}
		}
	}
	// Ports that went away. A service has few, and its old ones are in the
	// snapshot before this one.
	for key := range next.Endpoints {
		if key.Service == n && !want[key] {
			delete(next.Endpoints, key)
			b.dirty.changed.Endpoints[key] = true
		}
	}
}

func (b *Builder) endpoints(n mesh.Name, s *corev1.Service, port *corev1.ServicePort, p *policy.Upstream) []mesh.Endpoint {
	var out []mesh.Endpoint
	for _, name := range sorted(b.slicesOf[n]) {
		out = append(out, sliceEndpoints(b.slices[name], port)...)
	}
	for _, name := range sorted(b.workloadsOf[n]) {
		w := b.workloads[name]
		for i := range w.Spec.Ports {
			if p := &w.Spec.Ports[i]; p.Port == port.Port && nameOf(p.Service, name.Namespace) == n {
				out = append(out, b.workloadEndpoint(w, b.workloadPort(w, p)))
			}
		}
	}
	if len(s.Spec.Selector) > 0 {
		for _, name := range sortedKeys(b.workloads) {
			w := b.workloads[name]
			if !b.selects(s, w) {
				continue
			}
			p := b.workloadPort(w, &v1alpha1.WorkloadPort{Service: n.String(), Port: port.Port})
			out = append(out, b.workloadEndpoint(w, p))
		}
	}
	if p != nil && len(p.Subset) > 0 {
		for i := range out {
			if w := b.workloads[out[i].Workload]; w != nil {
				out[i].Labels = labelsFor(w.Labels, p.Subset)
			}
		}
	}
	// One address is one endpoint; the first source wins.
	seen := make(map[netip.AddrPort]bool, len(out))
	return slices.DeleteFunc(out, func(e mesh.Endpoint) bool {
		again := seen[e.Address]
		seen[e.Address] = true
		return again
	})
}

// labelsFor are those labels that a subset asks for, "KEY=VALUE,KEY=VALUE".
func labelsFor(labels map[string]string, subset []string) string {
	var out []string
	for _, want := range subset {
		key, _, _ := strings.Cut(want, "=")
		if v, ok := labels[key]; ok {
			out = append(out, key+"="+v)
		}
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}

func sortedKeys[T any](m map[mesh.Name]T) []mesh.Name {
	keys := make(map[mesh.Name]bool, len(m))
	for n := range m {
		keys[n] = true
	}
	return sorted(keys)
}

func (b *Builder) workloadEndpoint(w *v1alpha1.Workload, p mesh.WorkloadPort) mesh.Endpoint {
	e := mesh.Endpoint{
		Address:  p.App,
		Workload: mesh.Name{Namespace: w.Namespace, Name: w.Name},
		Zone:     w.Spec.Zone,
		Health:   health(w),
	}
	if p.Mesh.IsValid() {
		e.Address, e.Identity, e.UniqueID = p.Mesh, b.workloadIdentity(w), w.Status.UniqueID
	}
	return e
}

// sliceEndpoints are the endpoints of a slice for one service port, in plaintext.
func sliceEndpoints(s *discoveryv1.EndpointSlice, port *corev1.ServicePort) []mesh.Endpoint {
	var number int32
	for _, p := range s.Ports {
		if *p.Name == port.Name && p.Port != nil {
			number = *p.Port
		}
	}
	if number == 0 {
		return nil
	}
	var out []mesh.Endpoint
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		h := mesh.Healthy
		if e.Conditions.Ready != nil && !*e.Conditions.Ready {
			h = mesh.Unhealthy
		}
		if e.Conditions.Terminating != nil && *e.Conditions.Terminating {
			h = mesh.Draining
		}
		zone := ""
		if e.Zone != nil {
			zone = *e.Zone
		}
		var target mesh.Name
		if e.TargetRef != nil {
			target = mesh.Name{Namespace: s.Namespace, Name: e.TargetRef.Name}
		}
		for _, text := range e.Addresses {
			if a, err := netip.ParseAddr(text); err == nil {
				out = append(out, mesh.Endpoint{Address: netip.AddrPortFrom(a, uint16(number)), Zone: zone, Health: h, Workload: target})
			}
		}
	}
	return out
}
