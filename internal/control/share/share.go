package share

import (
	"cmp"
	"slices"
	"time"
)

const (
	// Whole is all of a limit.
	Whole = 1_000_000
	// floor is what each proxy keeps of a limit that it has used, so that it can
	// begin; all floors together are at most floors.
	floor  = 20_000
	floors = 100_000
	// headroom is what a proxy gets beyond what it asked for, one in so many parts.
	headroom = 10
	// MaxLimits bounds the limits that are divided, MaxMembers the proxies that
	// share one. Who comes later keeps what it takes without being told.
	MaxLimits  = 10_000
	MaxMembers = 20_000
	// stale is when a demand isn't believed any more that wasn't repeated: it halves
	// with each division from then on.
	stale = 3 * time.Second
	// noticeable is the change of a part, in millionths, that is told.
	noticeable = 500
)

// Demand is what a proxy asks for of a limit, in millionths of what the limit
// allows; it may be more than Whole. Keyed limits have a bucket for each
// combination of values.
type Demand struct {
	Limit string
	Part  uint64
	Keyed bool
}

// Share is a proxy's part of a limit, in millionths.
type Share struct {
	Limit string
	Part  uint64
}

// Allocator divides limits between proxies. The parts of one limit are never more
// than the whole together. It belongs to one goroutine, or is guarded by its owner.
type Allocator[P cmp.Ordered] struct {
	limits map[string]*limit[P]
}

type limit[P cmp.Ordered] struct {
	keyed   bool
	members map[P]*member
}

// member is a proxy's part in a limit.
type member struct {
	demand uint64
	heard  time.Time
	gone   bool   // its conversation has ended: its part goes to others by halves
	part   uint64 // what it was told, 0 nothing
}

// Hear takes what a proxy asks for now.
func (a *Allocator[P]) Hear(p P, list []Demand, now time.Time) {
	for _, d := range list {
		l := a.limits[d.Limit]
		if l == nil {
			if len(a.limits) >= MaxLimits {
				continue
			}
			if a.limits == nil {
				a.limits = make(map[string]*limit[P])
			}
			l = &limit[P]{members: make(map[P]*member)}
			a.limits[d.Limit] = l
		}
		m := l.members[p]
		if m == nil {
			if len(l.members) >= MaxMembers {
				continue
			}
			m = &member{}
			l.members[p] = m
		}
		l.keyed = d.Keyed
		// More than a thousand limits' worth is as good as that.
		m.demand, m.heard, m.gone = min(d.Part, 1000*Whole), now, false
	}
}

// Back notes that a proxy's conversation has begun again: what it was told before
// is told again.
func (a *Allocator[P]) Back(p P) {
	for _, l := range a.limits {
		if m := l.members[p]; m != nil {
			m.part, m.gone = 0, false
		}
	}
}

// Leave notes that a proxy's conversation has ended.
func (a *Allocator[P]) Leave(p P) {
	for _, l := range a.limits {
		if m := l.members[p]; m != nil {
			m.gone = true
		}
	}
}

// Idle reports whether there is nothing to divide.
func (a *Allocator[P]) Idle() bool { return len(a.limits) == 0 }

// Divide works out the parts, and returns those that proxies are to be told.
func (a *Allocator[P]) Divide(now time.Time) map[P][]Share {
	told := make(map[P][]Share)
	for name, l := range a.limits {
		for p, m := range l.members {
			if m.gone {
				if m.part /= 2; m.part < noticeable {
					delete(l.members, p)
				}
				continue
			}
			if now.Sub(m.heard) > stale {
				m.demand /= 2
			}
		}
		if len(l.members) == 0 {
			delete(a.limits, name)
			continue
		}
		for p, part := range l.divide() {
			m := l.members[p]
			if m.gone {
				continue // nobody to tell
			}
			if diff := int64(part) - int64(m.part); m.part == 0 || diff >= noticeable || diff <= -noticeable {
				m.part = part
				told[p] = append(told[p], Share{name, part})
			}
		}
	}
	for _, list := range told {
		slices.SortFunc(list, func(a, b Share) int { return cmp.Compare(a.Limit, b.Limit) })
	}
	return told
}

// divide returns each member's part. Nobody gets less than the floor. Of what is
// left each gets as much as it asks for while that is enough; when it isn't, those
// who ask for least are satisfied first and the others get equal parts (max-min
// fairness). What nobody asks for is divided evenly. A keyed limit is divided in
// proportion to the demand: each combination's requests are thought to be spread
// as all are.
func (l *limit[P]) divide() map[P]uint64 {
	parts := make(map[P]uint64, len(l.members))
	left := uint64(Whole)
	var open []P
	for p, m := range l.members {
		if m.gone {
			parts[p] = m.part
			left -= min(m.part, left)
			continue
		}
		open = append(open, p)
	}
	if len(open) == 0 {
		return parts
	}
	n := uint64(len(open))
	least := min(floor, floors/n, left/n)
	left -= least * n
	want := func(p P) uint64 {
		d := l.members[p].demand
		return d + d/headroom
	}
	slices.SortFunc(open, func(a, b P) int {
		return cmp.Or(cmp.Compare(want(a), want(b)), cmp.Compare(a, b))
	})
	var sum uint64
	for _, p := range open {
		sum += want(p)
	}
	if l.keyed && sum > 0 {
		for _, p := range open {
			parts[p] = least + uint64(float64(left)*float64(want(p))/float64(sum))
		}
		return parts
	}
	for i, p := range open {
		fair := left / (n - uint64(i))
		more := min(want(p)-min(want(p), least), fair)
		parts[p] = least + more
		left -= more
	}
	for _, p := range open {
		parts[p] += left / n
	}
	return parts
}
