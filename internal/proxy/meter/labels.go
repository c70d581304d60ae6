package meter

// Direction says from where to where traffic goes, seen from the proxy.
type Direction uint8

// Inbound goes to the proxy's own program, Outbound comes from it, Edge comes
// from outside the mesh through a gateway, Mirror is a copy of a request, whose
// answer nobody gets.
const (
	Inbound Direction = iota + 1
	Outbound
	Edge
	Mirror
)

// String returns the label's value.
func (d Direction) String() string {
	switch d {
	case Inbound:
		return "inbound"
	case Outbound:
		return "outbound"
	case Edge:
		return "edge"
	case Mirror:
		return "mirror"
	}
	return "unknown"
}

// TLS says how the bytes of the mesh side of a connection are protected: what a
// client presented for Inbound and Edge, what the endpoint answered for Outbound.
type TLS uint8

// None is plaintext, ServerTLS has a server certificate only, Mutual both.
const (
	None TLS = iota
	ServerTLS
	Mutual
)

// String returns the label's value.
func (t TLS) String() string {
	switch t {
	case ServerTLS:
		return "tls"
	case Mutual:
		return "mutual"
	}
	return "none"
}

// Protocol is what was spoken on a connection.
type Protocol uint8

// The protocols of this version.
const (
	HTTP1 Protocol = iota
	TCP
	HTTP2
	protocols
)

// String returns the label's value.
func (p Protocol) String() string {
	switch p {
	case HTTP1:
		return "http1"
	case HTTP2:
		return "http2"
	}
	return "tcp"
}

// Labels name a series of traffic.
type Labels struct {
	Direction Direction
	// Service is the destination's key, "cart.default:8080"; empty when it is
	// outside the mesh.
	Service string
	// Peer is the client's identity, "SERVICE-ACCOUNT.NAMESPACE"; empty when
	// unknown, and for Outbound, where the client is the proxy's own program.
	Peer string
	TLS  TLS
}

// overflow is the value of service and peer when there are too many series.
const overflow = "other"
