package meter

import (
	"cmp"
	"maps"
	"slices"
)

// Access is what access rules came to.
type Access uint8

// Allowed and Denied are decisions; Audit is a request that was let pass and that
// a rule in audit would have refused (it counts as Allowed too); Ended is one
// that was under way when a new rule forbade it.
const (
	Allowed Access = iota
	Denied
	Audit
	Ended
)

// String returns the label's value.
func (a Access) String() string {
	switch a {
	case Allowed:
		return "allowed"
	case Denied:
		return "denied"
	case Audit:
		return "audit"
	case Ended:
		return "ended"
	}
	return "unknown"
}

// accessKey names a series of decisions.
type accessKey struct {
	direction           Direction
	service, peer, rule string
	decision            Access
}

type accessCounter struct {
	key     accessKey
	counter *Counter
}

// Access returns the handle of a series of access decisions, the same one for the
// same labels. peer is as in Labels, rule empty for the default. It costs a map
// look-up; whoever counts keeps it.
func (s *Shard) Access(d Direction, service, peer string, decision Access, rule string) *Counter {
	k := accessKey{d, service, peer, rule, decision}
	c := s.access[k]
	if c != nil {
		return c
	}
	if !s.registry.admitAccess(k) {
		k.service, k.peer, k.rule = overflow, overflow, overflow
		if c = s.access[k]; c != nil {
			return c
		}
	}
	c = &Counter{}
	if s.access == nil {
		s.access = make(map[accessKey]*Counter)
	}
	s.access[k] = c
	s.mu.Lock()
	s.accessList = append(s.accessList, accessCounter{k, c})
	s.mu.Unlock()
	return c
}

func (r *Registry) admitAccess(k accessKey) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.access[k]; ok {
		return true
	}
	if len(r.access) >= maxSeries {
		return false
	}
	if r.access == nil {
		r.access = make(map[accessKey]struct{})
	}
	r.access[k] = struct{}{}
	return true
}

func (r *Registry) writeAccess(w *Writer) {
	sums := make(map[accessKey]uint64)
	for _, s := range r.shards {
		s.mu.Lock()
		list := s.accessList
		s.mu.Unlock()
		for _, c := range list {
			sums[c.key] += c.counter.n.Load()
		}
	}
	if len(sums) == 0 {
		return
	}
	w.Family("tulle_access_total", CounterKind, "Requests, and connections whose requests can't be seen, by what access rules came to.")
	for _, k := range slices.SortedFunc(maps.Keys(sums), func(a, b accessKey) int {
		return cmp.Or(cmp.Compare(a.direction, b.direction), cmp.Compare(a.service, b.service), cmp.Compare(a.peer, b.peer),
			cmp.Compare(a.decision, b.decision), cmp.Compare(a.rule, b.rule))
	}) {
		w.Count(sums[k], "direction", k.direction.String(), "service", k.service, "peer", k.peer, "decision", k.decision.String(), "rule", k.rule)
	}
}
