package graph

import (
	"fmt"
	"testing"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/control/object"
)

// bigMesh is a mesh of n services with ten workloads and a route each.
func bigMesh(tb testing.TB, n int) []Change {
	text := ""
	for i := range n {
		text += fmt.Sprintf(`
---
apiVersion: v1
kind: Service
metadata: {name: s%d}
spec: {ports: [{port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: s%d}
spec: {parentRefs: [{kind: Service, group: "", name: s%d}], rules: [{backendRefs: [{name: s%d, port: 80}]}]}
`, i, i, i, i)
	}
	out := decode(tb, "big", []byte(text))
	for i := range n {
		for j := range 10 {
			w := object.Workload.New().(*v1alpha1.Workload)
			w.Name = fmt.Sprintf("s%d-%d", i, j)
			w.Spec.Ports = []v1alpha1.WorkloadPort{{Service: fmt.Sprintf("s%d", i), Port: 80, MeshPort: int32(1000 + j)}}
			object.Default(w)
			out = append(out, ChangeOf(w))
		}
	}
	return out
}

// BenchmarkWorkloadChange is one workload of ten thousand changing its state.
func BenchmarkWorkloadChange(b *testing.B) {
	changes := bigMesh(b, 1000)
	builder := NewBuilder("mesh.local")
	builder.Apply(1, changes)
	w := object.Clone(changes[len(changes)-1].Object).(*v1alpha1.Workload)
	version := uint64(1)
	for b.Loop() {
		version++
		next := *w
		ready := version%2 == 0
		next.Status.Ready = &ready
		if r := builder.Apply(version, []Change{ChangeOf(&next)}); len(r.Changed.Endpoints) != 1 && version > 2 {
			b.Fatalf("changed %v", r.Changed)
		}
	}
}

// BenchmarkWhole is building that mesh from nothing, as at a start.
func BenchmarkWhole(b *testing.B) {
	changes := bigMesh(b, 1000)
	for b.Loop() {
		NewBuilder("mesh.local").Apply(1, changes)
	}
}

// BenchmarkMeshPolicy is a policy for the whole mesh changing.
func BenchmarkMeshPolicy(b *testing.B) {
	builder := NewBuilder("mesh.local")
	builder.Apply(1, bigMesh(b, 1000))
	version := uint64(1)
	for b.Loop() {
		version++
		p := object.TrafficPolicy.New().(*v1alpha1.TrafficPolicy)
		p.Namespace, p.Name = v1alpha1.MeshNamespace, "all"
		p.Spec.TargetRefs = []v1alpha1.TargetRef{{Kind: "Mesh", Name: "mesh"}}
		attempts := int32(version % 2)
		p.Spec.Retry = &v1alpha1.Retry{Attempts: &attempts}
		if r := builder.Apply(version, []Change{ChangeOf(p)}); len(r.Changed.Services) != 1000 || len(r.Changed.Endpoints) != 0 {
			b.Fatalf("%d services changed, %d endpoints", len(r.Changed.Services), len(r.Changed.Endpoints))
		}
	}
}

// BenchmarkGatewayRoute is one of a gateway's thousand routes changing.
func BenchmarkGatewayRoute(b *testing.B) {
	text := "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: edge}\nspec: {gatewayClassName: tulle, listeners: [{name: a, port: 80, protocol: HTTP}]}\n"
	changes := append(bigMesh(b, 1000), decode(b, "edge", []byte(text))...)
	route := func(i, weight int) Change {
		return decode(b, "route", fmt.Appendf(nil, "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: edge-%d}\nspec: {parentRefs: [{name: edge}], rules: [{matches: [{path: {value: /%d}}], backendRefs: [{name: s%d, port: 80, weight: %d}]}]}\n", i, i, i, weight))[0]
	}
	for i := range 1000 {
		changes = append(changes, route(i, 1))
	}
	builder := NewBuilder("mesh.local")
	builder.Apply(1, changes)
	both := []Change{route(7, 1), route(7, 2)}
	version := uint64(1)
	for b.Loop() {
		version++
		if r := builder.Apply(version, both[version%2:version%2+1]); len(r.Changed.Gateways) != 1 && version > 2 {
			b.Fatalf("changed %v", r.Changed.Gateways)
		}
	}
}
