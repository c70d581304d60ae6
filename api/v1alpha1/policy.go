package v1alpha1

import (
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// MeshNamespace is the namespace of policies for the whole mesh: whoever may
// write there may speak for everyone.
const MeshNamespace = "tulle-system"

// TargetRef names what a policy is for (GEP-713, direct attachment). The target
// is in the policy's own namespace. Several may be named; each gets the policy.
//
// +kubebuilder:validation:XValidation:rule="!has(self.group) || size(self.group) == 0 || !(self.kind in ['Namespace', 'Service']) && self.group == (self.kind == 'Mesh' ? 'tulle.dev' : 'gateway.networking.k8s.io')",message="must be the kind's group, or left out",fieldPath=".group",reason=FieldValueInvalid
// +kubebuilder:validation:XValidation:rule="self.kind != 'Mesh' || self.name == 'mesh'",message="there is one Mesh, named \"mesh\"",fieldPath=".name",reason=FieldValueInvalid
// +kubebuilder:validation:XValidation:rule="!has(self.sectionName) || !(self.kind in ['Mesh', 'Namespace'])",message="is for a Service (its port's name), a route (its rule's name) or a Gateway (its listener's name)",fieldPath=".sectionName",reason=FieldValueForbidden
type TargetRef struct {
	// Group is the kind's group and may be left out: a kind of this list has one.
	//
	// +optional
	Group gatewayv1.Group `json:"group,omitempty"`
	// Kind is Mesh, Namespace, Service, HTTPRoute, GRPCRoute or Gateway.
	//
	// +kubebuilder:validation:Enum=Mesh;Namespace;Service;HTTPRoute;GRPCRoute;Gateway
	Kind gatewayv1.Kind `json:"kind"`
	// Name is the target's name. A Mesh is named "mesh", and its policies are in
	// namespace tulle-system; a Namespace is the policy's own.
	Name gatewayv1.ObjectName `json:"name"`
	// SectionName narrows the target: the name of a Service's port, of a route's
	// rule or of a Gateway's listener.
	//
	// +optional
	SectionName *gatewayv1.SectionName `json:"sectionName,omitempty"`
}

// TargetGroup is the target's group, written or not.
func (r *TargetRef) TargetGroup() gatewayv1.Group {
	switch r.Kind {
	case "Mesh":
		return Group
	case "HTTPRoute", "GRPCRoute", "Gateway":
		return gatewayv1.GroupName
	}
	return ""
}

// Match narrows what a fault, a limit or a priority is about. A request meets it
// when it meets each part that is written; what is empty is met by all.
type Match struct {
	// From are the callers: SERVICE-ACCOUNT.NAMESPACE, or *.NAMESPACE for all of
	// a namespace. One of them is enough.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=317
	// +kubebuilder:validation:items:Pattern=`^(\*|[a-z0-9]([-a-z0-9.]*[a-z0-9])?)\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`
	From []string `json:"from,omitempty"`
	// Methods are HTTP methods. One of them is enough.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=9
	Methods []gatewayv1.HTTPMethod `json:"methods,omitempty"`
	// Paths are met by the request's path without its query; a gRPC method is
	// /SERVICE/METHOD. One of them is enough.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=16
	Paths []PathMatch `json:"paths,omitempty"`
	// Headers are fields that the request has, all of them.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=16
	Headers []HeaderMatch `json:"headers,omitempty"`
}

// PathMatch compares a path.
type PathMatch struct {
	// Type is PathPrefix (whole segments: /a is met by /a and /a/b, not by /ab) or
	// Exact.
	//
	// +optional
	// +kubebuilder:default=PathPrefix
	// +kubebuilder:validation:Enum=Exact;PathPrefix
	Type *gatewayv1.PathMatchType `json:"type,omitempty"`
	// Value begins with /.
	//
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:Pattern=`^/[^?#]*$`
	Value string `json:"value"`
}

// HeaderMatch compares a header field.
type HeaderMatch struct {
	// Name is the field's, in any case.
	Name gatewayv1.HTTPHeaderName `json:"name"`
	// Value is the whole value; left out, any value will do.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	Value *string `json:"value,omitempty"`
}

// GRPCCode is a status code of gRPC by its name, such as Unavailable.
//
// +kubebuilder:validation:Enum=Cancelled;Unknown;InvalidArgument;DeadlineExceeded;NotFound;AlreadyExists;PermissionDenied;ResourceExhausted;FailedPrecondition;Aborted;OutOfRange;Unimplemented;Internal;Unavailable;DataLoss;Unauthenticated
type GRPCCode string

// GRPCCodes are the codes' names, that of code n at n-1. OK is none of them.
var GRPCCodes = []GRPCCode{"Cancelled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists", "PermissionDenied",
	"ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented", "Internal", "Unavailable", "DataLoss", "Unauthenticated"}

// Number returns the code's number, 1 to 16, or 0 for a name that is none.
func (c GRPCCode) Number() int { return slices.Index(GRPCCodes, c) + 1 }
