package meter

import (
	"cmp"
	"slices"
)

// rateLimitKey names a series of a rate limit's decisions.
type rateLimitKey struct {
	direction      Direction
	service, limit string
}

// RateLimited counts a rate limit's decisions in one shard: Shadow are those that
// would have been refusals, Unanswered those about which nobody decided.
type RateLimited struct {
	key                      rateLimitKey
	Allowed, Refused, Shadow Counter
	Unanswered               Counter
}

// RateLimited returns the handle of a limit's series, the same one for the same
// labels. It costs a map look-up; whoever counts keeps it.
func (s *Shard) RateLimited(d Direction, service, limit string) *RateLimited {
	k := rateLimitKey{d, service, limit}
	c := s.rateLimits[k]
	if c != nil {
		return c
	}
	if !s.registry.admitRateLimit(k) {
		k.service, k.limit = overflow, overflow
		if c = s.rateLimits[k]; c != nil {
			return c
		}
	}
	c = &RateLimited{key: k}
	if s.rateLimits == nil {
		s.rateLimits = make(map[rateLimitKey]*RateLimited)
	}
	s.rateLimits[k] = c
	s.mu.Lock()
	s.rateLimitList = append(s.rateLimitList, c)
	s.mu.Unlock()
	return c
}

func (r *Registry) admitRateLimit(k rateLimitKey) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.rateLimits[k]; ok {
		return true
	}
	if len(r.rateLimits) >= maxSeries {
		return false
	}
	if r.rateLimits == nil {
		r.rateLimits = make(map[rateLimitKey]struct{})
	}
	r.rateLimits[k] = struct{}{}
	return true
}

func (r *Registry) writeRateLimits(w *Writer) {
	type sum struct {
		key rateLimitKey
		n   [4]uint64
	}
	var sums []*sum
	by := make(map[rateLimitKey]*sum)
	for _, s := range r.shards {
		s.mu.Lock()
		list := s.rateLimitList
		s.mu.Unlock()
		for _, c := range list {
			t := by[c.key]
			if t == nil {
				t = &sum{key: c.key}
				by[c.key], sums = t, append(sums, t)
			}
			t.n[0] += c.Allowed.n.Load()
			t.n[1] += c.Refused.n.Load()
			t.n[2] += c.Shadow.n.Load()
			t.n[3] += c.Unanswered.n.Load()
		}
	}
	if len(sums) == 0 {
		return
	}
	slices.SortFunc(sums, func(x, y *sum) int {
		a, b := &x.key, &y.key
		return cmp.Or(cmp.Compare(a.direction, b.direction), cmp.Compare(a.service, b.service), cmp.Compare(a.limit, b.limit))
	})
	w.Family("tulle_rate_limit_total", CounterKind, "Requests that a rate limit was about, and what came of it.")
	for _, t := range sums {
		for i, outcome := range []string{"allowed", "refused", "shadow", "no_answer"} {
			if outcome == "no_answer" && t.n[i] == 0 {
				continue // there may be nobody who is asked
			}
			w.Count(t.n[i], "direction", t.key.direction.String(), "service", t.key.service, "limit", t.key.limit, "outcome", outcome)
		}
	}
}
