package balance

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"time"

	"tulle.dev/tulle/internal/view"
)

const (
	// decay is how fast an old latency is forgotten: after one decay it counts
	// for 1/e.
	decay = 10 * time.Second
	// seedLatency is what an endpoint is thought to take while its first
	// requests are under way. Before them it is thought to take nothing, so
	// that a new endpoint is tried at once, but by few requests at first.
	seedLatency = 30 * time.Millisecond
	// alike is the ratio of two loads up to which chance decides: a difference
	// that small is noise, and following it would send everything to one of two
	// equal endpoints while there is little traffic.
	alike = 1.5
	// failureLatency is what a failed request counts as, so that an endpoint
	// that fails fast doesn't look fast.
	failureLatency = 5 * time.Second
)

// Endpoint is one endpoint as one loop sees it. It stays the same value while
// its address and identity stay in the set, so pools may key by its pointer.
type Endpoint struct {
	view.Endpoint

	cost    float64 // peak-EWMA latency, ns
	stamp   int64   // when cost was last updated, ns
	pending int     // requests in flight
	known   bool    // a request has ended: cost is a measurement
	// Gone is set when the endpoint left the set: requests in flight end, new
	// ones and pooled connections must not use it.
	Gone bool
	// Pool is the owner's: the loop's connections to this endpoint.
	Pool any
}

// Load is what an endpoint costs now: lower is better.
func (e *Endpoint) load(now int64) float64 {
	weight := float64(e.Weight)
	if weight == 0 {
		weight = 1
	}
	return e.latency(now) * float64(e.pending+1) / weight
}

// latency is the cost, decayed towards zero since it was last updated, so that
// an endpoint that was slow once is tried again.
func (e *Endpoint) latency(now int64) float64 {
	if !e.known {
		if e.pending == 0 {
			return 0
		}
		return float64(seedLatency)
	}
	if dt := now - e.stamp; dt > 0 {
		return e.cost * math.Exp(-float64(dt)/float64(decay))
	}
	return e.cost
}

// Latency is the endpoint's peak-EWMA latency at now (ns, as the loop counts).
func (e *Endpoint) Latency(now int64) time.Duration { return time.Duration(e.latency(now)) }

// Pending is the number of requests in flight from this loop.
func (e *Endpoint) Pending() int { return e.pending }

// Begin counts a request in flight; each Begin needs one End.
func (e *Endpoint) Begin() { e.pending++ }

// End reports how a request went: it took latency and ended at now (ns).
// failed says the endpoint did not do its work (refused, reset, 5xx).
func (e *Endpoint) End(now int64, latency time.Duration, failed bool) {
	e.pending--
	if failed {
		latency = max(latency, failureLatency)
	}
	took := float64(latency)
	switch dt := now - e.stamp; {
	case !e.known || took > e.cost:
		e.cost = took // a peak counts at once
	case dt > 0:
		w := math.Exp(-float64(dt) / float64(decay))
		e.cost = e.cost*w + took*(1-w)
	}
	e.stamp, e.known = now, true
}

// Cancel takes a Begin back without a verdict: the client went away.
func (e *Endpoint) Cancel() { e.pending-- }

// Set is the endpoints of one service port, owned by one loop.
type Set struct {
	endpoints []*Endpoint
}

// key tells endpoints apart: an address used by another identity is another endpoint.
type key struct {
	address  netip.AddrPort
	identity string
}

// Update makes the set hold exactly list. Endpoints that stay keep what was
// learnt about them; those that leave are marked Gone and returned.
func (s *Set) Update(list []view.Endpoint) (gone []*Endpoint) {
	old := make(map[key]*Endpoint, len(s.endpoints))
	for _, e := range s.endpoints {
		old[key{e.Address, e.Identity}] = e
	}
	next := make([]*Endpoint, 0, len(list))
	for _, v := range list {
		k := key{v.Address, v.Identity}
		e := old[k]
		if e == nil {
			e = &Endpoint{}
		}
		delete(old, k)
		e.Endpoint = v
		next = append(next, e)
	}
	for _, e := range s.endpoints {
		if old[key{e.Address, e.Identity}] == e {
			e.Gone = true
			gone = append(gone, e)
		}
	}
	s.endpoints = next
	return gone
}

// Len is the number of endpoints.
func (s *Set) Len() int { return len(s.endpoints) }

// All returns the endpoints; the slice must not be changed or kept.
func (s *Set) All() []*Endpoint { return s.endpoints }

// Pick chooses an endpoint at now (ns), or nil when the set is empty. An
// endpoint for which avoid is true is chosen only when there is no other;
// avoid may be nil. It doesn't allocate.
func (s *Set) Pick(now int64, rng *rand.Rand, avoid func(*Endpoint) bool) *Endpoint {
	n := len(s.endpoints)
	switch n {
	case 0:
		return nil
	case 1:
		return s.endpoints[0]
	}
	i := rng.IntN(n)
	j := rng.IntN(n - 1)
	if j >= i {
		j++
	}
	a, b := s.endpoints[i], s.endpoints[j]
	if avoid == nil {
		return better(a, b, now)
	}
	switch avoidA, avoidB := avoid(a), avoid(b); {
	case !avoidA && !avoidB:
		return better(a, b, now)
	case !avoidA:
		return a
	case !avoidB:
		return b
	}
	for k := range n { // both are to be avoided: the next one that isn't
		if e := s.endpoints[(i+k)%n]; !avoid(e) {
			return e
		}
	}
	return better(a, b, now)
}

// better is the endpoint with the lower load; a, which was drawn by chance,
// when they are alike.
func better(a, b *Endpoint, now int64) *Endpoint {
	if b.load(now)*alike < a.load(now) {
		return b
	}
	return a
}
