package view

import (
	"net/netip"
	"time"

	"math"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/wire/pb"
)

// The messages of api/proto/view.proto. Each is one list of fields that both
// encodes and decodes; what is wrong with one is said with the path of its field.

// Encode returns v as a View message. Equal views encode to equal bytes.
// Durations are rounded up to whole milliseconds.
func Encode(v *View) []byte { return viewMessage.Append(nil, v) }

// Decode reads a View message. It fails with the path of the field that is
// broken or over its bound; what it returns shares no memory with b.
func Decode(b []byte) (*View, error) {
	if len(b) > MaxSize {
		return nil, pb.Errorf("a view of %d bytes is too big, want at most %d", len(b), MaxSize)
	}
	return viewMessage.Decode(b)
}

var viewMessage = pb.Describe(
	pb.Fixed(1, "version", func(v *View) *uint64 { return &v.Version }),
	pb.Struct(2, "proxy", ProxyMessage, func(v *View) *Proxy { return &v.Proxy }),
	pb.Struct(3, "bundle", BundleMessage, func(v *View) *Bundle { return &v.Bundle }),
	pb.Map(4, "destinations", maxDestinations, DestinationMessage, func(d *Destination) string { return d.Key },
		func(v *View) *map[string]*Destination { return &v.Destinations }),
	pb.Map(5, "endpoints", maxSets, EndpointsMessage, func(e *Endpoints) string { return e.Key },
		func(v *View) *map[string]*Endpoints { return &v.Endpoints }),
	pb.Map(6, "hosts", maxHosts, HostMessage, func(h *Host) string { return h.Name },
		func(v *View) *map[string]*Host { return &v.Hosts }),
	pb.Versions(7, "versions", maxVersions, maxName, func(v *View) *map[string]uint64 { return &v.Versions }),
)

// ProxyMessage describes a Proxy.
var ProxyMessage = pb.Describe(
	pb.String(1, "name", maxName, func(p *Proxy) *string { return &p.Name }),
	pb.String(2, "namespace", maxName, func(p *Proxy) *string { return &p.Namespace }),
	pb.Enum(3, "role", Gateway, func(p *Proxy) *Role { return &p.Role }),
	pb.String(4, "identity", maxName, func(p *Proxy) *string { return &p.Identity }),
	pb.String(5, "trust_domain", maxName, func(p *Proxy) *string { return &p.TrustDomain }),
	pb.String(6, "cluster_domain", maxName, func(p *Proxy) *string { return &p.ClusterDomain }),
	pb.Messages(7, "listeners", maxListeners, listenerMessage, func(p *Proxy) *[]Listener { return &p.Listeners }),
	pb.Struct(8, "settings", settingsMessage, func(p *Proxy) *Settings { return &p.Settings }),
	pb.String(9, "identity_dir", maxPath, func(p *Proxy) *string { return &p.IdentityDir }),
	pb.String(10, "zone", maxName, func(p *Proxy) *string { return &p.Zone }),
	pb.Pointer(11, "egress", egressMessage, func(p *Proxy) **policy.Egress { return &p.Egress }),
	pb.Struct(12, "access_log", accessLogMessage, func(p *Proxy) *policy.AccessLog { return &p.AccessLog }),
)

var accessLogMessage = pb.Describe(
	pb.Enum(1, "mode", policy.LogAll, func(l *policy.AccessLog) *policy.LogMode { return &l.Mode }),
	pb.Number(2, "sample", 100, func(l *policy.AccessLog) *uint8 { return &l.Sample }),
)

var settingsMessage = pb.Describe(
	pb.Milliseconds(1, "connect_timeout_ms", func(s *Settings) *time.Duration { return &s.ConnectTimeout }),
	pb.Milliseconds(2, "head_timeout_ms", func(s *Settings) *time.Duration { return &s.HeadTimeout }),
	pb.Milliseconds(3, "idle_timeout_ms", func(s *Settings) *time.Duration { return &s.IdleTimeout }),
	pb.Milliseconds(4, "pool_idle_ms", func(s *Settings) *time.Duration { return &s.PoolIdle }),
	pb.Milliseconds(5, "stream_idle_ms", func(s *Settings) *time.Duration { return &s.StreamIdle }),
	pb.Milliseconds(6, "drain_timeout_ms", func(s *Settings) *time.Duration { return &s.DrainTimeout }),
	pb.Number(7, "max_head", math.MaxUint32, func(s *Settings) *uint32 { return &s.MaxHead }),
	pb.Number(8, "max_fields", math.MaxUint32, func(s *Settings) *uint32 { return &s.MaxFields }),
	pb.Number(9, "max_connections", math.MaxUint32, func(s *Settings) *uint32 { return &s.MaxConnections }),
	pb.Enum(10, "peer_protocol", PeerHTTP2, func(s *Settings) *PeerProtocol { return &s.PeerProtocol }),
	pb.Number(11, "min_body_rate", math.MaxUint32, func(s *Settings) *uint32 { return &s.MinBodyRate }),
	pb.Bool(12, "end_expired", func(s *Settings) *bool { return &s.EndExpired }),
)

var listenerMessage = pb.Describe(
	pb.String(1, "name", maxName, func(l *Listener) *string { return &l.Name }),
	pb.Enum(2, "kind", Names, func(l *Listener) *ListenerKind { return &l.Kind }),
	pb.AddrPort(3, "address", func(l *Listener) *netip.AddrPort { return &l.Address }),
	pb.Enum(4, "protocol", HTTP2, func(l *Listener) *Protocol { return &l.Protocol }),
	pb.String(5, "destination", maxName, func(l *Listener) *string { return &l.Destination }),
	pb.AddrPort(6, "app", func(l *Listener) *netip.AddrPort { return &l.App }),
	pb.Bool(7, "plaintext", func(l *Listener) *bool { return &l.Plaintext }),
	pb.Struct(8, "routes", routesMessage, func(l *Listener) *route.Spec { return &l.Routes }),
	pb.Bytes(9, "certificate", maxPEM, func(l *Listener) *[]byte { return &l.Certificate }),
	pb.Bytes(10, "key", maxPEM, func(l *Listener) *[]byte { return &l.Key }),
	pb.Bool(11, "accept_proxy", func(l *Listener) *bool { return &l.AcceptProxy }),
	pb.Enum(12, "send_proxy", ProxyV2, func(l *Listener) *ProxyVersion { return &l.SendProxy }),
	pb.Struct(13, "streams", routesMessage, func(l *Listener) *route.Spec { return &l.Streams }),
	pb.Pointer(14, "inbound", inboundMessage, func(l *Listener) **policy.Inbound { return &l.Inbound }),
	pb.Messages(15, "certificates", maxCertificates, pb.Describe(
		pb.String(1, "listener", maxName, func(c *ServerCertificate) *string { return &c.Listener }),
		pb.Strings(2, "hostnames", maxHostnames, maxName, func(c *ServerCertificate) *[]string { return &c.Hostnames }),
		pb.Bytes(3, "certificate", maxPEM, func(c *ServerCertificate) *[]byte { return &c.Certificate }),
		pb.Bytes(4, "key", maxPEM, func(c *ServerCertificate) *[]byte { return &c.Key }),
	), func(l *Listener) *[]ServerCertificate { return &l.Certificates }),
	pb.Strings(16, "trusted_proxies", maxTrusted, maxName, func(l *Listener) *[]string { return &l.TrustedProxies }),
	pb.Number(17, "trusted_hops", math.MaxUint32, func(l *Listener) *uint32 { return &l.TrustedHops }),
)

// BundleMessage describes a Bundle.
var BundleMessage = pb.Describe(
	pb.Number(1, "version", math.MaxUint64, func(u *Bundle) *uint64 { return &u.Version }),
	pb.Messages(2, "domains", maxDomains, pb.Describe(
		pb.String(1, "name", maxName, func(d *TrustDomain) *string { return &d.Name }),
		pb.Blobs(2, "roots", maxRoots, maxRoot, func(d *TrustDomain) *[][]byte { return &d.Roots }),
	), func(u *Bundle) *[]TrustDomain { return &u.Domains }),
	pb.Bytes(3, "signer", maxKeyID, func(u *Bundle) *[]byte { return &u.Signer }),
	pb.Strings(4, "denied", maxDenied, maxName, func(u *Bundle) *[]string { return &u.Denied }),
)

// DestinationMessage describes a Destination.
var DestinationMessage = pb.Describe(
	pb.String(1, "key", maxName, func(d *Destination) *string { return &d.Key }),
	pb.Enum(2, "protocol", HTTP2, func(d *Destination) *Protocol { return &d.Protocol }),
	pb.Addrs(3, "addresses", maxAddresses, func(d *Destination) *[]netip.Addr { return &d.Addresses }),
	pb.Struct(4, "routes", routesMessage, func(d *Destination) *route.Spec { return &d.Routes }),
	pb.Bool(5, "server_first", func(d *Destination) *bool { return &d.ServerFirst }),
	pb.Struct(6, "streams", routesMessage, func(d *Destination) *route.Spec { return &d.Streams }),
	pb.Pointer(7, "policy", requestMessage, func(d *Destination) **policy.Request { return &d.Policy }),
)

// EndpointsMessage describes Endpoints.
var EndpointsMessage = pb.Describe(
	pb.String(1, "key", maxName, func(e *Endpoints) *string { return &e.Key }),
	pb.Messages(2, "list", maxEndpoints, endpointMessage, func(e *Endpoints) *[]Endpoint { return &e.List }),
	pb.Pointer(3, "policy", upstreamMessage, func(e *Endpoints) **policy.Upstream { return &e.Policy }),
)

var endpointMessage = pb.Describe(
	pb.Custom(1, "address", false,
		func(f pb.Field, e *Endpoint) error {
			a := e.Address.Addr()
			err := f.Addr(&a)
			e.Address = netip.AddrPortFrom(a, e.Address.Port())
			return err
		},
		func(b []byte, e *Endpoint) []byte { return pb.AppendAddr(b, 1, e.Address.Addr()) }),
	pb.Custom(2, "port", false,
		func(f pb.Field, e *Endpoint) error {
			var port uint16
			err := f.Port(&port)
			e.Address = netip.AddrPortFrom(e.Address.Addr(), port)
			return err
		},
		func(b []byte, e *Endpoint) []byte { return pb.AppendUint(b, 2, uint64(e.Address.Port())) }),
	pb.String(3, "identity", maxName, func(e *Endpoint) *string { return &e.Identity }),
	pb.String(4, "workload", maxName, func(e *Endpoint) *string { return &e.Workload }),
	pb.String(5, "zone", maxName, func(e *Endpoint) *string { return &e.Zone }),
	pb.Number(6, "weight", math.MaxUint32, func(e *Endpoint) *uint32 { return &e.Weight }),
	pb.Bool(7, "suspect", func(e *Endpoint) *bool { return &e.Suspect }),
	pb.String(8, "labels", maxLabels, func(e *Endpoint) *string { return &e.Labels }),
	pb.String(9, "unique_id", maxName, func(e *Endpoint) *string { return &e.UniqueID }),
).Check(func(e *Endpoint) error {
	if !e.Address.IsValid() || e.Address.Port() == 0 {
		return pb.In("address", pb.Errorf("an endpoint needs an address and a port"))
	}
	return nil
})

// HostMessage describes a Host.
var HostMessage = pb.Describe(
	pb.String(1, "name", maxName, func(h *Host) *string { return &h.Name }),
	pb.String(2, "service", maxName, func(h *Host) *string { return &h.Service }),
	pb.Addrs(3, "addresses", maxAddresses, func(h *Host) *[]netip.Addr { return &h.Addresses }),
	pb.Numbers(4, "ports", maxPorts, math.MaxUint16, func(h *Host) *[]uint16 { return &h.Ports }),
)
