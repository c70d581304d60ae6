// Package plan works out what one proxy is told: a snapshot of the mesh and a
// proxy (or the key of a resource) in, view resources out.
//
// It is pure. control/push calls it for each resource that a connected proxy
// has or asked for; `tulle view` calls Full for a state file.
package plan
