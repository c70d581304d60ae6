package l7http

import (
	"strconv"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/balance"
	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/wire/h1"
)

// A caller says until when it waits for the answer in grpc-timeout or, in plain
// HTTP, in tulle-timeout (milliseconds). What is left of it travels on: to other
// proxies and to the program behind this one; to others only in grpc-timeout.
// What a stranger at an edge says in tulle-timeout is dropped.

// times are the moments of an exchange, as the loop counts; 0 is never. One
// timer serves them all.
type times struct {
	timer     loop.Timer
	began     time.Duration
	deadline  time.Duration // when the whole exchange must be over
	tryEnd    time.Duration // when this try must be
	hedgeAt   time.Duration // when another endpoint is asked too
	resume    time.Duration // when a pause is over
	next      func(*Exchange)
	after     time.Duration // what the endpoint asked for
	grpcTime  time.Duration // what the caller said, plus one
	tulleTime time.Duration
	call      bool          // it is a gRPC call
	stranger  bool          // the caller is nobody who is believed
	impatient bool          // the deadline is the caller's own
	tokenLook time.Duration // when to look whether the token has ended
	tokenOver bool          // it has
	endless   bool          // nobody says how long the response will be
}

var (
	nameTimeout     = []byte("tulle-timeout")
	nameGRPCTimeout = []byte("grpc-timeout")
)

// survey reads what the exchange needs to know from the request's fields, in one
// pass, and returns how often the request has passed a proxy.
func (x *Exchange) survey() (vias int) {
	for i := range x.Request.Fields {
		switch f := &x.Request.Fields[i]; f.ID {
		case h1.Via:
			vias++
		case h1.ContentType:
			x.call = x.call || isGRPC(f.Value)
		case h1.OtherName:
			switch len(f.Name) {
			case len("grpc-timeout"):
				if f.Name[0]|0x20 == 'g' && h1.EqualFold(f.Name, "grpc-timeout") && x.grpcTime == 0 {
					if d, ok := parseTimeout(f.Value); ok {
						x.grpcTime = d + 1
					}
				}
			case len(identityField):
				f.Drop = f.Drop || isIdentity(f.Name)
			case len("tulle-timeout"):
				if f.Name[0]|0x20 == 't' && h1.EqualFold(f.Name, "tulle-timeout") {
					f.Drop = true // it is written anew
					if ms, ok := digits(f.Value); ok && x.tulleTime == 0 {
						x.tulleTime = time.Duration(ms)*time.Millisecond + 1
					}
				}
			}
		}
	}
	return vias
}

// setDeadline works out when the exchange must be over: the policy's time, or
// the caller's own when that is less.
func (x *Exchange) setDeadline() {
	d := x.Timeout
	if d == 0 {
		d = x.Policy.Timeout
	}
	caller := x.tulleTime
	if x.stranger {
		caller = 0
	}
	if x.call && x.grpcTime > 0 && (caller == 0 || x.grpcTime < caller) {
		caller = x.grpcTime
	}
	if x.impatient = caller > 0 && (d == 0 || caller-1 < d); x.impatient {
		d = caller - 1
	}
	if d > 0 || x.impatient {
		x.deadline = x.began + d
		x.arm()
	}
	if x.Policy.StreamIdle > 0 {
		x.down.watchStall()
	}
}

// overdue is the gate that refuses what nobody waits for any more: the
// application isn't bothered with it.
func (x *Exchange) overdue() *Failure {
	if x.deadline != 0 && x.worker.Loop.Now() >= x.deadline {
		return tooLate
	}
	return nil
}

// stamp writes what is left of the time into the request, for the next hop.
func (x *Exchange) stamp() {
	if x.deadline == 0 {
		return
	}
	left := max(x.deadline-x.worker.Loop.Now(), 1)
	if x.call {
		x.setField(nameGRPCTimeout, "grpc-timeout", x.keep(appendTimeout(x.stamped[:0], left)))
		return
	}
	x.timeLeft = nil
	if x.Serving || x.endpoint.Identity != "" {
		ms := int64((left + time.Millisecond - 1) / time.Millisecond)
		x.timeLeft = x.keep(strconv.AppendInt(x.stamped[:0], min(ms, 999_999_999), 10))
	}
	if x.timeLeft != nil || x.Request.Lookup("tulle-timeout") != nil {
		x.setField(nameTimeout, "tulle-timeout", x.timeLeft)
	}
}

// setField sets a field of the request, or drops it when value is nil.
func (x *Exchange) setField(name []byte, lower string, value []byte) {
	for i := range x.Request.Fields {
		f := &x.Request.Fields[i]
		if len(f.Name) == len(name) && h1.EqualFold(f.Name, lower) {
			f.Value, f.Drop = value, value == nil
			return
		}
	}
	x.Request.Fields = append(x.Request.Fields, h1.Field{Name: name, Value: value})
}

// appendTimeout writes at most eight digits and a unit (gRPC over HTTP/2).
func appendTimeout(b []byte, d time.Duration) []byte {
	const most = 99_999_999
	unit, name := time.Microsecond, byte('u')
	switch {
	case d <= most*time.Microsecond:
	case d <= most*time.Millisecond:
		unit, name = time.Millisecond, 'm'
	default:
		unit, name = time.Second, 'S'
	}
	return append(strconv.AppendInt(b, max(int64(d/unit), 1), 10), name)
}

// setTry begins the times of a try.
func (x *Exchange) setTry() {
	if x.Policy.Try == 0 && !x.hedges() {
		return
	}
	now := x.worker.Loop.Now()
	if x.Policy.Try > 0 {
		x.tryEnd = now + x.Policy.Try
	}
	if x.hedges() {
		x.hedgeAt = now + x.Policy.Hedge.After
	}
	x.arm()
}

// begun ends the wait for a response.
func (x *Exchange) begun() {
	if x.hedgeAt != 0 {
		x.hedgeAt = 0
		x.arm()
	}
}

// pause goes on with a step after d, unless the exchange ends before.
func (x *Exchange) pause(d time.Duration, step func(*Exchange)) {
	x.tryEnd, x.hedgeAt = 0, 0
	x.resume, x.next = x.worker.Loop.Now()+max(d, 1), step
	x.arm()
}

// arm sets the timer to the first of the moments.
func (x *Exchange) arm() {
	at := first(first(first(x.deadline, x.tryEnd), first(x.hedgeAt, x.resume)), first(x.paceAt, x.tokenLook))
	if at == 0 {
		x.timer.Clear()
		return
	}
	x.timer.Set(at - x.worker.Loop.Now())
}

// first is the earlier of two moments.
func first(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// Expire is called when one of the moments has come.
func (x *Exchange) Expire(*loop.Timer) {
	now := x.worker.Loop.Now()
	come := func(at *time.Duration) bool {
		if *at == 0 || now < *at {
			return false
		}
		*at = 0
		return true
	}
	switch {
	case come(&x.deadline):
		x.stalled(true)
	case come(&x.tryEnd):
		x.tryOver()
	case come(&x.resume):
		x.arm()
		x.next(x)
	case come(&x.hedgeAt):
		x.arm()
		x.hedge()
	case come(&x.paceAt):
		x.paced()
	case come(&x.tokenLook):
		x.lookAtToken()
	default:
		x.arm()
	}
}

// tryOver is called when a try has taken too long.
func (x *Exchange) tryOver() {
	x.arm()
	if x.status != 0 {
		x.impatient = false
		x.stalled(true)
		return
	}
	v := balance.TimedOut
	if x.inLine() {
		x.failed.Add(x.endpoint)
		v = balance.Good
	}
	if up := x.up; up != nil {
		x.up = nil
		up.Cancel()
	}
	if v == balance.Good {
		x.noVerdict()
	}
	x.again(policy.TryTimeout, v, responseTimeout)
}

// streamIdle is the time in which something must move.
func (x *Exchange) streamIdle(otherwise time.Duration) time.Duration {
	if p := x.Policy; p != nil && p.StreamIdle > 0 {
		return p.StreamIdle
	}
	return otherwise
}
