package graph

import (
	"testing"

	"tulle.dev/tulle/api/v1alpha1"
)

// TestEndExpired: connections outlive their certificates unless the Mesh object says
// otherwise.
func TestEndExpired(t *testing.T) {
	b := NewBuilder("mesh.local")
	if b.settings().EndExpired {
		t.Error("without a Mesh object they end")
	}
	for said, want := range map[v1alpha1.ExpiredConnections]bool{"": false, v1alpha1.ExpiredKeep: false, v1alpha1.ExpiredEnd: true} {
		b.mesh = &v1alpha1.Mesh{Spec: v1alpha1.MeshSpec{ExpiredConnections: said}}
		if got := b.settings().EndExpired; got != want {
			t.Errorf("%q: they end: %v", said, got)
		}
	}
}
