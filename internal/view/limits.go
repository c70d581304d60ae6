package view

// Bounds of what Decode accepts. They are far above what a mesh of the size
// Tulle is made for needs, and low enough that no view can exhaust a proxy.
const (
	maxName         = 1024    // bytes of a name, a key, a hostname, an identity
	maxPath         = 4096    // bytes of a file's path, a route's path, a header's value
	maxPEM          = 1 << 20 // bytes of a certificate chain or a key
	maxRoot         = 1 << 16 // bytes of one root certificate
	maxListeners    = 1024
	maxRouteHosts   = 4096  // of one table
	maxHostnames    = 1024  // of one route host
	maxRules        = 16384 // of one route host
	maxMatches      = 1024  // of one rule
	maxHeaders      = 64    // of one match
	maxBackends     = 256   // of one rule
	maxDomains      = 256   // trust domains of the bundle
	maxRoots        = 256   // of one trust domain
	maxAddresses    = 64    // of one service
	maxPorts        = 1024  // of one service
	maxEndpoints    = 65536 // of one set
	maxDestinations = 1 << 16
	maxSets         = 1 << 16
	maxHosts        = 1 << 17
	maxVersions     = 1 << 18

	// MaxSize bounds an encoded View, in bytes, and so a state file's payload.
	MaxSize = 64 << 20
)
