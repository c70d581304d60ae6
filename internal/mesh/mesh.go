package mesh

import (
	"net/netip"
	"time"

	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/route"
)

// Snapshot is the whole mesh at one version. It is immutable once built: a
// change makes a new Snapshot that shares every value the change didn't touch.
type Snapshot struct {
	// Version grows with every change of the store; it never goes back.
	Version uint64

	Settings Settings
	Services map[Name]*Service
	// Addresses finds a service by each of its virtual addresses.
	Addresses map[netip.Addr]Name
	Workloads map[Name]*Workload
	Gateways  map[Name]*Gateway
	// Endpoints holds one set per service port.
	Endpoints map[PortKey]*EndpointSet
	// Egress says where outside the mesh the workloads of a namespace may call;
	// "" is for namespaces without an entry. None is anywhere.
	Egress map[string]*Egress
}

// Name is the namespace and name of an object.
type Name struct {
	Namespace, Name string
}

// String returns "name.namespace", the short form services are called by.
func (n Name) String() string { return n.Name + "." + n.Namespace }

// PortKey names one port of one service.
type PortKey struct {
	Service Name
	Port    uint16
}

// Settings are the mesh-wide choices of the Mesh object.
type Settings struct {
	TrustDomain identity.TrustDomain
	// CertificateTTL is the life of an issued SVID: one minute to 24 hours.
	CertificateTTL time.Duration
	// ClusterDomain ends the long names of services ("cluster.local").
	ClusterDomain string
	// Denied are SPIFFE ids that are not to be trusted any more, sorted.
	Denied []string
	// Federated are the other trust domains whose identities are believed.
	Federated []Federated
	// Plaintext permits connections without TLS to workloads with a proxy.
	Plaintext bool
	// EndExpired has proxies end what is under way on connections whose peer's
	// certificate has ended.
	EndExpired bool
	// Proxy holds the times and limits of every proxy; a zero value means the
	// proxy's own default.
	Proxy ProxySettings
	// AccessLog is what proxies' access logs have, where AccessLogs says nothing.
	AccessLog  policy.AccessLog
	AccessLogs []AccessLogOverride
}

// AccessLogOverride is what the access logs of some proxies have: those of a
// namespace; with one of the names, those of a service's workloads, of one workload
// or of one gateway.
type AccessLogOverride struct {
	Namespace, Service, Workload, Gateway string
	policy.AccessLog
}

// Federated is another trust domain and where its roots come from.
type Federated struct {
	Domain identity.TrustDomain
	// Endpoint is the https URL of its bundle, or empty.
	Endpoint string
	// Web says that the endpoint has a certificate of the public web; otherwise it
	// proves to be ID, a SPIFFE id.
	Web bool
	ID  string
	// Bundle are the roots to begin with: PEM or a SPIFFE bundle document.
	Bundle string
}

// ProxySettings are the times and limits of a proxy.
type ProxySettings struct {
	ConnectTimeout, HeadTimeout, IdleTimeout time.Duration
	PoolIdle, StreamIdle, DrainTimeout       time.Duration
	MaxHead, MaxFields, MaxConnections       uint32
	// PeerProtocol is "http1", "http2" or empty for the proxy's default.
	PeerProtocol string
	// MinBodyRate is in bytes a second; below 0 is any.
	MinBodyRate int32
}

// Service is something callers name: a set of ports, addresses of its own and
// the route that says which backends serve it.
type Service struct {
	Name Name
	// Addresses are the service's stable virtual addresses, IPv4 first.
	Addresses []netip.Addr
	Ports     []Port
	// Selector picks workloads by label; empty when endpoints are written by hand.
	Selector map[string]string
	// Routes is the HTTP routing of each port; a port without an entry sends
	// everything to its own endpoints.
	Routes map[uint16]route.Spec
	// Consumers are the routes that callers of a namespace use in place of
	// Routes: consumer routes replace, they aren't merged (Gateway API, GEP-1294).
	Consumers map[string]map[uint16]route.Spec
	// Streams are the routes of connections that aren't HTTP (TCPRoute,
	// TLSRoute): the hostname of a host is a TLS server name, "*" is any bytes;
	// a host has one rule without matches, or none when they are refused. A port
	// has Routes or Streams, never both.
	Streams map[uint16]route.Spec
	// ConsumerStreams are to Streams what Consumers are to Routes. A namespace
	// with a port in either takes nothing from Routes or Streams for that port.
	ConsumerStreams map[string]map[uint16]route.Spec
	// Request, Upstream and Inbound are the effective policies of each port; a
	// port without an entry has the defaults.
	Request  map[uint16]*policy.Request
	Upstream map[uint16]*policy.Upstream
	Inbound  map[uint16]*policy.Inbound
	// MutualTLS is what a policy says of each port; a port without an entry keeps
	// to Settings.Plaintext.
	MutualTLS map[uint16]MutualTLS
	// Sources say where each port's policies come from, for people.
	Sources map[uint16][]FieldSource
}

// RoutesFor returns how the callers of a namespace are routed to a port: by
// routes of HTTP or of streams, or by neither, when both are nil.
func (s *Service) RoutesFor(namespace string, port uint16) (routes, streams *route.Spec) {
	find := func(m map[uint16]route.Spec) *route.Spec {
		if spec, ok := m[port]; ok {
			return &spec
		}
		return nil
	}
	routes, streams = find(s.Consumers[namespace]), find(s.ConsumerStreams[namespace])
	if routes == nil && streams == nil {
		routes, streams = find(s.Routes), find(s.Streams)
	}
	return routes, streams
}

// FieldSource is a field of an effective policy and the object that says it.
type FieldSource struct {
	// Rule is the name of the rule (route.Rule.Name) that it holds for; empty is
	// what holds where no rule says otherwise.
	Rule string
	// Field is the field's path in its object, "retry.attempts", and Value what
	// is written there, as JSON without quotes.
	Field, Value string
	// From names the object, "trafficpolicy/NAMESPACE/NAME" or "httproute/NAMESPACE/NAME".
	From string
}

// MutualTLS is what a workload's proxy takes at a port.
type MutualTLS uint8

// MutualStrict takes mutual TLS alone, MutualPermissive plaintext too. With
// MutualOff the mesh's own callers speak plaintext: the port's endpoints have no
// identity.
const (
	MutualStrict MutualTLS = iota + 1
	MutualPermissive
	MutualOff
)

// MutualTLSOf returns what holds for a port of a service.
func (s *Snapshot) MutualTLSOf(n Name, port uint16) MutualTLS {
	if svc := s.Services[n]; svc != nil && svc.MutualTLS[port] != 0 {
		return svc.MutualTLS[port]
	}
	if s.Settings.Plaintext {
		return MutualPermissive
	}
	return MutualStrict
}

// Protocol is what a port speaks, as declared by appProtocol.
type Protocol uint8

// The declared protocols. Detect means nothing was declared.
const (
	Detect Protocol = iota
	HTTP
	TCP
	// HTTP2 is HTTP/2 from the first byte, without TLS: h2c, gRPC.
	HTTP2
)

// Port is one port of a service.
type Port struct {
	Name     string
	Port     uint16
	Target   uint16
	Protocol Protocol
}

// Workload is one running instance of a program with an identity.
type Workload struct {
	Name     Name
	Labels   map[string]string
	Identity identity.ID
	Address  netip.Addr
	Zone     string
	// Ports are where the workload serves, each for one service port.
	Ports []WorkloadPort
	// Outbound lists loopback listeners for programs that aren't intercepted.
	Outbound []OutboundListener
	// Capture, Forward and Names are where its proxy accepts intercepted
	// connections, is an HTTP proxy, and answers DNS.
	Capture, Forward, Names []netip.AddrPort
	// UniqueID tells the workload from others with the same identity, as its
	// certificate does; a restarted one that kept its certificate keeps it. Empty
	// where nothing is known of one.
	UniqueID string
}

// WorkloadPort serves one service port on a workload.
type WorkloadPort struct {
	Service Name
	// Port is the service's port; App the program's own address; Mesh where
	// the workload's proxy accepts mutual TLS (zero when it has no proxy).
	Port     uint16
	App      netip.AddrPort
	Mesh     netip.AddrPort
	Protocol Protocol
	// ProxyProtocol is "v1" or "v2" for a program that wants a PROXY header
	// first, or empty.
	ProxyProtocol string
}

// OutboundListener sends what arrives at Listen to a service port.
type OutboundListener struct {
	Listen netip.AddrPort
	To     PortKey
}

// EndpointSet is where one service port is served now.
type EndpointSet struct {
	Key       PortKey
	Endpoints []Endpoint
	// Policy is the service's Upstream policy for the port.
	Policy *policy.Upstream
}

// Health says whether an endpoint may be picked.
type Health uint8

// Healthy endpoints are picked; Suspect ones too, while their lease is in
// doubt; Unhealthy and Draining ones are not.
const (
	Healthy Health = iota
	Suspect
	Unhealthy
	Draining
)

// Endpoint is one address that serves a service port.
type Endpoint struct {
	Address netip.AddrPort
	// Identity is who must answer with mutual TLS; the zero ID means the
	// endpoint is outside the mesh and spoken to in plaintext.
	Identity identity.ID
	// UniqueID is the unique id that the certificate must have besides; empty is
	// not checked.
	UniqueID string
	Workload Name
	Zone     string
	// Labels are those of the workload that a policy's subset asks for,
	// "KEY=VALUE,KEY=VALUE", sorted.
	Labels string
	// Weight is relative to the others of the set; 0 means 1.
	Weight uint32
	Health Health
}

// Gateway is a proxy at the edge of the mesh: listeners, each with a route table.
type Gateway struct {
	Name      Name
	Identity  identity.ID
	Listeners []GatewayListener
	// Sources say where the policies of its listeners' rules come from, by the
	// listener's name.
	Sources map[string][]FieldSource
}

// GatewayListener is one listener of a Gateway on one of its addresses. Several
// may share Listen: then they differ by Hostname, and their tables have no
// hostname in common.
type GatewayListener struct {
	Name   string
	Listen netip.AddrPort
	// Hostname is exact, "*.example" or "*".
	Hostname string
	// Certificates end TLS; none for plain HTTP, TCP and for TLS that is passed through.
	Certificates []Certificate
	Routes       route.Spec
	// TCP says that connections aren't looked at as HTTP but routed by Streams: by
	// the TLS server name that the client asks for, or all alike when the only host
	// is "*" and the listener isn't for TLS.
	TCP     bool
	Streams route.Spec
	// ProxyProtocol says that connections begin with a PROXY header.
	ProxyProtocol bool
	// Inbound is what its proxy keeps to for all that arrives; nil is nothing.
	Inbound *policy.Inbound
	// TrustedProxies (CIDRs) and TrustedHops say which proxies before the gateway
	// are believed when they say from where a request came.
	TrustedProxies []string
	TrustedHops    uint32
}

// Certificate is what a listener shows to clients that ask for its Hostnames:
// exact, "*.example" or "*".
type Certificate struct {
	Hostnames []string
	// Chain and Key are PEM.
	Chain, Key []byte
}
