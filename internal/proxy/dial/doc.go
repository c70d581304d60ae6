// Package dial gets connections to endpoints: it keeps what one loop knows of a
// service port (Cluster: the endpoints, their latencies, their pooled
// connections) and makes new connections, with mutual TLS where the endpoint
// has an identity.
//
// A Pool learns how long a server keeps idle connections. A Budget bounds further
// tries to a destination.
//
// Everything here belongs to one loop, but for budgets, which all share. Who calls it: l7http and l4; the
// assembly in proxy makes the clusters from the live table.
package dial
