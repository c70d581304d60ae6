package overload

import (
	"math"
	"sync/atomic"
	"time"
)

const (
	// maxWaiting bounds the requests that wait on one loop.
	maxWaiting = 1024
	// impatience is the part, one in so many, to which the patience of those in a
	// line is cut when there has been one for as long as they may wait: a line that
	// always stands makes everybody late and helps nobody (as with CoDel). It has
	// gone when so many requests in a row had no need to wait as calm and calmLimits
	// times the limit: after a pause that many get in before it shows that they are
	// too many.
	impatience = 8
	calm       = 16
	calmLimits = 4
)

// Waiter is a request that waits. Both are called on the line's loop, and only one
// of them, once.
type Waiter interface {
	// Admitted says that the request may begin: Done must follow.
	Admitted()
	// TurnedAway says that it waited too long.
	TurnedAway()
}

// Line is where requests to a gate wait on one loop, the more important ones
// first, then the older ones. Only its loop may use it.
type Line struct {
	gate    *Gate
	wake    func() // has the loop call Serve, from another one
	waiting atomic.Int32
	levels  [Levels]Ticket // heads of rings
	direct  int            // requests that entered at once, one after the other
	began   time.Duration  // when somebody first had to wait, after it was calm
	free    *Ticket
	serving bool
}

// Ticket is a place in a line.
type Ticket struct {
	next, prev *Ticket
	owner      Waiter
	level      uint8
	since      time.Duration
}

// NewLine makes a line. wake may be called from any goroutine: it has the line's
// loop call Serve soon.
func (g *Gate) NewLine(now time.Duration, wake func()) *Line {
	l := &Line{gate: g, wake: wake, direct: math.MaxInt32, began: now}
	for i := range l.levels {
		head := &l.levels[i]
		head.next, head.prev = head, head
	}
	for {
		old := g.lines.Load()
		var all []*Line
		if old != nil {
			all = append(all, *old...)
		}
		all = append(all, l)
		if g.lines.CompareAndSwap(old, &all) {
			return l
		}
	}
}

// Gate is what the line leads to.
func (l *Line) Gate() *Gate { return l.gate }

// Enter reports whether a request may begin at once; if so, Done must follow. It
// doesn't overtake those that wait and are as important.
func (l *Line) Enter(level uint8, now time.Duration) bool {
	l.gate.Arrive(level)
	if l.waiting.Load() > 0 {
		for i := int(level); i < Levels; i++ {
			if l.levels[i].next != &l.levels[i] {
				return false
			}
		}
	}
	if !l.gate.Enter(level, now) {
		return false
	}
	l.direct++
	return true
}

// Join makes a request wait that couldn't enter. It returns nil when it may not
// wait, or the line is too long: it is counted as refused then.
func (l *Line) Join(level uint8, now time.Duration, w Waiter) *Ticket {
	if l.gate.Queue() <= 0 || l.waiting.Load() >= maxWaiting {
		l.gate.Refuse(level)
		return nil
	}
	t := l.free
	if t == nil {
		t = &Ticket{}
	} else {
		l.free = t.next
	}
	if l.direct >= max(calm, calmLimits*int(l.gate.limit.Load())) {
		l.began = now
	}
	l.direct = 0
	head := &l.levels[level]
	*t = Ticket{next: head, prev: head.prev, owner: w, level: level, since: now}
	t.prev.next, head.prev = t, t
	l.waiting.Add(1)
	if l.gate.inflight.Load() < l.gate.limit.Load() {
		// Somebody on another loop has left since it tried to enter, and saw nobody
		// waiting. Where it is the level that has no room this is in vain.
		l.wake()
	}
	return t
}

// Leave takes a request out of the line that isn't wanted any more.
func (l *Line) Leave(t *Ticket) {
	t.prev.next, t.next.prev = t.next, t.prev
	*t = Ticket{next: l.free}
	l.free = t
	l.waiting.Add(-1)
}

// Done ends a request that was let in. It reports whether others wait here: then
// the caller calls Serve soon. If only others' loops have some, one is woken.
func (l *Line) Done(level uint8, began, now time.Duration, good bool) bool {
	l.gate.Leave(level, began, now, good)
	if l.waiting.Load() > 0 {
		return true
	}
	for _, o := range *l.gate.lines.Load() {
		if o != l && o.waiting.Load() > 0 {
			o.wake()
			break
		}
	}
	return false
}

// patience is how long a request may wait now.
func (l *Line) patience(now time.Duration) time.Duration {
	queue := l.gate.Queue()
	if now-l.began > queue {
		queue /= impatience
	}
	return queue
}

// Serve lets in whom there is room for, and turns away who has waited too long.
func (l *Line) Serve(now time.Duration) {
	if l.serving {
		return // the one below goes on
	}
	l.serving = true
	for i := Levels - 1; i >= 0 && l.waiting.Load() > 0; i-- {
		head := &l.levels[i]
		full := false
		for t := head.next; t != head; t = head.next {
			w := t.owner
			if now-t.since >= l.patience(now) {
				l.Leave(t)
				l.gate.Refuse(uint8(i))
				w.TurnedAway()
				continue
			}
			if full = !l.gate.Enter(uint8(i), now); full {
				break
			}
			l.Leave(t)
			w.Admitted()
		}
	}
	l.serving = false
}

// Next is how long until somebody has waited too long; 0 when nobody waits.
func (l *Line) Next(now time.Duration) time.Duration {
	if l.waiting.Load() == 0 {
		return 0
	}
	first := time.Duration(0)
	for i := range l.levels {
		if t := l.levels[i].next; t != &l.levels[i] {
			if left := t.since + l.patience(now) - now; first == 0 || left < first {
				first = max(left, 1)
			}
		}
	}
	return first
}
