package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// AccessPolicy says who may call what. It is kept to by the proxy of the
// workload that is called, and at a gateway's edge.
//
// A Deny that is met refuses. Otherwise an Allow that is met lets pass. Otherwise
// the default holds: Deny where any Allow is for the target, else what the nearest
// policy's default says, else Allow.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:metadata:labels="gateway.networking.k8s.io/policy=Inherited"
// +kubebuilder:resource:categories=tulle,shortName=acp
type AccessPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec AccessPolicySpec `json:"spec"`
	// +optional
	Status gatewayv1.PolicyStatus `json:"status,omitempty,omitzero"`
}

// AccessAction is what a policy's rules do.
type AccessAction string

// The actions.
const (
	AccessAllow AccessAction = "Allow"
	AccessDeny  AccessAction = "Deny"
)

// AccessMode is whether a policy is kept to.
type AccessMode string

// Enforce keeps to it; Audit counts and shows what it would have refused.
const (
	AccessEnforce AccessMode = "Enforce"
	AccessAudit   AccessMode = "Audit"
)

// AccessPolicySpec is what a policy says.
//
// +kubebuilder:validation:XValidation:rule="!has(self.default) || self.targetRefs.all(t, t.kind in ['Mesh', 'Namespace'])",message="is for a Mesh or a Namespace: for one Service an Allow makes everything else denied",fieldPath=".default",reason=FieldValueForbidden
// +kubebuilder:validation:XValidation:rule="has(self.default) || has(self.rules) && size(self.rules) > 0",message="at least one rule, or a default: a rule {} is met by everything",fieldPath=".rules",reason=FieldValueRequired
type AccessPolicySpec struct {
	// TargetRefs name what the policy protects: a Mesh, a Namespace, a Service
	// (sectionName is a port's name), a route (sectionName is a rule's name) or a
	// Gateway.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	TargetRefs []TargetRef `json:"targetRefs"`
	// Action is what the rules do.
	//
	// +optional
	// +kubebuilder:default=Allow
	// +kubebuilder:validation:Enum=Allow;Deny
	Action AccessAction `json:"action,omitempty"`
	// Mode is Enforce, or Audit for a dry run.
	//
	// +optional
	// +kubebuilder:default=Enforce
	// +kubebuilder:validation:Enum=Enforce;Audit
	Mode AccessMode `json:"mode,omitempty"`
	// Default is what happens to requests that no rule of any policy decides.
	//
	// +optional
	// +kubebuilder:validation:Enum=Allow;Deny
	Default AccessAction `json:"default,omitempty"`
	// IfUnenforceable says what happens where requests can't be looked at, because
	// the connection is opaque: Deny takes a Deny about requests for met.
	//
	// +optional
	// +kubebuilder:default=Deny
	// +kubebuilder:validation:Enum=Allow;Deny
	IfUnenforceable AccessAction `json:"ifUnenforceable,omitempty"`
	// Explain lets a refusal's body name the deciding rule; otherwise only its id
	// (tulle-id) is told, and `tulle why ID` says the rest.
	//
	// +optional
	Explain bool `json:"explain,omitempty"`
	// Rules are met one by one; one of them is enough.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=64
	Rules []AccessRule `json:"rules,omitempty"`
}

// AccessRule is met when one of From, one of To and all of When are; what is left
// out is met by everything.
type AccessRule struct {
	// From are callers.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=32
	From []AccessSource `json:"from,omitempty"`
	// To are requests.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=32
	To []AccessOperation `json:"to,omitempty"`
	// When are claims of the caller's token, all of them (AuthenticationPolicy
	// says whose tokens are believed).
	//
	// +optional
	// +kubebuilder:validation:MaxItems=16
	When []AccessClaim `json:"when,omitempty"`
}

// AccessSource is a set of callers: each part that is written must fit, each with
// one of its entries, and no part that begins with "not" may.
type AccessSource struct {
	// Callers are SERVICE-ACCOUNT.NAMESPACE, or *.NAMESPACE for all of a namespace,
	// of the mesh's own trust domain.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=64
	Callers []string `json:"callers,omitempty"`
	// +optional
	// +kubebuilder:validation:MaxItems=64
	NotCallers []string `json:"notCallers,omitempty"`
	// Identities are SPIFFE ids of any trust domain; a final * is any rest.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=64
	Identities []string `json:"identities,omitempty"`
	// +optional
	// +kubebuilder:validation:MaxItems=64
	NotIdentities []string `json:"notIdentities,omitempty"`
	// TrustDomains are met by every identity of them.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=16
	TrustDomains []string `json:"trustDomains,omitempty"`
	// Networks (CIDR) hold the caller's address; an address can be borrowed, an
	// identity can't.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=64
	Networks []string `json:"networks,omitempty"`
	// +optional
	// +kubebuilder:validation:MaxItems=64
	NotNetworks []string `json:"notNetworks,omitempty"`
}

// AccessOperation is a set of requests, its parts combined as those of a source.
type AccessOperation struct {
	// Methods are HTTP methods.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=16
	Methods []string `json:"methods,omitempty"`
	// +optional
	// +kubebuilder:validation:MaxItems=16
	NotMethods []string `json:"notMethods,omitempty"`
	// Paths are compared without their query. An Allow is never met by a path that
	// isn't in its plain form (//, %2e%2e, ;), a Deny sees through all of them.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=64
	Paths []AccessPath `json:"paths,omitempty"`
	// +optional
	// +kubebuilder:validation:MaxItems=64
	NotPaths []AccessPath `json:"notPaths,omitempty"`
	// GRPC are SERVICE/METHOD, SERVICE/* or */METHOD.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=64
	GRPC []string `json:"grpc,omitempty"`
	// Hosts are the authority without its port; *.NAME is any below.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=64
	Hosts []string `json:"hosts,omitempty"`
	// ServerNames are what a client's own TLS asked for (SNI).
	//
	// +optional
	// +kubebuilder:validation:MaxItems=64
	ServerNames []string `json:"serverNames,omitempty"`
	// Headers must all fit.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=16
	Headers []AccessHeader `json:"headers,omitempty"`
	// Ports are the Service's.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=16
	Ports []int32 `json:"ports,omitempty"`
}

// AccessPath compares a path.
type AccessPath struct {
	// Type is PathPrefix (whole segments), Exact or RegularExpression (RE2, the
	// whole path).
	//
	// +optional
	// +kubebuilder:default=PathPrefix
	// +kubebuilder:validation:Enum=Exact;PathPrefix;RegularExpression
	Type gatewayv1.PathMatchType `json:"type,omitempty"`
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Value string `json:"value"`
}

// AccessHeader compares a header field.
type AccessHeader struct {
	// Name is the field's, in any case.
	Name gatewayv1.HTTPHeaderName `json:"name"`
	// Values are whole, or end in * for any rest; left out, the field must be there.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=16
	Values []string `json:"values,omitempty"`
	// Not turns it round.
	//
	// +optional
	Not bool `json:"not,omitempty"`
}

// AccessClaim compares a claim of a verified token.
type AccessClaim struct {
	// Claim is its name, nested with dots: realm_access.roles.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Claim string `json:"claim"`
	// Values, one of which the claim must be or hold; left out, it must be there.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=64
	Values []string `json:"values,omitempty"`
}
