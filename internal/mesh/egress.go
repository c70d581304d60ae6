package mesh

import (
	"slices"

	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/policy"
)

// Egress says where outside the mesh the workloads of a namespace, or of the
// mesh, may call.
type Egress struct {
	// From names the object that says it, "egresspolicy/NAMESPACE/NAME".
	From         string
	Allow, Audit bool
	Destinations []EgressDestination
}

// EgressDestination is a place outside the mesh, and who may call it.
type EgressDestination struct {
	policy.EgressDestination
	// Callers are SERVICE-ACCOUNT.NAMESPACE or *.NAMESPACE; none is everyone.
	Callers []string
}

// EgressOf is where a workload or gateway may call; nil is anywhere.
func (s *Snapshot) EgressOf(namespace string, id identity.ID) *policy.Egress {
	e := s.Egress[namespace]
	if e == nil {
		e = s.Egress[""]
	}
	if e == nil {
		return nil
	}
	out := &policy.Egress{Allow: e.Allow, Audit: e.Audit}
	for i := range e.Destinations {
		d := &e.Destinations[i]
		if len(d.Callers) == 0 || slices.Contains(d.Callers, "*."+id.Namespace) || slices.Contains(d.Callers, id.ServiceAccount+"."+id.Namespace) {
			out.Destinations = append(out.Destinations, d.EgressDestination)
		}
	}
	return out
}
