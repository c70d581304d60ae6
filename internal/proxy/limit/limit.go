package limit

import (
	"net/netip"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/meter"
)

// Set is the limits that hold for a request, each of which must allow it. It
// belongs to one loop; the buckets behind it to all.
type Set struct {
	limits   []Limit
	services []*Service
	memory   []byte // for keys
}

// Limit is one of a Set.
type Limit struct {
	policy *policy.RateLimit
	state  *state
	match  *policy.Matcher
	local  rate
	count  *meter.RateLimited
	taken  *bucket // of the request that is being judged, to give back
}

// Refusal says why a request isn't let through.
type Refusal struct {
	Limit *policy.RateLimit
	// Wait is how long until the next request may come; Left how many may now, and
	// Reset when all of the burst may again.
	Wait  time.Duration
	Left  int64
	Reset time.Duration
}

// maxKey bounds what is kept of the memory for a key.
const maxKey = 4 << 10

// Allow reports whether all limits let a request through at now. What a limit that
// does has counted is taken back when another one doesn't. source is the client's
// address. Without By and with combinations that are known it neither allocates
// nor locks.
func (s *Set) Allow(r *policy.Subject, source netip.Addr, now time.Duration) (Refusal, bool) {
	for i := range s.limits {
		l := &s.limits[i]
		l.taken = nil
		if !l.match.Met(r) {
			continue
		}
		st, rate := l.state, l.local
		st.seen.Add(1)
		if used := int64(now); used-st.used.Load() > int64(time.Second) {
			st.used.Store(used)
		}
		if l.policy.Global {
			rate = *st.rate.Load()
		}
		b := &st.bucket
		if len(l.policy.By) > 0 {
			b = st.keys().get(s.key(l.policy.By, r, source), now)
		}
		wait, ok := b.take(rate, now)
		switch {
		case ok:
			l.taken = b
			l.count.Allowed.Add(1)
			continue
		case l.policy.Shadow:
			l.count.Shadow.Add(1)
			continue
		}
		l.count.Refused.Add(1)
		s.giveBack(i)
		f := Refusal{Limit: l.policy, Wait: wait}
		f.Left, f.Reset = b.left(rate, now)
		if rate.interval == 0 {
			f.Wait, f.Reset = l.policy.Per, l.policy.Per
		}
		return f, false
	}
	return Refusal{}, true
}

// giveBack returns what the first n limits have taken.
func (s *Set) giveBack(n int) {
	for i := range s.limits[:n] {
		if l := &s.limits[i]; l.taken != nil {
			rate := l.local
			if l.policy.Global {
				rate = *l.state.rate.Load()
			}
			l.taken.give(rate)
		}
	}
}

// keys returns the buckets of the limit's combinations.
func (s *state) keys() *table {
	if t := s.table.Load(); t != nil {
		return t
	}
	s.table.CompareAndSwap(nil, &table{})
	return s.table.Load()
}

// key is a request's combination of values.
func (s *Set) key(by []policy.Descriptor, r *policy.Subject, source netip.Addr) key {
	m := s.memory[:0]
	for i := range by {
		start := len(m)
		m, _ = appendValue(m, &by[i], r, source)
		// Values can't run into each other: each is followed by its length.
		n := uint64(len(m) - start)
		m = append(m, byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
	}
	k := keyOf(m)
	if s.memory = m; cap(m) > maxKey {
		s.memory = nil
	}
	return k
}

// appendValue appends what a request is told apart by; false when it lacks that
// header.
func appendValue(m []byte, d *policy.Descriptor, r *policy.Subject, source netip.Addr) (_ []byte, there bool) {
	switch d.Kind {
	case policy.ByHeader:
		if r.Fields == nil {
			return m, false
		}
		v, ok := r.Fields.Field(d.Name)
		return append(m, v...), ok
	case policy.ByIdentity:
		m = append(m, r.Caller...)
	case policy.ByPath:
		m = policy.AppendPath(m, r.Path, true)
	case policy.ByMethod:
		m = append(m, r.Method...)
	case policy.BySource:
		m = appendSource(m, source)
	}
	return m, true
}

// appendSource appends an address; of IPv6 the network of 64 bits that a site has,
// within which it picks addresses as it likes.
func appendSource(m []byte, a netip.Addr) []byte {
	a = a.Unmap()
	if a.Is6() {
		b := a.As16()
		return append(m, b[:8]...)
	}
	if !a.IsValid() {
		return m
	}
	b := a.As4()
	return append(m, b[:]...)
}
