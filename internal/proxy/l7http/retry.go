package l7http

import (
	"slices"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/balance"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/wire/h1"
)

// This file decides whether a request is sent once more: what the policy asks
// for, what is safe (RFC 9110, 9.2.2), what its body allows, what there is time
// and budget for. Once the head of a response has gone to the client, nothing is
// tried again; interim responses bar nothing.

// again ends a try that failed before a response began, with a verdict on its
// endpoint, and makes another or fails with f.
func (x *Exchange) again(why policy.Condition, v balance.Verdict, f *Failure) {
	x.noteTried(f.reason(), 0)
	x.leave(v)
	if x.race.lost(x, why, f) {
		return
	}
	if pause, ok := x.mayRetry(why, 0); ok {
		x.retry(pause)
		return
	}
	x.Fail(f)
}

// retry makes another try after a pause.
func (x *Exchange) retry(pause time.Duration) {
	x.interims, x.latency, x.after, x.unsent = 0, 0, 0, false
	if pause <= 0 {
		x.connect()
		return
	}
	x.pause(pause, (*Exchange).connect)
}

// mayRetry reports whether the request may be sent once more for any of some
// reasons, and after what pause; after is what the endpoint asked for, negative
// when it wants no other try at all. What is true has been counted, against the
// budget too, and the request's body has been brought back.
func (x *Exchange) mayRetry(why policy.Condition, after time.Duration) (pause time.Duration, ok bool) {
	r := &x.Policy.Retry
	if why &= r.On; why == 0 || x.status != 0 || x.race.copied(x) {
		return 0, false
	}
	if why&(policy.Unsent|policy.ConnectFailure) == 0 && !r.Any && !x.Request.Method.Idempotent() {
		return 0, false
	}
	now := x.worker.Loop.Now()
	pause, outcome := x.pauseFor(why, after), meter.Retried
	switch {
	case x.tries > int(r.Attempts):
		outcome = meter.RetryExhausted
	case pause < 0 || x.deadline != 0 && now+pause >= x.deadline:
		outcome = meter.RetryNoTime
	case !x.Cluster.Budget.Try(now, r.Budget):
		outcome = meter.RetryNoBudget
	case !x.down.Rewind():
		x.Cluster.Budget.Return(now)
		outcome = meter.RetryBody
	}
	x.Cluster.Retried(retryReason(why), outcome)
	return pause, outcome == meter.Retried
}

// pauseFor is the time until the next try; negative when there is to be none. An
// endpoint that may do at once what the last one couldn't even begin is asked at
// once.
func (x *Exchange) pauseFor(why policy.Condition, after time.Duration) time.Duration {
	r := &x.Policy.Retry
	if after != 0 && r.MaxRetryAfter > 0 {
		if after < 0 || after > r.MaxRetryAfter {
			return -1
		}
	} else {
		after = 0
	}
	if after == 0 && why&(policy.Unsent|policy.ConnectFailure) != 0 && (x.fresh || x.Cluster.Untried(&x.failed)) {
		return 0
	}
	most := r.Backoff
	for range x.tries - 1 {
		if most >= r.MaxBackoff {
			break
		}
		most *= 2
	}
	if r.MaxBackoff > 0 {
		most = min(most, r.MaxBackoff)
	}
	least := min(r.MinBackoff, most)
	return after + least + time.Duration(x.worker.Loop.Rand.Int64N(int64(most-least)+1))
}

func retryReason(why policy.Condition) meter.Retry {
	switch {
	case why&policy.ConnectFailure != 0:
		return meter.RetryConnect
	case why&policy.Unsent != 0:
		return meter.RetryUnsent
	case why&policy.TryTimeout != 0:
		return meter.RetryTimeout
	case why&policy.Reset != 0:
		return meter.RetryReset
	case why&policy.GRPCCodes != 0:
		return meter.RetryGRPC
	}
	return meter.RetryStatus
}

// unwanted says for which of the policy's reasons another response would be
// better than one that begins like this.
func (x *Exchange) unwanted(r *h1.Response) (why policy.Condition) {
	p := &x.Policy.Retry
	if x.shed() {
		return x.elsewhere() & p.On
	}
	if x.unsent {
		why = policy.Unsent
	}
	switch s := r.Status; {
	case s < 400:
		if x.call && s == 200 {
			if code, ok := grpcCode(r.Fields); ok { // it is all there is
				if code > 0 && code < 32 && p.Codes>>code&1 != 0 {
					why |= policy.GRPCCodes
				}
				if code == grpcExhausted {
					why |= policy.TooMany
				}
			}
		}
	case s >= 500:
		why |= policy.ServerError
		if s >= 502 && s <= 504 {
			why |= policy.GatewayError
		}
	case s == 409:
		why |= policy.Conflict
	case s == 429:
		why |= policy.TooMany
	case s == 425 && x.Request.Get(h1.EarlyData) != nil:
		return 0 // it is for whoever said so (RFC 8470, 5.2)
	}
	if r.Status >= 400 && slices.Contains(p.Statuses, uint16(r.Status)) {
		why |= policy.Statuses
	}
	return why & p.On
}

// asksAfter is how long a response wants to be left alone; negative is for ever,
// 0 is nothing said (RFC 9110, 10.2.3; gRPC's retry design, A6).
func (x *Exchange) asksAfter(fields []h1.Field) time.Duration {
	for i := range fields {
		f := &fields[i]
		switch {
		case len(f.Name) == len("retry-after") && h1.EqualFold(f.Name, "retry-after"):
			return x.retryAfter(f.Value)
		case x.call && len(f.Name) == len("grpc-retry-pushback-ms") && h1.EqualFold(f.Name, "grpc-retry-pushback-ms"):
			if ms, ok := digits(f.Value); ok {
				return max(time.Duration(ms)*time.Millisecond, 1)
			}
			return -1
		}
	}
	return 0
}

// retryAfter reads seconds or a date.
func (x *Exchange) retryAfter(v []byte) time.Duration {
	if s, ok := digits(v); ok {
		return time.Duration(s) * time.Second
	}
	at, err := time.Parse("Mon, 02 Jan 2006 15:04:05 GMT", string(v))
	if err != nil {
		return 0
	}
	return max(at.Sub(x.worker.Loop.Wall()), 0)
}

// digits reads a number of up to nine digits.
func digits(v []byte) (n int, ok bool) {
	if len(v) == 0 || len(v) > 9 {
		return 0, false
	}
	for _, c := range v {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}
