package meter

import (
	"cmp"
	"maps"
	"slices"
)

// detectionKey names a series of decisions about connections.
type detectionKey struct {
	direction              Direction
	service, protocol, how string
}

type detectionCounter struct {
	key     detectionKey
	counter *Counter
}

// Detected counts a connection of which it was decided that it speaks a
// protocol, and how. Both are of a fixed set of words.
func (s *Shard) Detected(d Direction, service, protocol, how string) {
	k := detectionKey{d, service, protocol, how}
	c := s.detections[k]
	if c == nil {
		if !s.registry.admitDetection(k) {
			k.service = overflow
			c = s.detections[k]
		}
		if c == nil {
			c = &Counter{}
			s.detections[k] = c
			s.mu.Lock()
			s.detectionList = append(s.detectionList, detectionCounter{k, c})
			s.mu.Unlock()
		}
	}
	c.Add(1)
}

func (r *Registry) admitDetection(k detectionKey) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.detections[k]; ok {
		return true
	}
	if len(r.detections) >= maxSeries {
		return false
	}
	r.detections[k] = struct{}{}
	return true
}

func (r *Registry) writeDetections(w *Writer) {
	sums := make(map[detectionKey]uint64)
	for _, s := range r.shards {
		s.mu.Lock()
		list := s.detectionList
		s.mu.Unlock()
		for _, c := range list {
			sums[c.key] += c.counter.n.Load()
		}
	}
	w.Family("tulle_detections_total", CounterKind, "Connections by what is spoken on them, and how that was decided.")
	for _, k := range slices.SortedFunc(maps.Keys(sums), func(a, b detectionKey) int {
		return cmp.Or(cmp.Compare(a.direction, b.direction), cmp.Compare(a.service, b.service),
			cmp.Compare(a.protocol, b.protocol), cmp.Compare(a.how, b.how))
	}) {
		w.Count(sums[k], "direction", k.direction.String(), "service", k.service, "protocol", k.protocol, "how", k.how)
	}
}
