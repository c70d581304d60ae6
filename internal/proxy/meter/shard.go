package meter

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of what a Registry holds. What comes over a bound is counted in a
// series whose labels say "other", never lost.
const (
	// maxSeries bounds the label sets of traffic, and those of each family of
	// counters, of the whole proxy.
	maxSeries = 1000
	// maxStatuses bounds the different status codes of one series.
	maxStatuses = 24
)

// Counter is written by one loop and read by scrapes.
type Counter struct{ n atomic.Uint64 }

// Add adds n. Only the shard's loop may call it.
func (c *Counter) Add(n uint64) { c.n.Store(c.n.Load() + n) }

// Shard is one loop's part of a Registry. Only that loop may use it and what it
// hands out; scrapes read it through atomics.
type Shard struct {
	registry *Registry
	// The maps belong to the loop alone. The lists are for scrapes.
	traffic    map[Labels]*Traffic
	counters   map[series]*counted
	rateLimits map[rateLimitKey]*RateLimited
	routes     map[RouteLabels]*Route

	mu            sync.Mutex // guards the lists
	list          []*Traffic
	counterList   []*counted
	rateLimitList []*RateLimited
	routeList     []*Route
}

// Traffic is the handle of one series in one shard. Its methods don't allocate
// and don't lock.
type Traffic struct {
	labels    Labels
	protocols [protocols]Counter
	closed    Counter
	received  Counter
	sent      Counter
	statuses  [maxStatuses + 1]statusCounter // the last one counts all others
	duration  histogram
}

type statusCounter struct {
	code atomic.Uint32 // 0: the slot is free
	n    Counter
}

// Traffic returns the handle of a series, the same one for the same labels. It
// costs a map look-up; a connection keeps its handle.
func (s *Shard) Traffic(l Labels) *Traffic {
	if t := s.traffic[l]; t != nil {
		return t
	}
	key := l
	if !s.registry.admit(l) {
		l.Service, l.Peer = overflow, overflow
		if t := s.traffic[l]; t != nil {
			// Not remembered under key: that map would grow without bound.
			return t
		}
		key = l
	}
	t := &Traffic{labels: l}
	s.traffic[key] = t
	s.mu.Lock()
	s.list = append(s.list, t)
	s.mu.Unlock()
	return t
}

// Opened counts a connection that began.
func (t *Traffic) Opened(p Protocol) { t.protocols[p].Add(1) }

// Closed counts the end of a connection that Opened counted.
func (t *Traffic) Closed() { t.closed.Add(1) }

// Received counts bytes that came from the client, as on its socket but without
// what TLS adds.
func (t *Traffic) Received(n int) { t.received.Add(uint64(n)) }

// Sent counts bytes that went to the client.
func (t *Traffic) Sent(n int) { t.sent.Add(uint64(n)) }

// Request counts an exchange that ended with a final status (100 to 999) after d.
func (t *Traffic) Request(status int, d time.Duration) {
	code := uint32(status)
	for i := range t.statuses[:maxStatuses] {
		s := &t.statuses[i]
		switch s.code.Load() {
		case code:
			s.n.Add(1)
			t.duration.observe(d)
			return
		case 0:
			s.n.Add(1)
			s.code.Store(code)
			t.duration.observe(d)
			return
		}
	}
	t.statuses[maxStatuses].n.Add(1)
	t.duration.observe(d)
}

// The duration histogram has two buckets per power of two: bound i is 0.25 ms
// × 2^(i/2) for even i and 1.5 times the one before for odd i, up to 16.384 s.
const (
	bounds   = 33
	halfUnit = 125 * time.Microsecond
)

type histogram struct {
	buckets [bounds + 1]Counter // the last one is +Inf
	sum     Counter             // nanoseconds
}

func (h *histogram) observe(d time.Duration) {
	if d < 0 {
		d = 0
	}
	h.buckets[bucket(d)].Add(1)
	h.sum.Add(uint64(d))
}

// bucket returns the index of the first bound that is not below d.
func bucket(d time.Duration) int {
	// In units of half the first bound, the bounds are 2, 3, 4, 6, 8, 12, ...
	u := uint64(d+halfUnit-1) / uint64(halfUnit)
	if u <= 2 {
		return 0
	}
	n := bits.Len64(u-1) - 1 // 2^n < u <= 2^(n+1)
	i := 2 * n
	if u <= 3<<(n-1) {
		i--
	}
	return min(i, bounds)
}

// boundNanoseconds returns bound i.
func boundNanoseconds(i int) uint64 {
	unit := uint64(halfUnit) << (i / 2)
	if i%2 == 0 {
		return 2 * unit
	}
	return 3 * unit
}
