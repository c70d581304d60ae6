package l7http

import (
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/wire/h1"

	wire "tulle.dev/tulle/internal/wire/h2"
)

// Faults are what a policy spoils on purpose, ready for use. They don't change;
// any loop may use them.
type Faults struct {
	direction meter.Direction
	list      []fault
}

type fault struct {
	*policy.Fault
	when    *policy.Matcher
	failure Failure
}

// NewFaults gets a policy's faults ready; nil when it has none. They are counted
// for that direction.
func NewFaults(p *policy.Request, d meter.Direction) *Faults {
	if p == nil || len(p.Faults) == 0 {
		return nil
	}
	fs := &Faults{direction: d}
	for i := range p.Faults {
		f := fault{Fault: &p.Faults[i], when: policy.NewMatcher(p.Faults[i].When)}
		f.failure = Failure{Error: "proxy_internal_response", Text: "A fault policy says that this request fails."}
		switch {
		case f.GRPC > 0:
			f.failure.Status = httpOfGRPC(int(f.GRPC))
		case f.Status >= 200 && f.Status < 600:
			f.failure.Status = int(f.Status)
		}
		if f.Status == 204 || f.Status == 205 || f.Status == 304 {
			f.failure.Text = "" // they have no content
		}
		fs.list = append(fs.list, f)
	}
	return fs
}

// The kinds of faults, as they are counted.
const (
	faultDelay = "delay"
	faultAbort = "abort"
	faultReset = "reset"
	faultSlow  = "slow"
)

// spoiling is what faults do to an exchange.
type spoiling struct {
	// Faults are the policy's; nil is none. The Router sets them.
	Faults *Faults
	// Caller is "SERVICE-ACCOUNT.NAMESPACE" of who calls, where that is proved;
	// the Router sets it.
	Caller string

	ending *fault // what the exchange ends with after its delay
	code   int    // the gRPC code of an answer in the endpoint's place; 0: by its status
	detail string // what a Proxy-Status says beside the error
}

// spoil is the gate of faults: each has its own chance. Delays add up; the first
// fault that answers in the endpoint's place does so after them.
func (x *Exchange) spoil() *Failure {
	fs := x.Faults
	if fs == nil {
		return nil
	}
	w := x.worker
	subject := policy.Subject{Caller: x.Caller, Method: x.Request.MethodName, Path: x.Request.Path, Fields: w.lookup.Of(&x.Request)}
	var delay time.Duration
	var rate uint32
	for i := range fs.list {
		f := &fs.list[i]
		if !f.when.Met(&subject) || !draw(w, f.Share) || f.over(w) {
			continue
		}
		if f.Delay > 0 {
			delay += f.Delay
			x.spoiled(f, faultDelay)
		}
		if f.BytesPerSecond > 0 && (rate == 0 || f.BytesPerSecond < rate) {
			rate = f.BytesPerSecond
			x.spoiled(f, faultSlow)
		}
		if f.Reset || f.failure.Status > 0 {
			x.ending = f
			break
		}
	}
	if rate > 0 && x.ending == nil {
		x.slow(rate)
	}
	switch {
	case delay > 0:
		x.pause(delay, (*Exchange).delayed)
		return Later
	case x.ending != nil:
		return x.finishSpoiled()
	}
	return nil
}

// over reports whether the fault has removed itself.
func (f *fault) over(w *Worker) bool { return !f.Until.IsZero() && !w.Loop.Wall().Before(f.Until) }

func (x *Exchange) spoiled(f *fault, kind string) {
	x.worker.Shard.Fault(x.Faults.direction, x.Cluster.Key, kind)
	x.Blame(f.Name)
	if kind == faultAbort {
		x.detail = f.Name
	}
}

// codeOf is the gRPC code of an answer in the endpoint's place.
func (x *Exchange) codeOf(f *Failure) int {
	if x.code != 0 && f == &x.ending.failure {
		return x.code
	}
	return grpcOf(f)
}

// delayed goes on after a delay.
func (x *Exchange) delayed() {
	if x.ending == nil {
		x.admit()
		return
	}
	if f := x.finishSpoiled(); f != Later {
		x.Fail(f)
	}
}

// finishSpoiled ends the exchange, or says how it is answered. Later says that
// nothing is left to do.
func (x *Exchange) finishSpoiled() *Failure {
	f := x.ending
	if !f.Reset {
		x.spoiled(f, faultAbort)
		x.code = int(f.GRPC)
		return &f.failure
	}
	x.spoiled(f, faultReset)
	x.abandon()
	if x.Series == nil && x.Cluster != nil {
		x.Series = x.Cluster.Series(nil)
	}
	x.count(502) // none was sent
	switch d := x.client().(type) {
	case *serverConn:
		d.leave()
		d.conn.Abort()
	case *h2Stream:
		d.reset(wire.InternalError)
	default:
		d.Cut()
	}
	return Later
}

// httpOfGRPC is the status that resembles a gRPC code, for clients that don't
// speak it and for the metrics.
func httpOfGRPC(code int) int {
	switch code {
	case 3, 9, 11: // INVALID_ARGUMENT, FAILED_PRECONDITION, OUT_OF_RANGE
		return 400
	case grpcUnauthenticated:
		return 401
	case grpcPermissionDenied:
		return 403
	case 5: // NOT_FOUND
		return 404
	case 6, 10: // ALREADY_EXISTS, ABORTED
		return 409
	case grpcExhausted:
		return 429
	case 1: // CANCELLED
		return 499
	case grpcUnimplemented:
		return 501
	case grpcUnavailable:
		return 503
	case grpcDeadlineExceeded:
		return 504
	}
	return 500
}

// slowTick is how often some of a slow response goes on.
const slowTick = 50 * time.Millisecond

// slow is a Downstream whose response's body goes no faster than a fault lets it.
// It holds at most what the upstream gives out at once.
type slow struct {
	Downstream
	x        *Exchange
	rate     uint32 // bytes a second
	timer    loop.Timer
	body     []byte
	gone     int
	since    time.Duration // up to when the bytes that went are paid for
	ending   bool
	trailers []h1.Field
}

// slow lets the response go no faster than rate.
func (x *Exchange) slow(rate uint32) {
	s := &slow{Downstream: x.down, x: x, rate: rate}
	s.timer.Init(x.worker.Loop, s)
	x.down = s
}

// client is the side that asked, whatever is between.
func (x *Exchange) client() Downstream {
	if s, ok := x.down.(*slow); ok {
		return s.Downstream
	}
	return x.down
}

// Room is there when all that came before has gone.
func (s *slow) Room() bool { return len(s.body) == s.gone && s.Downstream.Room() }

// Body takes some of the answer's body.
func (s *slow) Body(p []byte) {
	if len(s.body) == s.gone {
		s.body, s.gone = s.body[:0], 0
	}
	s.body = append(s.body, p...)
	if !s.timer.On() {
		s.since = s.x.worker.Loop.Now()
		s.timer.Set(slowTick)
	}
}

// End ends the answer once all of it has gone.
func (s *slow) End(trailers []h1.Field) {
	if len(s.body) == s.gone {
		s.Downstream.End(trailers)
		return
	}
	s.ending = true
	for _, f := range trailers {
		f.Name, f.Value = append([]byte(nil), f.Name...), append([]byte(nil), f.Value...)
		s.trailers = append(s.trailers, f)
	}
}

// Expire lets some more go.
func (s *slow) Expire(*loop.Timer) {
	now := s.x.worker.Loop.Now()
	paid := int64(now-s.since) * int64(s.rate) / int64(time.Second)
	if n := min(int(paid), len(s.body)-s.gone); n > 0 && s.Downstream.Room() {
		s.since = now
		s.gone += n
		s.Downstream.Body(s.body[s.gone-n : s.gone])
	}
	switch {
	case s.gone < len(s.body):
		s.timer.Set(max(slowTick, time.Second/time.Duration(s.rate)))
	case s.ending:
		s.Downstream.End(s.trailers)
	default:
		if up := s.x.up; up != nil {
			up.Pull()
		}
	}
}

// stop ends it with its exchange.
func (s *slow) stop() { s.timer.Stop() }
