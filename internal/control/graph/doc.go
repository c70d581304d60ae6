// Package graph turns objects into the mesh: objects in, an immutable
// mesh.Snapshot and the conditions of each object out. References between
// objects are resolved here; one that leads nowhere becomes a condition, never
// a failure of anything else.
//
// It is pure: no goroutine, clock, logger or I/O. A Builder keeps the objects
// and, on a change, rebuilds only what the change touches; endpoints take a
// short way that leaves routes and gateways alone. Who calls it: the control
// plane's loop (internal/control) with what store.Follow brings, and
// `tulle view` with the documents of files.
package graph
