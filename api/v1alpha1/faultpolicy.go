package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// FaultPolicy spoils some requests on purpose, to see how callers take it. All
// policies that apply add up.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories=tulle,shortName=fp
// +kubebuilder:subresource:status
// +kubebuilder:metadata:labels="gateway.networking.k8s.io/policy=Inherited"
// +kubebuilder:printcolumn:name="Target",type=string,JSONPath=`.spec.targetRefs[*].name`
// +kubebuilder:printcolumn:name="Until",type=date,JSONPath=`.spec.until`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type FaultPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec FaultPolicySpec `json:"spec"`
	// +optional
	Status gatewayv1.PolicyStatus `json:"status,omitempty,omitzero"`
}

// FaultPolicySpec is what the policy says.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.until) && has(self.duration))",message="can't stand beside until: keep one",fieldPath=".duration",reason=FieldValueForbidden
type FaultPolicySpec struct {
	// TargetRefs are what the policy is for.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	TargetRefs []TargetRef `json:"targetRefs"`
	// Until is when the faults end, such as 2026-11-25T18:00:00Z.
	//
	// +optional
	Until *metav1.Time `json:"until,omitempty"`
	// Duration is how long after the policy's creation the faults end. Without
	// until and duration they stay until the policy is deleted.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) > duration('0s')",message="want more than 0s"
	Duration *gatewayv1.Duration `json:"duration,omitempty"`
	// Faults are injected in this order, each with its own chance.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Faults []Fault `json:"faults"`
}

// Fault is what happens to some requests.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.percent) && has(self.fraction))",message="can't stand beside percent: keep one",fieldPath=".fraction",reason=FieldValueForbidden
// +kubebuilder:validation:XValidation:rule="has(self.delay) || has(self.abort) || has(self.bytesPerSecond)",message="does nothing: want delay, abort or bytesPerSecond",reason=FieldValueRequired
type Fault struct {
	// Match says which requests; left out, all.
	//
	// +optional
	Match Match `json:"match,omitzero"`
	// Percent of those requests are spoilt; or Fraction of them. Without either,
	// every one.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	Percent *int32 `json:"percent,omitempty"`
	// Fraction is for less than a percent: numerator of denominator (default 100).
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="self.numerator <= (has(self.denominator) ? self.denominator : 100)",message="numerator must be less than or equal to denominator"
	Fraction *gatewayv1.Fraction `json:"fraction,omitempty"`
	// Delay is waited before the request goes on, up to 1h.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) <= duration('1h')",message="want 0s to 1h"
	Delay *gatewayv1.Duration `json:"delay,omitempty"`
	// Abort answers in the endpoint's place.
	//
	// +optional
	Abort *Abort `json:"abort,omitempty"`
	// BytesPerSecond slows the response's body down to this.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	BytesPerSecond *int32 `json:"bytesPerSecond,omitempty"`
}

// Abort is an answer in the endpoint's place: one of the three.
//
// +kubebuilder:validation:XValidation:rule="[has(self.status), has(self.grpcCode), has(self.reset) && self.reset].exists_one(x, x)",message="want one of status, grpcCode and reset: true",reason=FieldValueInvalid
type Abort struct {
	// Status is an HTTP status.
	//
	// +optional
	// +kubebuilder:validation:Minimum=200
	// +kubebuilder:validation:Maximum=599
	Status *int32 `json:"status,omitempty"`
	// GRPCCode is a gRPC status, such as Unavailable.
	//
	// +optional
	GRPCCode *GRPCCode `json:"grpcCode,omitempty"`
	// Reset breaks the connection or stream.
	//
	// +optional
	Reset bool `json:"reset,omitempty"`
}
