package graph

import (
	"fmt"
	"math"
	"slices"
	"time"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/policy"
)

// effective is what a chain of policies comes to. It is immutable and shared by
// all that have the same chain; a nil part has the defaults.
type effective struct {
	request  *policy.Request // with the faults, without rate limits
	upstream *policy.Upstream
	overload *policy.Overload
	session  policy.Session
	// sources are the fields of TrafficPolicies, in no special order; where says
	// which policy each is of.
	sources []mesh.FieldSource
	where   map[string]*anyPolicy
}

var nothingSaid effective

func newEffective(chain []*anyPolicy) *effective {
	m := newMerger()
	var faults []policy.Fault
	for i, p := range chain {
		if slices.Contains(chain[:i], p) {
			continue
		}
		if p.traffic != nil {
			m.add(p)
		}
		faults = append(faults, p.faults...)
	}
	e := &effective{sources: m.order, where: m.said, session: sessionOf(m.spec.Session)}
	if m.says(requestFields...) || faults != nil {
		e.request = requestOf(&m.spec)
		e.request.Faults = faults
	}
	if m.says(upstreamFields...) {
		e.upstream = upstreamOf(&m.spec)
	}
	if m.says("overload") {
		e.overload = overloadOf(m.spec.Overload)
	}
	return e
}

// duration reads what was validated; nil and what can't be read are 0.
func duration(d *gatewayv1.Duration) time.Duration {
	if d == nil {
		return 0
	}
	out, _ := object.Duration(*d)
	return out
}

func setDuration(into *time.Duration, d *gatewayv1.Duration) {
	if d != nil {
		*into = duration(d)
	}
}

// setNumber writes a number that was validated, kept within the type all the same.
func setNumber[T uint8 | uint16 | uint32](into *T, n *int32) {
	if n != nil {
		*into = clamp[T](*n)
	}
}

func clamp[T uint8 | uint16 | uint32](n int32) T {
	return T(min(max(int64(n), 0), int64(^T(0))))
}

func requestOf(s *v1alpha1.TrafficPolicySpec) *policy.Request {
	out := *policy.DefaultRequest
	if t := s.Timeouts; t != nil {
		setDuration(&out.Timeout, t.Request)
		setDuration(&out.Try, t.PerTry)
		setDuration(&out.StreamIdle, t.StreamIdle)
	}
	if r := s.Retry; r != nil {
		retryOf(&out.Retry, r)
	}
	if h := s.Hedge; h != nil && duration(h.After) > 0 {
		out.Hedge = policy.Hedge{After: duration(h.After), Max: 1}
		setNumber(&out.Hedge.Max, h.MaxCopies)
	}
	return &out
}

var conditions = map[v1alpha1.RetryCondition]policy.Condition{
	v1alpha1.RetryUnsent: policy.Unsent, v1alpha1.RetryConnectFailure: policy.ConnectFailure, v1alpha1.RetryReset: policy.Reset,
	v1alpha1.RetryTryTimeout: policy.TryTimeout, v1alpha1.RetryServerError: policy.ServerError, v1alpha1.RetryGatewayError: policy.GatewayError,
	v1alpha1.RetryConflict: policy.Conflict, v1alpha1.RetryTooManyRequests: policy.TooMany,
}

func retryOf(out *policy.Retry, r *v1alpha1.Retry) {
	setNumber(&out.Attempts, r.Attempts)
	if r.On != nil {
		out.On = policy.Unsent
		for _, c := range r.On {
			out.On |= conditions[c]
		}
	}
	for _, s := range r.Statuses {
		out.On |= policy.Statuses
		out.Statuses = append(out.Statuses, clamp[uint16](s))
	}
	for _, c := range r.GRPCCodes {
		if n := c.Number(); n > 0 {
			out.On |= policy.GRPCCodes
			out.Codes |= 1 << n
		}
	}
	out.Any = val(r.AnyMethod, out.Any)
	setDuration(&out.Backoff, r.Backoff)
	setDuration(&out.MaxBackoff, r.MaxBackoff)
	if r.Backoff != nil && r.MaxBackoff == nil {
		out.MaxBackoff = max(out.MaxBackoff, out.Backoff)
	}
	setDuration(&out.MaxRetryAfter, r.MaxRetryAfter)
	if r.Budget != nil {
		setNumber(&out.Budget.Percent, r.Budget.Percent)
		setNumber(&out.Budget.Min, r.Budget.MinPerSecond)
	}
	setNumber(&out.Buffer, r.BufferBytes)
}

// defaultSession names the cookie or header of a session that has no name.
const defaultSession = "tulle-session"

func sessionOf(s *v1alpha1.Session) policy.Session {
	if s == nil {
		return policy.Session{}
	}
	out := policy.Session{Name: val(s.Name, defaultSession), Lifetime: duration(s.Lifetime)}
	switch val(s.Type, v1alpha1.SessionNone) {
	case v1alpha1.SessionCookie:
		out.Kind = policy.SessionCookie
	case v1alpha1.SessionHeader:
		out.Kind = policy.SessionHeader
	default:
		return policy.Session{}
	}
	return out
}

var (
	algorithms = map[v1alpha1.Algorithm]policy.Algorithm{v1alpha1.PeakEWMA: policy.PeakEWMA, v1alpha1.LeastRequest: policy.LeastRequest,
		v1alpha1.RoundRobin: policy.RoundRobin, v1alpha1.Random: policy.Random, v1alpha1.RingHash: policy.RingHash, v1alpha1.Maglev: policy.Maglev}
	hashes = map[v1alpha1.HashType]policy.HashKind{v1alpha1.HashHeader: policy.HashHeader, v1alpha1.HashCookie: policy.HashCookie,
		v1alpha1.HashQuery: policy.HashQuery, v1alpha1.HashSource: policy.HashSource}
	localities = map[v1alpha1.Locality]policy.Locality{v1alpha1.PreferZone: policy.PreferZone, v1alpha1.AnyZone: policy.AnyZone, v1alpha1.OnlyZone: policy.OnlyZone}
)

func upstreamOf(s *v1alpha1.TrafficPolicySpec) *policy.Upstream {
	out := *policy.DefaultUpstream
	if b := s.Balance; b != nil {
		out.Balance.Algorithm = algorithms[val(b.Algorithm, v1alpha1.PeakEWMA)]
		for _, h := range b.HashOn {
			out.Balance.On = append(out.Balance.On, policy.HashPart{Kind: hashes[h.Type], Name: h.Name})
		}
		if hashed := out.Balance.Algorithm == policy.RingHash || out.Balance.Algorithm == policy.Maglev; hashed && len(out.Balance.On) == 0 {
			out.Balance.On = []policy.HashPart{{Kind: policy.HashSource}}
		}
	}
	out.Session = sessionOf(s.Session)
	out.Locality = localities[val(s.Locality, v1alpha1.PreferZone)]
	setDuration(&out.SlowStart, s.SlowStart)
	setNumber(&out.Panic, s.PanicThreshold)
	for k, v := range s.Subset {
		out.Subset = append(out.Subset, k+"="+v)
	}
	slices.Sort(out.Subset)
	if l := s.Limits; l != nil {
		setNumber(&out.Limits.Connections, l.Connections)
		setNumber(&out.Limits.Requests, l.Requests)
		setNumber(&out.Limits.Pending, l.Pending)
		setDuration(&out.Limits.PendingTime, l.PendingTimeout)
	}
	if t := s.Timeouts; t != nil {
		setDuration(&out.Connect, t.Connect)
		setDuration(&out.PoolIdle, t.PoolIdle)
	}
	if e := s.Ejection; e != nil {
		to := &out.Ejection
		to.Off = val(e.Off, false)
		setNumber(&to.Consecutive, e.ConsecutiveFailures)
		setNumber(&to.SuccessRate, e.SuccessRate)
		setNumber(&to.MinRequests, e.MinRequests)
		setDuration(&to.Window, e.Window)
		setNumber(&to.Latency, e.LatencyFactor)
		setDuration(&to.Base, e.Time)
		setDuration(&to.MaxBackoff, e.MaxTime)
		if e.Time != nil && e.MaxTime == nil {
			to.MaxBackoff = max(to.MaxBackoff, to.Base)
		}
		setNumber(&to.Max, e.MaxPercent)
	}
	out.Health = healthOf(s.HealthCheck)
	return &out
}

func healthOf(h *v1alpha1.HealthCheck) *policy.HealthCheck {
	if h == nil {
		return nil
	}
	kind := v1alpha1.HealthCheckTCP
	switch {
	case h.Path != nil:
		kind = v1alpha1.HealthCheckHTTP
	case h.Service != nil:
		kind = v1alpha1.HealthCheckGRPC
	}
	out := &policy.HealthCheck{Path: val(h.Path, "/"), Host: val(h.Host, ""), Service: val(h.Service, ""),
		Interval: 5 * time.Second, Timeout: time.Second, Unhealthy: 3, Healthy: 2}
	switch val(h.Type, kind) {
	case v1alpha1.HealthCheckTCP:
		out.Kind = policy.HealthTCP
	case v1alpha1.HealthCheckHTTP:
		out.Kind = policy.HealthHTTP
	case v1alpha1.HealthCheckGRPC:
		out.Kind = policy.HealthGRPC
	default:
		return nil
	}
	for _, s := range h.Statuses {
		out.Statuses = append(out.Statuses, clamp[uint16](s))
	}
	setDuration(&out.Interval, h.Interval)
	setDuration(&out.Timeout, h.Timeout)
	setNumber(&out.Unhealthy, h.FailureThreshold)
	setNumber(&out.Healthy, h.SuccessThreshold)
	return out
}

func overloadOf(o *v1alpha1.Overload) *policy.Overload {
	if o == nil || val(o.Off, false) {
		return nil
	}
	out := &policy.Overload{Min: 4, Max: 1000, Tolerance: 200, Queue: 50 * time.Millisecond}
	setNumber(&out.Min, o.MinConcurrency)
	setNumber(&out.Max, o.MaxConcurrency)
	out.Min = min(out.Min, out.Max)
	setNumber(&out.Tolerance, o.LatencyTolerance)
	setDuration(&out.Queue, o.Queue)
	for i := range o.Priorities {
		out.Priority = append(out.Priority, policy.Priority{When: matchOf(&o.Priorities[i].Match), Level: clamp[uint8](o.Priorities[i].Level)})
	}
	return out
}

func matchOf(m *v1alpha1.Match) policy.Match {
	out := policy.Match{From: m.From}
	for _, method := range m.Methods {
		out.Methods = append(out.Methods, string(method))
	}
	for i := range m.Paths {
		p := &m.Paths[i]
		out.Paths = append(out.Paths, policy.Path{Prefix: val(p.Type, gatewayv1.PathMatchPathPrefix) == gatewayv1.PathMatchPathPrefix, Value: p.Value})
	}
	for i := range m.Headers {
		h := &m.Headers[i]
		out.Headers = append(out.Headers, policy.Header{Name: string(h.Name), Value: val(h.Value, ""), Present: h.Value == nil})
	}
	return out
}

var descriptors = map[v1alpha1.DescriptorType]policy.DescriptorKind{v1alpha1.ByHeader: policy.ByHeader, v1alpha1.ByIdentity: policy.ByIdentity,
	v1alpha1.ByPath: policy.ByPath, v1alpha1.ByMethod: policy.ByMethod, v1alpha1.BySource: policy.BySource}

func rateLimits(ref Ref, s *v1alpha1.RateLimitPolicySpec) []policy.RateLimit {
	var out []policy.RateLimit
	for i := range s.Limits {
		l := &s.Limits[i]
		to := policy.RateLimit{Name: partName(ref, i), When: matchOf(&l.Match), Requests: clamp[uint32](l.Requests), Per: time.Second,
			Global: val(l.Scope, v1alpha1.ScopeLocal) == v1alpha1.ScopeGlobal, Shadow: l.Shadow}
		setDuration(&to.Per, l.Per)
		to.Burst = to.Requests
		setNumber(&to.Burst, l.Burst)
		for _, d := range l.By {
			to.By = append(to.By, policy.Descriptor{Kind: descriptors[d.Type], Name: string(d.Name)})
		}
		out = append(out, to)
	}
	if s.Service != nil {
		out = append(out, policy.RateLimit{Name: objectName(ref), Service: limitService(s.Service)})
	}
	return out
}

// limitTimeout is how long a rate limit's service may think, when nothing is said.
const limitTimeout = 100 * time.Millisecond

// limitService is whom a policy asks, without where that is.
func limitService(s *v1alpha1.RateLimitService) *policy.LimitService {
	out := &policy.LimitService{Domain: s.Domain, Timeout: limitTimeout, Closed: val(s.FailureMode, v1alpha1.FailOpen) == v1alpha1.FailClosed}
	setDuration(&out.Timeout, s.Timeout)
	for i := range s.Descriptors {
		d := &s.Descriptors[i]
		to := policy.LimitDescriptor{When: matchOf(&d.Match)}
		setNumber(&to.Hits, d.Hits)
		for _, e := range d.Entries {
			entry := policy.LimitEntry{Key: e.Key, Value: val(e.Value, "")}
			if e.Of != nil {
				entry.Of = policy.Descriptor{Kind: descriptors[e.Of.Type], Name: string(e.Of.Name)}
			}
			to.Entries = append(to.Entries, entry)
		}
		out.Descriptors = append(out.Descriptors, to)
	}
	return out
}

func faults(ref Ref, s *v1alpha1.FaultPolicySpec, until time.Time) []policy.Fault {
	var out []policy.Fault
	for i := range s.Faults {
		f := &s.Faults[i]
		to := policy.Fault{Name: partName(ref, i), Share: share(f.Percent, f.Fraction), When: matchOf(&f.Match), Delay: duration(f.Delay), Until: until}
		setNumber(&to.BytesPerSecond, f.BytesPerSecond)
		if a := f.Abort; a != nil {
			switch {
			case a.Status != nil:
				to.Status = clamp[uint16](*a.Status)
			case a.GRPCCode != nil:
				to.GRPC = int8(min(a.GRPCCode.Number(), math.MaxInt8))
			default:
				to.Reset = a.Reset
			}
		}
		out = append(out, to)
	}
	return out
}

// partName names a part of a policy, "faultpolicy/NAMESPACE/NAME#INDEX".
func partName(ref Ref, i int) string { return fmt.Sprintf("%s#%d", objectName(ref), i) }

// limitsOf are the rate limits of a chain; they add up.
func (b *Builder) limitsOf(chain []*anyPolicy) []policy.RateLimit {
	var out []policy.RateLimit
	for i, p := range chain {
		if slices.Contains(chain[:i], p) {
			continue
		}
		for _, l := range p.limits {
			if l.Service != nil {
				s := *l.Service
				s.Destination, _ = b.asked(p, p.counter)
				l.Service = &s
			}
			out = append(out, l)
		}
	}
	return out
}
