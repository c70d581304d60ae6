// Package overload finds out how many requests a program can work on at once
// without their latency growing, and keeps the rest away from it.
//
// In come the beginnings and ends of requests, from all loops of the proxy; out
// go yes and no, and the queue of those that wait a moment for a yes. It knows no
// protocol and no clock: the caller passes the time, so that it is tested in
// virtual time. Who calls it: l7http, for the requests to the proxy's own program.
package overload
