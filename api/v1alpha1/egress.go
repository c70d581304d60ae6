package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// EgressPolicy says what of a namespace, or of the mesh, may call outside the
// mesh. The nearest policy holds. It is kept to by the caller's own proxy, which
// resolves the names itself, so that an address can't be passed off as a name.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:metadata:labels="gateway.networking.k8s.io/policy=Inherited"
// +kubebuilder:resource:categories=tulle,shortName=egp
type EgressPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec EgressPolicySpec `json:"spec"`
	// +optional
	Status gatewayv1.PolicyStatus `json:"status,omitempty,omitzero"`
}

// EgressPolicySpec is what a policy says.
type EgressPolicySpec struct {
	// TargetRefs name who calls: a Mesh or a Namespace.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	TargetRefs []TargetRef `json:"targetRefs"`
	// Default is what happens to calls that To doesn't name.
	//
	// +optional
	// +kubebuilder:default=Deny
	// +kubebuilder:validation:Enum=Allow;Deny
	Default AccessAction `json:"default,omitempty"`
	// Mode is Enforce, or Audit for a dry run.
	//
	// +optional
	// +kubebuilder:default=Enforce
	// +kubebuilder:validation:Enum=Enforce;Audit
	Mode AccessMode `json:"mode,omitempty"`
	// To are the places outside that may be called.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=256
	To []EgressDestination `json:"to,omitempty"`
}

// EgressDestination is a place outside the mesh.
type EgressDestination struct {
	// Name is what metrics and pages call it.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name,omitempty"`
	// Hosts are DNS names; *.NAME is any below. They are compared with the
	// authority of HTTP and the server name of TLS. Networks (CIDR) are for what
	// has no name.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=64
	Hosts []string `json:"hosts,omitempty"`
	// +optional
	// +kubebuilder:validation:MaxItems=64
	Networks []string `json:"networks,omitempty"`
	// Ports; left out, 443 and 80.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=16
	Ports []int32 `json:"ports,omitempty"`
	// TLS has the proxy speak TLS to it where the program speaks plaintext.
	//
	// +optional
	TLS *EgressTLS `json:"tls,omitempty"`
	// Callers narrow who may: SERVICE-ACCOUNT.NAMESPACE or *.NAMESPACE.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=64
	Callers []string `json:"callers,omitempty"`
}

// EgressTLS is TLS that the proxy begins.
type EgressTLS struct {
	// ServerName is what is asked for and verified. Default: the host.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=253
	ServerName string `json:"serverName,omitempty"`
	// CACertificateRef is a Secret with ca.crt in place of the system's roots.
	//
	// +optional
	CACertificateRef *gatewayv1.SecretObjectReference `json:"caCertificateRef,omitempty"`
	// ClientCertificateRef is a Secret of type kubernetes.io/tls.
	//
	// +optional
	ClientCertificateRef *gatewayv1.SecretObjectReference `json:"clientCertificateRef,omitempty"`
}
