package loop

import (
	"slices"
	"testing"
	"time"

	"tulle.dev/tulle/internal/proxy/poll"
)

// part is a worker with so many parts left, each of which takes some time.
type part struct {
	c    *clock
	name string
	left int
	took time.Duration
	did  *[]string
}

func (p *part) Work() bool {
	p.c.now += p.took
	*p.did = append(*p.did, p.name)
	p.left--
	return p.left > 0
}

// TestEmploy: workers do one part a turn, and more only as long as that is less than
// half of what the turn took. Neither they nor those who wait for events starve.
func TestEmploy(t *testing.T) {
	for name, test := range map[string]struct {
		turn time.Duration // what handlers take in each
		want [][]string
	}{
		"idle":     {0, [][]string{{"a"}, {"b"}, {"a"}, {"b"}, {"a"}}},
		"busy":     {100 * time.Microsecond, [][]string{{"a"}, {"b"}, {"a"}, {"b"}, {"a"}}},
		"busier":   {600 * time.Microsecond, [][]string{{"a", "b", "a"}, {"b", "a"}}},
		"too busy": {time.Second, [][]string{{"a", "b", "a", "b", "a"}}},
	} {
		t.Run(name, func(t *testing.T) {
			c := &clock{}
			l := New(c, 0, 1)
			var did []string
			l.Employ(&part{c, "a", 3, 100 * time.Microsecond, &did})
			l.Employ(&part{c, "b", 2, 100 * time.Microsecond, &did})
			var got [][]string
			for len(got) < 10 && l.Next() != poll.Forever {
				if at := l.Next(); at > l.Now() {
					t.Fatalf("the next turn would be %v from now: the work waits for it", at-l.Now())
				}
				l.Later(func() { c.now += test.turn })
				before := c.now
				l.Turn(poll.Forever)
				if c.now > before+time.Minute {
					t.Fatal("it waited although there was work")
				}
				got = append(got, did)
				did = nil
			}
			if !slices.EqualFunc(got, test.want, slices.Equal) {
				t.Errorf("turn by turn %v, want %v", got, test.want)
			}
		})
	}
}

// TestEmployAfter: what a worker brings about happens in the same turn.
func TestEmployAfter(t *testing.T) {
	l := New(&clock{}, 0, 1)
	happened := false
	l.Employ(once(func() { l.Later(func() { happened = true }) }))
	l.Turn(0)
	if !happened || l.Next() != poll.Forever {
		t.Errorf("happened: %v, next turn at %v", happened, l.Next())
	}
}

type once func()

func (f once) Work() bool { f(); return false }

// shared is a clock whose processor others want too, for a time.
type shared struct {
	clock
	others time.Duration
	yields []time.Duration
}

func (s *shared) Yield() {
	s.yields = append(s.yields, s.now)
	s.now += s.others
}

// TestGiveWay: a loop that works lets others run after each part, and no longer than
// it runs itself. One that doesn't work has no reason to.
func TestGiveWay(t *testing.T) {
	const us = time.Microsecond
	for name, test := range map[string]struct {
		others time.Duration
		parts  int
		want   []time.Duration
	}{
		"nobody":     {0, 4, []time.Duration{100 * us, 200 * us, 300 * us}},
		"short ones": {50 * us, 4, []time.Duration{100 * us, 250 * us, 400 * us}},
		"a hog":      {250 * us, 5, []time.Duration{100 * us, 650 * us}},
		"no work":    {0, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := &shared{others: test.others}
			l := New(s, 0, 1)
			var did []string
			if test.parts > 0 {
				l.Employ(&part{&s.clock, "a", test.parts, 100 * us, &did})
			}
			for range test.parts + 2 {
				l.Turn(0)
			}
			if len(did) != test.parts || !slices.Equal(s.yields, test.want) {
				t.Errorf("%d parts, gave way at %v; want %d, %v", len(did), s.yields, test.parts, test.want)
			}
		})
	}
}
