package graph

import (
	"fmt"
	"reflect"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/mesh"
)

// Status is what is to be said about an object.
type Status struct {
	// Generation is the object's, when this was worked out.
	Generation int64
	Conditions []Condition
	// Parents are a route's, in the order of its parentRefs.
	Parents []ParentStatus
	// Ancestors are a policy's, in the order of its targetRefs.
	Ancestors []ParentStatus
	// Listeners are a gateway's, in its order; Addresses where it listens.
	Listeners []ListenerStatus
	Addresses []string
}

// Condition is one aspect of an object, as Gateway API and Kubernetes have them.
type Condition struct {
	Type    string
	True    bool
	Reason  string
	Message string
}

// ParentStatus is how a route stands with one parent, or a policy with one target.
type ParentStatus struct {
	Ref        gatewayv1.ParentReference
	Conditions []Condition
}

// ListenerStatus is how a gateway's listener is.
type ListenerStatus struct {
	Name string
	// Kinds are the kinds of routes that it takes.
	Kinds      []string
	Attached   int32
	Conditions []Condition
}

func (s *Status) equal(o *Status) bool { return reflect.DeepEqual(s, o) }

// Reasons beyond Gateway API's.
const (
	reasonAccepted = "Accepted"
	reasonResolved = "ResolvedRefs"
)

func accepted(reason string) Condition {
	return Condition{Type: "Accepted", True: true, Reason: reason}
}

func resolved() Condition { return Condition{Type: "ResolvedRefs", True: true, Reason: reasonResolved} }

// unresolved keeps the first reason and adds up the messages, a bounded number.
func unresolved(c Condition, reason, message string) Condition {
	const most = 1024
	if c.True {
		return Condition{Type: "ResolvedRefs", Reason: reason, Message: message}
	}
	if len(c.Message) < most {
		c.Message += "; " + message
	}
	return c
}

func (b *Builder) meshStatus() {
	c := accepted(reasonAccepted)
	if want := identity.TrustDomain(b.mesh.Spec.TrustDomain); want != b.trustDomain {
		c = Condition{Type: "Accepted", Reason: "TrustDomainFixed",
			Message: fmt.Sprintf("spec.trustDomain is %s, but the CA of this mesh was made for %s; that can't be changed afterwards", want, b.trustDomain)}
	}
	b.dirty.newStatuses[Ref{object.Mesh, mesh.Name{Name: b.mesh.Name}}] = &Status{Generation: b.mesh.Generation, Conditions: []Condition{c}}
}
