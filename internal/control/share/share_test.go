package share

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func parts(a *Allocator[string], limit string) map[string]uint64 {
	got := make(map[string]uint64)
	if l := a.limits[limit]; l != nil {
		for p, m := range l.members {
			got[p] = m.part
		}
	}
	return got
}

func TestDivide(t *testing.T) {
	for name, c := range map[string]struct {
		demand map[string]uint64
		keyed  bool
		want   map[string]uint64
	}{
		"alone":                {map[string]uint64{"a": 10}, false, map[string]uint64{"a": Whole}},
		"alone and too much":   {map[string]uint64{"a": 5 * Whole}, false, map[string]uint64{"a": Whole}},
		"even":                 {map[string]uint64{"a": Whole, "b": Whole}, false, map[string]uint64{"a": Whole / 2, "b": Whole / 2}},
		"one greedy":           {map[string]uint64{"a": 100_000, "b": 900 * Whole}, false, map[string]uint64{"a": 110_000, "b": 890_000}},
		"two greedy":           {map[string]uint64{"a": 100_000, "b": 9 * Whole, "c": Whole}, false, map[string]uint64{"a": 110_000, "b": 445_000, "c": 445_000}},
		"enough for all":       {map[string]uint64{"a": 100_000, "b": 300_000}, false, map[string]uint64{"a": 390_000, "b": 610_000}},
		"one is idle":          {map[string]uint64{"a": 0, "b": 2 * Whole}, false, map[string]uint64{"a": floor, "b": Whole - floor}},
		"keyed, by demand":     {map[string]uint64{"a": 40 * Whole, "b": 10 * Whole}, true, map[string]uint64{"a": 788_000, "b": 212_000}},
		"keyed, nothing asked": {map[string]uint64{"a": 0, "b": 0}, true, map[string]uint64{"a": Whole / 2, "b": Whole / 2}},
	} {
		var a Allocator[string]
		for p, d := range c.demand {
			a.Hear(p, []Demand{{Limit: "l", Part: d, Keyed: c.keyed}}, start)
		}
		a.Divide(start)
		if diff := cmp.Diff(c.want, parts(&a, "l")); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// Whatever is asked for, the parts are at most the whole together, nobody gets
// nothing, and nobody who asks for more gets less.
func TestRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		var a Allocator[int]
		n, keyed := 1+r.IntN(60), r.IntN(4) == 0
		now := start
		for range 1 + r.IntN(4) {
			for p := 1; p <= n; p++ {
				if r.IntN(3) > 0 {
					d := uint64(r.IntN(2 * Whole / n))
					if r.IntN(10) == 0 {
						d *= 1_000_000_000
					}
					a.Hear(p, []Demand{{Limit: "l", Part: d, Keyed: keyed}}, now)
				}
				if r.IntN(50) == 0 {
					a.Leave(p)
				}
			}
			a.Divide(now)
			now = now.Add(time.Second)
		}
		l := a.limits["l"]
		if l == nil {
			continue
		}
		var sum uint64
		parts := l.divide(nil)
		for p, part := range parts {
			m := l.members[p]
			sum += part
			if !m.gone && part == 0 {
				t.Fatalf("%d of %d proxies gets nothing", p, n)
			}
			for q, other := range parts {
				if o := l.members[q]; !m.gone && !o.gone && m.demand < o.demand && part > other {
					t.Fatalf("%d asks for %d and gets %d, %d asks for %d and gets %d", p, m.demand, part, q, o.demand, other)
				}
			}
		}
		if sum > Whole {
			t.Fatalf("%d millionths were given away", sum)
		}
	}
}

func TestTold(t *testing.T) {
	var a Allocator[string]
	hear := func(p string, d uint64, at time.Time) { a.Hear(p, []Demand{{Limit: "l", Part: d, Keyed: false}}, at) }
	check := func(at time.Time, want map[string][]Share) {
		t.Helper()
		if diff := cmp.Diff(want, a.Divide(at)); diff != "" {
			t.Error(diff)
		}
	}
	hear("a", 2*Whole, start)
	check(start, map[string][]Share{"a": {{"l", Whole}}})
	check(start, map[string][]Share{}) // nothing new
	hear("b", 2*Whole, start)
	check(start, map[string][]Share{"a": {{"l", Whole / 2}}, "b": {{"l", Whole / 2}}})
	hear("b", 2*Whole+1, start)
	check(start, map[string][]Share{})
	a.Back("b") // another conversation: it may have forgotten
	check(start, map[string][]Share{"b": {{"l", Whole / 2}}})
	// What isn't asked for any more is given to others.
	at := start
	for range 30 {
		at = at.Add(time.Second)
		hear("a", 2*Whole, at)
		a.Divide(at)
	}
	if got := parts(&a, "l"); got["b"] != floor || got["a"] != Whole-floor {
		t.Error(got)
	}
	// A proxy that is gone may be alive, and go on with what it was told: its part
	// goes to others by halves.
	hear("b", 2*Whole, at)
	a.Divide(at)
	a.Leave("b")
	for _, want := range []uint64{750_000, 875_000, 937_500} {
		hear("a", 2*Whole, at)
		check(at, map[string][]Share{"a": {{"l", want}}})
	}
	for range 20 {
		a.Divide(at)
	}
	if got := parts(&a, "l"); len(got) != 1 || got["a"] < Whole-noticeable {
		t.Error(got)
	}
	a.Leave("a")
	for range 20 {
		a.Divide(at)
	}
	if !a.Idle() {
		t.Error("a limit that nobody uses is remembered")
	}
}

func TestBounds(t *testing.T) {
	var a Allocator[int]
	for i := range MaxLimits + 10 {
		a.Hear(1, []Demand{{Limit: fmt.Sprint(i), Part: 1, Keyed: false}}, start)
	}
	for i := range MaxMembers + 10 {
		a.Hear(i+1, []Demand{{Limit: "0", Part: 1, Keyed: false}}, start)
	}
	if len(a.limits) != MaxLimits || len(a.limits["0"].members) != MaxMembers {
		t.Errorf("%d limits, %d members", len(a.limits), len(a.limits["0"].members))
	}
	a.Divide(start)
	for p, m := range a.limits["0"].members {
		if m.part == 0 {
			t.Fatalf("%d of %d gets nothing", p, MaxMembers)
		}
	}
}

// Two replicas that know of each other divide as one would.
func TestElsewhere(t *testing.T) {
	for _, keyed := range []bool{false, true} {
		var one, a, b Allocator[string]
		for i, d := range []uint64{100_000, 300_000, 5 * Whole, 700_000, 2 * Whole, 0} {
			list := []Demand{{Limit: "l", Part: d, Keyed: keyed}}
			p := string(rune('p' + i))
			one.Hear(p, list, start)
			if i%2 == 0 {
				a.Hear(p, list, start)
			} else {
				b.Hear(p, list, start)
			}
		}
		a.Elsewhere("b", b.Summary(10))
		b.Elsewhere("a", a.Summary(10))
		one.Divide(start)
		a.Divide(start)
		b.Divide(start)
		var sum uint64
		for _, x := range []*Allocator[string]{&a, &b} {
			for p, part := range parts(x, "l") {
				sum += part
				want := parts(&one, "l")[p]
				// A group is taken for its average, so that it is no more than like.
				if diff := int64(part) - int64(want); diff > Whole/5 || diff < -Whole/5 {
					t.Errorf("keyed %v: %s gets %d, from one %d", keyed, p, part, want)
				}
			}
		}
		if sum > Whole+Whole/10 || sum < Whole-Whole/5 {
			t.Errorf("keyed %v: together %d", keyed, sum)
		}
		a.Elsewhere("b", nil)
		a.Divide(start)
		sum = 0
		for _, part := range parts(&a, "l") {
			sum += part
		}
		if sum < Whole-10 || sum > Whole {
			t.Errorf("keyed %v: alone again %d", keyed, sum)
		}
	}
	var a Allocator[string]
	for i := range 10 {
		a.Hear("p", []Demand{{Limit: fmt.Sprint(i), Part: uint64(i), Keyed: false}}, start)
	}
	if s := a.Summary(2); len(s) != 2 || s["9"].Demand != 9 || s["8"].Demand != 8 {
		t.Errorf("summary %v", s)
	}
	// What makes no sense does no harm.
	a.Elsewhere("x", map[string]Group{"9": {0, 5}, "8": {1 << 60, 1 << 63}})
	a.Divide(start)
	if got := parts(&a, "9"); got["p"] != Whole {
		t.Error(got)
	}
}

// TestSettle: who comes with a part from before gets no more than that until no more
// of them come, and who comes new gets what it takes anyway; then all is divided.
func TestSettle(t *testing.T) {
	var a Allocator[string]
	now := time.Unix(1000, 0)
	ask := func(p string, held uint64) {
		a.Hear(p, []Demand{{Limit: "l", Part: 3 * Whole, Held: held}}, now)
	}
	part := make(map[string]uint64)
	divide := func() {
		for p, list := range a.Divide(now) {
			part[p] = list[0].Part
		}
	}
	ask("a", 400_000)
	divide()
	if part["a"] != 400_000 {
		t.Errorf("the first one has %d, want what it came with", part["a"])
	}
	now = now.Add(settle - time.Millisecond)
	ask("a", 400_000)
	ask("b", 500_000)
	ask("new", 0)
	divide()
	if part["a"] > 400_000 || part["b"] > 500_000 || part["new"] != unasked {
		t.Errorf("when another one came: %v", part)
	}
	now = now.Add(settle - time.Millisecond)
	divide()
	if sum := part["a"] + part["b"] + part["new"]; sum > Whole || part["new"] != unasked {
		t.Errorf("a little later: %v", part)
	}
	now = now.Add(time.Millisecond)
	ask("a", 0)
	ask("b", 0)
	ask("new", 0)
	divide()
	if min(part["a"], part["b"], part["new"]) < 333_000 {
		t.Errorf("then: %v, want a third each", part)
	}
	// They may not come for ever.
	var b Allocator[string]
	for i := range 100 {
		b.Hear(string(rune('a'+i)), []Demand{{Limit: "l", Part: 3 * Whole, Held: 1000}}, now)
		now = now.Add(time.Second)
	}
	sum := uint64(0)
	for _, list := range b.Divide(now) {
		sum += list[0].Part
	}
	if sum < Whole*9/10 {
		t.Errorf("after %d s %d of the limit is given out", 100, sum)
	}
}
