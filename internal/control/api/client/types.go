package client

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Status is the body of every error answer, shaped as Kubernetes' Status.
type Status struct {
	Kind       string         `json:"kind"`       // "Status"
	APIVersion string         `json:"apiVersion"` // "v1"
	Result     string         `json:"status"`     // "Failure", or "Success" for DELETE
	Message    string         `json:"message,omitempty"`
	Reason     string         `json:"reason,omitempty"`
	Details    *StatusDetails `json:"details,omitempty"`
	Code       int            `json:"code,omitempty"`
}

// StatusDetails says which object and which fields are meant.
type StatusDetails struct {
	Name   string  `json:"name,omitempty"`
	Group  string  `json:"group,omitempty"`
	Kind   string  `json:"kind,omitempty"`
	Causes []Cause `json:"causes,omitempty"`
}

// Cause is one thing wrong.
type Cause struct {
	Field   string `json:"field,omitempty"`
	Message string `json:"message"`
	// Line is where in the sent body, 0 when not known.
	Line int `json:"line,omitempty"`
}

// Reasons of a Status.
const (
	ReasonNotFound     = "NotFound"
	ReasonConflict     = "Conflict"
	ReasonInvalid      = "Invalid"
	ReasonBadRequest   = "BadRequest"
	ReasonForbidden    = "Forbidden"
	ReasonUnauthorized = "Unauthorized"
	ReasonUnavailable  = "ServiceUnavailable"
	ReasonInternal     = "InternalError"
	ReasonStorageFull  = "InsufficientStorage"
	ReasonExpired      = "Expired"
	ReasonTooMany      = "TooManyRequests"
)

// Error returns the message and its causes, one a line.
func (s *Status) Error() string {
	if s.Details == nil || len(s.Details.Causes) == 0 {
		return s.Message
	}
	var b strings.Builder
	b.WriteString(s.Message)
	for _, c := range s.Details.Causes {
		b.WriteString("\n  ")
		if c.Field != "" {
			b.WriteString(c.Field + ": ")
		}
		b.WriteString(c.Message)
	}
	return b.String()
}

// IsNotFound reports whether an error says that the object isn't there.
func IsNotFound(err error) bool { return hasReason(err, ReasonNotFound) }

// IsConflict reports whether an error says that the object changed meanwhile.
func IsConflict(err error) bool { return hasReason(err, ReasonConflict) }

// List is a list of objects, each as JSON.
type List struct {
	Kind       string `json:"kind"` // "ServiceList"
	APIVersion string `json:"apiVersion"`
	Metadata   struct {
		ResourceVersion string `json:"resourceVersion"`
	} `json:"metadata"`
	Items []json.RawMessage `json:"items"`
}

// Applied says what a PUT did.
type Applied struct {
	// Action is "created", "configured" or "unchanged".
	Action string
	// Object is the object as stored, JSON.
	Object json.RawMessage
}

// MeshStatus is GET /tulle/v1/status.
type MeshStatus struct {
	Version       string    `json:"version"` // of the control plane's program
	Started       time.Time `json:"started"`
	PID           int       `json:"pid"`
	DataDir       string    `json:"dataDir"`
	TrustDomain   string    `json:"trustDomain"`
	ClusterDomain string    `json:"clusterDomain"`
	// Snapshot is the version of the mesh that proxies are told.
	Snapshot uint64 `json:"snapshot"`
	// Listen is the TCP address for proxies and remote CLIs, Dashboard the
	// dashboard's; empty when there is none.
	Listen    string      `json:"listen"`
	Dashboard string      `json:"dashboard"`
	Store     StoreStatus `json:"store"`
	Proxies   int         `json:"proxies"`
	Services  int         `json:"services"`
	Workloads int         `json:"workloads"`
	// RootPin is the pin of the CA's root, as join tokens carry it.
	RootPin string `json:"rootPin"`
}

// StoreStatus is how the store is.
type StoreStatus struct {
	Kind  string `json:"kind"` // "embedded etcd", "etcd", "memory"
	Bytes int64  `json:"bytes"`
	Quota int64  `json:"quota"`
	Error string `json:"error,omitempty"`
}

// Result of a check.
type Result string

// The results.
const (
	Success Result = "success"
	Warning Result = "warning"
	Failure Result = "error"
)

// Check is one aspect that was looked at.
type Check struct {
	Category    string `json:"category"`
	Description string `json:"description"`
	Result      Result `json:"result"`
	// Error says what is wrong, Hint what to do about it; both empty on success.
	Error string `json:"error,omitempty"`
	Hint  string `json:"hint,omitempty"`
}

// CheckReport is GET /tulle/v1/check.
type CheckReport struct {
	Result Result  `json:"result"` // the worst of all
	Checks []Check `json:"checks"`
}

// Proxy is one connected, or lately connected, proxy: GET /tulle/v1/proxies.
type Proxy struct {
	Name      string    `json:"name"`
	Namespace string    `json:"namespace"`
	Role      string    `json:"role"` // "sidecar" or "gateway"
	Identity  string    `json:"identity"`
	Version   string    `json:"version"`
	UID       string    `json:"uid"`
	PID       uint64    `json:"pid"`
	Mode      string    `json:"mode"` // how traffic is intercepted
	Zone      string    `json:"zone,omitempty"`
	Admin     string    `json:"admin,omitempty"`
	Connected bool      `json:"connected"`
	Since     time.Time `json:"since"` // of Connected's last change
	Ready     bool      `json:"ready"`
	Draining  bool      `json:"draining"`
	Detail    string    `json:"detail,omitempty"`
	// Certificate is when its certificate ends.
	CertificateExpires time.Time `json:"certificateExpires,omitzero"`
	// Sent and Acknowledged are snapshot versions; equal when up to date.
	Sent         uint64 `json:"sent"`
	Acknowledged uint64 `json:"acknowledged"`
	// Rejected is why it last rejected an update, empty once one was taken again.
	Rejected string `json:"rejected,omitempty"`
	// Subscriptions are the resources it asked for.
	Subscriptions int `json:"subscriptions"`
}

// Endpoints is GET /tulle/v1/endpoints?service=cart.default.
type Endpoints struct {
	Service string `json:"service"` // "cart.default"
	// Addresses are the service's virtual addresses.
	Addresses []string       `json:"addresses"`
	Ports     []EndpointPort `json:"ports"`
}

// EndpointPort is one port's endpoints.
type EndpointPort struct {
	Port      uint16     `json:"port"`
	Endpoints []Endpoint `json:"endpoints"`
}

// Endpoint is one address that serves.
type Endpoint struct {
	Address  string `json:"address"`
	Identity string `json:"identity,omitempty"` // empty: plaintext
	UniqueID string `json:"uniqueID,omitempty"` // of its certificate; empty isn't checked
	Workload string `json:"workload,omitempty"` // "cart-1.default"
	Zone     string `json:"zone,omitempty"`
	Weight   uint32 `json:"weight"`
	Health   string `json:"health"` // "healthy", "suspect", "unhealthy", "draining"
}

// JoinTokenRequest is POST /tulle/v1/join-tokens.
type JoinTokenRequest struct {
	// Identity is the SPIFFE id, or "NAMESPACE/SERVICE-ACCOUNT" in this mesh's trust domain.
	Identity string `json:"identity"`
	// Services are those it may serve, "cart.default"; may be empty.
	Services []string `json:"services,omitempty"`
	// TTL is how long the token may be used, such as "10m" (the default); at most 24h.
	TTL string `json:"ttl,omitempty"`
}

// JoinToken is the answer: the secret, once.
type JoinToken struct {
	Token    string    `json:"token"`
	Identity string    `json:"identity"`
	Services []string  `json:"services"`
	Expires  time.Time `json:"expires"`
}

// String hides the secret.
func (t JoinToken) String() string { return fmt.Sprintf("join token for %s", t.Identity) }

// Identity is GET /tulle/v1/identity: the CA and what was issued.
type Identity struct {
	TrustDomain   string    `json:"trustDomain"`
	RootPin       string    `json:"rootPin"`
	RootExpires   time.Time `json:"rootExpires"`
	IssuerExpires time.Time `json:"issuerExpires"`
	// Bundle is the roots, PEM.
	Bundle string `json:"bundle"`
}
