// Package explain says in words what routes and policies mean and what becomes
// of a request: the values of a policy under the names that its object gives
// them, a match or a filter in one line, which rule a request meets and why not
// the others, what changes between two versions of the mesh.
//
// In come nouns (mesh, view, route, policy), out come values that print well and
// marshal to JSON. It decides nothing itself: it runs the code that the proxy
// runs. The control plane's API calls it for `tulle explain` and `tulle diff`,
// the CLI for `tulle view`. It does no I/O.
package explain
