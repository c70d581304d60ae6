// Package egress decides which calls may leave the mesh.
//
// In goes a policy.Egress, and then what is known of a call: the name that it
// says, or the address that it is for, and the port. Out comes the place that the
// policy has for it, or none. It opens nothing and resolves nothing: who calls it
// (internal/proxy for connections and requests, proxy/names for DNS queries)
// resolves names itself, so that an address can't be passed off as a name, and
// asks Public and Table.Address about what a name leads to.
//
// A Table is immutable and safe for concurrent use. It is compiled by proxy/live.
package egress
