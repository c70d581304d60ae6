package view

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/wire/pb"
)

// Encode returns v as the View message of api/proto/view.proto. Equal views
// encode to equal bytes. Durations are rounded up to whole milliseconds.
func Encode(v *View) []byte {
	var b []byte
	b = pb.AppendFixed64(b, 1, v.Version)
	b = pb.AppendMessage(b, 2, func(b []byte) []byte { return AppendProxy(b, &v.Proxy) })
	b = pb.AppendMessage(b, 3, func(b []byte) []byte { return AppendBundle(b, &v.Bundle) })
	for _, key := range slices.Sorted(maps.Keys(v.Destinations)) {
		b = pb.AppendMessage(b, 4, func(b []byte) []byte { return AppendDestination(b, v.Destinations[key]) })
	}
	for _, key := range slices.Sorted(maps.Keys(v.Endpoints)) {
		b = pb.AppendMessage(b, 5, func(b []byte) []byte { return AppendEndpoints(b, v.Endpoints[key]) })
	}
	for _, key := range slices.Sorted(maps.Keys(v.Hosts)) {
		b = pb.AppendMessage(b, 6, func(b []byte) []byte { return AppendHost(b, v.Hosts[key]) })
	}
	for _, key := range slices.Sorted(maps.Keys(v.Versions)) {
		b = pb.AppendMessage(b, 7, func(b []byte) []byte {
			return pb.AppendUint(pb.AppendString(b, 1, key), 2, v.Versions[key])
		})
	}
	return b
}

// AppendProxy appends the fields of a Proxy message to b.
func AppendProxy(b []byte, p *Proxy) []byte {
	b = pb.AppendString(b, 1, p.Name)
	b = pb.AppendString(b, 2, p.Namespace)
	b = pb.AppendUint(b, 3, uint64(p.Role))
	b = pb.AppendString(b, 4, p.Identity)
	b = pb.AppendString(b, 5, p.TrustDomain)
	b = pb.AppendString(b, 6, p.ClusterDomain)
	for i := range p.Listeners {
		b = pb.AppendMessage(b, 7, func(b []byte) []byte { return appendListener(b, &p.Listeners[i]) })
	}
	if p.Settings != (Settings{}) {
		b = pb.AppendMessage(b, 8, func(b []byte) []byte { return appendSettings(b, &p.Settings) })
	}
	return pb.AppendString(b, 9, p.IdentityDir)
}

func appendSettings(b []byte, s *Settings) []byte {
	b = pb.AppendMilliseconds(b, 1, s.ConnectTimeout)
	b = pb.AppendMilliseconds(b, 2, s.HeadTimeout)
	b = pb.AppendMilliseconds(b, 3, s.IdleTimeout)
	b = pb.AppendMilliseconds(b, 4, s.PoolIdle)
	b = pb.AppendMilliseconds(b, 5, s.StreamIdle)
	b = pb.AppendMilliseconds(b, 6, s.DrainTimeout)
	b = pb.AppendUint(b, 7, uint64(s.MaxHead))
	b = pb.AppendUint(b, 8, uint64(s.MaxFields))
	b = pb.AppendUint(b, 9, uint64(s.MaxConnections))
	return pb.AppendUint(b, 10, uint64(s.PeerProtocol))
}

func appendListener(b []byte, l *Listener) []byte {
	b = pb.AppendString(b, 1, l.Name)
	b = pb.AppendUint(b, 2, uint64(l.Kind))
	b = pb.AppendAddrPort(b, 3, l.Address)
	b = pb.AppendUint(b, 4, uint64(l.Protocol))
	b = pb.AppendString(b, 5, l.Destination)
	b = pb.AppendAddrPort(b, 6, l.App)
	b = pb.AppendBool(b, 7, l.Plaintext)
	b = appendRoutes(b, 8, &l.Routes)
	b = pb.AppendBytes(b, 9, l.Certificate)
	b = pb.AppendBytes(b, 10, l.Key)
	b = pb.AppendBool(b, 11, l.AcceptProxy)
	return pb.AppendUint(b, 12, uint64(l.SendProxy))
}

// appendRoutes appends a Routes field, nothing for an empty table.
func appendRoutes(b []byte, number protowire.Number, spec *route.Spec) []byte {
	if len(spec.Hosts) == 0 {
		return b
	}
	return pb.AppendMessage(b, number, func(b []byte) []byte {
		for i := range spec.Hosts {
			b = pb.AppendMessage(b, 1, func(b []byte) []byte { return appendRouteHost(b, &spec.Hosts[i]) })
		}
		return b
	})
}

func appendRouteHost(b []byte, h *route.Host) []byte {
	for _, name := range h.Hostnames {
		b = pb.AppendElement(b, 1, name)
	}
	for i := range h.Rules {
		b = pb.AppendMessage(b, 2, func(b []byte) []byte { return appendRule(b, &h.Rules[i]) })
	}
	return b
}

func appendRule(b []byte, r *route.Rule) []byte {
	b = pb.AppendString(b, 1, r.Name)
	for i := range r.Matches {
		b = pb.AppendMessage(b, 2, func(b []byte) []byte { return appendMatch(b, &r.Matches[i]) })
	}
	for _, k := range r.Backends {
		b = pb.AppendMessage(b, 3, func(b []byte) []byte {
			return pb.AppendUint(pb.AppendString(b, 1, k.Destination), 2, uint64(k.Weight))
		})
	}
	return pb.AppendMilliseconds(b, 4, r.Timeout)
}

func appendMatch(b []byte, m *route.Match) []byte {
	b = pb.AppendUint(b, 1, uint64(m.Path.Kind))
	b = pb.AppendString(b, 2, m.Path.Value)
	b = pb.AppendString(b, 3, m.Method)
	for _, h := range m.Headers {
		b = pb.AppendMessage(b, 4, func(b []byte) []byte {
			return pb.AppendString(pb.AppendString(b, 1, h.Name), 2, h.Value)
		})
	}
	return b
}

// AppendBundle appends the fields of a Bundle message to b.
func AppendBundle(b []byte, u *Bundle) []byte {
	b = pb.AppendUint(b, 1, u.Version)
	for i := range u.Domains {
		b = pb.AppendMessage(b, 2, func(b []byte) []byte {
			b = pb.AppendString(b, 1, u.Domains[i].Name)
			for _, root := range u.Domains[i].Roots {
				b = pb.AppendElement(b, 2, root)
			}
			return b
		})
	}
	return b
}

// AppendDestination appends the fields of a Destination message to b.
func AppendDestination(b []byte, d *Destination) []byte {
	b = pb.AppendString(b, 1, d.Key)
	b = pb.AppendUint(b, 2, uint64(d.Protocol))
	for _, a := range d.Addresses {
		b = pb.AppendAddr(b, 3, a)
	}
	b = appendRoutes(b, 4, &d.Routes)
	return pb.AppendBool(b, 5, d.ServerFirst)
}

// AppendEndpoints appends the fields of an Endpoints message to b.
func AppendEndpoints(b []byte, e *Endpoints) []byte {
	b = pb.AppendString(b, 1, e.Key)
	for i := range e.List {
		b = pb.AppendMessage(b, 2, func(b []byte) []byte { return appendEndpoint(b, &e.List[i]) })
	}
	return b
}

func appendEndpoint(b []byte, e *Endpoint) []byte {
	b = pb.AppendAddr(b, 1, e.Address.Addr())
	b = pb.AppendUint(b, 2, uint64(e.Address.Port()))
	b = pb.AppendString(b, 3, e.Identity)
	b = pb.AppendString(b, 4, e.Workload)
	b = pb.AppendString(b, 5, e.Zone)
	b = pb.AppendUint(b, 6, uint64(e.Weight))
	return pb.AppendBool(b, 7, e.Suspect)
}

// AppendHost appends the fields of a Host message to b.
func AppendHost(b []byte, h *Host) []byte {
	b = pb.AppendString(b, 1, h.Name)
	b = pb.AppendString(b, 2, h.Service)
	for _, a := range h.Addresses {
		b = pb.AppendAddr(b, 3, a)
	}
	if len(h.Ports) == 0 {
		return b
	}
	return pb.AppendMessage(b, 4, func(b []byte) []byte { // packed
		for _, port := range h.Ports {
			b = protowire.AppendVarint(b, uint64(port))
		}
		return b
	})
}
