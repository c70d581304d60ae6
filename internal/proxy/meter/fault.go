package meter

import (
	"cmp"
	"maps"
	"slices"
)

// faultKey names a series of requests that were spoiled on purpose, or of copies
// of requests.
type faultKey struct {
	direction     Direction
	service, kind string
}

type faultCounter struct {
	key     faultKey
	counter *Counter
}

// faults is a family of counters by direction, service and kind.
type faults struct {
	counters map[faultKey]*Counter
	list     []faultCounter // guarded by the shard's mu
}

// Fault counts a request to a service that was spoiled on purpose. kind is one of
// a fixed set of words.
func (s *Shard) Fault(d Direction, service, kind string) {
	s.count(&s.faults, faultKey{d, service, kind})
}

// Mirrored counts what became of a copy of a request to a service. outcome is one
// of a fixed set of words.
func (s *Shard) Mirrored(service, outcome string) {
	s.count(&s.mirrored, faultKey{Mirror, service, outcome})
}

func (s *Shard) count(f *faults, k faultKey) {
	c := f.counters[k]
	if c == nil {
		if len(f.counters) >= maxReasons {
			k.service = overflow
			c = f.counters[k]
		}
		if c == nil {
			c = &Counter{}
			if f.counters == nil {
				f.counters = make(map[faultKey]*Counter)
			}
			f.counters[k] = c
			s.mu.Lock()
			f.list = append(f.list, faultCounter{k, c})
			s.mu.Unlock()
		}
	}
	c.Add(1)
}

func (r *Registry) writeFaults(w *Writer) {
	keys, sums := r.sumFaults(func(s *Shard) *faults { return &s.faults })
	w.Family("tulle_faults_total", CounterKind, "Requests that were spoiled on purpose, by what was done to them.")
	for _, k := range keys {
		w.Count(sums[k], "direction", k.direction.String(), "service", k.service, "kind", k.kind)
	}
	keys, sums = r.sumFaults(func(s *Shard) *faults { return &s.mirrored })
	w.Family("tulle_mirrors_total", CounterKind, "Copies of requests, by what became of them.")
	for _, k := range keys {
		w.Count(sums[k], "service", k.service, "outcome", k.kind)
	}
}

func (r *Registry) sumFaults(of func(*Shard) *faults) ([]faultKey, map[faultKey]uint64) {
	sums := make(map[faultKey]uint64)
	for _, s := range r.shards {
		s.mu.Lock()
		list := of(s).list
		s.mu.Unlock()
		for _, c := range list {
			sums[c.key] += c.counter.n.Load()
		}
	}
	return slices.SortedFunc(maps.Keys(sums), func(a, b faultKey) int {
		return cmp.Or(cmp.Compare(a.direction, b.direction), cmp.Compare(a.service, b.service), cmp.Compare(a.kind, b.kind))
	}), sums
}
