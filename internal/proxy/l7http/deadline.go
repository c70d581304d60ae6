package l7http

import (
	"time"

	"tulle.dev/tulle/internal/proxy/loop"
)

// times are the moments of an exchange, as the loop counts; 0 is never. One
// timer serves them all.
type times struct {
	timer    loop.Timer
	began    time.Duration
	deadline time.Duration // when the whole exchange must be over
	resume   time.Duration // when a pause is over
	next     func(*Exchange)
}

// setDeadline works out when the exchange must be over: the policy's time, or
// the caller's own when that is less.
func (x *Exchange) setDeadline() {
	d := x.Timeout
	if d == 0 {
		d = x.Policy.Timeout
	}
	if d = x.grpcTimeout(d); d > 0 {
		x.deadline = x.worker.Loop.Now() + d
		x.arm()
	}
}

// overdue is the gate that refuses what nobody waits for any more.
func (x *Exchange) overdue() *Failure {
	if x.deadline != 0 && x.worker.Loop.Now() >= x.deadline {
		return responseTimeout
	}
	return nil
}

// pause goes on with a step after d, unless the exchange ends before.
func (x *Exchange) pause(d time.Duration, step func(*Exchange)) {
	x.resume, x.next = x.worker.Loop.Now()+max(d, 1), step
	x.arm()
}

// arm sets the timer to the first of the moments.
func (x *Exchange) arm() {
	at := x.deadline
	if x.resume != 0 && (at == 0 || x.resume < at) {
		at = x.resume
	}
	if at == 0 {
		x.timer.Clear()
		return
	}
	x.timer.Set(at - x.worker.Loop.Now())
}

// Expire is called when one of the moments has come.
func (x *Exchange) Expire(*loop.Timer) {
	now := x.worker.Loop.Now()
	switch {
	case x.deadline != 0 && now >= x.deadline:
		x.stalled(true)
	case x.resume != 0 && now >= x.resume:
		x.resume = 0
		x.arm()
		x.next(x)
	default:
		x.arm()
	}
}
