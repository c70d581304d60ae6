package explain_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"tulle.dev/tulle/internal/explain"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/policy"
)

// TestDiffEgress: what may be called outside the mesh is a change for requests,
// also for a namespace that had the whole mesh's before.
func TestDiffEgress(t *testing.T) {
	bank := mesh.EgressDestination{Callers: []string{"cart.default"},
		EgressDestination: policy.EgressDestination{Name: "external/bank", Hosts: []string{"api.bank.example"}, Ports: []uint16{443}}}
	all := &mesh.Egress{Allow: true, Audit: true}
	before := &mesh.Snapshot{Egress: map[string]*mesh.Egress{"": all}}
	after := &mesh.Snapshot{Egress: map[string]*mesh.Egress{"": all, "default": {Destinations: []mesh.EgressDestination{bank}}}}
	effect, err := explain.Diff(before, after)
	if err != nil {
		t.Fatal(err)
	}
	want := []explain.PolicyChange{
		{At: "egress of namespace default", Field: "external/bank", After: "api.bank.example at port 443, from cart.default"},
		{At: "egress of namespace default", Field: "other", Before: "allowed (counted only)", After: "refused"},
	}
	if diff := cmp.Diff(want, effect.Policies); diff != "" {
		t.Error(diff)
	}
	if effect, err = explain.Diff(after, after); err != nil || !effect.None() {
		t.Errorf("a mesh differs from itself: %+v, %v", effect, err)
	}
}
