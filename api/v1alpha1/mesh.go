package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// MeshName is the name of the one Mesh object.
const MeshName = "mesh"

// Mesh holds the choices of the whole mesh. There is one, named "mesh"; where
// it is missing the defaults hold.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,categories=tulle
// +kubebuilder:subresource:status
type Mesh struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   MeshSpec   `json:"spec,omitempty,omitzero"`
	Status MeshStatus `json:"status,omitempty,omitzero"`
}

// Plaintext says what a workload's proxy does with connections without TLS.
//
// +kubebuilder:validation:Enum=Permitted;Refused
type Plaintext string

// Permitted connections are served and counted as tls="none"; refused ones are closed.
const (
	PlaintextPermitted Plaintext = "Permitted"
	PlaintextRefused   Plaintext = "Refused"
)

// MeshSpec is what the operator chose.
type MeshSpec struct {
	// TrustDomain is the authority of every identity. It is fixed when the CA
	// is made. Default "mesh.local".
	TrustDomain string `json:"trustDomain,omitempty"`
	// CertificateTTL is the life of an issued certificate, 1m to 24h. Default 24h.
	CertificateTTL metav1.Duration `json:"certificateTTL,omitempty,omitzero"`
	// ClusterDomain ends the long names of services. Default "cluster.local".
	ClusterDomain string `json:"clusterDomain,omitempty"`
	// Plaintext is Permitted (default) or Refused.
	Plaintext Plaintext `json:"plaintext,omitempty"`
	// DeniedIdentities are SPIFFE ids that are not to be trusted any more,
	// whatever certificate they present: they get no new one, and nobody takes a
	// connection of theirs. What is open is ended.
	DeniedIdentities []string `json:"deniedIdentities,omitempty"`
	// Settings are the times and limits of every proxy; what is missing takes
	// the proxy's default.
	Settings ProxySettings `json:"settings,omitempty,omitzero"`
}

// ProxySettings are the times and limits of proxies.
type ProxySettings struct {
	// ConnectTimeout bounds dialling an endpoint, TLS included.
	ConnectTimeout metav1.Duration `json:"connectTimeout,omitempty,omitzero"`
	// HeadTimeout bounds reading a request's head, from its first byte.
	HeadTimeout metav1.Duration `json:"headTimeout,omitempty,omitzero"`
	// IdleTimeout closes a client connection between requests.
	IdleTimeout metav1.Duration `json:"idleTimeout,omitempty,omitzero"`
	// PoolIdle closes an upstream connection between requests.
	PoolIdle metav1.Duration `json:"poolIdle,omitempty,omitzero"`
	// StreamIdle ends an exchange without a byte either way.
	StreamIdle metav1.Duration `json:"streamIdle,omitempty,omitzero"`
	// DrainTimeout is how long a stopping proxy waits for its connections.
	DrainTimeout metav1.Duration `json:"drainTimeout,omitempty,omitzero"`
	// MaxHead is the size of a head in bytes, 1024 to 1048576.
	MaxHead int32 `json:"maxHead,omitempty"`
	// MaxFields is the number of header fields of a head, 8 to 10000.
	MaxFields int32 `json:"maxFields,omitempty"`
	// MaxConnections is the number of client connections of a proxy.
	MaxConnections int32 `json:"maxConnections,omitempty"`
	// PeerProtocol is what proxies speak to each other for HTTP: "http2"
	// multiplexes requests over one connection, "http1" has one for each request
	// under way.
	PeerProtocol string `json:"peerProtocol,omitempty"`
}

// MeshStatus is written by the control plane.
type MeshStatus struct {
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
