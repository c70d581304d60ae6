package policy

// Egress says where outside the mesh a workload may call. Its own proxy keeps to
// it. A nil Egress lets every call pass, as if there were no mesh.
type Egress struct {
	// Allow is what happens to calls that no destination is for.
	Allow bool
	// Audit only counts what would be refused.
	Audit bool
	// Destinations are the places that may be called; the first that fits counts.
	Destinations []EgressDestination
}

// EgressDestination is a place outside the mesh.
type EgressDestination struct {
	// Name is what metrics and pages call it, as external/NAME.
	Name string
	// Hosts are DNS names in lower case without the final dot, "*.NAME" for any
	// below. They are for calls that say a name, which the proxy resolves itself.
	Hosts []string
	// Networks (CIDR) are for addresses, whatever is spoken.
	Networks []string
	// Ports is never empty.
	Ports []uint16
	// Refused says that what TLS needs isn't there: calls to it are refused.
	Refused bool
	// TLS, when not nil, has the proxy speak TLS where the program speaks HTTP
	// in plaintext.
	TLS *EgressTLS
}

// EgressTLS is TLS that the proxy begins.
type EgressTLS struct {
	// ServerName is what is asked for and verified; empty is the host.
	ServerName string
	// Roots (PEM) is who is believed; empty is whom the machine believes.
	Roots []byte
	// Certificate and Key (PEM) are what the proxy shows; empty is nothing.
	Certificate, Key []byte
}
