// Package v1alpha1 holds Tulle's own kinds, group tulle.dev: Workload, one
// running instance of a program; Mesh, the choices of the whole mesh; and the
// policies, TrafficPolicy, RateLimitPolicy and FaultPolicy, which attach to
// objects by targetRefs. Everything else is said with Kubernetes and Gateway API
// kinds.
//
// The types are shaped as Kubernetes objects. The markers in their comments
// become the schemas of api/crds, which validate them in a cluster and outside;
// internal/control/object does so outside.
//
// +kubebuilder:object:generate=false
// +groupName=tulle.dev
package v1alpha1

//go:generate go run sigs.k8s.io/controller-tools/cmd/controller-gen@v0.23.0 crd paths=. output:crd:dir=../crds

// Group and Version name the API.
const (
	Group      = "tulle.dev"
	Version    = "v1alpha1"
	APIVersion = Group + "/" + Version
)
