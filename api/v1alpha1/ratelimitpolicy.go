package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// RateLimitPolicy bounds how many requests come through. What is too much is
// answered 429 with Retry-After and ratelimit fields (gRPC: RESOURCE_EXHAUSTED).
//
// Limits of a Service, Namespace or Mesh hold where the workload serves; those of
// a Gateway or route where the route is taken. All limits that apply must allow a
// request: policies add up.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories=tulle,shortName=rlp
// +kubebuilder:subresource:status
// +kubebuilder:metadata:labels="gateway.networking.k8s.io/policy=Inherited"
// +kubebuilder:printcolumn:name="Target",type=string,JSONPath=`.spec.targetRefs[*].name`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type RateLimitPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec RateLimitPolicySpec `json:"spec"`
	// +optional
	Status gatewayv1.PolicyStatus `json:"status,omitempty,omitzero"`
}

// RateLimitPolicySpec is what the policy says.
//
// +kubebuilder:validation:XValidation:rule="has(self.limits) && size(self.limits) > 0 || has(self.service)",message="want limits, a service, or both"
type RateLimitPolicySpec struct {
	// TargetRefs are what the policy is for.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	TargetRefs []TargetRef `json:"targetRefs"`
	// Limits must all allow a request.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=16
	Limits []RateLimit `json:"limits,omitempty"`
	// Service asks another program, once the limits allow a request.
	//
	// +optional
	Service *RateLimitService `json:"service,omitempty"`
}

// FailureMode says what becomes of requests when nobody answers.
//
// +kubebuilder:validation:Enum=Open;Closed
type FailureMode string

// FailOpen lets them pass, FailClosed refuses them (503).
const (
	FailOpen   FailureMode = "Open"
	FailClosed FailureMode = "Closed"
)

// RateLimitService is a program that counts requests and speaks Envoy's rate limit
// protocol (envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit).
type RateLimitService struct {
	// BackendRef is the Service that answers; in another namespace it takes a
	// ReferenceGrant.
	BackendRef gatewayv1.BackendObjectReference `json:"backendRef"`
	// Domain is what the service tells its configurations apart by.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	Domain string `json:"domain"`
	// Descriptors are what it looks limits up by. A request that has none passes, and
	// isn't asked about.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Descriptors []RateLimitDescriptor `json:"descriptors"`
	// Timeout bounds the answer, 1ms to 1m. Default 100ms.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1ms') && duration(self) <= duration('1m')",message="want 1ms to 1m"
	Timeout *gatewayv1.Duration `json:"timeout,omitempty"`
	// FailureMode is Open (default: requests pass when there is no answer) or Closed.
	//
	// +optional
	// +kubebuilder:default=Open
	FailureMode *FailureMode `json:"failureMode,omitempty"`
}

// RateLimitDescriptor is one way to look a limit up. A request lacks it that doesn't
// meet the match, or hasn't the header of an entry.
type RateLimitDescriptor struct {
	// Match says which requests have it; left out, all.
	//
	// +optional
	Match Match `json:"match,omitzero"`
	// Entries are its parts, in this order.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Entries []RateLimitEntry `json:"entries"`
	// Hits is how many a request counts for. Default 1.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	Hits *int32 `json:"hits,omitempty"`
}

// RateLimitEntry is a key with a value that is the same for all requests, or of each.
//
// +kubebuilder:validation:XValidation:rule="has(self.value) != has(self.of)",message="want either value or of"
type RateLimitEntry struct {
	// Key is the entry's.
	//
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	Key string `json:"key"`
	// Value is the same for all.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=256
	Value *string `json:"value,omitempty"`
	// Of is the request's.
	//
	// +optional
	Of *Descriptor `json:"of,omitempty"`
}

// Scope says who shares a limit.
//
// +kubebuilder:validation:Enum=Local;Global
type Scope string

// ScopeLocal is each proxy by itself, ScopeGlobal all proxies together: the
// control plane hands out shares by demand.
const (
	ScopeLocal  Scope = "Local"
	ScopeGlobal Scope = "Global"
)

// RateLimit allows Requests per Per on average, and Burst at once.
type RateLimit struct {
	// Match says which requests count; left out, all.
	//
	// +optional
	Match Match `json:"match,omitzero"`
	// Requests is how many, per Per.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100000000
	Requests int32 `json:"requests"`
	// Per is the time that Requests are for, 1ms to 24h. Default 1s.
	//
	// +optional
	// +kubebuilder:default="1s"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1ms') && duration(self) <= duration('24h')",message="want 1ms to 24h"
	Per *gatewayv1.Duration `json:"per,omitempty"`
	// Burst is how many may come at once. Default: Requests.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100000000
	Burst *int32 `json:"burst,omitempty"`
	// By gives each different combination of values a limit of its own: one for
	// each caller, for each value of a header, and so on. A request that lacks a
	// header counts as having it empty.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=4
	By []Descriptor `json:"by,omitempty"`
	// Scope is Local (default: each proxy by itself) or Global (all together).
	//
	// +optional
	// +kubebuilder:default=Local
	Scope *Scope `json:"scope,omitempty"`
	// Shadow counts what would be refused and lets it pass: to try a limit out.
	//
	// +optional
	Shadow bool `json:"shadow,omitempty"`
}

// DescriptorType is what requests are told apart by.
//
// +kubebuilder:validation:Enum=Header;Identity;Path;Method;Source
type DescriptorType string

// The types of descriptors: a header field's value, the caller's
// SERVICE-ACCOUNT.NAMESPACE, the path without the query, the method, the client's
// address.
const (
	ByHeader   DescriptorType = "Header"
	ByIdentity DescriptorType = "Identity"
	ByPath     DescriptorType = "Path"
	ByMethod   DescriptorType = "Method"
	BySource   DescriptorType = "Source"
)

// Descriptor is a part of a request that limits are told apart by.
//
// +kubebuilder:validation:XValidation:rule="has(self.name) == (self.type == 'Header')",message="is the header field's: it is needed with Header, and only there",fieldPath=".name",reason=FieldValueInvalid
type Descriptor struct {
	// Type is Header, Identity, Path, Method or Source.
	Type DescriptorType `json:"type"`
	// Name is the header field's.
	//
	// +optional
	Name gatewayv1.HTTPHeaderName `json:"name,omitempty"`
}
