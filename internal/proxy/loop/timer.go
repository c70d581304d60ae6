package loop

import (
	"math/bits"
	"time"

	"tulle.dev/tulle/internal/proxy/poll"
)

// Expirer is told when its timer has run out.
type Expirer interface {
	Expire(*Timer)
}

// Timer runs out at a time, late by up to an eighth of what it was set to and
// never early. It is part of what it watches: setting it allocates nothing.
// A timer that is set forward stays where it is in the wheel, and is looked at
// again when that place comes round: moving a deadline on, which happens with
// every request, costs one store.
type Timer struct {
	next, prev *Timer
	loop       *Loop
	owner      Expirer
	at         time.Duration // 0: off
	place      time.Duration // when the wheel looks at it
	level      int8
	slot       int8
}

// Init makes the timer ready; owner hears of its end.
func (t *Timer) Init(l *Loop, owner Expirer) { t.loop, t.owner = l, owner }

// On reports whether the timer is set.
func (t *Timer) On() bool { return t.at != 0 }

// Set makes the timer run out after d.
func (t *Timer) Set(d time.Duration) {
	t.at = t.loop.now + max(d, 1)
	if t.next != nil {
		if t.place-t.at < 1<<shift(levelOf(d)) {
			return // its place comes before, or hardly later
		}
		t.loop.wheel.remove(t)
	}
	t.loop.wheel.add(t, t.loop.now)
}

// Clear turns the timer off. It may stay in the wheel until its place comes
// round; Stop takes it out.
func (t *Timer) Clear() { t.at = 0 }

// Stop turns the timer off and takes it out of the wheel, for an owner that ends.
func (t *Timer) Stop() {
	t.at = 0
	if t.next != nil {
		t.loop.wheel.remove(t)
	}
}

// wheel holds timers in slots that are the wider the further away they are: 64
// slots of 8 ms, then of 64 ms, 0.5 s, 4 s and 34 s. A timer stays in the slot
// it was put in (nothing cascades), which makes it late by at most one slot:
// thousands of five-minute timers wake the loop once in 34 s.
type wheel struct {
	levels [wheelLevels]wheelLevel
}

const (
	wheelLevels = 5
	wheelSlots  = 64
	wheelShift  = 23 // 2^23 ns: the narrowest slot
)

type wheelLevel struct {
	done     time.Duration // the last slot looked at, counted from time 0
	occupied uint64        // bit i: slots[i] may hold timers
	slots    [wheelSlots]Timer
}

func (w *wheel) init(now time.Duration) {
	for i := range w.levels {
		l := &w.levels[i]
		l.done = now >> shift(i)
		for j := range l.slots {
			head := &l.slots[j]
			head.next, head.prev = head, head
		}
	}
}

func shift(level int) int { return wheelShift + 3*level }

// levelOf is the level for timers that run out after d.
func levelOf(d time.Duration) int {
	level := 0
	for level < wheelLevels-1 && d >= (wheelSlots-2)<<shift(level) {
		level++
	}
	return level
}

func (w *wheel) add(t *Timer, now time.Duration) {
	level := levelOf(t.at - now)
	l := &w.levels[level]
	width := time.Duration(1) << shift(level)
	n := min((t.at+width-1)>>shift(level), l.done+wheelSlots-1)
	n = max(n, l.done+1)
	t.place = n << shift(level)
	t.level, t.slot = int8(level), int8(n%wheelSlots)
	l.occupied |= 1 << t.slot
	link(&l.slots[t.slot], t)
}

func link(head, t *Timer) {
	t.prev, t.next = head.prev, head
	head.prev.next = t
	head.prev = t
}

func (w *wheel) remove(t *Timer) {
	t.prev.next, t.next.prev = t.next, t.prev
	t.next, t.prev = nil, nil
	l := &w.levels[t.level]
	if head := &l.slots[t.slot]; head.next == head {
		l.occupied &^= 1 << t.slot
	}
}

// next is when the wheel must be looked at.
func (w *wheel) next() time.Duration {
	first := poll.Forever
	for i := range w.levels {
		l := &w.levels[i]
		if l.occupied != 0 {
			ahead := bits.TrailingZeros64(bits.RotateLeft64(l.occupied, -int((l.done+1)%wheelSlots)))
			first = min(first, (l.done+1+time.Duration(ahead))<<shift(i))
		}
	}
	return first
}

// advance ends the timers whose time has come.
func (w *wheel) advance(now time.Duration) {
	for i := range w.levels {
		l := &w.levels[i]
		tick := now >> shift(i)
		if tick == l.done {
			continue
		}
		first := max(l.done+1, tick-wheelSlots+1)
		l.done = tick
		for n := first; n <= tick && l.occupied != 0; n++ {
			slot := int8(n % wheelSlots)
			if l.occupied&(1<<slot) != 0 {
				w.expire(l, slot, now)
			}
		}
	}
}

// expire looks at one slot's timers. They go to a list of their own first:
// their owners may set and stop any timer, these included.
func (w *wheel) expire(l *wheelLevel, slot int8, now time.Duration) {
	l.occupied &^= 1 << slot
	head := &l.slots[slot]
	if head.next == head {
		return
	}
	var list Timer
	list.next, list.prev = head.next, head.prev
	list.next.prev, list.prev.next = &list, &list
	head.next, head.prev = head, head
	for list.next != &list {
		t := list.next
		t.prev.next, t.next.prev = t.next, t.prev
		t.next, t.prev = nil, nil
		switch {
		case t.at == 0:
		case t.at > now:
			w.add(t, now)
		default:
			t.at = 0
			t.owner.Expire(t)
		}
	}
}
