package route

import (
	"time"

	"tulle.dev/tulle/internal/policy"
)

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
	// Name says where the rule comes from, "httproute/NAMESPACE/NAME#INDEX", or
	// "grpcroute/...", "tcproute/...", "tlsroute/...".
	Name string
	// Section is the rule's own name in its route (Gateway API, named rules), or empty.
	Section  string
	Matches  []Match
	Filters  Filters
	Backends []Backend
	// Timeout bounds the whole request; zero means the policy's.
	Timeout time.Duration
	// Session keeps clients at one endpoint of whichever backend was picked.
	Session policy.Session
	// Policy is complete and already holds the rule's own timeouts and retries;
	// nil takes the destination's.
	Policy *policy.Request
}

// Match is met when all of its parts are; an empty part is met by everything.
type Match struct {
	Path    Path
	Method  string
	Headers []Field
	// Query are parameters of the query; of several of one name the first counts.
	Query []Field
}

// PathKind says how Path.Value is compared.
type PathKind uint8

// Prefix compares whole segments: "/a" matches "/a" and "/a/b", not "/ab".
// Regex is RE2 and must match the whole path. GRPCMethod is met by a path of two
// segments of which the second is the value.
const (
	PathAny PathKind = iota
	PathExact
	PathPrefix
	PathRegex
	PathGRPCMethod
)

// Path matches the request's path, without the query.
type Path struct {
	Kind  PathKind
	Value string
}

// Field is met when the request has a header field (its name in any case) or a
// query parameter (its name exactly) of that name and value. With Regex, Value is
// RE2 and must match the whole value.
type Field struct {
	Name, Value string
	Regex       bool
}

// Backend is a share of a rule's traffic.
type Backend struct {
	// Destination is the key of a destination port, "cart.default:8080".
	// Empty means a backend that doesn't exist: its share is answered 500.
	Destination string
	// Weight is relative to the rule's other backends; 0 gets nothing.
	Weight uint32
	// Filters are done after the rule's, for this backend's share.
	Filters Filters
}

// Filters are what a rule does to requests and responses on their way, in the
// order of the fields.
type Filters struct {
	// CORS answers preflight requests and completes responses.
	CORS *CORS
	// Redirect answers in the backends' place.
	Redirect *Redirect
	// Request changes the request's header, Response the response's.
	Request, Response *Modifier
	Rewrite           *Rewrite
	Mirrors           []Mirror
}

// Modifier changes header fields: Set replaces, Add appends, Remove takes away.
type Modifier struct {
	Set, Add []Value
	Remove   []string
}

// Value is a header field to write.
type Value struct{ Name, Value string }

// PathChange says what a Redirect or Rewrite does to the path.
type PathChange uint8

// KeepPath leaves it, FullPath puts Path in its place, PrefixPath puts Path in
// place of the prefix that the rule matched.
const (
	KeepPath PathChange = iota
	FullPath
	PrefixPath
)

// Redirect sends the client elsewhere. An empty part is the request's own.
type Redirect struct {
	Scheme, Host string
	Port         uint16 // 0: the scheme's when Scheme is set, else the listener's
	Change       PathChange
	Path         string
	Status       uint16 // 301, 302, 303, 307 or 308
}

// Rewrite changes the request's authority and path.
type Rewrite struct {
	Host   string
	Change PathChange
	Path   string
}

// Mirror sends a copy of some requests to another destination, whose answer
// nobody waits for.
type Mirror struct {
	Destination string // as of Backend; empty mirrors nothing
	Share       policy.Share
}

// CORS says which other origins' pages may use the responses (Fetch standard;
// Gateway API, HTTPCORSFilter).
type CORS struct {
	// Origins are "*", an origin, or one with a leading wildcard label in its host.
	Origins          []string
	Methods, Headers []string // "*" is all
	Expose           []string
	Credentials      bool
	MaxAge           time.Duration // 0 takes 5 s
}
