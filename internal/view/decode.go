package view

import (
	"net/netip"

	"google.golang.org/protobuf/encoding/protowire"

	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/wire/pb"
)

// Decode reads a View message. It fails with the path of the field that is
// broken or over its bound; what it returns shares no memory with b.
func Decode(b []byte) (*View, error) {
	if len(b) > MaxSize {
		return nil, pb.Errorf("a view of %d bytes is too big, want at most %d", len(b), MaxSize)
	}
	v := &View{}
	var destinations, sets, hosts, versions int
	err := pb.Fields(b, pb.Repeated(4, 5, 6, 7), func(f pb.Field) error {
		switch f.Number {
		case 1:
			return pb.In("version", f.Fixed64(&v.Version))
		case 2:
			return pb.In("proxy", inMessage(f, &v.Proxy, readProxy))
		case 3:
			return pb.In("bundle", inMessage(f, &v.Bundle, readBundle))
		case 4:
			d := &Destination{}
			err := inMessage(f, d, readDestination)
			if err == nil {
				err = put(&v.Destinations, maxDestinations, d.Key, d)
			}
			destinations++
			return pb.InElement("destinations", destinations-1, err)
		case 5:
			e := &Endpoints{}
			err := inMessage(f, e, readEndpoints)
			if err == nil {
				err = put(&v.Endpoints, maxSets, e.Key, e)
			}
			sets++
			return pb.InElement("endpoints", sets-1, err)
		case 6:
			h := &Host{}
			err := inMessage(f, h, readHost)
			if err == nil {
				err = put(&v.Hosts, maxHosts, h.Name, h)
			}
			hosts++
			return pb.InElement("hosts", hosts-1, err)
		case 7:
			var r resourceVersion
			err := inMessage(f, &r, readResourceVersion)
			if err == nil {
				err = put(&v.Versions, maxVersions, r.key, r.version)
			}
			versions++
			return pb.InElement("versions", versions-1, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return v, nil
}

// put adds x to a map of the view, which must not have its key yet.
func put[T any](m *map[string]T, max int, key string, x T) error {
	if key == "" {
		return pb.Errorf("has no key")
	}
	if len(*m) >= max {
		return pb.Errorf("more than %d elements", max)
	}
	if _, ok := (*m)[key]; ok {
		return pb.Errorf("%q is there twice", key)
	}
	if *m == nil {
		*m = make(map[string]T)
	}
	(*m)[key] = x
	return nil
}

// inMessage reads a message field into v.
func inMessage[T any](f pb.Field, v *T, read func([]byte, *T) error) error {
	b, err := f.Message()
	if err != nil {
		return err
	}
	return read(b, v)
}

// element reads one message of a repeated field and appends it to list.
func element[T any](f pb.Field, field string, list *[]T, max int, read func([]byte, *T) error) error {
	var x T
	err := inMessage(f, &x, read)
	if err == nil {
		err = pb.Grow(list, max, x)
	}
	return pb.InElement(field, len(*list), err)
}

// decode is the shape of the exported decoders.
func decode[T any](b []byte, read func([]byte, *T) error) (*T, error) {
	v := new(T)
	if err := read(b, v); err != nil {
		return nil, err
	}
	return v, nil
}

// DecodeProxy reads a Proxy message.
func DecodeProxy(b []byte) (*Proxy, error) { return decode(b, readProxy) }

// DecodeBundle reads a Bundle message.
func DecodeBundle(b []byte) (*Bundle, error) { return decode(b, readBundle) }

// DecodeDestination reads a Destination message.
func DecodeDestination(b []byte) (*Destination, error) { return decode(b, readDestination) }

// DecodeEndpoints reads an Endpoints message.
func DecodeEndpoints(b []byte) (*Endpoints, error) { return decode(b, readEndpoints) }

// DecodeHost reads a Host message.
func DecodeHost(b []byte) (*Host, error) { return decode(b, readHost) }

type resourceVersion struct {
	key     string
	version uint64
}

func readResourceVersion(b []byte, r *resourceVersion) error {
	return pb.Fields(b, 0, func(f pb.Field) error {
		switch f.Number {
		case 1:
			return pb.In("key", f.String(maxName, &r.key))
		case 2:
			return pb.In("version", f.Uint64(&r.version))
		}
		return nil
	})
}

func readProxy(b []byte, p *Proxy) error {
	return pb.Fields(b, pb.Repeated(7), func(f pb.Field) error {
		switch f.Number {
		case 1:
			return pb.In("name", f.String(maxName, &p.Name))
		case 2:
			return pb.In("namespace", f.String(maxName, &p.Namespace))
		case 3:
			return pb.In("role", f.Enum(uint8(Gateway), (*uint8)(&p.Role)))
		case 4:
			return pb.In("identity", f.String(maxName, &p.Identity))
		case 5:
			return pb.In("trust_domain", f.String(maxName, &p.TrustDomain))
		case 6:
			return pb.In("cluster_domain", f.String(maxName, &p.ClusterDomain))
		case 7:
			return element(f, "listeners", &p.Listeners, maxListeners, readListener)
		case 8:
			return pb.In("settings", inMessage(f, &p.Settings, readSettings))
		case 9:
			return pb.In("identity_dir", f.String(maxPath, &p.IdentityDir))
		}
		return nil
	})
}

func readSettings(b []byte, s *Settings) error {
	return pb.Fields(b, 0, func(f pb.Field) error {
		switch f.Number {
		case 1:
			return pb.In("connect_timeout_ms", f.Milliseconds(&s.ConnectTimeout))
		case 2:
			return pb.In("head_timeout_ms", f.Milliseconds(&s.HeadTimeout))
		case 3:
			return pb.In("idle_timeout_ms", f.Milliseconds(&s.IdleTimeout))
		case 4:
			return pb.In("pool_idle_ms", f.Milliseconds(&s.PoolIdle))
		case 5:
			return pb.In("stream_idle_ms", f.Milliseconds(&s.StreamIdle))
		case 6:
			return pb.In("drain_timeout_ms", f.Milliseconds(&s.DrainTimeout))
		case 7:
			return pb.In("max_head", f.Uint32(&s.MaxHead))
		case 8:
			return pb.In("max_fields", f.Uint32(&s.MaxFields))
		case 9:
			return pb.In("max_connections", f.Uint32(&s.MaxConnections))
		case 10:
			return pb.In("peer_protocol", f.Enum(uint8(PeerHTTP2), (*uint8)(&s.PeerProtocol)))
		}
		return nil
	})
}

func readListener(b []byte, l *Listener) error {
	return pb.Fields(b, 0, func(f pb.Field) error {
		switch f.Number {
		case 1:
			return pb.In("name", f.String(maxName, &l.Name))
		case 2:
			return pb.In("kind", f.Enum(uint8(Names), (*uint8)(&l.Kind)))
		case 3:
			return pb.In("address", f.AddrPort(&l.Address))
		case 4:
			return pb.In("protocol", f.Enum(uint8(HTTP2), (*uint8)(&l.Protocol)))
		case 5:
			return pb.In("destination", f.String(maxName, &l.Destination))
		case 6:
			return pb.In("app", f.AddrPort(&l.App))
		case 7:
			return pb.In("plaintext", f.Bool(&l.Plaintext))
		case 8:
			return pb.In("routes", inMessage(f, &l.Routes, readRoutes))
		case 9:
			return pb.In("certificate", f.Bytes(maxPEM, &l.Certificate))
		case 10:
			return pb.In("key", f.Bytes(maxPEM, &l.Key))
		case 11:
			return pb.In("accept_proxy", f.Bool(&l.AcceptProxy))
		case 12:
			return pb.In("send_proxy", f.Enum(uint8(ProxyV2), (*uint8)(&l.SendProxy)))
		}
		return nil
	})
}

func readRoutes(b []byte, s *route.Spec) error {
	return pb.Fields(b, pb.Repeated(1), func(f pb.Field) error {
		if f.Number == 1 {
			return element(f, "hosts", &s.Hosts, maxRouteHosts, readRouteHost)
		}
		return nil
	})
}

func readRouteHost(b []byte, h *route.Host) error {
	return pb.Fields(b, pb.Repeated(1, 2), func(f pb.Field) error {
		switch f.Number {
		case 1:
			var name string
			err := f.String(maxName, &name)
			if err == nil {
				err = pb.Grow(&h.Hostnames, maxHostnames, name)
			}
			return pb.InElement("hostnames", len(h.Hostnames), err)
		case 2:
			return element(f, "rules", &h.Rules, maxRules, readRule)
		}
		return nil
	})
}

func readRule(b []byte, r *route.Rule) error {
	return pb.Fields(b, pb.Repeated(2, 3), func(f pb.Field) error {
		switch f.Number {
		case 1:
			return pb.In("name", f.String(maxName, &r.Name))
		case 2:
			return element(f, "matches", &r.Matches, maxMatches, readMatch)
		case 3:
			return element(f, "backends", &r.Backends, maxBackends, readBackend)
		case 4:
			return pb.In("timeout_ms", f.Milliseconds(&r.Timeout))
		}
		return nil
	})
}

func readMatch(b []byte, m *route.Match) error {
	return pb.Fields(b, pb.Repeated(4), func(f pb.Field) error {
		switch f.Number {
		case 1:
			return pb.In("path_kind", f.Enum(uint8(route.PathPrefix), (*uint8)(&m.Path.Kind)))
		case 2:
			return pb.In("path", f.String(maxPath, &m.Path.Value))
		case 3:
			return pb.In("method", f.String(maxName, &m.Method))
		case 4:
			return element(f, "headers", &m.Headers, maxHeaders, readHeader)
		}
		return nil
	})
}

func readHeader(b []byte, h *route.Field) error {
	return pb.Fields(b, 0, func(f pb.Field) error {
		switch f.Number {
		case 1:
			return pb.In("name", f.String(maxName, &h.Name))
		case 2:
			return pb.In("value", f.String(maxPath, &h.Value))
		}
		return nil
	})
}

func readBackend(b []byte, k *route.Backend) error {
	return pb.Fields(b, 0, func(f pb.Field) error {
		switch f.Number {
		case 1:
			return pb.In("destination", f.String(maxName, &k.Destination))
		case 2:
			return pb.In("weight", f.Uint32(&k.Weight))
		}
		return nil
	})
}

func readBundle(b []byte, u *Bundle) error {
	return pb.Fields(b, pb.Repeated(2), func(f pb.Field) error {
		switch f.Number {
		case 1:
			return pb.In("version", f.Uint64(&u.Version))
		case 2:
			return element(f, "domains", &u.Domains, maxDomains, readTrustDomain)
		}
		return nil
	})
}

func readTrustDomain(b []byte, d *TrustDomain) error {
	return pb.Fields(b, pb.Repeated(2), func(f pb.Field) error {
		switch f.Number {
		case 1:
			return pb.In("name", f.String(maxName, &d.Name))
		case 2:
			var root []byte
			err := f.Bytes(maxRoot, &root)
			if err == nil {
				err = pb.Grow(&d.Roots, maxRoots, root)
			}
			return pb.InElement("roots", len(d.Roots), err)
		}
		return nil
	})
}

func readDestination(b []byte, d *Destination) error {
	return pb.Fields(b, pb.Repeated(3), func(f pb.Field) error {
		switch f.Number {
		case 1:
			return pb.In("key", f.String(maxName, &d.Key))
		case 2:
			return pb.In("protocol", f.Enum(uint8(HTTP2), (*uint8)(&d.Protocol)))
		case 3:
			return readAddress(f, &d.Addresses)
		case 4:
			return pb.In("routes", inMessage(f, &d.Routes, readRoutes))
		case 5:
			return pb.In("server_first", f.Bool(&d.ServerFirst))
		}
		return nil
	})
}

func readAddress(f pb.Field, list *[]netip.Addr) error {
	var a netip.Addr
	err := f.Addr(&a)
	if err == nil {
		err = pb.Grow(list, maxAddresses, a)
	}
	return pb.InElement("addresses", len(*list), err)
}

func readEndpoints(b []byte, e *Endpoints) error {
	return pb.Fields(b, pb.Repeated(2), func(f pb.Field) error {
		switch f.Number {
		case 1:
			return pb.In("key", f.String(maxName, &e.Key))
		case 2:
			return element(f, "list", &e.List, maxEndpoints, readEndpoint)
		}
		return nil
	})
}

func readEndpoint(b []byte, e *Endpoint) error {
	var addr netip.Addr
	var port uint16
	err := pb.Fields(b, 0, func(f pb.Field) error {
		switch f.Number {
		case 1:
			return pb.In("address", f.Addr(&addr))
		case 2:
			return pb.In("port", f.Port(&port))
		case 3:
			return pb.In("identity", f.String(maxName, &e.Identity))
		case 4:
			return pb.In("workload", f.String(maxName, &e.Workload))
		case 5:
			return pb.In("zone", f.String(maxName, &e.Zone))
		case 6:
			return pb.In("weight", f.Uint32(&e.Weight))
		case 7:
			return pb.In("suspect", f.Bool(&e.Suspect))
		}
		return nil
	})
	if err != nil {
		return err
	}
	if !addr.IsValid() || port == 0 {
		return pb.In("address", pb.Errorf("an endpoint needs an address and a port"))
	}
	e.Address = netip.AddrPortFrom(addr, port)
	return nil
}

func readHost(b []byte, h *Host) error {
	return pb.Fields(b, pb.Repeated(3, protoHostPorts), func(f pb.Field) error {
		switch f.Number {
		case 1:
			return pb.In("name", f.String(maxName, &h.Name))
		case 2:
			return pb.In("service", f.String(maxName, &h.Service))
		case 3:
			return readAddress(f, &h.Addresses)
		case protoHostPorts:
			return pb.In("ports", f.Varints(func(f pb.Field) error {
				var port uint16
				if err := f.Port(&port); err != nil {
					return err
				}
				return pb.Grow(&h.Ports, maxPorts, port)
			}))
		}
		return nil
	})
}

// protoHostPorts is Host.ports, which is packed: one or more occurrences.
const protoHostPorts protowire.Number = 4
