package view

import (
	"math"
	"net/netip"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/wire/pb"
)

// The messages of api/proto/view.proto. Each is one list of fields that both
// encodes and decodes; what is wrong with one is said with the path of its field.

// Encode returns v as a View message. Equal views encode to equal bytes.
// Durations are rounded up to whole milliseconds.
func Encode(v *View) []byte { return pb.Append(nil, v, viewMessage) }

// Decode reads a View message. It fails with the path of the field that is
// broken or over its bound; what it returns shares no memory with b.
func Decode(b []byte) (*View, error) {
	if len(b) > MaxSize {
		return nil, pb.Errorf("a view of %d bytes is too big, want at most %d", len(b), MaxSize)
	}
	return pb.Decode(b, viewMessage)
}

func viewMessage(m *pb.Message, v *View) {
	pb.Fixed(m, 1, "version", &v.Version)
	pb.Struct(m, 2, "proxy", &v.Proxy, ProxyMessage)
	pb.Struct(m, 3, "bundle", &v.Bundle, BundleMessage)
	pb.Map(m, 4, "destinations", maxDestinations, &v.Destinations, func(d *Destination) string { return d.Key }, DestinationMessage)
	pb.Map(m, 5, "endpoints", maxSets, &v.Endpoints, func(e *Endpoints) string { return e.Key }, EndpointsMessage)
	pb.Map(m, 6, "hosts", maxHosts, &v.Hosts, func(h *Host) string { return h.Name }, HostMessage)
	pb.Versions(m, 7, "versions", maxVersions, maxName, &v.Versions)
}

// ProxyMessage describes a Proxy.
func ProxyMessage(m *pb.Message, p *Proxy) {
	pb.String(m, 1, "name", maxName, &p.Name)
	pb.String(m, 2, "namespace", maxName, &p.Namespace)
	pb.Enum(m, 3, "role", Gateway, &p.Role)
	pb.String(m, 4, "identity", maxName, &p.Identity)
	pb.String(m, 5, "trust_domain", maxName, &p.TrustDomain)
	pb.String(m, 6, "cluster_domain", maxName, &p.ClusterDomain)
	pb.Messages(m, 7, "listeners", maxListeners, &p.Listeners, listenerMessage)
	pb.Struct(m, 8, "settings", &p.Settings, settingsMessage)
	pb.String(m, 9, "identity_dir", maxPath, &p.IdentityDir)
	pb.String(m, 10, "zone", maxName, &p.Zone)
	pb.Pointer(m, 11, "egress", &p.Egress, egressMessage)
	pb.Struct(m, 12, "access_log", &p.AccessLog, accessLogMessage)
}

func accessLogMessage(m *pb.Message, l *policy.AccessLog) {
	pb.Enum(m, 1, "mode", policy.LogAll, &l.Mode)
	pb.Number(m, 2, "sample", 100, &l.Sample)
}

func settingsMessage(m *pb.Message, s *Settings) {
	pb.Milliseconds(m, 1, "connect_timeout_ms", &s.ConnectTimeout)
	pb.Milliseconds(m, 2, "head_timeout_ms", &s.HeadTimeout)
	pb.Milliseconds(m, 3, "idle_timeout_ms", &s.IdleTimeout)
	pb.Milliseconds(m, 4, "pool_idle_ms", &s.PoolIdle)
	pb.Milliseconds(m, 5, "stream_idle_ms", &s.StreamIdle)
	pb.Milliseconds(m, 6, "drain_timeout_ms", &s.DrainTimeout)
	pb.Number(m, 7, "max_head", math.MaxUint32, &s.MaxHead)
	pb.Number(m, 8, "max_fields", math.MaxUint32, &s.MaxFields)
	pb.Number(m, 9, "max_connections", math.MaxUint32, &s.MaxConnections)
	pb.Enum(m, 10, "peer_protocol", PeerHTTP2, &s.PeerProtocol)
	pb.Number(m, 11, "min_body_rate", math.MaxUint32, &s.MinBodyRate)
	pb.Bool(m, 12, "end_expired", &s.EndExpired)
}

func listenerMessage(m *pb.Message, l *Listener) {
	pb.String(m, 1, "name", maxName, &l.Name)
	pb.Enum(m, 2, "kind", Names, &l.Kind)
	pb.AddrPort(m, 3, "address", &l.Address)
	pb.Enum(m, 4, "protocol", HTTP2, &l.Protocol)
	pb.String(m, 5, "destination", maxName, &l.Destination)
	pb.AddrPort(m, 6, "app", &l.App)
	pb.Bool(m, 7, "plaintext", &l.Plaintext)
	pb.Struct(m, 8, "routes", &l.Routes, routesMessage)
	pb.Bytes(m, 9, "certificate", maxPEM, &l.Certificate)
	pb.Bytes(m, 10, "key", maxPEM, &l.Key)
	pb.Bool(m, 11, "accept_proxy", &l.AcceptProxy)
	pb.Enum(m, 12, "send_proxy", ProxyV2, &l.SendProxy)
	pb.Struct(m, 13, "streams", &l.Streams, routesMessage)
	pb.Pointer(m, 14, "inbound", &l.Inbound, inboundMessage)
	pb.Messages(m, 15, "certificates", maxCertificates, &l.Certificates, func(m *pb.Message, c *ServerCertificate) {
		pb.String(m, 1, "listener", maxName, &c.Listener)
		pb.Strings(m, 2, "hostnames", maxHostnames, maxName, &c.Hostnames)
		pb.Bytes(m, 3, "certificate", maxPEM, &c.Certificate)
		pb.Bytes(m, 4, "key", maxPEM, &c.Key)
	})
	pb.Strings(m, 16, "trusted_proxies", maxTrusted, maxName, &l.TrustedProxies)
	pb.Number(m, 17, "trusted_hops", math.MaxUint32, &l.TrustedHops)
}

// BundleMessage describes a Bundle.
func BundleMessage(m *pb.Message, u *Bundle) {
	pb.Number(m, 1, "version", math.MaxUint64, &u.Version)
	pb.Messages(m, 2, "domains", maxDomains, &u.Domains, func(m *pb.Message, d *TrustDomain) {
		pb.String(m, 1, "name", maxName, &d.Name)
		pb.Blobs(m, 2, "roots", maxRoots, maxRoot, &d.Roots)
	})
	pb.Bytes(m, 3, "signer", maxKeyID, &u.Signer)
	pb.Strings(m, 4, "denied", maxDenied, maxName, &u.Denied)
}

// DestinationMessage describes a Destination.
func DestinationMessage(m *pb.Message, d *Destination) {
	pb.String(m, 1, "key", maxName, &d.Key)
	pb.Enum(m, 2, "protocol", HTTP2, &d.Protocol)
	pb.Addrs(m, 3, "addresses", maxAddresses, &d.Addresses)
	pb.Struct(m, 4, "routes", &d.Routes, routesMessage)
	pb.Bool(m, 5, "server_first", &d.ServerFirst)
	pb.Struct(m, 6, "streams", &d.Streams, routesMessage)
	pb.Pointer(m, 7, "policy", &d.Policy, requestMessage)
}

// EndpointsMessage describes Endpoints.
func EndpointsMessage(m *pb.Message, e *Endpoints) {
	pb.String(m, 1, "key", maxName, &e.Key)
	pb.Messages(m, 2, "list", maxEndpoints, &e.List, endpointMessage)
	pb.Pointer(m, 3, "policy", &e.Policy, upstreamMessage)
}

func endpointMessage(m *pb.Message, e *Endpoint) {
	addr, port := e.Address.Addr(), e.Address.Port()
	pb.Addr(m, 1, "address", &addr)
	pb.Port(m, 2, "port", &port)
	if m.Reading() {
		e.Address = netip.AddrPortFrom(addr, port)
	}
	pb.String(m, 3, "identity", maxName, &e.Identity)
	pb.String(m, 4, "workload", maxName, &e.Workload)
	pb.String(m, 5, "zone", maxName, &e.Zone)
	pb.Number(m, 6, "weight", math.MaxUint32, &e.Weight)
	pb.Bool(m, 7, "suspect", &e.Suspect)
	pb.String(m, 8, "labels", maxLabels, &e.Labels)
	pb.String(m, 9, "unique_id", maxName, &e.UniqueID)
	if m.Ended() && (!e.Address.IsValid() || e.Address.Port() == 0) {
		m.Fail(pb.In("address", pb.Errorf("an endpoint needs an address and a port")))
	}
}

// HostMessage describes a Host.
func HostMessage(m *pb.Message, h *Host) {
	pb.String(m, 1, "name", maxName, &h.Name)
	pb.String(m, 2, "service", maxName, &h.Service)
	pb.Addrs(m, 3, "addresses", maxAddresses, &h.Addresses)
	pb.Numbers(m, 4, "ports", maxPorts, math.MaxUint16, &h.Ports)
}
