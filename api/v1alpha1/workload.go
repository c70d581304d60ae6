package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Workload is one running instance of a program with an identity: a process on
// a laptop, a virtual machine, a container. Its proxy has the same name.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories=tulle,shortName=wl
// +kubebuilder:subresource:status
type Workload struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   WorkloadSpec   `json:"spec"`
	Status WorkloadStatus `json:"status,omitempty,omitzero"`
}

// WorkloadSpec says who the workload is, where it serves and how it calls out.
type WorkloadSpec struct {
	// Address is the IP address its ports are at, unless a port says otherwise.
	// Default 127.0.0.1.
	Address string `json:"address,omitempty"`
	// Zone is where it runs, for locality.
	Zone string `json:"zone,omitempty"`
	// ServiceAccount is the last part of its identity,
	// spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT. Default "default".
	ServiceAccount string `json:"serviceAccount,omitempty"`
	// TrustDomain is that of a workload of another mesh, one of the Mesh object's
	// federatedTrustDomains; empty for one of this.
	TrustDomain string `json:"trustDomain,omitempty"`
	// Ports are the service ports it serves.
	Ports []WorkloadPort `json:"ports,omitempty"`
	// Outbound are loopback listeners for a program that isn't intercepted.
	Outbound []WorkloadOutbound `json:"outbound,omitempty"`
	// Capture are the addresses (IP:PORT) where its proxy accepts intercepted
	// connections; the original destination says where they go.
	Capture []string `json:"capture,omitempty"`
	// Forward are the addresses (IP:PORT) where its proxy is an HTTP proxy
	// (for programs with http_proxy set).
	Forward []string `json:"forward,omitempty"`
	// Names are the addresses (IP:PORT) where its proxy answers DNS.
	Names []string `json:"names,omitempty"`
	// Ephemeral ties the object's life to its proxy's lease: when the lease
	// ends, the object is deleted. Set for what a proxy registers by itself.
	Ephemeral bool `json:"ephemeral,omitempty"`
}

// WorkloadPort is one service port that the workload serves.
type WorkloadPort struct {
	// Service is the service's name, "cart" or "cart.default"; without a
	// namespace it is the workload's.
	Service string `json:"service"`
	// Port is the service's port, 1 to 65535.
	Port int32 `json:"port"`
	// AppAddress (IP:PORT) is where the program listens. AppPort is the short
	// form, on 127.0.0.1. Default: the service port's targetPort on 127.0.0.1
	// when the workload has a proxy, else on Address.
	AppAddress string `json:"appAddress,omitempty"`
	AppPort    int32  `json:"appPort,omitempty"`
	// MeshAddress (IP:PORT) is where its proxy accepts mutual TLS. MeshPort is
	// the short form, on Address. Without either the workload has no proxy and
	// is called in plaintext at Address and AppPort (or AppAddress).
	MeshAddress string `json:"meshAddress,omitempty"`
	MeshPort    int32  `json:"meshPort,omitempty"`
	// Protocol is "http", "http2" (without TLS, gRPC too) or "tcp"; empty takes
	// the service port's appProtocol, and without that the first bytes tell.
	Protocol string `json:"protocol,omitempty"`
	// ProxyProtocol is "v1" or "v2": the PROXY header with which each connection
	// to the program begins, to say whose it is. It needs a proxy (MeshAddress or
	// MeshPort) and protocol "tcp".
	ProxyProtocol string `json:"proxyProtocol,omitempty"`
	// HealthPath is asked with GET when the workload has no proxy; empty means
	// a TCP connection is proof enough.
	HealthPath string `json:"healthPath,omitempty"`
}

// WorkloadOutbound sends what arrives at Listen to a service port.
type WorkloadOutbound struct {
	// Service is "cart" or "cart.default".
	Service string `json:"service"`
	// Port is the service's port.
	Port int32 `json:"port"`
	// Listen is an IP:PORT, usually on loopback.
	Listen string `json:"listen"`
}

// LeaseState says how sure the control plane is that a workload's proxy lives.
type LeaseState string

// Held: its proxy is connected, or was within the lease time. Suspect: the
// lease ended together with so many others that the fault may be the control
// plane's own, the workload is kept. Ended: it is not called any more.
const (
	LeaseHeld    LeaseState = "Held"
	LeaseSuspect LeaseState = "Suspect"
	LeaseEnded   LeaseState = "Ended"
)

// WorkloadStatus is written by the control plane.
type WorkloadStatus struct {
	// Ready says the program behind the proxy takes connections; nil when
	// nobody has said.
	Ready *bool `json:"ready,omitempty"`
	// Draining says nothing new should be sent.
	Draining bool `json:"draining,omitempty"`
	// Lease is empty for a workload whose proxy was never connected.
	Lease LeaseState `json:"lease,omitempty"`
	// ProxyVersion is the version of its proxy's program.
	ProxyVersion string `json:"proxyVersion,omitempty"`
	// ProxyUID is unique to the proxy's process.
	ProxyUID string `json:"proxyUID,omitempty"`
	// UniqueID is the workload's unique id, from its proxy's certificate: callers
	// refuse whoever answers at its addresses with another. Empty is not checked.
	UniqueID string `json:"uniqueID,omitempty"`
	// Detail is what the proxy last said about itself.
	Detail string `json:"detail,omitempty"`
	// Conditions: Accepted (the spec makes sense), ResolvedRefs (its services
	// exist), Programmed (its proxy has taken what it was told).
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
