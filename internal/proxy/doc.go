// Package proxy assembles the data plane: loops, listeners, and the layers a
// connection goes through, top to bottom, in one file for each kind of listener
// (edge.go, inbound.go, outbound.go). It is the only package that knows all
// protocols.
//
// In goes a Config with what the proxy was told (live) and where it counts
// (meter); Start opens the listeners and runs the loops, Drain ends in good
// order. Who calls it: cmd/tulle-proxy, and the simulation (proxy/sim), which
// brings its own pollers and steps the loops itself.
package proxy
