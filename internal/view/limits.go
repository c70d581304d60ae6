package view

// Bounds of what Decode accepts. They are far above what a mesh of the size
// Tulle is made for needs, and low enough that no view can exhaust a proxy.
const (
	maxName         = 1024    // bytes of a name, a key, a hostname, an identity
	maxPath         = 4096    // bytes of a file's path, a route's path, a header's value
	maxPEM          = 1 << 20 // bytes of a certificate chain or a key
	maxRoot         = 1 << 16 // bytes of one root certificate
	maxListeners    = 1024
	maxCertificates = 1024  // of one listener
	maxTrusted      = 64    // networks of proxies before one listener
	maxRouteHosts   = 4096  // of one table
	maxHostnames    = 1024  // of one route host
	maxRules        = 16384 // of one route host
	maxMatches      = 1024  // of one rule
	maxHeaders      = 64    // of one match
	maxBackends     = 256   // of one rule
	maxMirrors      = 64    // of one rule or backend
	maxModified     = 64    // header fields that are set, added or removed
	maxCORS         = 256   // origins, methods or headers of one CORS filter
	maxFaults       = 1024  // of one rule or destination
	maxLimits       = 1024  // rate limits of one rule, destination or listener
	maxDescriptors  = 16    // of one rate limit
	maxCallers      = 1024  // of one match of a policy
	maxConditions   = 256   // methods, paths or headers of one match of a policy
	maxPriorities   = 256   // of one listener
	maxHashParts    = 16    // of one balance
	maxSubset       = 64    // labels of one subset
	maxStatuses     = 200   // of one retry or health check
	maxLabels       = 8192  // bytes of an endpoint's labels
	maxDomains      = 256   // trust domains of the bundle
	maxIssuers      = 64    // of one guard
	maxKeys         = 65536 // bytes of an issuer's keys
	maxOutside      = 1024  // places outside the mesh that may be called
	maxDenied       = 10000 // identities that are denied
	maxKeyID        = 64    // bytes of a root's key id
	maxRoots        = 256   // of one trust domain
	maxAddresses    = 64    // of one service
	maxPorts        = 1024  // of one service
	maxEndpoints    = 65536 // of one set
	maxDestinations = 1 << 16
	maxSets         = 1 << 16
	maxHosts        = 1 << 17
	maxVersions     = 1 << 18

	// The largest values of a policy's numbers.
	maxAttempts = 10
	maxCopies   = 3
	maxPercent  = 100
	maxStatus   = 599
	maxCode     = 16
	maxLevel    = 9

	// MaxSize bounds an encoded View, in bytes, and so a state file's payload.
	MaxSize = 64 << 20
)
