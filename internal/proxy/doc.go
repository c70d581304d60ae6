// Package proxy assembles the data plane: loops, listeners, and the layers a
// connection goes through, top to bottom, one file for each kind of listener.
// It is the only package that knows all protocols.
//
// In goes a Config with what the proxy was told (live) and where it counts
// (meter); Start opens the listeners and runs the loops, Drain ends in good
// order. Who calls it: cmd/tulle-proxy, and the simulation (proxy/sim), which
// brings its own pollers and steps the loops itself (Step).
//
// A request's path, in the order to read it: listeners.go opens sockets and
// chooses what their connections meet; edge.go, inbound.go, outbound.go and
// forward.go say what that is, layer by layer; incoming.go is a connection
// between the layers; routes.go and lookup.go find where a request goes, the
// latter when that isn't known yet; lane.go is what one loop owns. From there
// the path leads to l7http or l4, balance, dial and mtls, all on the loop that
// accepted the connection.
package proxy
