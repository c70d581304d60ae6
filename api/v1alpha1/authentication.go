package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// AuthenticationPolicy says how callers prove who they are: workloads by mutual
// TLS, people and programs from elsewhere by a token, or by asking somebody.
// Field by field the nearest policy that says something holds: Service, Namespace,
// Mesh.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:metadata:labels="gateway.networking.k8s.io/policy=Inherited"
// +kubebuilder:resource:categories=tulle,shortName=anp
type AuthenticationPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec AuthenticationPolicySpec `json:"spec"`
	// +optional
	Status gatewayv1.PolicyStatus `json:"status,omitempty,omitzero"`
}

// MutualTLS is what a workload's proxy takes.
type MutualTLS string

// Strict takes mutual TLS alone. Permissive takes plaintext too, and counts it.
// Off has the mesh's own callers speak plaintext: for what can't have a proxy in
// between.
const (
	MutualTLSStrict     MutualTLS = "Strict"
	MutualTLSPermissive MutualTLS = "Permissive"
	MutualTLSOff        MutualTLS = "Off"
)

// AuthenticationPolicySpec is what a policy says.
type AuthenticationPolicySpec struct {
	// TargetRefs name what it is for: a Mesh, a Namespace, a Service (sectionName
	// is a port's name); for jwt and external a route or a Gateway too.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	TargetRefs []TargetRef `json:"targetRefs"`
	// MutualTLS is Strict, Permissive or Off.
	//
	// +optional
	// +kubebuilder:validation:Enum=Strict;Permissive;Off
	MutualTLS MutualTLS `json:"mutualTLS,omitempty"`
	// JWT says whose tokens are believed. A token that isn't valid is refused
	// with 401 wherever one is looked for.
	//
	// +optional
	JWT *JWTAuthentication `json:"jwt,omitempty"`
	// External asks another program about each request.
	//
	// +optional
	External *ExternalAuthorization `json:"external,omitempty"`
}

// JWTAuthentication verifies bearer tokens (RFC 7519, RFC 8725).
type JWTAuthentication struct {
	// Required refuses requests without a token (401). AccessPolicies may ask for
	// claims either way.
	//
	// +optional
	Required bool `json:"required,omitempty"`
	// Issuers are told apart by their name, the iss claim.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Issuers []JWTIssuer `json:"issuers"`
}

// JWTIssuer is one whose tokens are believed.
type JWTIssuer struct {
	// Issuer is the iss claim, whole.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	Issuer string `json:"issuer"`
	// Audiences, one of which the aud claim must hold. Left out, the claim isn't
	// looked at; for a trust domain's JWT-SVIDs they can't be.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=16
	Audiences []string `json:"audiences,omitempty"`
	// JWKSURI is where its keys are (RFC 7517), https, or http on loopback. The
	// control plane fetches them and hands them to the proxies. spiffe://TRUST-DOMAIN
	// are the keys of JWT-SVIDs of the mesh, or of one that it is federated with.
	// Default: the issuer, if it has that form; else what its
	// /.well-known/openid-configuration says.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	JWKSURI string `json:"jwksURI,omitempty"`
	// JWKS are its keys, written down.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=65536
	JWKS string `json:"jwks,omitempty"`
	// FromHeaders are where the token is looked for. Default: Authorization with
	// the scheme Bearer.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=8
	FromHeaders []JWTHeader `json:"fromHeaders,omitempty"`
	// ClaimHeaders tell the program what the token says. What a client sends in
	// such a field is removed.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=16
	ClaimHeaders []ClaimHeader `json:"claimHeaders,omitempty"`
	// Forward keeps the token on the request; otherwise it is removed.
	//
	// +optional
	Forward bool `json:"forward,omitempty"`
}

// JWTHeader is a field that may hold a token.
type JWTHeader struct {
	Name gatewayv1.HTTPHeaderName `json:"name"`
	// Prefix comes before the token: "Bearer ".
	//
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Prefix string `json:"prefix,omitempty"`
}

// ClaimHeader writes a claim into a field.
type ClaimHeader struct {
	// Claim is its name, nested with dots.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Claim  string                   `json:"claim"`
	Header gatewayv1.HTTPHeaderName `json:"header"`
}

// ExternalProtocol is how another program is asked.
type ExternalProtocol string

// GRPC is envoy.service.auth.v3.Authorization/Check; HTTP sends the request's head.
const (
	ExternalGRPC ExternalProtocol = "GRPC"
	ExternalHTTP ExternalProtocol = "HTTP"
)

// ExternalAuthorization asks another program about each request, after the
// AccessPolicies have let it pass.
type ExternalAuthorization struct {
	// BackendRef is the Service that answers.
	BackendRef gatewayv1.BackendObjectReference `json:"backendRef"`
	// +optional
	// +kubebuilder:default=GRPC
	// +kubebuilder:validation:Enum=GRPC;HTTP
	Protocol ExternalProtocol `json:"protocol,omitempty"`
	// Path goes before the request's own with HTTP.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Path string `json:"path,omitempty"`
	// Timeout bounds the answer. Default 200ms.
	//
	// +optional
	Timeout *gatewayv1.Duration `json:"timeout,omitempty"`
	// FailOpen lets requests pass when there is no answer; otherwise they are
	// refused (403).
	//
	// +optional
	FailOpen bool `json:"failOpen,omitempty"`
	// SendHeaders are fields that are told beside method, path and authority.
	// Default: all but those that name a connection.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=64
	SendHeaders []gatewayv1.HTTPHeaderName `json:"sendHeaders,omitempty"`
	// TakeHeaders are fields of the answer that the request gets (HTTP; with GRPC
	// the answer says itself).
	//
	// +optional
	// +kubebuilder:validation:MaxItems=64
	TakeHeaders []gatewayv1.HTTPHeaderName `json:"takeHeaders,omitempty"`
}
