package explain

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"

	"tulle.dev/tulle/internal/policy"
)

// Field is one value of a policy under its name in the policy's object, such as
// "timeouts.request".
type Field struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	// Source is the object that says so, "trafficpolicy/NAMESPACE/NAME"; empty
	// for a default.
	Source string `json:"source,omitempty"`
}

// fields gathers values; what is zero and means "off" isn't worth a line.
type fields []Field

func (f *fields) add(name, value string) { *f = append(*f, Field{Name: name, Value: value}) }

// added is add, and where the value's source goes.
func (f *fields) added(name, value string) *string {
	f.add(name, value)
	return &(*f)[len(*f)-1].Source
}

func (f *fields) duration(name string, d time.Duration) {
	if d != 0 {
		f.add(name, Duration(d))
	}
}

func (f *fields) number(name string, n uint64, unit string) {
	if n != 0 {
		f.add(name, strconv.FormatUint(n, 10)+unit)
	}
}

// Duration writes a duration as Gateway API does, without zero units.
func Duration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Request lists what goes with a request; nil is the default.
func Request(r *policy.Request) []Field {
	if r == nil {
		r = policy.DefaultRequest
	}
	f := &fields{}
	f.duration("timeouts.request", r.Timeout)
	f.duration("timeouts.perTry", r.Try)
	f.duration("timeouts.streamIdle", r.StreamIdle)
	f.add("retry.attempts", strconv.Itoa(int(r.Retry.Attempts)))
	if r.Retry.Attempts > 0 {
		retry(f, &r.Retry)
	}
	if r.Hedge.After > 0 {
		f.duration("hedge.after", r.Hedge.After)
		f.number("hedge.maxCopies", uint64(r.Hedge.Max), "")
	}
	for i := range r.Faults {
		*f.added("faults["+strconv.Itoa(i)+"]", fault(&r.Faults[i])) = r.Faults[i].Name
	}
	limits(f, r.Limits)
	guard(f, r.Guard)
	return *f
}

// conditions are the words of policy.Condition, by bit.
var conditions = []string{"Unsent", "ConnectFailure", "Reset", "TryTimeout", "ServerError", "GatewayError", "Conflict", "TooManyRequests"}

func retry(f *fields, r *policy.Retry) {
	var on []string
	for i, word := range conditions {
		if r.On&(1<<i) != 0 {
			on = append(on, word)
		}
	}
	f.add("retry.on", join(on))
	if r.On&policy.Statuses != 0 && len(r.Statuses) > 0 {
		f.add("retry.statuses", statuses(r.Statuses))
	}
	if r.On&policy.GRPCCodes != 0 && r.Codes != 0 {
		var codes []string
		for left := r.Codes; left != 0; left &= left - 1 {
			codes = append(codes, code(bits.TrailingZeros32(left)))
		}
		f.add("retry.grpcCodes", join(codes))
	}
	if r.Any {
		f.add("retry.anyMethod", "true")
	}
	f.add("retry.backoff", Duration(r.Backoff))
	if r.MinBackoff > 0 {
		f.add("retry.minBackoff", Duration(r.MinBackoff))
	}
	f.add("retry.maxBackoff", Duration(r.MaxBackoff))
	f.add("retry.maxRetryAfter", Duration(r.MaxRetryAfter))
	f.add("retry.budget", fmt.Sprintf("%d%% of requests, at least %d/s", r.Budget.Percent, r.Budget.Min))
	f.add("retry.bufferBytes", strconv.FormatUint(uint64(r.Buffer), 10))
}

func statuses(list []uint16) string {
	var all []string
	for _, s := range list {
		all = append(all, strconv.Itoa(int(s)))
	}
	return join(all)
}

// codes are gRPC's names of its codes, from 0.
var codes = []string{"OK", "Cancelled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists", "PermissionDenied", "ResourceExhausted",
	"FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented", "Internal", "Unavailable", "DataLoss", "Unauthenticated"}

func code(n int) string {
	if n < len(codes) {
		return codes[n]
	}
	return strconv.Itoa(n)
}

func join(list []string) string {
	if len(list) == 0 {
		return "nothing"
	}
	return strings.Join(list, ", ")
}

// share writes millionths as a percentage.
func share(s policy.Share) string {
	return strconv.FormatFloat(float64(s)/float64(policy.All)*100, 'f', -1, 64) + "%"
}

func fault(v *policy.Fault) string {
	var does []string
	if v.Delay > 0 {
		does = append(does, "wait "+Duration(v.Delay))
	}
	switch {
	case v.Status != 0:
		does = append(does, fmt.Sprintf("answer %d", v.Status))
	case v.GRPC != 0:
		does = append(does, "answer gRPC "+code(int(v.GRPC)))
	case v.Reset:
		does = append(does, "reset the connection")
	}
	if v.BytesPerSecond > 0 {
		does = append(does, fmt.Sprintf("send the body at %d B/s", v.BytesPerSecond))
	}
	s := share(v.Share) + " of " + When(&v.When) + ": " + join(does)
	if !v.Until.IsZero() {
		s += ", until " + v.Until.UTC().Format(time.RFC3339)
	}
	return s
}

// When says which requests a match is about.
func When(m *policy.Match) string {
	s := "all requests"
	if len(m.Methods)+len(m.Paths)+len(m.Headers) > 0 {
		parts := []string{"requests"}
		if len(m.Methods) > 0 {
			parts = []string{strings.Join(m.Methods, "|")}
		}
		var paths []string
		for _, p := range m.Paths {
			if p.Prefix {
				p.Value = strings.TrimSuffix(p.Value, "/") + "/*"
			}
			paths = append(paths, p.Value)
		}
		if len(paths) > 0 {
			parts = append(parts, strings.Join(paths, "|"))
		}
		for _, h := range m.Headers {
			if h.Present {
				parts = append(parts, "with "+h.Name)
			} else {
				parts = append(parts, "with "+h.Name+"="+h.Value)
			}
		}
		s = strings.Join(parts, " ")
	}
	if len(m.From) > 0 {
		s += " from " + strings.Join(m.From, "|")
	}
	return s
}

func limits(f *fields, list []policy.RateLimit) {
	for i := range list {
		l := &list[i]
		if l.Service != nil {
			*f.added("limits["+strconv.Itoa(i)+"]", asked(l.Service)) = l.Name
			continue
		}
		s := fmt.Sprintf("%d per %s, burst %d, for %s", l.Requests, Duration(l.Per), l.Burst, When(&l.When))
		var by []string
		for _, d := range l.By {
			by = append(by, descriptor(d))
		}
		if len(by) > 0 {
			s += ", each " + strings.Join(by, " and ")
		}
		if l.Global {
			s += ", all proxies together"
		}
		if l.Shadow {
			s += ", counted only"
		}
		*f.added("limits["+strconv.Itoa(i)+"]", s) = l.Name
	}
}

// asked says whom a rate limit asks, and about what.
func asked(s *policy.LimitService) string {
	var about []string
	for i := range s.Descriptors {
		var entries []string
		for _, e := range s.Descriptors[i].Entries {
			value := strconv.Quote(e.Value)
			if e.Of.Kind != 0 {
				value = descriptor(e.Of)
			}
			entries = append(entries, e.Key+"="+value)
		}
		about = append(about, "("+strings.Join(entries, ", ")+") of "+When(&s.Descriptors[i].When))
	}
	out := fmt.Sprintf("%s is asked within %s, domain %s, about %s; ", orNobody(s.Destination), Duration(s.Timeout), s.Domain, strings.Join(about, " and "))
	if s.Closed {
		return out + "without an answer requests are refused"
	}
	return out + "without an answer requests pass"
}

func descriptor(d policy.Descriptor) string {
	switch d.Kind {
	case policy.ByHeader:
		return "header " + d.Name
	case policy.ByIdentity:
		return "caller"
	case policy.ByPath:
		return "path"
	case policy.ByMethod:
		return "method"
	}
	return "client address"
}

var (
	algorithms = []string{"PeakEWMA", "LeastRequest", "RoundRobin", "Random", "RingHash", "Maglev"}
	hashKinds  = []string{"", "Header", "Cookie", "Source", "Query"}
	sessions   = []string{"None", "Cookie", "Header"}
	localities = []string{"PreferZone", "AnyZone", "OnlyZone"}
	checks     = []string{"TCP", "HTTP", "GRPC"}
)

func word[N ~uint8](words []string, n N) string {
	if int(n) < len(words) {
		return words[n]
	}
	return strconv.Itoa(int(n))
}

// Session says how a client is kept at its endpoint.
func Session(s policy.Session) string {
	out := word(sessions, s.Kind)
	if s.Kind != policy.NoSession {
		out += " " + s.Name
		if s.Lifetime > 0 {
			out += " for " + Duration(s.Lifetime)
		}
	}
	return out
}

// Upstream lists what goes with endpoints; nil is the default.
func Upstream(u *policy.Upstream) []Field {
	if u == nil {
		u = policy.DefaultUpstream
	}
	var f fields
	f.add("balance.algorithm", word(algorithms, u.Balance.Algorithm))
	if len(u.Balance.On) > 0 && u.Balance.Algorithm >= policy.RingHash {
		var on []string
		for _, p := range u.Balance.On {
			on = append(on, strings.TrimSpace(word(hashKinds, p.Kind)+" "+p.Name))
		}
		f.add("balance.hashOn", join(on))
	}
	if u.Session.Kind != policy.NoSession {
		f.add("session", Session(u.Session))
	}
	f.add("locality", word(localities, u.Locality))
	f.duration("slowStart", u.SlowStart)
	f.add("panicThreshold", strconv.Itoa(int(u.Panic))+"%")
	if len(u.Subset) > 0 {
		f.add("subset", strings.Join(u.Subset, ", "))
	}
	f.number("limits.connections", uint64(u.Limits.Connections), "")
	f.number("limits.requests", uint64(u.Limits.Requests), "")
	f.number("limits.pending", uint64(u.Limits.Pending), "")
	f.duration("limits.pendingTimeout", u.Limits.PendingTime)
	f.duration("timeouts.connect", u.Connect)
	f.duration("timeouts.poolIdle", u.PoolIdle)
	if e := &u.Ejection; e.Off {
		f.add("ejection.off", "true")
	} else {
		f.number("ejection.consecutiveFailures", uint64(e.Consecutive), "")
		f.number("ejection.successRate", uint64(e.SuccessRate), "%")
		f.number("ejection.latencyFactor", uint64(e.Latency), "")
		f.number("ejection.minRequests", uint64(e.MinRequests), "")
		f.duration("ejection.window", e.Window)
		f.duration("ejection.time", e.Base)
		f.duration("ejection.maxTime", e.MaxBackoff)
		f.number("ejection.maxPercent", uint64(e.Max), "%")
	}
	if h := u.Health; h != nil {
		f.add("healthCheck.type", word(checks, h.Kind))
		if h.Kind == policy.HealthHTTP {
			f.add("healthCheck.path", h.Path)
		}
		if h.Host != "" {
			f.add("healthCheck.host", h.Host)
		}
		if h.Service != "" {
			f.add("healthCheck.service", h.Service)
		}
		if len(h.Statuses) > 0 {
			f.add("healthCheck.statuses", statuses(h.Statuses))
		}
		f.duration("healthCheck.interval", h.Interval)
		f.duration("healthCheck.timeout", h.Timeout)
		f.number("healthCheck.failureThreshold", uint64(h.Unhealthy), "")
		f.number("healthCheck.successThreshold", uint64(h.Healthy), "")
	}
	return f
}

// Inbound lists what a workload's own proxy keeps to; nil is nothing.
func Inbound(i *policy.Inbound) []Field {
	if i == nil {
		return nil
	}
	var f fields
	guard(&f, i.Guard)
	limits(&f, i.Limits)
	if o := i.Overload; o != nil {
		f.add("overload.minConcurrency", strconv.FormatUint(uint64(o.Min), 10))
		f.add("overload.maxConcurrency", strconv.FormatUint(uint64(o.Max), 10))
		f.add("overload.latencyTolerance", strconv.Itoa(int(o.Tolerance))+"%")
		f.duration("overload.queue", o.Queue)
		for n := range o.Priority {
			f.add("overload.priorities["+strconv.Itoa(n)+"]", fmt.Sprintf("%d for %s", o.Priority[n].Level, When(&o.Priority[n].When)))
		}
	}
	return f
}
