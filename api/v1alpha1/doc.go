// Package v1alpha1 holds Tulle's own kinds, group tulle.dev: Workload, one
// running instance of a program, and Mesh, the choices of the whole mesh.
// Everything else is said with Kubernetes and Gateway API kinds.
//
// The types are shaped as Kubernetes objects. Validation and defaults live in
// internal/control/object.
package v1alpha1

// Group and Version name the API.
const (
	Group      = "tulle.dev"
	Version    = "v1alpha1"
	APIVersion = Group + "/" + Version
)
