package loop

import (
	"math/rand/v2"
	"testing"
	"time"
)

// alarm notes when its timer ran out.
type alarm struct {
	timer Timer
	loop  *Loop
	rang  time.Duration
	again time.Duration
}

func (a *alarm) Expire(t *Timer) {
	a.rang = a.loop.Now()
	if a.again > 0 {
		t.Set(a.again)
		a.again = 0
	}
}

func newAlarm(l *Loop) *alarm {
	a := &alarm{loop: l}
	a.timer.Init(l, a)
	return a
}

// slack is how late a timer set to d may run out.
func slack(d time.Duration) time.Duration { return max(d/7, 1<<wheelShift) }

// TestTimers sets, moves and stops timers at random. None runs out early, late
// by more than its slack, twice, or when it was stopped.
func TestTimers(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	l := New(&clock{now: time.Hour}, 0, 1)
	type want struct {
		alarm *alarm
		set   time.Duration
		at    time.Duration // 0: not at all
	}
	var all []*want
	for range 5000 {
		d := time.Duration(rng.Int64N(int64(10 * time.Minute)))
		if rng.IntN(2) == 0 {
			d = time.Duration(rng.Int64N(int64(time.Second)))
		}
		switch rng.IntN(4) {
		case 0, 1:
			w := &want{alarm: newAlarm(l), set: d, at: l.Now() + d}
			w.alarm.timer.Set(d)
			all = append(all, w)
		default:
			if len(all) == 0 {
				continue
			}
			w := all[rng.IntN(len(all))]
			if !w.alarm.timer.On() {
				continue
			}
			switch rng.IntN(3) {
			case 0:
				w.alarm.timer.Stop()
				w.at = 0
			case 1:
				w.alarm.timer.Clear()
				w.at = 0
			default:
				w.alarm.timer.Set(d)
				w.set, w.at = d, l.Now()+d
			}
		}
		l.Turn(l.Now() + time.Duration(rng.Int64N(int64(100*time.Millisecond))))
	}
	for range 100_000 {
		if l.wheel.next() == 1<<63-1 {
			break
		}
		l.Turn(1<<63 - 1)
	}
	for i, w := range all {
		got := w.alarm.rang
		switch {
		case w.at == 0 && got != 0, w.at != 0 && got == 0:
			t.Errorf("timer %d: rang at %s, want %s", i, got, w.at)
		case got < w.at:
			t.Errorf("timer %d: rang at %s, %s early", i, got, w.at-got)
		case w.at != 0 && got-w.at > slack(w.set):
			t.Errorf("timer %d, set to %s: rang %s late", i, w.set, got-w.at)
		}
	}
}

// TestTimerAgain: a timer that is set while it runs out runs out again.
func TestTimerAgain(t *testing.T) {
	l := New(&clock{}, 0, 1)
	a := newAlarm(l)
	a.again = time.Second
	a.timer.Set(time.Second)
	l.Turn(1<<63 - 1)
	first := a.rang
	l.Turn(1<<63 - 1)
	if d := a.rang - first; d < time.Second || d > time.Second+slack(time.Second) {
		t.Errorf("rang again after %s", d)
	}
}

// TestTimerWakeUps: thousands of long timers, set at different times, hardly
// wake the loop.
func TestTimerWakeUps(t *testing.T) {
	l := New(&clock{}, 0, 1)
	for range 5000 {
		newAlarm(l).timer.Set(5 * time.Minute)
		l.Turn(l.Now() + 10*time.Millisecond)
	}
	turns := 0
	for end := l.Now() + 6*time.Minute; l.Now() < end; turns++ {
		l.Turn(end)
	}
	if turns > 12 {
		t.Errorf("5000 timers of five minutes woke the loop %d times in six", turns)
	}
}

// TestTimerMoves: setting a timer forward is a store, and allocates nothing.
func TestTimerMoves(t *testing.T) {
	l := New(&clock{}, 0, 1)
	a := newAlarm(l)
	a.timer.Set(time.Second)
	place := a.timer.place
	if n := testing.AllocsPerRun(100, func() { a.timer.Set(time.Second) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
	if a.timer.place != place {
		t.Error("the timer was moved in the wheel")
	}
}
