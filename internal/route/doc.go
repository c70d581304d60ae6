// Package route decides which backend serves a request: it compiles route
// rules into a Table and matches a request's authority, path, method and
// headers against it.
//
// The proxy runs it on every request (no allocation), the control plane
// validates with it and the CLI explains with it. It is pure: no clock, no
// sockets, and randomness for weighted backends is passed in.
package route
