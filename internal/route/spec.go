package route

import "time"

// Spec is a route table as data: what the control plane writes and a view
// carries. Compile makes a Table of it.
type Spec struct {
	Hosts []Host
}

// Host gathers the rules of some hostnames. A hostname is exact
// ("shop.example"), a wildcard for one or more leading labels ("*.example") or
// "*" for all. The most specific hostname wins (Gateway API, HTTPRoute).
type Host struct {
	Hostnames []string
	Rules     []Rule
}

// Rule sends the requests that meet any of its matches to its backends.
// No match means every request.
type Rule struct {
	// Name says where the rule comes from, "httproute/NAMESPACE/NAME#INDEX".
	Name     string
	Matches  []Match
	Backends []Backend
	// Timeout bounds the whole request; zero means no bound.
	Timeout time.Duration
}

// Match is met when all of its parts are; an empty part is met by everything.
type Match struct {
	Path    Path
	Method  string
	Headers []Header
}

// PathKind says how Path.Value is compared.
type PathKind uint8

// Prefix compares whole segments: "/a" matches "/a" and "/a/b", not "/ab".
const (
	PathAny PathKind = iota
	PathExact
	PathPrefix
)

// Path matches the request's path, without the query.
type Path struct {
	Kind  PathKind
	Value string
}

// Header is met when the request has a field of that name (any case) and value.
type Header struct {
	Name, Value string
}

// Backend is a share of a rule's traffic.
type Backend struct {
	// Destination is the key of a destination port, "cart.default:8080".
	// Empty means a backend that doesn't exist: its share is answered 500.
	Destination string
	// Weight is relative to the rule's other backends; 0 gets nothing.
	Weight uint32
}
