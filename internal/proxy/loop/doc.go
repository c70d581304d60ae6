// Package loop is one event loop: a poller, the connections on it, their
// buffers and their timers, all touched by one goroutine and no other.
//
// In come readiness events and functions posted by other goroutines (Post);
// out go calls of the handlers that connections were opened with. A proxy runs
// several loops that share nothing: each accepts, parses, balances and writes
// on its own thread. Handlers never block; what may wait runs elsewhere and
// posts its answer back. A Relay moves many bytes from one plain connection to
// another within the kernel, through pipes that all of a loop's connections share.
//
// A Loop runs in its own goroutine (Run), or is stepped (Turn) by a simulation
// that owns the poller. Who calls it: listen, mtls, l7http, l4, dial, and the
// assembly in proxy.
package loop
