package view

import (
	"math"
	"net/netip"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/route"
)

// View is all that one proxy is told, at one version. It is immutable.
//
// A sidecar's view grows lazily: Destinations, Endpoints and Hosts hold only
// what the proxy asked for. A state file holds a View.
type View struct {
	// Version is the snapshot's version the view was made from.
	Version uint64
	Proxy   Proxy
	Bundle  Bundle
	// Destinations by key "SERVICE.NAMESPACE:PORT".
	Destinations map[string]*Destination
	// Endpoints by the same key.
	Endpoints map[string]*Endpoints
	// Hosts are the answers to look-ups, by what was looked up: a DNS name in
	// lower case without the final dot, or an IP address.
	Hosts map[string]*Host
	// Versions holds the version of each resource by its key on the wire
	// ("proxy", "endpoints/cart.default:8080"), as the control plane numbered
	// it; a key with no resource is known to be absent. The proxy keeps it on
	// disk so that a reconnect resends only what differs. It is empty in a view
	// that `tulle view` rendered.
	Versions map[string]uint64
}

// Role is what a proxy does.
type Role uint8

// The roles: beside a workload, or at the edge.
const (
	Sidecar Role = iota + 1
	Gateway
)

// Proxy is the part of a view about the proxy itself.
type Proxy struct {
	Name, Namespace string
	Role            Role
	// Identity is the SPIFFE id it must present; empty for a gateway that
	// speaks only plaintext (a reverse proxy with no mesh).
	Identity    string
	TrustDomain string
	// ClusterDomain ends long service names: cart.default.svc.CLUSTER-DOMAIN.
	ClusterDomain string
	// Zone is where it runs, to prefer what is near; empty when unknown.
	Zone      string
	Listeners []Listener
	Settings  Settings
	// IdentityDir is the absolute directory in which a proxy that runs from a
	// state file alone finds bundle.pem, NAME.pem and NAME-key.pem; empty when
	// the control plane certifies it.
	IdentityDir string
	// Egress is where outside the mesh its program may call; nil is anywhere.
	Egress *policy.Egress
	// AccessLog is what its access log has.
	AccessLog policy.AccessLog
}

// Settings are limits and times; a zero value means the default named in
// internal/proxy (defaults.go).
type Settings struct {
	ConnectTimeout time.Duration // dialling an endpoint, TLS included
	HeadTimeout    time.Duration // a request's head, from its first byte
	IdleTimeout    time.Duration // a client connection between requests
	PoolIdle       time.Duration // an upstream connection between requests
	StreamIdle     time.Duration // no byte either way during an exchange
	DrainTimeout   time.Duration // from SIGTERM until connections are cut
	MaxHead        uint32        // bytes of a request's or response's head
	MaxFields      uint32        // header fields of a head
	MaxConnections uint32        // client connections of the whole proxy
	PeerProtocol   PeerProtocol  // between proxies, for HTTP
	MinBodyRate    uint32        // bytes a second of a body at edges, or AnyBodyRate
	// EndExpired ends what is under way on a connection a minute after the peer's
	// certificate; else it goes on.
	EndExpired bool
}

// AnyBodyRate is the MinBodyRate of who doesn't ask for any.
const AnyBodyRate = math.MaxUint32

// PeerProtocol is what proxies speak to each other for HTTP exchanges.
type PeerProtocol uint8

// PeerHTTP2 multiplexes exchanges over one connection, PeerHTTP1 has a
// connection for each exchange under way.
const (
	PeerDefault PeerProtocol = iota
	PeerHTTP1
	PeerHTTP2
)

// ListenerKind says where a listener's connections come from and how they are routed.
type ListenerKind uint8

const (
	// Capture accepts intercepted outbound connections and routes by original
	// destination, then by authority.
	Capture ListenerKind = iota + 1
	// Explicit accepts what a program sends to a loopback port and sends it to
	// Destination.
	Explicit
	// Forward is an HTTP proxy for programs with http_proxy set: absolute-form
	// and CONNECT, routed by authority.
	Forward
	// Inbound accepts mutual TLS from other proxies (and plaintext, where it is
	// permitted) for the workload's program at App.
	Inbound
	// Edge accepts HTTP or HTTPS from outside and routes with Routes.
	Edge
	// Names answers DNS queries for service names (UDP and TCP).
	Names
)

// Protocol is what a listener's or a destination's bytes are.
type Protocol uint8

const (
	// Detect finds out: HTTP is parsed, anything else is opaque.
	Detect Protocol = iota
	HTTP
	// TCP is never looked at, and never waited for.
	TCP
	// HTTP2 is HTTP whose server takes HTTP/2 without TLS (h2c, gRPC).
	HTTP2
)

// Listener is one socket the proxy accepts on.
type Listener struct {
	Name     string
	Kind     ListenerKind
	Address  netip.AddrPort
	Protocol Protocol
	// Destination is the key an Explicit or TCP Edge listener sends to, and for
	// an Inbound listener the service port it serves.
	Destination string
	// App is the program's address behind an Inbound listener.
	App netip.AddrPort
	// Plaintext lets an Inbound listener accept connections without TLS.
	Plaintext bool
	// Routes is the table of an HTTP Edge listener.
	Routes route.Spec
	// Streams routes the connections of an Edge listener for TCP: by the TLS
	// server name where hosts have one, else all alike. TLS ends here for the
	// names that a certificate covers, and is passed through for the others; that
	// goes for an HTTPS listener with Streams too.
	Streams route.Spec
	// Inbound is what an Inbound listener keeps to; nil is nothing.
	Inbound *policy.Inbound
	// Certificate and Key (PEM) make an Edge listener HTTPS.
	Certificate, Key []byte
	// Certificates do the same by the server name that a client asks for. They
	// are looked at before Certificate, which is for names that none of them
	// covers, and for clients that say no name.
	Certificates []ServerCertificate
	// AcceptProxy says that each connection of an Edge listener begins with a
	// PROXY header, of version 1 or 2, that names the client.
	AcceptProxy bool
	// TrustedProxies (CIDRs) and TrustedHops say which proxies before an Edge
	// listener are believed when they say from where a request came: those at such
	// addresses, or so many, whoever they are. None is nobody.
	TrustedProxies []string
	TrustedHops    uint32
	// SendProxy says which PROXY header an Inbound listener for TCP sends to the
	// program first.
	SendProxy ProxyVersion
}

// ServerCertificate is what an Edge listener shows to clients that ask for one
// of its names. A port may serve several Gateway listeners, each with names of
// its own.
type ServerCertificate struct {
	// Listener is the Gateway listener's name: certificates of the same one serve
	// the same requests. A request for a name that another Listener of the port
	// covers better is answered 421.
	Listener string
	// Hostnames are exact, "*.example" for one or more leading labels, or "*";
	// the most specific wins. None is "*".
	Hostnames []string
	// Certificate and Key are PEM. Without them TLS doesn't end here for these
	// names: Streams routes them, though another entry covers them less closely.
	Certificate, Key []byte
}

// ProxyVersion is a version of the PROXY protocol.
type ProxyVersion uint8

// ProxyNone sends no header.
const (
	ProxyNone ProxyVersion = iota
	ProxyV1
	ProxyV2
)

// Bundle holds the roots of each trust domain.
type Bundle struct {
	// Version grows with each change of the roots.
	Version uint64
	Domains []TrustDomain
	// Signer is the key id of the root from which certificates come now: a proxy
	// whose own comes from another renews it. Empty says nothing.
	Signer []byte
	// Denied are SPIFFE ids that are not to be trusted any more, whatever
	// certificate they present.
	Denied []string
}

// TrustDomain is one trust domain's roots, DER.
type TrustDomain struct {
	Name  string
	Roots [][]byte
}

// Destination is one port of a service as a caller sees it.
type Destination struct {
	// Key is "SERVICE.NAMESPACE:PORT".
	Key      string
	Protocol Protocol
	// Addresses are the service's virtual addresses.
	Addresses []netip.Addr
	// Routes is the HTTP routing; empty sends everything to Key's endpoints.
	Routes route.Spec
	// Streams routes connections that aren't HTTP, by TLS server name or all
	// alike ("*"); empty sends them to Key's endpoints.
	Streams route.Spec
	// Policy goes with requests whose rule has none; nil is policy.DefaultRequest.
	Policy *policy.Request
	// ServerFirst says that the service's own proxies have lately heard its
	// program speak first, where Protocol is Detect. It says when to dial, never
	// what the bytes are.
	ServerFirst bool
}

// Endpoints is where one service port is served now.
type Endpoints struct {
	Key  string
	List []Endpoint
	// Policy goes with the endpoints; nil is policy.DefaultUpstream.
	Policy *policy.Upstream
}

// Endpoint is one address a request may be sent to. Only endpoints that may
// get traffic are in a view: unhealthy and draining ones are left out.
type Endpoint struct {
	Address netip.AddrPort
	// Identity is the SPIFFE id that must answer over mutual TLS. Empty means
	// plaintext to something outside the mesh.
	Identity string
	// UniqueID is the unique id that its certificate must have besides: the address
	// may have come to another workload with the same identity. Empty is not
	// checked.
	UniqueID string
	// Workload is the endpoint's name, "WORKLOAD.NAMESPACE", for people.
	Workload string
	Zone     string
	Labels   string // "KEY=VALUE,KEY=VALUE", sorted: what the policy's subset needs
	Weight   uint32 // 0 means 1
	Suspect  bool   // its lease is in doubt, it is kept for now
}

// Host answers one look-up: a name or an address.
type Host struct {
	// Name is what was looked up.
	Name string
	// Service is "SERVICE.NAMESPACE" when the mesh knows it, else empty: the
	// name is then resolved, or the address dialled, as if there were no mesh.
	Service string
	// Addresses answer DNS, IPv4 first.
	Addresses []netip.Addr
	// Ports are the service's ports: what may follow the name.
	Ports []uint16
}
