package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// TrafficPolicy says how requests are balanced, bounded, tried again and kept
// away from what fails.
//
// Fields are inherited one by one, from the mesh to the namespace to the service
// to the route or gateway: the nearest policy that says something about a field
// wins, a list or map as a whole. What nobody says takes the default.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories=tulle,shortName=tp
// +kubebuilder:subresource:status
// +kubebuilder:metadata:labels="gateway.networking.k8s.io/policy=Inherited"
// +kubebuilder:printcolumn:name="Target",type=string,JSONPath=`.spec.targetRefs[*].name`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type TrafficPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec TrafficPolicySpec `json:"spec"`
	// +optional
	Status gatewayv1.PolicyStatus `json:"status,omitempty,omitzero"`
}

// TrafficPolicySpec is what the policy says. A route or a Gateway as target takes
// session, timeouts, retry and hedge; the rest belongs to the service that answers.
//
// +kubebuilder:validation:XValidation:rule="!self.targetRefs.exists(t, t.kind in ['HTTPRoute', 'GRPCRoute', 'Gateway']) || !(has(self.balance) || has(self.locality) || has(self.slowStart) || has(self.panicThreshold) || has(self.subset) || has(self.limits) || has(self.ejection) || has(self.healthCheck) || has(self.overload))",message="a route or Gateway as target takes session, timeouts, retry and hedge: the rest belongs to the service that answers, put it in a policy for that",reason=FieldValueForbidden
// +kubebuilder:validation:XValidation:rule="!self.targetRefs.exists(t, t.kind == 'Gateway') || !has(self.session)",message="is for a Service or a route, not for a Gateway",fieldPath=".session",reason=FieldValueForbidden
// +kubebuilder:validation:XValidation:rule="!self.targetRefs.exists(t, t.kind in ['HTTPRoute', 'GRPCRoute', 'Gateway']) || !has(self.timeouts) || !(has(self.timeouts.connect) || has(self.timeouts.poolIdle))",message="connect and poolIdle belong to the service that answers: put them in a policy for that",fieldPath=".timeouts",reason=FieldValueForbidden
type TrafficPolicySpec struct {
	// TargetRefs are what the policy is for.
	//
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	TargetRefs []TargetRef `json:"targetRefs"`
	// Balance says which endpoint gets a request.
	//
	// +optional
	Balance *Balance `json:"balance,omitempty"`
	// Session keeps a client at the endpoint that answered it first.
	//
	// +optional
	Session *Session `json:"session,omitempty"`
	// Locality is PreferZone (default: the caller's zone, spilling over smoothly
	// as fewer endpoints are well there), AnyZone or OnlyZone.
	//
	// +optional
	Locality *Locality `json:"locality,omitempty"`
	// SlowStart lets a new endpoint's share grow to its full size over this time,
	// up to 15m; 0s doesn't. Default 0s.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) <= duration('15m')",message="want 0s to 15m"
	SlowStart *gatewayv1.Duration `json:"slowStart,omitempty"`
	// PanicThreshold is a percentage of endpoints: when fewer are well, health and
	// ejection are ignored and all are used. Default 50.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	PanicThreshold *int32 `json:"panicThreshold,omitempty"`
	// Subset keeps only the endpoints whose workload has all of these labels; an
	// empty one ({}) keeps all.
	//
	// +optional
	// +kubebuilder:validation:MaxProperties=8
	Subset map[string]string `json:"subset,omitzero"`
	// Limits are a circuit breaker by amounts.
	//
	// +optional
	Limits *Limits `json:"limits,omitempty"`
	// +optional
	Timeouts *Timeouts `json:"timeouts,omitempty"`
	// Retry says what is tried again. By default that is only what the
	// application has provably not seen.
	//
	// +optional
	Retry *Retry `json:"retry,omitempty"`
	// Hedge sends a second copy of a request that takes long.
	//
	// +optional
	Hedge *Hedge `json:"hedge,omitempty"`
	// Ejection takes endpoints that fail out of balance for a while. On by default.
	//
	// +optional
	Ejection *Ejection `json:"ejection,omitempty"`
	// HealthCheck asks each endpoint how it is. Off by default.
	//
	// +optional
	HealthCheck *HealthCheck `json:"healthCheck,omitempty"`
	// Overload lets a workload refuse what it can't do in time. Off by default.
	//
	// +optional
	Overload *Overload `json:"overload,omitempty"`
}

// Algorithm picks an endpoint.
//
// +kubebuilder:validation:Enum=PeakEWMA;LeastRequest;RoundRobin;Random;RingHash;Maglev
type Algorithm string

// The algorithms. PeakEWMA (the latency of late, times the requests under way)
// and LeastRequest take the better of two random choices; the hashes send what
// has the same key to the same endpoint.
const (
	PeakEWMA     Algorithm = "PeakEWMA"
	LeastRequest Algorithm = "LeastRequest"
	RoundRobin   Algorithm = "RoundRobin"
	Random       Algorithm = "Random"
	RingHash     Algorithm = "RingHash"
	Maglev       Algorithm = "Maglev"
)

// Balance says how an endpoint is picked.
type Balance struct {
	// Algorithm is PeakEWMA (default), LeastRequest, RoundRobin, Random, RingHash
	// or Maglev.
	//
	// +optional
	Algorithm *Algorithm `json:"algorithm,omitempty"`
	// HashOn is what RingHash and Maglev hash; the first part that a request has
	// counts. Default: the client's address.
	//
	// +optional
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	HashOn []HashPart `json:"hashOn,omitzero"`
}

// HashType is what a hash is made of.
//
// +kubebuilder:validation:Enum=Header;Cookie;Query;Source
type HashType string

// The types of hash parts; Source is the client's address.
const (
	HashHeader HashType = "Header"
	HashCookie HashType = "Cookie"
	HashQuery  HashType = "Query"
	HashSource HashType = "Source"
)

// HashPart is a part of a request.
//
// +kubebuilder:validation:XValidation:rule="has(self.name) == (self.type != 'Source')",message="is needed with Header, Cookie and Query, and not with Source",fieldPath=".name",reason=FieldValueInvalid
type HashPart struct {
	// Type is Header, Cookie, Query or Source.
	Type HashType `json:"type"`
	// Name is the name of the header field, cookie or query parameter.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Name string `json:"name,omitempty"`
}

// SessionType is where a session's endpoint is written.
//
// +kubebuilder:validation:Enum=None;Cookie;Header
type SessionType string

// The types of sessions.
const (
	SessionNone   SessionType = "None"
	SessionCookie SessionType = "Cookie"
	SessionHeader SessionType = "Header"
)

// Session keeps a client at one endpoint for as long as that is well. The proxy
// names the endpoint in a cookie or header of its answer, and reads it again.
type Session struct {
	// Type is Cookie, Header or None (default).
	//
	// +optional
	Type *SessionType `json:"type,omitempty"`
	// Name is the cookie's or the header field's. Default "tulle-session".
	//
	// +optional
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern="^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"
	Name *string `json:"name,omitempty"`
	// Lifetime is how long a session holds from its beginning, and the cookie's
	// Max-Age; 0s (default) is as long as the browser runs, and for a header without
	// end.
	//
	// +optional
	Lifetime *gatewayv1.Duration `json:"lifetime,omitempty"`
}

// Locality says how much nearer endpoints are preferred.
//
// +kubebuilder:validation:Enum=PreferZone;AnyZone;OnlyZone
type Locality string

// The localities.
const (
	PreferZone Locality = "PreferZone"
	AnyZone    Locality = "AnyZone"
	OnlyZone   Locality = "OnlyZone"
)

// Limits hold for each calling proxy and each service port; 0 (default) is no
// limit. What is beyond them is answered 503.
type Limits struct {
	// Connections is the number of connections to all endpoints. A request that
	// needs one more waits for its turn.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	Connections *int32 `json:"connections,omitempty"`
	// Requests is the number of requests under way.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	Requests *int32 `json:"requests,omitempty"`
	// Pending is the number of requests that wait for a connection.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	Pending *int32 `json:"pending,omitempty"`
	// PendingTimeout is how long a request waits for its turn to have a connection,
	// 1ms to 1h. Default 1s.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1ms') && duration(self) <= duration('1h')",message="want 1ms to 1h"
	PendingTimeout *gatewayv1.Duration `json:"pendingTimeout,omitempty"`
}

// Timeouts bound a request. 0s is no bound. A route's own timeouts win over these.
//
// +kubebuilder:validation:XValidation:rule="!has(self.request) || !has(self.perTry) || duration(self.request) == duration('0s') || duration(self.perTry) <= duration(self.request)",message="must not be more than request",fieldPath=".perTry",reason=FieldValueInvalid
type Timeouts struct {
	// Request bounds the whole exchange with all its tries. Default 0s.
	//
	// +optional
	Request *gatewayv1.Duration `json:"request,omitempty"`
	// PerTry bounds each try. Default 0s.
	//
	// +optional
	PerTry *gatewayv1.Duration `json:"perTry,omitempty"`
	// StreamIdle bounds the time without a byte either way. Default: the Mesh
	// object's settings.streamIdle.
	//
	// +optional
	StreamIdle *gatewayv1.Duration `json:"streamIdle,omitempty"`
	// Connect bounds dialling an endpoint, TLS included. Default: the Mesh
	// object's settings.connectTimeout.
	//
	// +optional
	Connect *gatewayv1.Duration `json:"connect,omitempty"`
	// PoolIdle is how long a connection without a request is kept. Default: the
	// Mesh object's settings.poolIdle.
	//
	// +optional
	PoolIdle *gatewayv1.Duration `json:"poolIdle,omitempty"`
}

// RetryCondition is a reason to try a request again.
//
// +kubebuilder:validation:Enum=Unsent;ConnectFailure;Reset;TryTimeout;ServerError;GatewayError;Conflict;TooManyRequests
type RetryCondition string

// The conditions. Unsent and ConnectFailure are always safe: the application has
// not seen the request. The others hold for idempotent methods only, unless
// Retry.AnyMethod says otherwise.
const (
	RetryUnsent          RetryCondition = "Unsent"          // the request provably never reached the application
	RetryConnectFailure  RetryCondition = "ConnectFailure"  // no connection could be had
	RetryReset           RetryCondition = "Reset"           // the connection or stream broke before a response began
	RetryTryTimeout      RetryCondition = "TryTimeout"      // timeouts.perTry was over before a response began
	RetryServerError     RetryCondition = "ServerError"     // any 5xx
	RetryGatewayError    RetryCondition = "GatewayError"    // 502, 503, 504
	RetryConflict        RetryCondition = "Conflict"        // 409
	RetryTooManyRequests RetryCondition = "TooManyRequests" // 429 or RESOURCE_EXHAUSTED, after what Retry-After says
)

// Retry says what is tried again, how often and when. An HTTPRoute's own retry
// wins over attempts, statuses and backoff.
//
// +kubebuilder:validation:XValidation:rule="!has(self.backoff) || !has(self.maxBackoff) || duration(self.backoff) <= duration(self.maxBackoff)",message="must not be more than maxBackoff",fieldPath=".backoff",reason=FieldValueInvalid
type Retry struct {
	// Attempts bounds the tries after the first; 0 tries nothing again. Default 2.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10
	Attempts *int32 `json:"attempts,omitempty"`
	// On are the reasons: Unsent, ConnectFailure, Reset, TryTimeout, ServerError
	// (any 5xx), GatewayError (502, 503, 504), Conflict (409), TooManyRequests
	// (429). Default Unsent and ConnectFailure, which are always safe; Unsent is
	// always among them.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=8
	On []RetryCondition `json:"on,omitzero"`
	// Statuses are further HTTP statuses to try again on.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:Minimum=400
	// +kubebuilder:validation:items:Maximum=599
	Statuses []int32 `json:"statuses,omitzero"`
	// GRPCCodes are gRPC statuses to try again on, such as Unavailable.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=16
	GRPCCodes []GRPCCode `json:"grpcCodes,omitzero"`
	// AnyMethod lets requests be repeated whose method isn't idempotent (POST,
	// PATCH). Default false. Set it only when doing a request twice does no harm.
	//
	// +optional
	AnyMethod *bool `json:"anyMethod,omitempty"`
	// Backoff is the longest pause before the second try; it doubles for each
	// further one, up to MaxBackoff. Each pause is drawn at random between zero
	// and that. Default 25ms.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) <= duration('1m')",message="want 0s to 1m"
	Backoff *gatewayv1.Duration `json:"backoff,omitempty"`
	// MaxBackoff is the longest pause. Default 250ms.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) <= duration('5m')",message="want 0s to 5m"
	MaxBackoff *gatewayv1.Duration `json:"maxBackoff,omitempty"`
	// MaxRetryAfter is the longest Retry-After (or grpc-retry-pushback-ms) that is
	// waited for; after a longer one the request isn't tried again. 0s ignores
	// them. Default 10s.
	//
	// +optional
	MaxRetryAfter *gatewayv1.Duration `json:"maxRetryAfter,omitempty"`
	// Budget bounds all further tries of a proxy to one destination.
	//
	// +optional
	Budget *RetryBudget `json:"budget,omitempty"`
	// BufferBytes bounds what is kept of a request's body for another try; a
	// request with a longer body isn't repeated. Default 65536.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=16777216
	BufferBytes *int32 `json:"bufferBytes,omitempty"`
}

// RetryBudget keeps retries from making an outage worse.
type RetryBudget struct {
	// Percent of the requests of the last ten seconds may be further tries.
	// Default 20.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	Percent *int32 `json:"percent,omitempty"`
	// MinPerSecond are allowed in any case. Default 10.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100000
	MinPerSecond *int32 `json:"minPerSecond,omitempty"`
}

// Hedge sends a copy of an idempotent request to another endpoint when no response
// began in time; the first to answer wins. Copies count against the retry budget.
type Hedge struct {
	// After is the time to wait; 0s (default) sends no copies.
	//
	// +optional
	After *gatewayv1.Duration `json:"after,omitempty"`
	// MaxCopies bounds the copies, one more after each further After. Default 1.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=3
	MaxCopies *int32 `json:"maxCopies,omitempty"`
}

// Ejection takes endpoints that fail out of balance for a while, but never more
// than MaxPercent of them, nor the last one. 429 and RESOURCE_EXHAUSTED are no
// failures.
//
// +kubebuilder:validation:XValidation:rule="!has(self.time) || !has(self.maxTime) || duration(self.time) <= duration(self.maxTime)",message="must not be more than maxTime",fieldPath=".time",reason=FieldValueInvalid
type Ejection struct {
	// Off turns ejection off. Default false.
	//
	// +optional
	Off *bool `json:"off,omitempty"`
	// ConsecutiveFailures eject an endpoint; 0 doesn't look at them. Default 7.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10000
	ConsecutiveFailures *int32 `json:"consecutiveFailures,omitempty"`
	// SuccessRate is a percentage: an endpoint is ejected when less of its
	// requests within Window went well. 0 doesn't look at it. Default 80.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	SuccessRate *int32 `json:"successRate,omitempty"`
	// LatencyFactor ejects an endpoint whose average latency within Window is this
	// many times the median of all, 2 to 100; 0 (default) doesn't.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	// +kubebuilder:validation:XValidation:rule="self != 1",message="want 2 to 100, or 0 for off"
	LatencyFactor *int32 `json:"latencyFactor,omitempty"`
	// MinRequests is how many requests within Window SuccessRate and LatencyFactor
	// need. Default 20.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	MinRequests *int32 `json:"minRequests,omitempty"`
	// Window is the time that is looked at, 1s to 10m. Default 10s.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('1s') && duration(self) <= duration('10m')",message="want 1s to 10m"
	Window *gatewayv1.Duration `json:"window,omitempty"`
	// Time is how long the first ejection lasts; it doubles each time, up to
	// MaxTime. Default 5s.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('100ms') && duration(self) <= duration('1h')",message="want 100ms to 1h"
	Time *gatewayv1.Duration `json:"time,omitempty"`
	// MaxTime is how long an ejection lasts at most. Default 1m.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('100ms') && duration(self) <= duration('24h')",message="want 100ms to 24h"
	MaxTime *gatewayv1.Duration `json:"maxTime,omitempty"`
	// MaxPercent is the share of endpoints that may be ejected at once. Default 50.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	MaxPercent *int32 `json:"maxPercent,omitempty"`
}

// HealthCheckType is how an endpoint is asked.
//
// +kubebuilder:validation:Enum=None;TCP;HTTP;GRPC
type HealthCheckType string

// The types of health checks.
const (
	HealthCheckNone HealthCheckType = "None"
	HealthCheckTCP  HealthCheckType = "TCP"
	HealthCheckHTTP HealthCheckType = "HTTP"
	HealthCheckGRPC HealthCheckType = "GRPC"
)

// HealthCheck asks each endpoint that a proxy uses, once for the whole proxy.
type HealthCheck struct {
	// Type is HTTP (GET), GRPC (grpc.health.v1.Health/Check), TCP (a connection is
	// enough) or None, which turns an inherited check off. Default: HTTP with a
	// path, GRPC with a service, else TCP.
	//
	// +optional
	Type *HealthCheckType `json:"type,omitempty"`
	// Path is asked for with HTTP. Default "/".
	//
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:Pattern=`^/[!-~]*$`
	Path *string `json:"path,omitempty"`
	// Host is HTTP's Host field. Default: the endpoint's address.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[!-~]*$`
	Host *string `json:"host,omitempty"`
	// Statuses are the good HTTP statuses. Default: 200 to 299.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:Minimum=200
	// +kubebuilder:validation:items:Maximum=599
	Statuses []int32 `json:"statuses,omitzero"`
	// Service is the name that GRPC asks for. Default "": the whole server.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9_.]*$`
	Service *string `json:"service,omitempty"`
	// Interval is the time between two checks, 100ms to 10m. Default 5s.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('100ms') && duration(self) <= duration('10m')",message="want 100ms to 10m"
	Interval *gatewayv1.Duration `json:"interval,omitempty"`
	// Timeout bounds a check, 10ms to 1m. Default 1s.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('10ms') && duration(self) <= duration('1m')",message="want 10ms to 1m"
	Timeout *gatewayv1.Duration `json:"timeout,omitempty"`
	// FailureThreshold failures in a row take an endpoint out. Default 3.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	FailureThreshold *int32 `json:"failureThreshold,omitempty"`
	// SuccessThreshold successes in a row bring it back. Default 2.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	SuccessThreshold *int32 `json:"successThreshold,omitempty"`
}

// Overload lets a workload's own proxy work out how many requests the workload
// does at once without their latency growing, and refuse the rest at once (503,
// Retry-After), those of the lowest priority first. overload: {} turns it on.
//
// +kubebuilder:validation:XValidation:rule="!has(self.minConcurrency) || !has(self.maxConcurrency) || self.minConcurrency <= self.maxConcurrency",message="must not be more than maxConcurrency",fieldPath=".minConcurrency",reason=FieldValueInvalid
type Overload struct {
	// Off turns an inherited one off. Default false.
	//
	// +optional
	Off *bool `json:"off,omitempty"`
	// MinConcurrency is the least that is let in. Default 4.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	MinConcurrency *int32 `json:"minConcurrency,omitempty"`
	// MaxConcurrency is the most that is let in. Default 1000.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	MaxConcurrency *int32 `json:"maxConcurrency,omitempty"`
	// LatencyTolerance is the latency, in percent of that without load, up to
	// which more is let in, 110 to 1000. Default 200: twice the latency.
	//
	// +optional
	// +kubebuilder:validation:Minimum=110
	// +kubebuilder:validation:Maximum=1000
	LatencyTolerance *int32 `json:"latencyTolerance,omitempty"`
	// Queue is how long a request may wait for its turn; 0s refuses at once.
	// Default 50ms.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule="duration(self) <= duration('1m')",message="want 0s to 1m"
	Queue *gatewayv1.Duration `json:"queue,omitempty"`
	// Priorities say which requests are more important: the first entry that a
	// request meets gives its level. What meets none has level 5.
	//
	// +optional
	// +kubebuilder:validation:MaxItems=16
	Priorities []Priority `json:"priorities,omitzero"`
}

// Priority gives the requests that it matches a level.
type Priority struct {
	// Match says which requests; left out, all.
	//
	// +optional
	Match Match `json:"match,omitzero"`
	// Level is 0 to 9; a higher one is kept longer.
	//
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=9
	Level int32 `json:"level"`
}
