package control

import (
	"net/netip"

	"tulle.dev/tulle/internal/view"
)

// The gRPC methods.
const (
	MethodCertify  = "/tulle.control.v1.Control/Certify"
	MethodDiscover = "/tulle.control.v1.Control/Discover"
)

// CertifyRequest asks for an SVID.
type CertifyRequest struct {
	CSR               []byte // PKCS #10, DER; only its public key is used
	JoinToken         string
	ExpiredChain      [][]byte
	RecoverySignature []byte
}

// CertifyResponse carries an SVID.
type CertifyResponse struct {
	Chain    [][]byte // DER, leaf first
	Bundle   view.Bundle
	Identity string
}

// ProxyMessage is what a proxy sends on Discover; exactly one field is set.
type ProxyMessage struct {
	Hello     *Hello
	Subscribe *Subscribe
	Ack       *Ack
	Status    *Status
	Greets    *Greets
}

// Hello opens the conversation.
type Hello struct {
	Name, Namespace string
	Version         string
	Role            view.Role
	UID             string
	Admin           string
	Zone            string
	Registrations   []Registration
	Held            []Held
	Mode            string
	PID             uint64
}

// Registration is a service port that the proxy's workload serves.
type Registration struct {
	Service  string // NAME.NAMESPACE
	Port     uint16
	App      netip.AddrPort
	Mesh     netip.AddrPort
	Protocol view.Protocol
}

// Held is a resource the proxy has already.
type Held struct {
	Key     string
	Version uint64
}

// Subscribe changes what the proxy is kept up to date about.
type Subscribe struct {
	Add, Remove []string
}

// Ack answers an Update; Error is empty when all of it is in force.
type Ack struct {
	Nonce uint64
	Error string
}

// Status is the proxy's own state.
type Status struct {
	Ready    bool
	Draining bool
	Detail   string
}

// Greets names service ports ("SERVICE.NAMESPACE:PORT") whose program was heard
// to speak first.
type Greets struct {
	Ports []string
}

// ControlMessage is what the control plane sends; exactly one field is set.
type ControlMessage struct {
	Update  *Update
	Drained bool
	Refused *Refused
}

// Update carries the resources that changed.
type Update struct {
	Nonce     uint64
	Version   uint64
	Resources []Resource
}

// Resource is one keyed value; at most one pointer is set, none when Absent.
type Resource struct {
	Key         string
	Version     uint64
	Absent      bool
	Proxy       *view.Proxy
	Bundle      *view.Bundle
	Destination *view.Destination
	Endpoints   *view.Endpoints
	Host        *view.Host
}

// Refused ends the stream, with the reason.
type Refused struct {
	Reason string
}

// Keys of resources.
const (
	KeyProxy           = "proxy"
	KeyBundle          = "bundle"
	KeyDestinationPart = "destination/"
	KeyEndpointsPart   = "endpoints/"
	KeyHostPart        = "host/"
)
