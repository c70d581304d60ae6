// Package store keeps the control plane's state: keys and values with one
// growing revision, conditional writes, watches and leases, in etcd (embedded
// or external) or, for tests, in memory. One conformance suite holds both to
// the same behaviour.
//
// Objects is the typed layer above it: objects of control/object with resource
// versions, generations and optimistic concurrency. Who calls it: control/api
// writes objects, control/graph's caller follows them, control/push holds
// leases and grants, ca keeps join tokens.
//
// The embedded etcd is a child process of the same program (ServeEtcd runs in
// it, Embedded supervises it), because etcd ends its process when a write fails.
package store
