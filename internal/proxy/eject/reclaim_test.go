package eject

import (
	"testing"
	"time"
)

// Whoever wants a connection waits until every loop has said that it has none that
// rests, however late it says so; then a little for it to be closed.
func TestReclaim(t *testing.T) {
	const wait, pause = int64(10 * time.Millisecond), int64(50 * time.Millisecond)
	s := New().Service("cart.default:80")
	asked := [3]int{}
	for i := range asked {
		s.Gives(func() bool {
			asked[i]++
			return i != 2 // the third loop has ended: it won't answer
		})
	}
	now := int64(time.Second)
	want := func(what string, again bool, rounds int) {
		t.Helper()
		if got := s.Reclaim(now, wait, pause); got != again {
			t.Errorf("%s: wait %v, want %v", what, got, again)
		}
		if asked != [3]int{rounds, rounds, rounds} {
			t.Errorf("%s: the loops were asked %v times, want %d", what, asked, rounds)
		}
	}
	want("at first", true, 1)
	now += int64(2 * time.Second)
	want("nobody has answered", true, 1)
	s.Gave(now)
	want("one hasn't answered", true, 1)
	now += int64(time.Second)
	s.Gave(now)
	now += wait - 1
	want("all have just answered", true, 1)
	now++
	want("none had one", false, 1)
	now += pause - 1
	want("none had one a moment ago", false, 1)
	now++
	want("a while ago", true, 2)
	s.Eased()
	want("an exchange ended", true, 3)
}
