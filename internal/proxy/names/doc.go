// Package names answers DNS queries of the proxy's program: names of services
// from what the mesh knows, everything else by asking the machine's own
// resolvers.
//
// In come queries over UDP and TCP (RFC 1035, RFC 7766, EDNS as far as RFC 6891
// asks of a server), out go answers. Names it knows: cart, cart.NAMESPACE,
// cart.NAMESPACE.svc and cart.NAMESPACE.svc.CLUSTER-DOMAIN, with the service's
// virtual addresses; and those addresses back to names. It asks live, which asks
// the control plane. It runs in goroutines beside the loops: a name is resolved
// once a connection at most.
package names
