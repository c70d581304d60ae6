package l7http

import (
	"strconv"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/dial"
	"tulle.dev/tulle/internal/proxy/limit"
	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/proxy/overload"
	"tulle.dev/tulle/internal/wire/extauthz"
	"tulle.dev/tulle/internal/wire/h1"
	"tulle.dev/tulle/internal/wire/ratelimit"
)

// This file is how requests are turned away that are too many: by a rate limit, or
// because the program can't do more.

// limiting is what bounds an exchange.
type limiting struct {
	// Limits are those of the workload that serves; nil is none. The Router sets
	// them. Those of the exchange's policy come beside them.
	Limits *limit.Set
	// Admission is the way to the program behind an inbound listener, when it must
	// not be overloaded; nil lets everything in. The Router sets it.
	Admission *Admission

	asking  int                 // how many of the services were asked
	quota   *ratelimit.Response // what the last one said
	unasked bool                // it said nothing
	adds    []extauthz.Change   // to the response

	place   *overload.Ticket // in the line, while it waits
	inside  bool             // it was let in, at entered, and hasn't left
	level   uint8
	entered time.Duration
}

var (
	tooMany = &Failure{429, "http_request_denied", "There are too many requests: a rate limit is reached.", false}
	// overloaded is told to the caller's proxy as what the program hasn't seen.
	overloaded = &Failure{503, "connection_limit_reached", "The service has as much to do as it can: try again later.", false}
)

// limitsKey is where a policy's limits are counted.
type limitsKey struct {
	policy  *policy.Request
	cluster *dial.Cluster
}

// maxLimitSets bounds the policies whose limits are kept ready on a loop. More
// than that are got ready again; their buckets stay.
const maxLimitSets = 1024

// limits gets the limits of a policy ready.
func (w *Worker) limits(x *Exchange) *limit.Set {
	k := limitsKey{x.Policy, x.Cluster}
	s := w.limitSets[k]
	if s == nil {
		if w.limitSets == nil || len(w.limitSets) >= maxLimitSets {
			w.limitSets = make(map[limitsKey]*limit.Set)
		}
		s = w.Book.Compile(x.Policy.Limits, w.Loop.Now(), w.Shard, x.Cluster.Direction(), x.Cluster.Key)
		w.limitSets[k] = s
	}
	return s
}

func (x *Exchange) subject() policy.Subject {
	return policy.Subject{Caller: x.Caller, Method: x.Request.MethodName, Path: x.Request.Path, Fields: x.worker.lookup.Of(&x.Request)}
}

// limitSet are the limits that the request must meet; nil is none.
func (x *Exchange) limitSet() *limit.Set {
	if x.Limits != nil || len(x.Policy.Limits) == 0 || x.worker.Book == nil {
		return x.Limits
	}
	return x.worker.limits(x)
}

// limited is the gate of rate limits.
func (x *Exchange) limited() *Failure {
	s := x.limitSet()
	if s == nil {
		return nil
	}
	subject := x.subject()
	r, ok := s.Allow(&subject, x.Peer().Addr(), x.worker.Loop.Now())
	if ok {
		return nil
	}
	x.detail = r.Limit.Name
	x.tellLimit(&r)
	return tooMany
}

var (
	nameRetryAfter  = []byte("Retry-After")
	nameLimit       = []byte("Ratelimit-Limit")
	nameRemaining   = []byte("Ratelimit-Remaining")
	nameReset       = []byte("Ratelimit-Reset")
	namePushback    = []byte("grpc-retry-pushback-ms")
	valueRetryAfter = []byte("1")
)

// tellLimit says in the answer when there is room again, and of which limit (RFC
// 6585, 4; draft-ietf-httpapi-ratelimit-headers-03; gRPC's retry design, A6).
func (x *Exchange) tellLimit(r *limit.Refusal) {
	x.Blame(r.Limit.Name)
	x.extra(nameRetryAfter, strconv.AppendInt(nil, seconds(r.Wait), 10))
	quota := strconv.AppendUint(nil, uint64(r.Limit.Requests), 10)
	n := len(quota)
	quota = append(append(append(quota, ", "...), quota[:n]...), ";w="...)
	x.extra(nameLimit, strconv.AppendInt(quota, seconds(r.Limit.Per), 10))
	x.extra(nameRemaining, strconv.AppendInt(nil, r.Left, 10))
	x.extra(nameReset, strconv.AppendInt(nil, seconds(r.Reset), 10))
	if x.grpc() {
		x.extra(namePushback, strconv.AppendInt(nil, int64((r.Wait+time.Millisecond-1)/time.Millisecond), 10))
	}
}

func (x *Exchange) extra(name, value []byte) {
	x.Extra = append(x.Extra, h1.Field{Name: name, Value: value})
}

// seconds rounds up: who comes back then isn't too early. It is at least 1.
func seconds(d time.Duration) int64 { return max(int64((d+time.Second-1)/time.Second), 1) }

// Admission is a loop's way to a program that must not be overloaded. Only the
// loop may use it.
type Admission struct {
	line   *overload.Line
	loop   *loop.Loop
	timer  loop.Timer
	served func() // serve
	soon   bool   // it will be called in this turn
}

// NewAdmission makes a loop's way through a gate that all loops share.
func (w *Worker) NewAdmission(g *overload.Gate) *Admission {
	a := &Admission{loop: w.Loop}
	a.timer.Init(w.Loop, a)
	a.served = a.serve
	a.line = g.NewLine(w.Loop.Now(), func() { w.Loop.Post(a.served) })
	return a
}

// Gate is where it leads through.
func (a *Admission) Gate() *overload.Gate { return a.line.Gate() }

// serve lets in whom there is room for.
func (a *Admission) serve() {
	a.soon = false
	now := a.loop.Now()
	a.line.Serve(now)
	if d := a.line.Next(now); d > 0 {
		a.timer.Set(d)
	} else {
		a.timer.Clear()
	}
}

// Expire turns away who has waited too long.
func (a *Admission) Expire(*loop.Timer) { a.serve() }

// enter is the gate before the program.
func (x *Exchange) enter() *Failure {
	a := x.Admission
	if a == nil {
		return nil
	}
	x.level = overload.DefaultLevel
	if a.Gate().Prioritised() {
		subject := x.subject()
		x.level = a.Gate().Level(&subject)
	}
	now := x.worker.Loop.Now()
	if a.line.Enter(x.level, now) {
		x.inside, x.entered = true, now
		return nil
	}
	x.place = a.line.Join(x.level, now, (*waiter)(x))
	if x.place == nil {
		return x.overload()
	}
	if !a.timer.On() {
		a.timer.Set(a.line.Next(now))
	}
	return Later
}

// overload is the answer to what the program can't do in time, and hasn't seen.
func (x *Exchange) overload() *Failure {
	x.unsent = true
	x.extra(nameRetryAfter, valueRetryAfter)
	return overloaded
}

// waiter is an exchange in the line.
type waiter Exchange

// Admitted goes on to the program.
func (w *waiter) Admitted() {
	x := (*Exchange)(w)
	x.place, x.inside, x.entered = nil, true, x.worker.Loop.Now()
	x.admit()
}

// TurnedAway answers in the program's place.
func (w *waiter) TurnedAway() {
	x := (*Exchange)(w)
	x.place = nil
	x.Fail(x.overload())
}

// quit ends the exchange's part in the program's load: it has answered, or the
// exchange is over. good says that it did what was asked.
func (x *Exchange) quit(good bool) {
	a := x.Admission
	switch {
	case a == nil:
	case x.place != nil:
		a.line.Leave(x.place)
		x.place = nil
	case x.inside:
		x.inside = false
		if a.line.Done(x.level, x.entered, x.worker.Loop.Now(), good) && !a.soon {
			a.soon = true
			a.loop.Later(a.served) // not in the middle of this exchange's work
		}
	}
}

// shed reports, on the caller's side, that the endpoint's own proxy has refused the
// request because the program has too much to do. That says nothing bad of the
// endpoint, and the program hasn't seen the request.
func (x *Exchange) shed() bool { return x.unsent && x.after > 0 }

// elsewhere says whether a request that was shed may be sent again: only, and at
// once, to an endpoint that hasn't shed it. When all have, more tries would only
// add to their load.
func (x *Exchange) elsewhere() policy.Condition {
	x.failed.Add(x.endpoint)
	if x.Cluster.Untried(&x.failed) {
		return policy.Unsent
	}
	return 0
}

// pauseAsked is how long the endpoint that answered wants to be left alone by this
// request. What it says when it sheds is for the client, and for balancing.
func (x *Exchange) pauseAsked() time.Duration {
	if x.shed() {
		return 0
	}
	return x.after
}
