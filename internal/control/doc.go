// Package control assembles the control plane: it opens the store and the CA,
// builds the mesh from objects, and serves the control API and the proxies.
//
// In comes a Config (from flags), out comes a running control plane until the
// context ends. The parts are the folders below, in the order of a change:
// object, store, graph, plan, push; status writes conditions back, api serves
// people. cmd/tulle calls New and Run through internal/cli.
package control
