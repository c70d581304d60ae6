package limit

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/meter"
)

const (
	// StartShare is the part of a Global limit, in millionths, that a proxy takes
	// before it has been told its share.
	StartShare = 50_000
	// whole is all of a limit.
	whole = 1_000_000
	// maxDemand bounds the demand that is reported, in millionths of the limit.
	maxDemand = 1_000 * whole
	// forgetAfter is when the buckets of a limit are forgotten that nothing uses.
	forgetAfter = 10 * time.Minute
	// settle is the part of the demand's average that a second's count makes, one in
	// so many, where it is lower than the average; a higher one counts at once.
	settle = 2
)

// Book holds the buckets of all limits of a proxy by their names: they outlive
// changes of the policies. Any goroutine may use it.
type Book struct {
	alone bool
	kept  func(limit string) uint64

	mu     sync.Mutex
	states map[string]*state
	asked  func() // is called once, when there is a first Global limit
}

// state is what is known of one limit, whoever asks: it holds for the proxy.
type state struct {
	global bool
	bucket bucket
	rate   atomic.Pointer[rate] // of a Global limit: the proxy's share of it
	seen   atomic.Uint64        // requests that it was about, ever
	used   atomic.Int64         // when last, ns
	table  atomic.Pointer[table]

	// For Demand, under the book's mu.
	limit   policy.RateLimit
	share   uint64 // in millionths of the limit
	counted uint64
	demand  uint64 // in millionths of the limit
	told    uint64
	held    uint64 // the share that was given last; 0: none was
}

// NewBook makes a book. A proxy that is alone, without a control plane, has the
// whole of each Global limit. kept, which may be nil, says which share of a limit an
// earlier process of the proxy had, in millionths, 0 when that isn't known: the proxy
// begins with it. asked may be nil; it is called once when the first Global limit is
// compiled: from then on Demand has something to say.
func NewBook(alone bool, kept func(limit string) uint64, asked func()) *Book {
	return &Book{alone: alone, kept: kept, states: make(map[string]*state), asked: asked}
}

// Compile gets limits ready for one loop, which counts them in its shard for that
// direction and service; nil when there are none.
func (b *Book) Compile(list []policy.RateLimit, now time.Duration, shard *meter.Shard, d meter.Direction, service string) *Set {
	if len(list) == 0 {
		return nil
	}
	s := &Set{}
	for i := range list {
		l := &list[i]
		if l.Service != nil {
			s.services = append(s.services, newService(l, shard.RateLimited(d, service, l.Name)))
			continue
		}
		s.limits = append(s.limits, Limit{
			policy: l,
			state:  b.state(l, now),
			match:  policy.NewMatcher(l.When),
			local:  rateOf(l.Requests, l.Per, l.Burst, whole),
			count:  shard.RateLimited(d, service, l.Name),
		})
	}
	return s
}

// state returns a limit's state.
func (b *Book) state(l *policy.RateLimit, now time.Duration) *state {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.states[l.Name]
	if s == nil || s.global != l.Global {
		for name, o := range b.states {
			if used := time.Duration(o.used.Load()); now-used > forgetAfter && o.bucket.idle(now) {
				delete(b.states, name)
			}
		}
		s = &state{global: l.Global, share: StartShare}
		s.used.Store(int64(now))
		b.states[l.Name] = s
		switch {
		case b.alone:
			s.share = whole
		case l.Global && b.kept != nil:
			if part := b.kept(l.Name); part > 0 {
				s.share = min(part, whole)
			}
		}
		if l.Global && b.asked != nil {
			b.asked()
			b.asked = nil
		}
	}
	s.limit = *l
	s.settle()
	return s
}

// settle works out the rate of a Global limit. The book's mu is held.
func (s *state) settle() {
	if s.global {
		r := rateOf(s.limit.Requests, s.limit.Per, s.limit.Burst, s.share)
		s.rate.Store(&r)
	}
}

// Demand is what the proxy would like of one Global limit.
type Demand struct {
	Limit string
	Part  uint64 // in millionths of the limit; more than a million is more than all
	Keyed bool   // it has a bucket for each combination
	Held  uint64 // the share that the proxy was told last, in millionths; 0: never
}

// Demand is called once a second, and told how long ago the last call was. It says
// what was asked for of the Global limits since: those that are in use, or were
// the last time. A demand that falls does so by half each time.
func (b *Book) Demand(elapsed time.Duration) []Demand {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []Demand
	for _, name := range slices.Sorted(maps.Keys(b.states)) {
		s := b.states[name]
		if !s.global {
			continue
		}
		seen := s.seen.Load()
		now := millionths(seen-s.counted, elapsed, &s.limit)
		s.counted = seen
		if now < s.demand {
			now = s.demand - max((s.demand-now)/settle, 1)
		}
		if now < 1000 { // a thousandth of the limit is nothing
			now = 0
		}
		s.demand = now
		if now > 0 || s.told > 0 {
			list = append(list, Demand{name, now, len(s.limit.By) > 0, s.held})
		}
		s.told = now
	}
	return list
}

// millionths is what n requests in some time are of a limit.
func millionths(n uint64, in time.Duration, l *policy.RateLimit) uint64 {
	if l.Requests == 0 || in <= 0 {
		return 0
	}
	m := float64(n) / in.Seconds() * l.Per.Seconds() / float64(l.Requests) * whole
	return uint64(min(m, maxDemand))
}

// Take puts the share of a limit into force that the control plane gives.
// It is in millionths.
func (b *Book) Take(limit string, part uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.states[limit]; s != nil && s.global && !b.alone {
		s.share = min(max(part, 1), whole)
		s.held = s.share
		s.settle()
	}
}

// Over is how many requests of a limit came over the bound of combinations.
type Over struct {
	Limit    string
	Requests uint64
}

// Over lists the limits of which some did, by name.
func (b *Book) Over() []Over {
	b.mu.Lock()
	defer b.mu.Unlock()
	var over []Over
	for _, name := range slices.Sorted(maps.Keys(b.states)) {
		if t := b.states[name].table.Load(); t != nil {
			if n := t.over.Load(); n > 0 {
				over = append(over, Over{name, n})
			}
		}
	}
	return over
}
