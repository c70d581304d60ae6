package policy

import "time"

// Upstream is what goes with the endpoints of a service port, for everyone who
// calls it.
type Upstream struct {
	Balance  Balance
	Session  Session
	Locality Locality
	// SlowStart lets a new endpoint's share grow to its full size over this time.
	SlowStart time.Duration
	// Panic is the share of endpoints, in percent, under which ejection and
	// health are ignored: when less than that is well, all are used.
	Panic uint8
	// Subset keeps only the endpoints whose workload has all of these labels,
	// "KEY=VALUE", sorted.
	Subset []string
	Limits Limits
	// Connect bounds dialling, TLS included; PoolIdle the rest of a pooled
	// connection; 0 takes the proxy's.
	Connect, PoolIdle time.Duration
	Ejection          Ejection
	Health            *HealthCheck
}

// Algorithm picks an endpoint.
type Algorithm uint8

// The algorithms. PeakEWMA and LeastRequest take the better of two random
// choices; the hashes send what has the same key to the same endpoint.
const (
	PeakEWMA Algorithm = iota
	LeastRequest
	RoundRobin
	Random
	RingHash
	Maglev
)

// Balance says how an endpoint is picked.
type Balance struct {
	Algorithm Algorithm
	// On is what RingHash and Maglev hash; the first part that a request has counts.
	On []HashPart
}

// HashKind is what a hash is made of.
type HashKind uint8

// The kinds of hash parts.
const (
	HashHeader HashKind = iota + 1
	HashCookie
	HashSource // the client's address
	HashQuery  // a query parameter
)

// HashPart is a part of a request that a hash is made of.
type HashPart struct {
	Kind HashKind
	Name string
}

// SessionKind is where a session's endpoint is written.
type SessionKind uint8

// The kinds of sessions; NoSession is none.
const (
	NoSession SessionKind = iota
	SessionCookie
	SessionHeader
)

// Session keeps a client at the endpoint that answered it first, for as long as
// that is well: the endpoint is named in a cookie or header that the proxy sets
// (Gateway API, SessionPersistence).
type Session struct {
	Kind SessionKind
	Name string
	// Lifetime is for how long a session holds from its beginning, which its value
	// says, and the cookie's Max-Age; 0 is as long as the browser's session.
	Lifetime time.Duration
	// Tracked leaves it to proxies alone to end the session: the cookie has no
	// Max-Age.
	Tracked bool
}

// Locality says how much nearer endpoints are preferred.
type Locality uint8

// PreferZone keeps requests in the caller's zone while enough endpoints are well
// there, and lets them spill over smoothly as there are fewer. AnyZone doesn't
// look at zones. OnlyZone never leaves the zone.
const (
	PreferZone Locality = iota
	AnyZone
	OnlyZone
)

// Limits are a circuit breaker by amounts. They hold for the whole proxy; 0 is
// no limit.
type Limits struct {
	// Connections are those to all endpoints, Requests the exchanges under way,
	// Pending those of them that wait for a connection.
	Connections, Requests, Pending uint32
	// PendingTime is how long one waits while as many connections as may be are in
	// use; 0 takes the proxy's.
	PendingTime time.Duration
}

// Ejection takes endpoints that fail out of balance for a while. An endpoint is
// never ejected when Max percent are already, nor the last one.
type Ejection struct {
	// Off turns it off.
	Off bool
	// Consecutive failures eject an endpoint; 0 doesn't look at them. A failure
	// is 5xx, a broken connection, or a gRPC code like that; 429 and
	// RESOURCE_EXHAUSTED are none.
	Consecutive uint32
	// SuccessRate ejects an endpoint of whose requests within Window less than
	// that many percent went well, if there were at least MinRequests and the
	// others do clearly better; 0 off.
	SuccessRate uint8
	MinRequests uint32
	Window      time.Duration
	// Latency ejects an endpoint whose average within Window is this many times
	// the median of the others (2 to 100); 0 off.
	Latency uint8
	// Base is how long the first ejection lasts; it doubles each time up to
	// MaxBackoff, and halves again for each Window without a failure.
	Base, MaxBackoff time.Duration
	// Max is the share of endpoints, in percent, that may be ejected at once.
	Max uint8
}

// HealthKind is how an endpoint's health is asked for.
type HealthKind uint8

// The kinds of health checks.
const (
	HealthTCP HealthKind = iota
	HealthHTTP
	HealthGRPC // grpc.health.v1.Health/Check
)

// HealthCheck asks each endpoint that the proxy uses, once for the whole proxy.
type HealthCheck struct {
	Kind HealthKind
	// Path and Host are of the GET; Statuses are the good ones, 200 to 299 when
	// empty. Service is gRPC's.
	Path, Host, Service string
	Statuses            []uint16
	Interval, Timeout   time.Duration
	// Unhealthy failures in a row take an endpoint out, Healthy successes back in.
	Unhealthy, Healthy uint8
}

// DefaultUpstream holds where nothing is said.
var DefaultUpstream = &Upstream{Panic: 50, Ejection: DefaultEjection}

// DefaultEjection is the Ejection of DefaultUpstream.
var DefaultEjection = Ejection{
	Consecutive: 7, SuccessRate: 80, MinRequests: 20, Window: 10 * time.Second,
	Base: 5 * time.Second, MaxBackoff: time.Minute, Max: 50,
}

// DefaultHealthCheck is what the fields of a HealthCheck that is asked for default to.
var DefaultHealthCheck = HealthCheck{Path: "/", Interval: 5 * time.Second, Timeout: time.Second, Unhealthy: 3, Healthy: 2}

// DefaultSessionName is the cookie or header of a Session that names none.
const DefaultSessionName = "tulle-session"
