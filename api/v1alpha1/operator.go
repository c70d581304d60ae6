package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Operator is somebody, or a group, that may use the control plane's API: the
// command line from another machine, a program. The user who runs the control
// plane needs none.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,categories=tulle
// +kubebuilder:printcolumn:name="Role",type=string,JSONPath=`.spec.role`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Operator struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec OperatorSpec `json:"spec"`
}

// OperatorRole is what an operator may do.
type OperatorRole string

// View reads everything but Secrets. Edit changes objects of namespaces, reads
// Secrets and makes join tokens. Admin changes what is for the whole mesh too: the
// Mesh, Operators, the CA's root.
const (
	OperatorView  OperatorRole = "View"
	OperatorEdit  OperatorRole = "Edit"
	OperatorAdmin OperatorRole = "Admin"
)

// OperatorSpec says who it is and what they may do.
//
// +kubebuilder:validation:XValidation:rule="self.role != 'Admin' || !has(self.namespaces) || size(self.namespaces) == 0",message="an Admin is for the whole mesh: leave namespaces out, or write role Edit",fieldPath=".namespaces",reason=FieldValueForbidden
type OperatorSpec struct {
	// Role is View, Edit or Admin.
	//
	// +kubebuilder:validation:Enum=View;Edit;Admin
	Role OperatorRole `json:"role"`
	// Namespaces bound the role; left out, it is for all.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=64
	Namespaces []string `json:"namespaces,omitempty"`
	// Identities are SPIFFE ids whose certificate is proof.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=64
	Identities []string `json:"identities,omitempty"`
	// Tokens are bearer tokens, by their sums: `tulle operator token` makes one.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=16
	Tokens []OperatorToken `json:"tokens,omitempty"`
	// OIDC are people whom an OpenID Connect issuer vouches for.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=16
	OIDC []OperatorOIDC `json:"oidc,omitempty"`
}

// OperatorToken is a bearer token without itself.
type OperatorToken struct {
	// SHA256 is the token's sum, in hexadecimal.
	//
	// +kubebuilder:validation:Pattern=`^[0-9a-fA-F]{64}$`
	SHA256 string `json:"sha256"`
	// Expires is when it ends; left out, it doesn't.
	//
	// +optional
	Expires *metav1.Time `json:"expires,omitempty"`
}

// OperatorOIDC is met by an ID token of the issuer, for the audience, whose claim
// is one of the values or holds one.
type OperatorOIDC struct {
	// Issuer is its URL; it publishes its keys (OpenID Connect Discovery).
	//
	// +kubebuilder:validation:Pattern=`^https?://[^\s?#]+$`
	// +kubebuilder:validation:MaxLength=2048
	Issuer string `json:"issuer"`
	// Audience is whom the token must be for.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Audience string `json:"audience"`
	// Claim is sub, email, groups or another one. Default sub.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Claim string `json:"claim,omitempty"`
	// Values, one of which is enough.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Values []string `json:"values"`
}
