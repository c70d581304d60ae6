package plan

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/control"
)

// Key returns how views name a service port, "cart.default:8080".
func Key(k mesh.PortKey) string { return k.Service.String() + ":" + strconv.Itoa(int(k.Port)) }

// ParseKey is the inverse of Key.
func ParseKey(s string) (mesh.PortKey, bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return mesh.PortKey{}, false
	}
	port, err := strconv.ParseUint(s[i+1:], 10, 16)
	name, ns, ok := strings.Cut(s[:i], ".")
	if err != nil || port == 0 || !ok || name == "" || ns == "" || strings.Contains(ns, ".") {
		return mesh.PortKey{}, false
	}
	return mesh.PortKey{Service: mesh.Name{Name: name, Namespace: ns}, Port: uint16(port)}, true
}

// Protocol is a port's protocol as views have it.
func Protocol(p mesh.Protocol) view.Protocol {
	switch p {
	case mesh.HTTP:
		return view.HTTP
	case mesh.TCP:
		return view.TCP
	case mesh.HTTP2:
		return view.HTTP2
	}
	return view.Detect
}

// Resource answers one subscription. The namespace is the asking proxy's: a
// name without a dot is looked up there. What isn't there is Absent. ok is
// false when the key is none that can be subscribed to. Version is left 0.
func Resource(s *mesh.Snapshot, namespace, key string) (r control.Resource, ok bool) {
	r.Key = key
	switch {
	case strings.HasPrefix(key, control.KeyDestinationPart):
		r.Destination = Destination(s, namespace, key[len(control.KeyDestinationPart):])
		r.Absent = r.Destination == nil
	case strings.HasPrefix(key, control.KeyEndpointsPart):
		r.Endpoints = Endpoints(s, key[len(control.KeyEndpointsPart):])
		r.Absent = r.Endpoints == nil
	case strings.HasPrefix(key, control.KeyHostPart):
		r.Host = Host(s, namespace, key[len(control.KeyHostPart):])
		r.Absent = r.Host == nil
	default:
		return r, false
	}
	return r, true
}

// ServiceOf returns the service a resource key is about, as far as the key
// itself tells: what must change for the resource to change. For an address it
// is whichever service has it in the snapshot, the zero name when none has.
func ServiceOf(s *mesh.Snapshot, namespace, key string) mesh.Name {
	for _, part := range []string{control.KeyDestinationPart, control.KeyEndpointsPart} {
		if rest, ok := strings.CutPrefix(key, part); ok {
			k, _ := ParseKey(rest)
			return k.Service
		}
	}
	if name, ok := strings.CutPrefix(key, control.KeyHostPart); ok {
		if a, err := netip.ParseAddr(name); err == nil {
			return s.Addresses[a]
		}
		n, _ := serviceName(s, namespace, name)
		return n
	}
	return mesh.Name{}
}

// Destination is one port of a service as a caller of a namespace sees it, nil
// when there is none. The consumer routes of that namespace stand in for the
// service's own.
func Destination(s *mesh.Snapshot, namespace, key string) *view.Destination {
	k, ok := ParseKey(key)
	if !ok {
		return nil
	}
	svc := s.Services[k.Service]
	if svc == nil {
		return nil
	}
	for _, p := range svc.Ports {
		if p.Port != k.Port {
			continue
		}
		d := &view.Destination{Key: key, Protocol: Protocol(p.Protocol), Addresses: svc.Addresses, Policy: svc.Request[k.Port]}
		routes, streams := svc.RoutesFor(namespace, k.Port)
		if routes != nil {
			d.Routes = *routes
		}
		if streams != nil {
			// Such a route takes all bytes, also those that look like requests.
			d.Streams, d.Protocol = *streams, view.TCP
		}
		return d
	}
	return nil
}

// OwnView reports whether the callers of a namespace see a service otherwise than
// everybody else does: they have routes of their own to it.
func OwnView(svc *mesh.Service, namespace string) bool {
	return svc != nil && (svc.Consumers[namespace] != nil || svc.ConsumerStreams[namespace] != nil)
}

// Endpoints is where a service port may be called now, nil when there is no
// such port. Unhealthy and draining endpoints are left out.
func Endpoints(s *mesh.Snapshot, key string) *view.Endpoints {
	k, ok := ParseKey(key)
	if !ok {
		return nil
	}
	set := s.Endpoints[k]
	if set == nil {
		return nil
	}
	out := &view.Endpoints{Key: key, Policy: set.Policy}
	for i := range set.Endpoints {
		e := &set.Endpoints[i]
		if e.Health == mesh.Unhealthy || e.Health == mesh.Draining {
			continue
		}
		v := view.Endpoint{Address: e.Address, Identity: e.Identity.String(), UniqueID: e.UniqueID, Zone: e.Zone, Labels: e.Labels, Weight: e.Weight, Suspect: e.Health == mesh.Suspect}
		if e.Workload.Name != "" {
			v.Workload = e.Workload.String()
		}
		out.List = append(out.List, v)
	}
	return out
}

// Host answers a look-up of a DNS name (lower case, no final dot) or of an
// address, nil when the mesh doesn't know it.
func Host(s *mesh.Snapshot, namespace, name string) *view.Host {
	var n mesh.Name
	if a, err := netip.ParseAddr(name); err == nil {
		n = s.Addresses[a]
	} else if n, _ = serviceName(s, namespace, name); n == (mesh.Name{}) {
		return nil
	}
	svc := s.Services[n]
	if svc == nil {
		return nil
	}
	h := &view.Host{Name: name, Service: n.String(), Addresses: svc.Addresses}
	for _, p := range svc.Ports {
		h.Ports = append(h.Ports, p.Port)
	}
	return h
}

// serviceName reads "cart", "cart.shop", "cart.shop.svc" or
// "cart.shop.svc.CLUSTER-DOMAIN".
func serviceName(s *mesh.Snapshot, namespace, name string) (mesh.Name, bool) {
	name = strings.TrimSuffix(name, "."+s.Settings.ClusterDomain)
	parts := strings.Split(name, ".")
	switch {
	case len(parts) == 1:
		return mesh.Name{Name: parts[0], Namespace: namespace}, true
	case len(parts) == 2, len(parts) == 3 && parts[2] == "svc":
		return mesh.Name{Name: parts[0], Namespace: parts[1]}, true
	}
	return mesh.Name{}, false
}

// Proxy is the part of a view about the proxy itself: a workload's sidecar, or
// a gateway; nil when no object of that name exists. A workload and a gateway
// of one name: the role decides, and with role 0 the workload wins.
func Proxy(s *mesh.Snapshot, name mesh.Name, role view.Role) *view.Proxy {
	p := &view.Proxy{Name: name.Name, Namespace: name.Namespace, Role: view.Sidecar,
		TrustDomain: string(s.Settings.TrustDomain), ClusterDomain: s.Settings.ClusterDomain, Settings: settings(&s.Settings)}
	if w := s.Workloads[name]; w != nil && role != view.Gateway {
		p.Identity, p.Zone = w.Identity.String(), w.Zone
		p.Listeners = sidecar(s, w)
		p.Egress = s.EgressOf(name.Namespace, w.Identity)
		p.AccessLog = accessLog(&s.Settings, name, w)
		return p
	}
	if g := s.Gateways[name]; g != nil && role != view.Sidecar {
		p.Role, p.Identity = view.Gateway, g.Identity.String()
		p.Listeners = edge(g)
		p.Egress = s.EgressOf(name.Namespace, g.Identity)
		p.AccessLog = accessLog(&s.Settings, name, nil)
		return p
	}
	return nil
}

func sidecar(s *mesh.Snapshot, w *mesh.Workload) []view.Listener {
	var out []view.Listener
	for i := range w.Ports {
		p := &w.Ports[i]
		if !p.Mesh.IsValid() {
			continue
		}
		key := Key(mesh.PortKey{Service: p.Service, Port: p.Port})
		l := view.Listener{Name: "inbound/" + key, Kind: view.Inbound, Address: p.Mesh, Protocol: Protocol(p.Protocol),
			Destination: key, App: p.App, Plaintext: s.MutualTLSOf(p.Service, p.Port) != mesh.MutualStrict, SendProxy: proxyVersions[p.ProxyProtocol]}
		if svc := s.Services[p.Service]; svc != nil {
			l.Inbound = svc.Inbound[p.Port]
		}
		out = append(out, l)
	}
	for i := range w.Outbound {
		o := &w.Outbound[i]
		key := Key(o.To)
		l := view.Listener{Name: "outbound/" + key, Kind: view.Explicit, Address: o.Listen, Destination: key}
		if d := Destination(s, w.Name.Namespace, key); d != nil {
			l.Protocol = d.Protocol
		}
		out = append(out, l)
	}
	add := func(name string, kind view.ListenerKind, list []netip.AddrPort) {
		for i, a := range list {
			l := view.Listener{Name: name, Kind: kind, Address: a}
			if i > 0 {
				l.Name = fmt.Sprintf("%s-%d", name, i+1)
			}
			out = append(out, l)
		}
	}
	add("capture", view.Capture, w.Capture)
	add("forward", view.Forward, w.Forward)
	add("names", view.Names, w.Names)
	return out
}

var proxyVersions = map[string]view.ProxyVersion{"v1": view.ProxyV1, "v2": view.ProxyV2}

func settings(s *mesh.Settings) view.Settings {
	p := &s.Proxy
	rate := uint32(max(p.MinBodyRate, 0))
	if p.MinBodyRate < 0 {
		rate = view.AnyBodyRate
	}
	return view.Settings{ConnectTimeout: p.ConnectTimeout, HeadTimeout: p.HeadTimeout, IdleTimeout: p.IdleTimeout,
		PoolIdle: p.PoolIdle, StreamIdle: p.StreamIdle, DrainTimeout: p.DrainTimeout,
		MaxHead: p.MaxHead, MaxFields: p.MaxFields, MaxConnections: p.MaxConnections, MinBodyRate: rate, EndExpired: s.EndExpired,
		PeerProtocol: map[string]view.PeerProtocol{"http1": view.PeerHTTP1, "http2": view.PeerHTTP2}[p.PeerProtocol]}
}
