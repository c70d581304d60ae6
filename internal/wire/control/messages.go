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
	// KubernetesToken is a projected service account token of audience "tulle".
	KubernetesToken string
}

// CertifyResponse carries an SVID.
type CertifyResponse struct {
	Chain    [][]byte // DER, leaf first
	Bundle   view.Bundle
	Identity string
}

// ProxyMessage is what a proxy sends on Discover; one field is set, or none of
// those known here when the proxy is newer.
type ProxyMessage struct {
	Hello     *Hello
	Subscribe *Subscribe
	Ack       *Ack
	Status    *Status
	Greets    *Greets
	Demand    *Demand
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
	Shares          bool // it understands Shares
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

// Demand is what the proxy would like of the limits that all proxies have
// together.
type Demand struct {
	Limits []LimitDemand
}

// LimitDemand is about one limit: the requests of the last second that it was
// about, in millionths of what it allows.
type LimitDemand struct {
	Limit string
	Part  uint64
	Keyed bool // it has a bucket for each combination of values
	// Held is the part that the proxy was told last, by this control plane or another
	// one; 0 when it never was.
	Held uint64
}

// ControlMessage is what the control plane sends; one field is set, or none of
// those known here when it is newer.
type ControlMessage struct {
	Update  *Update
	Drained bool
	Refused *Refused
	Shares  *Shares
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

// Shares are the proxy's parts of limits that it named in a Demand; an empty one
// says that the control plane understands Demand.
type Shares struct {
	Limits []Share
}

// Share is the part of one limit, in millionths.
type Share struct {
	Limit string
	Part  uint64
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
