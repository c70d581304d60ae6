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

// ExpiredConnections says what becomes of what is still under way on a connection
// when the certificate that it was made with has ended. In either case it takes no
// new requests.
//
// +kubebuilder:validation:Enum=Keep;End
type ExpiredConnections string

// What is kept comes to its own end; what is ended is reset a minute later.
const (
	ExpiredKeep ExpiredConnections = "Keep"
	ExpiredEnd  ExpiredConnections = "End"
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
	// ExpiredConnections is Keep (default) or End: whether opaque connections,
	// upgraded ones and streams go on when the certificate that their connection was
	// made with has ended, though the peer has another by then, or are reset a minute
	// later.
	ExpiredConnections ExpiredConnections `json:"expiredConnections,omitempty"`
	// DeniedIdentities are SPIFFE ids that are not to be trusted any more,
	// whatever certificate they present: they get no new one, and nobody takes a
	// connection of theirs. What is open is ended.
	DeniedIdentities []string `json:"deniedIdentities,omitempty"`
	// FederatedTrustDomains are other meshes whose identities are believed here,
	// each by the roots of its own bundle. They may do nothing but what an
	// AccessPolicy allows them.
	FederatedTrustDomains []FederatedTrustDomain `json:"federatedTrustDomains,omitempty"`
	// AccessLog says of which requests and connections proxies write a line. Default:
	// of none.
	AccessLog AccessLog `json:"accessLog,omitempty,omitzero"`
	// Settings are the times and limits of every proxy; what is missing takes
	// the proxy's default.
	Settings ProxySettings `json:"settings,omitempty,omitzero"`
}

// AccessLogMode says what has a line in an access log.
//
// +kubebuilder:validation:Enum=Off;Failed;All
type AccessLogMode string

// The modes. Failed has what was answered with a 5xx or not at all, what the proxy
// refused or couldn't do, and what an access rule in audit would refuse.
const (
	AccessLogOff    AccessLogMode = "Off"
	AccessLogFailed AccessLogMode = "Failed"
	AccessLogAll    AccessLogMode = "All"
)

// AccessLog is what the access logs of proxies have.
type AccessLog struct {
	// Mode is Off (default), Failed or All.
	Mode AccessLogMode `json:"mode,omitempty"`
	// SamplePercent is how many in a hundred of the requests that went well have a
	// line with All, 1 to 100. Default 100. The others all have one.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	SamplePercent int32 `json:"samplePercent,omitempty"`
	// Overrides are for some proxies. The one for a proxy by its name wins, then one
	// for a service, then one for a namespace; among those alike the first.
	//
	// +kubebuilder:validation:MaxItems=64
	Overrides []AccessLogOverride `json:"overrides,omitempty"`
}

// AccessLogOverride is what the access logs of some proxies have: those of a
// namespace, of the workloads of a service, of one workload, or of a Gateway.
type AccessLogOverride struct {
	// Namespace is theirs.
	Namespace string `json:"namespace"`
	// Service, Workload or Gateway narrows that; at most one of them.
	Service  string `json:"service,omitempty"`
	Workload string `json:"workload,omitempty"`
	Gateway  string `json:"gateway,omitempty"`
	// Mode is Off, Failed or All.
	Mode AccessLogMode `json:"mode"`
	// SamplePercent is as for the mesh. Default 100.
	//
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	SamplePercent int32 `json:"samplePercent,omitempty"`
}

// BundleProfile is how a bundle's endpoint proves who it is.
// +kubebuilder:validation:Enum=https_spiffe;https_web
type BundleProfile string

const (
	ProfileSPIFFE BundleProfile = "https_spiffe"
	ProfileWeb    BundleProfile = "https_web"
)

// FederatedTrustDomain is another mesh, by the SPIFFE Federation specification.
type FederatedTrustDomain struct {
	// TrustDomain is its name.
	TrustDomain string `json:"trustDomain"`
	// Endpoint is the https URL of its trust bundle, asked every few minutes.
	// Without one Bundle is all that is known of it, for good.
	Endpoint string `json:"endpoint,omitempty"`
	// Profile is https_spiffe (default: the endpoint proves a SPIFFE id, by the
	// bundle) or https_web (it has a certificate of the public web).
	Profile BundleProfile `json:"profile,omitempty"`
	// EndpointSPIFFEID is who answers at the endpoint, for https_spiffe. Default
	// spiffe://TRUST-DOMAIN/ns/tulle/sa/control-plane, as Tulle's do.
	EndpointSPIFFEID string `json:"endpointSPIFFEID,omitempty"`
	// Bundle are its roots at first: PEM certificates, or a SPIFFE bundle document.
	// https_spiffe needs it. One that is changed takes the place of what was
	// fetched.
	Bundle string `json:"bundle,omitempty"`
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
	// MinBodyRate is how many bytes a second a client at a gateway has to send of
	// its request's body, on average over 30 seconds, and to take of its answer:
	// 1 to 1048576, or -1 for any. Default 500.
	MinBodyRate int32 `json:"minBodyRate,omitempty"`
}

// MeshStatus is written by the control plane.
type MeshStatus struct {
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
