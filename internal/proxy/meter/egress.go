package meter

import (
	"cmp"
	"maps"
	"slices"
)

// maxLeft bounds the destinations outside the mesh that calls are counted by, of
// the whole proxy.
const maxLeft = 200

// leftKey names a series of calls that leave the mesh.
type leftKey struct {
	destination string
	decision    Access
}

type leftCounter struct {
	key     leftKey
	counter *Counter
}

// Egress returns the handle of a series of calls that leave the mesh, the same one
// for the same labels. destination is the policy's name for it; of what is
// refused, the host. It costs a map look-up.
func (s *Shard) Egress(destination string, decision Access) *Counter {
	k := leftKey{destination, decision}
	c := s.left[k]
	if c != nil {
		return c
	}
	if !s.registry.admitLeft(k) {
		k.destination = overflow
		if c = s.left[k]; c != nil {
			return c
		}
	}
	c = &Counter{}
	if s.left == nil {
		s.left = make(map[leftKey]*Counter)
	}
	s.left[k] = c
	s.mu.Lock()
	s.leftList = append(s.leftList, leftCounter{k, c})
	s.mu.Unlock()
	return c
}

func (r *Registry) admitLeft(k leftKey) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.left[k]; ok {
		return true
	}
	if len(r.left) >= maxLeft {
		return false
	}
	if r.left == nil {
		r.left = make(map[leftKey]struct{})
	}
	r.left[k] = struct{}{}
	return true
}

func (r *Registry) writeLeft(w *Writer) {
	sums := make(map[leftKey]uint64)
	for _, s := range r.shards {
		s.mu.Lock()
		list := s.leftList
		s.mu.Unlock()
		for _, c := range list {
			sums[c.key] += c.counter.n.Load()
		}
	}
	if len(sums) == 0 {
		return
	}
	w.Family("tulle_egress_total", CounterKind, "Requests, and connections whose requests can't be seen, that were to leave the mesh, by what the policy came to.")
	for _, k := range slices.SortedFunc(maps.Keys(sums), func(a, b leftKey) int {
		return cmp.Or(cmp.Compare(a.destination, b.destination), cmp.Compare(a.decision, b.decision))
	}) {
		w.Count(sums[k], "destination", k.destination, "decision", k.decision.String())
	}
}
