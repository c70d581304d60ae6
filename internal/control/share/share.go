package share

import (
	"cmp"
	"maps"
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
	// mostDemand bounds what a proxy is thought to ask for: more than a thousand
	// limits' worth is as good as that.
	mostDemand = 1000 * Whole
	// MaxLimits bounds the limits that are divided, MaxMembers the proxies that
	// share one. Who comes later keeps what it takes without being told.
	MaxLimits  = 10_000
	MaxMembers = 20_000
	// stale is when a demand isn't believed any more that wasn't repeated: it halves
	// with each division from then on.
	stale = 3 * time.Second
	// settle is how long nobody gets more than he has after a proxy has come that was
	// given a part by another control plane, or this one's earlier life: more such
	// may come. settleMost bounds it, and is how long there is none after that.
	settle     = 5 * time.Second
	settleMost = 30 * time.Second
	// unasked is what a proxy takes before it is told anything.
	unasked = 50_000
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
	// Held is the part that the proxy was told last, by whomever; 0: none.
	Held uint64
}

// Share is a proxy's part of a limit, in millionths.
type Share struct {
	Limit string
	Part  uint64
}

// Allocator divides limits between proxies. The parts of one limit are never more
// than the whole together. It belongs to one goroutine, or is guarded by its owner. The
// zero value of P names nobody.
type Allocator[P cmp.Ordered] struct {
	limits map[string]*limit[P]
	others map[string]map[string]Group // replica → limit → who shares it there
}

// Group is the proxies that share a limit elsewhere: how many, and what they ask
// for together.
type Group struct {
	Members, Demand uint64
}

// Summary is what others are told of the proxies here, by limit; at most most
// limits, those that are asked for most.
func (a *Allocator[P]) Summary(most int) map[string]Group {
	out := make(map[string]Group, len(a.limits))
	for name, l := range a.limits {
		var g Group
		for _, m := range l.members {
			if !m.gone {
				g.Members++
				g.Demand += m.demand
			}
		}
		if g.Members > 0 {
			out[name] = g
		}
	}
	if len(out) <= most {
		return out
	}
	names := slices.SortedFunc(maps.Keys(out), func(a, b string) int {
		return cmp.Or(cmp.Compare(out[b].Demand, out[a].Demand), cmp.Compare(a, b))
	})
	for _, name := range names[most:] {
		delete(out, name)
	}
	return out
}

// Elsewhere takes another replica's Summary; nil when it is gone.
func (a *Allocator[P]) Elsewhere(replica string, groups map[string]Group) {
	if groups == nil {
		delete(a.others, replica)
		return
	}
	if a.others == nil {
		a.others = make(map[string]map[string]Group)
	}
	a.others[replica] = groups
}

// groups are those elsewhere that share a limit.
func (a *Allocator[P]) groups(limit string) (list []Group) {
	for _, g := range a.others {
		if g := g[limit]; g.Members > 0 && g.Members <= MaxMembers {
			list = append(list, g)
		}
	}
	return list
}

type limit[P cmp.Ordered] struct {
	keyed   bool
	members map[P]*member
	// Nobody gets more until settled; settling is when that began.
	settling, settled time.Time
}

// member is a proxy's part in a limit.
type member struct {
	demand uint64
	heard  time.Time
	gone   bool   // its conversation has ended: its part goes to others by halves
	part   uint64 // what it was told, 0 nothing
	held   uint64 // what it came with
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
			m = &member{held: min(d.Held, Whole)}
			l.members[p] = m
			if m.held > 0 {
				l.unsettle(now)
			}
		}
		l.keyed = d.Keyed
		m.demand, m.heard, m.gone = min(d.Part, mostDemand), now, false
	}
}

// unsettle notes that a proxy has come that others may follow.
func (l *limit[P]) unsettle(now time.Time) {
	if now.Sub(l.settled) > settleMost {
		l.settling = now
	}
	if end := l.settling.Add(settleMost); now.Before(end) {
		l.settled = now.Add(min(settle, end.Sub(now)))
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
		for p, part := range l.divide(a.groups(name)) {
			m := l.members[p]
			if m.gone {
				continue // nobody to tell
			}
			if now.Before(l.settled) {
				has := m.part
				if has == 0 {
					has = cmp.Or(m.held, unasked)
				}
				part = min(part, has)
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
// as all are. Proxies elsewhere take part, each as the average of its group.
func (l *limit[P]) divide(elsewhere []Group) map[P]uint64 {
	parts := make(map[P]uint64, len(l.members))
	left := uint64(Whole)
	var open []claim[P]
	var n uint64
	add := func(p P, count, demand uint64) {
		open = append(open, claim[P]{p, count, demand + demand/headroom})
		n += count
	}
	for p, m := range l.members {
		if m.gone {
			parts[p] = m.part
			left -= min(m.part, left)
			continue
		}
		add(p, 1, m.demand)
	}
	if n == 0 {
		return parts
	}
	var nobody P
	for _, g := range elsewhere {
		add(nobody, g.Members, min(g.Demand/g.Members, mostDemand))
	}
	least := min(floor, floors/n, left/n)
	left -= least * n
	slices.SortFunc(open, func(a, b claim[P]) int {
		return cmp.Or(cmp.Compare(a.want, b.want), cmp.Compare(a.count, b.count), cmp.Compare(a.p, b.p))
	})
	var sum float64
	for _, c := range open {
		sum += float64(c.want) * float64(c.count)
	}
	if l.keyed && sum > 0 {
		for _, c := range open {
			parts[c.p] = least + uint64(float64(left)*float64(c.want)/sum)
		}
		delete(parts, nobody)
		return parts
	}
	rest := n
	for _, c := range open {
		more := min(c.want-min(c.want, least), left/rest)
		parts[c.p] = least + more
		left -= more * c.count
		rest -= c.count
	}
	for _, c := range open {
		parts[c.p] += left / n
	}
	delete(parts, nobody)
	return parts
}

// claim is one proxy's wish, or those of a group elsewhere, which has no name.
type claim[P cmp.Ordered] struct {
	p           P
	count, want uint64
}
