package policy

import "time"

// Request is what goes with a request: its times, what is tried again, what is
// done to it on purpose.
type Request struct {
	// Timeout bounds the whole exchange, Try each try; 0 doesn't. The caller's
	// own deadline (grpc-timeout, tulle-timeout) shortens both.
	Timeout, Try time.Duration
	// StreamIdle bounds the time without a byte either way; 0 takes the proxy's.
	StreamIdle time.Duration
	// Guard says who may take a route of a gateway, beside what the gateway's
	// listener asks for; nil is everyone.
	Guard *Guard
	Retry Retry
	Hedge Hedge
	// Faults are injected in this order, each with its own chance.
	Faults []Fault
	// Limits are the rate limits at the caller's side or the edge; each must
	// allow the request.
	Limits []RateLimit
}

// Condition is a set of reasons to try a request again.
type Condition uint16

// The conditions. Unsent is always safe: the application has provably not seen
// the request (refused, REFUSED_STREAM, a GOAWAY beyond it, a pooled connection
// that was closing). The others hold for idempotent methods only, unless
// Retry.Any says otherwise.
const (
	Unsent         Condition = 1 << iota // the request never reached the application
	ConnectFailure                       // no connection could be had
	Reset                                // the connection or stream broke before a response began
	TryTimeout                           // Try was over before a response began
	ServerError                          // any 5xx status
	GatewayError                         // 502, 503, 504
	Conflict                             // 409
	TooMany                              // 429, RESOURCE_EXHAUSTED: after Retry-After, elsewhere
	Statuses                             // one of Retry.Statuses
	GRPCCodes                            // one of Retry.Codes
)

// Retry says what is tried again, how often and when.
type Retry struct {
	// Attempts bounds the tries after the first, 0 to 10.
	Attempts uint8
	On       Condition
	// Statuses are HTTP statuses, 400 to 599.
	Statuses []uint16
	// Codes is a set of gRPC codes: bit n is code n, 1 to 16.
	Codes uint32
	// Any lets requests be repeated whose method is not idempotent.
	Any bool
	// Backoff is the pause before the second try; it doubles up to MaxBackoff,
	// and each pause is drawn uniformly from MinBackoff (0: full jitter) to that. An
	// HTTPRoute's retry.backoff is a minimum.
	Backoff, MaxBackoff, MinBackoff time.Duration
	// MaxRetryAfter bounds what Retry-After and grpc-retry-pushback-ms may ask
	// for; a longer one means no further try. 0 ignores them.
	MaxRetryAfter time.Duration
	// Budget bounds all further tries of the proxy to one destination.
	Budget Budget
	// Buffer bounds the bytes of a request's body that are kept for another
	// try; a longer body isn't repeated.
	Buffer uint32
}

// Budget bounds tries after the first: Percent of the requests of the last ten
// seconds, but at least Min a second are allowed.
type Budget struct {
	Percent uint8
	Min     uint32
}

// Hedge sends a second copy of an idempotent request to another endpoint when no
// response began within After; the first to answer wins. After 0 is off. Copies
// count against Retry.Budget. Max bounds the copies, 1 to 3.
type Hedge struct {
	After time.Duration
	Max   uint8
}

// Share is a part of all, in millionths: 0 is none, All is every one.
type Share uint32

// All is the whole.
const All Share = 1_000_000

// Fault spoils some of the requests on purpose.
type Fault struct {
	// Name says where it comes from, "faultpolicy/NAMESPACE/NAME#INDEX".
	Name  string
	Share Share
	When  Match
	// Delay is waited before the request goes on.
	Delay time.Duration
	// Status, GRPC and Reset answer in the endpoint's place; at most one is set.
	Status uint16
	GRPC   int8 // code 1 to 16
	Reset  bool // the connection or stream is reset
	// BytesPerSecond slows the response's body; 0 doesn't.
	BytesPerSecond uint32
	// Until is when it removes itself; the zero time is never.
	Until time.Time
}

// Match narrows what a fault or a limit is about; an empty one is met by all.
type Match struct {
	// From are the callers, "SERVICE-ACCOUNT.NAMESPACE"; "*.NAMESPACE" is all of
	// a namespace. The caller's own proxy knows who it is, an inbound one by the
	// client's certificate.
	From    []string
	Methods []string
	Paths   []Path
	Headers []Header
}

// Path is met by an exact path, or by whole leading segments of one.
type Path struct {
	Prefix bool
	Value  string
}

// Header is met when the field has that value, or any when Present.
type Header struct {
	Name, Value string
	Present     bool
}

// RateLimit allows Requests per Per on average and Burst at once.
type RateLimit struct {
	// Name says where it comes from, "ratelimitpolicy/NAMESPACE/NAME#INDEX". It
	// is the same for every proxy that shares a Global limit.
	Name     string
	When     Match
	Requests uint32
	Per      time.Duration
	Burst    uint32
	// By gives each different combination of values a bucket of its own.
	By []Descriptor
	// Global says that the limit holds for all proxies together: the control
	// plane hands out shares by demand. Local ones hold for each proxy.
	Global bool
	// Shadow counts what would have been refused, and lets it pass.
	Shadow bool
	// Service, when not nil, decides instead: all other fields but Name are zero.
	Service *LimitService
}

// LimitService asks another program whether there are too many requests.
type LimitService struct {
	// Destination is the key of the port that answers, in
	// envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit.
	Destination string
	Domain      string
	// Timeout bounds the answer.
	Timeout time.Duration
	// Closed refuses requests when there is no answer.
	Closed bool
	// Descriptors are what is asked about. About a request that has none nobody is
	// asked.
	Descriptors []LimitDescriptor
}

// LimitDescriptor is what limits are looked up by. A request that doesn't meet When,
// or lacks a header of an entry, hasn't it.
type LimitDescriptor struct {
	When    Match
	Entries []LimitEntry
	// Hits is how many a request counts for; 0 is one.
	Hits uint32
}

// LimitEntry is one part of it: a value that is the same for all requests, or, when
// Of has a kind, one of the request.
type LimitEntry struct {
	Key, Value string
	Of         Descriptor
}

// DescriptorKind is what a rate limit tells requests apart by.
type DescriptorKind uint8

// The kinds of descriptors.
const (
	ByHeader   DescriptorKind = iota + 1 // the value of header Name
	ByIdentity                           // the caller's SERVICE-ACCOUNT.NAMESPACE
	ByPath                               // the path without the query
	ByMethod
	BySource // the client's address
)

// Descriptor is one part of a rate limit's key.
type Descriptor struct {
	Kind DescriptorKind
	Name string
}

// DefaultRequest holds where nothing is said: only what the application has
// provably not seen is tried again, twice at most, within a budget.
var DefaultRequest = &Request{Retry: DefaultRetry}

// DefaultRetry is the Retry of DefaultRequest, and what the fields of one that is
// asked for default to.
var DefaultRetry = Retry{
	Attempts: 2, On: Unsent | ConnectFailure,
	Backoff: 25 * time.Millisecond, MaxBackoff: 250 * time.Millisecond, MaxRetryAfter: 10 * time.Second,
	Budget: Budget{Percent: 20, Min: 10}, Buffer: 64 << 10,
}
