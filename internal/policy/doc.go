// Package policy is what policies say once it is settled which of them apply:
// the control plane works out effective values (mesh, namespace, service, route;
// the nearest that says something wins, field by field), views carry them, the
// proxy keeps to them and the CLI explains them.
//
// Three parts, by who keeps to them: Request goes with a request and its route
// (the caller's proxy or a gateway), Upstream with the endpoints that answer
// (also the caller's side, shared by all routes that lead there), Inbound with
// the workload that serves. A nil pointer to any of them means the defaults,
// DefaultRequest and DefaultUpstream; a value that isn't nil is complete, so
// that zero means zero.
//
// It is pure: no clock, no sockets. Who uses it: route, mesh, view, the proxy,
// control/graph and the CLI.
package policy
