// Package graph turns objects into the mesh: objects in, an immutable
// mesh.Snapshot and the conditions of each object out. References between
// objects are resolved here; one that leads nowhere becomes a condition, never
// a failure of anything else.
//
// In the order of the work: dirty.go marks what a change touches; parents.go
// (Services) and listeners.go, attach.go (Gateways) say which route belongs where
// and why not; rules.go, match.go and filters.go translate a route for one parent;
// policies.go, inherit.go, effective.go and apply.go work out what policies come
// to. What a proxy couldn't do is refused here, in a status.
//
// It is pure: no goroutine, clock, logger or I/O. A Builder keeps the objects
// and, on a change, rebuilds only what the change touches; endpoints take a
// short way that leaves routes and gateways alone. Who calls it: the control
// plane's loop (internal/control) with what store.Follow brings, and
// `tulle view` with the documents of files.
package graph
