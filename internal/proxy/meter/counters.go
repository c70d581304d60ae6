package meter

import (
	"cmp"
	"slices"
)

// family is a metric that only counts, by labels.
type family uint8

const (
	detections family = iota
	retries
	failures
	malformed
	faults
	mirrors
	tokens
	externals
	decisions
	departures
	families
)

// maxLabels is how many labels a family has at most.
const maxLabels = 5

// about describes each family. Of a series that is too many, the labels in open are
// "other"; those of the other labels are of a fixed set of words.
var about = [families]struct {
	name, help string
	labels     []string
	open       []int
}{
	detections: {name: "tulle_detections_total", help: "Connections by what is spoken on them, and how that was decided.",
		labels: []string{"direction", "service", "protocol", "how"}, open: []int{1}},
	retries: {name: "tulle_retries_total", help: "Further tries of requests, and those that were wanted and not made, by reason and outcome.",
		labels: []string{"direction", "service", "reason", "outcome"}, open: []int{1}},
	failures: {name: "tulle_errors_total", help: "What the proxy couldn't do, by reason.",
		labels: []string{"direction", "service", "reason"}, open: []int{1, 2}},
	malformed: {name: "tulle_malformed_total", help: "Input that was refused as malformed, by reason.",
		labels: []string{"direction", "reason"}, open: []int{1}},
	faults: {name: "tulle_faults_total", help: "Requests that were spoiled on purpose, by what was done to them.",
		labels: []string{"direction", "service", "kind"}, open: []int{1}},
	mirrors: {name: "tulle_mirrors_total", help: "Copies of requests, by what became of them.",
		labels: []string{"service", "outcome"}, open: []int{0}},
	tokens: {name: "tulle_jwt_total", help: "Requests where tokens are looked for, by what theirs came to.",
		labels: []string{"direction", "service", "issuer", "outcome"}, open: []int{1, 2}},
	externals: {name: "tulle_external_authorization_total", help: "Requests about which another program was asked, by what that came to.",
		labels: []string{"direction", "service", "outcome"}, open: []int{1}},
	decisions: {name: "tulle_access_total", help: "Requests, and connections whose requests can't be seen, by what access rules came to.",
		labels: []string{"direction", "service", "peer", "decision", "rule"}, open: []int{1, 2, 4}},
	departures: {name: "tulle_egress_total", help: "Requests, and connections whose requests can't be seen, that were to leave the mesh, by what the policy came to.",
		labels: []string{"destination", "decision"}, open: []int{0}},
}

// series is one of a family, by its labels' values.
type series struct {
	family family
	values [maxLabels]string
}

// counted is a series in one shard.
type counted struct {
	series
	Counter
}

// counter returns the handle of a series, the same one for the same labels. It
// costs a map look-up and allocates once.
func (s *Shard) counter(f family, values ...string) *Counter {
	k := series{family: f}
	copy(k.values[:], values)
	c := s.counters[k]
	if c == nil && !s.registry.admitCounter(k) {
		for _, i := range about[f].open {
			k.values[i] = overflow
		}
		c = s.counters[k] // not remembered under the first: the map would grow without bound
	}
	if c == nil {
		c = &counted{series: k}
		s.counters[k] = c
		s.mu.Lock()
		s.counterList = append(s.counterList, c)
		s.mu.Unlock()
	}
	return &c.Counter
}

// admitCounter reports whether there is room for a series.
func (r *Registry) admitCounter(k series) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.counters[k]; ok {
		return true
	}
	if r.counts[k.family] >= maxSeries {
		return false
	}
	r.counts[k.family]++
	r.counters[k] = struct{}{}
	return true
}

// writeCounters writes each family that has series, in a stable order.
func (r *Registry) writeCounters(w *Writer) {
	type sum struct {
		series
		n uint64
	}
	var sums []*sum
	by := make(map[series]*sum)
	for _, s := range r.shards {
		s.mu.Lock()
		list := s.counterList
		s.mu.Unlock()
		for _, c := range list {
			t := by[c.series]
			if t == nil {
				t = &sum{series: c.series}
				by[c.series], sums = t, append(sums, t)
			}
			t.n += c.n.Load()
		}
	}
	slices.SortFunc(sums, func(a, b *sum) int {
		return cmp.Or(cmp.Compare(a.family, b.family), slices.Compare(a.values[:], b.values[:]))
	})
	last := families
	for _, t := range sums {
		f := &about[t.family]
		if t.family != last {
			w.Family(f.name, CounterKind, f.help)
			last = t.family
		}
		var pairs []string
		for i, label := range f.labels {
			pairs = append(pairs, label, t.values[i])
		}
		w.Count(t.n, pairs...)
	}
}

// Error counts something the proxy couldn't do for a request or connection to
// service ("" when unknown). reason is one of a fixed set of words.
func (s *Shard) Error(d Direction, service, reason string) {
	s.counter(failures, d.String(), service, reason).Add(1)
}

// Malformed counts input that was refused. reason is one of a fixed set of words.
func (s *Shard) Malformed(d Direction, reason string) {
	s.counter(malformed, d.String(), reason).Add(1)
}

// Detected counts a connection of which it was decided that it speaks a
// protocol, and how. Both are of a fixed set of words.
func (s *Shard) Detected(d Direction, service, protocol, how string) {
	s.counter(detections, d.String(), service, protocol, how).Add(1)
}

// Fault counts a request to a service that was spoiled on purpose. kind is one of
// a fixed set of words.
func (s *Shard) Fault(d Direction, service, kind string) {
	s.counter(faults, d.String(), service, kind).Add(1)
}

// Mirrored counts what became of a copy of a request to a service. outcome is one
// of a fixed set of words.
func (s *Shard) Mirrored(service, outcome string) {
	s.counter(mirrors, service, outcome).Add(1)
}

// Retried counts a further try of a request to service, or one that was wanted
// and not made.
func (s *Shard) Retried(d Direction, service string, why Retry, o RetryOutcome) {
	s.counter(retries, d.String(), service, why.String(), o.String()).Add(1)
}

// JWT returns the handle of a series of requests by what their token came to, the
// same one for the same labels. issuer is one of a policy's, or empty; outcome is
// one of a fixed set of words. It costs a map look-up.
func (s *Shard) JWT(d Direction, service, issuer, outcome string) *Counter {
	return s.counter(tokens, d.String(), service, issuer, outcome)
}

// External counts a request about which another program was asked, by what that
// came to. outcome is one of a fixed set of words.
func (s *Shard) External(d Direction, service, outcome string) {
	s.counter(externals, d.String(), service, outcome).Add(1)
}

// Access returns the handle of a series of access decisions, the same one for the
// same labels. peer is as in Labels, rule empty for the default. It costs a map
// look-up; whoever counts keeps it.
func (s *Shard) Access(d Direction, service, peer string, decision Access, rule string) *Counter {
	return s.counter(decisions, d.String(), service, peer, decision.String(), rule)
}

// Egress returns the handle of a series of calls that leave the mesh, the same one
// for the same labels. destination is the policy's name for it; of what is
// refused, the host. It costs a map look-up.
func (s *Shard) Egress(destination string, decision Access) *Counter {
	return s.counter(departures, destination, decision.String())
}
