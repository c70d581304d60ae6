package eject

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/view"
)

const (
	// margin is by how many percent points others must do better before an
	// endpoint is ejected for its success rate: when all are alike it is not the
	// endpoint's fault, and to send its requests to the others wouldn't help them.
	margin = 10
	// alike is the share of the others, in percent, that must be failing in a
	// row too before that is taken for an outage of the service.
	alike = 90
	// fewOthers is how many requests to others are too few to compare with.
	fewOthers = 5
	// onTrial divides MinRequests for an endpoint that has just come back.
	onTrial = 4
	// minWindow keeps a window's parts at 10 ms and more.
	minWindow = 100 * time.Millisecond
)

// Reason is why an endpoint was ejected.
type Reason uint8

// The reasons; metrics use their names.
const (
	Consecutive Reason = iota + 1
	SuccessRate
	Latency
	reasons
)

// String returns the label's value.
func (r Reason) String() string {
	switch r {
	case Consecutive:
		return "consecutive"
	case SuccessRate:
		return "success_rate"
	case Latency:
		return "latency"
	}
	return ""
}

// Service is what a proxy's loops know together of one service port.
type Service struct {
	// Key is "SERVICE.NAMESPACE:PORT".
	Key string
	// The limits of policy.Limits.
	Connections, Requests, Pending Limit

	line line // who waits for a connection

	registry   *Registry
	policy     atomic.Pointer[policy.Upstream]
	generation atomic.Uint64

	asked    atomic.Int64  // when the loops were last asked for a connection
	owed     atomic.Int32  // how many of them haven't answered
	answered atomic.Int64  // when the last one did
	givers   []func() bool // under mu

	mu        sync.Mutex
	endpoints map[name]*Endpoint
	begun     bool // endpoints that come from now on are new
	entered   uint64
	total     window
	judged    int64 // the tick in which latencies were compared last
	ejections [reasons]uint64
}

// name tells endpoints apart, as balance does.
type name struct {
	address          netip.AddrPort
	identity, unique string
}

// Policy is what goes with the endpoints; never nil.
func (s *Service) Policy() *policy.Upstream { return s.policy.Load() }

// SetPolicy takes what the proxy was told; nil is policy.DefaultUpstream.
func (s *Service) SetPolicy(p *policy.Upstream) {
	if p == nil {
		p = policy.DefaultUpstream
	}
	old := s.policy.Swap(p)
	if old == p {
		return
	}
	s.Serve() // there may be more room now
	s.mu.Lock()
	defer s.mu.Unlock()
	if partOf(&old.Ejection) != partOf(&p.Ejection) {
		s.total = window{} // its parts are other ones now
	}
	for _, e := range s.endpoints {
		if s.total == (window{}) {
			e.record = window{}
		}
		if p.Health == nil { // nobody asks any more
			e.clear(unhealthy)
		}
		if p.Ejection.Off {
			e.clear(ejected)
		}
	}
	s.generation.Add(1)
}

// Generation changes whenever an endpoint's flags do.
func (s *Service) Generation() uint64 { return s.generation.Load() }

// Enter returns the state of an endpoint that a loop has; each Enter needs a
// Leave.
func (s *Service) Enter(v *view.Endpoint) *Endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := name{v.Address, v.Identity, v.UniqueID}
	e := s.endpoints[k]
	if e == nil {
		e = &Endpoint{service: s, address: v.Address, identity: v.Identity, unique: v.UniqueID, workload: v.Workload}
		if !s.begun {
			e.joined.Store(always)
		}
		s.entered++
		e.order = s.entered
		s.endpoints[k] = e
		s.registry.host(e)
	}
	e.refs++
	return e
}

// Gives adds a loop that can be asked to give up a connection that rests: f is
// called from any goroutine and must not block. When it returns true, Gave is
// called once.
func (s *Service) Gives(f func() bool) {
	s.mu.Lock()
	s.givers = append(s.givers, f)
	s.mu.Unlock()
}

// Gave is a loop's answer: it has given up what it could.
func (s *Service) Gave(now int64) {
	s.answered.Store(now)
	s.owed.Add(-1)
}

// Reclaim asks all loops to give up a connection that rests, and reports whether
// it makes sense to wait for that: until all have answered, however busy they are,
// and for wait after that. Then nobody is asked until pause is over too. Times are
// nanoseconds.
func (s *Service) Reclaim(now, wait, pause int64) bool {
	if asked := s.asked.Load(); asked != 0 {
		done := max(asked, s.answered.Load())
		switch {
		case s.owed.Load() > 0, now < done+wait:
			return true
		case now < done+wait+pause:
			return false
		}
		if !s.asked.CompareAndSwap(asked, max(now, 1)) {
			return true // another loop asks
		}
	} else if !s.asked.CompareAndSwap(0, max(now, 1)) {
		return true
	}
	s.mu.Lock()
	givers := s.givers
	s.mu.Unlock()
	s.owed.Add(int32(len(givers)))
	for _, f := range givers {
		if !f() {
			s.Gave(now)
		}
	}
	return true
}

// Eased says that a connection may have come to rest: it makes sense to ask again.
func (s *Service) Eased() {
	if s.asked.Load() != 0 {
		s.asked.Store(0)
	}
}

// Entered says that a loop has the whole list: endpoints that come later are new.
func (s *Service) Entered() {
	s.mu.Lock()
	s.begun = s.begun || len(s.endpoints) > 0
	s.mu.Unlock()
}

// Leave says that a loop hasn't the endpoint any more.
func (s *Service) Leave(e *Endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.refs--; e.refs > 0 {
		return
	}
	delete(s.endpoints, name{e.address, e.identity, e.unique})
	s.forget(e)
	s.floor()
	s.registry.unhost(e)
}

// forget drops what was counted of an endpoint. The caller has the lock.
func (s *Service) forget(e *Endpoint) {
	e.record.turn(s.total.tick)
	s.total.take(&e.record)
	e.record = window{tick: s.total.tick}
}

// tickOf is the number of the window's part that now is in.
func tickOf(p *policy.Ejection, now int64) int64 { return now / partOf(p) }

func partOf(p *policy.Ejection) int64 { return int64(max(p.Window, minWindow)) / buckets }

// count adds what a loop has seen of an endpoint. The caller has the lock.
func (s *Service) count(e *Endpoint, p *policy.Ejection, now int64, good, bad uint32, latency int64) {
	tick := tickOf(p, now)
	s.total.turn(tick)
	e.record.turn(s.total.tick)
	s.total.add(good, bad, latency)
	e.record.add(good, bad, latency)
}

// bad takes a failure, and what went well before, and judges.
func (s *Service) bad(e *Endpoint, now int64, good uint32, latency int64) {
	p := &s.Policy().Ejection
	e.failedAgain()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count(e, p, now, good, 1, latency)
	if p.Off || e.word.Load()&ejected != 0 {
		return
	}
	e.relax(p, now)
	e.lastBad = now
	switch {
	case p.Consecutive > 0 && e.inARow() >= p.Consecutive && !s.outage(e, p):
		s.eject(e, p, now, Consecutive)
	case p.SuccessRate > 0 && s.fails(e, p, now):
		s.eject(e, p, now, SuccessRate)
	}
}

// outage reports whether nearly all of the others are failing as well.
func (s *Service) outage(e *Endpoint, p *policy.Ejection) bool {
	others, failing := 0, 0
	for _, o := range s.endpoints {
		if o == e || o.Out() {
			continue
		}
		others++
		if o.inARow() >= (p.Consecutive+1)/2 {
			failing++
		}
	}
	return others > 0 && failing*100 >= others*alike
}

// fails reports whether too much of what the endpoint does fails, and more than
// with the others.
func (s *Service) fails(e *Endpoint, p *policy.Ejection, now int64) bool {
	need := max(p.MinRequests, 1)
	if now < e.trial.Load() {
		need = max(need/onTrial, 1)
	}
	own := e.record.sum()
	if own.n() < need || own.rate() >= float64(p.SuccessRate) {
		return false
	}
	others := s.total
	others.take(&e.record)
	rest := others.sum()
	return rest.n() < fewOthers || own.rate()+margin <= rest.rate()
}

// good takes what went well in a part of a window.
func (s *Service) good(e *Endpoint, now int64, n uint32, latency int64) {
	p := &s.Policy().Ejection
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count(e, p, now, n, 0, latency)
	if p.Off || p.Latency == 0 || s.judged == s.total.tick {
		return
	}
	s.judged = s.total.tick
	s.compare(p, now)
}

// compare ejects endpoints that are slow beside the others.
func (s *Service) compare(p *policy.Ejection, now int64) {
	type slow struct {
		e       *Endpoint
		average time.Duration
	}
	var list []slow
	for _, e := range s.endpoints {
		e.record.turn(s.total.tick)
		if b := e.record.sum(); !e.Out() && b.good >= max(p.MinRequests, 1) {
			list = append(list, slow{e, b.average()})
		}
	}
	slices.SortFunc(list, func(a, b slow) int {
		if a.average != b.average {
			return int(a.average - b.average)
		}
		return a.e.address.Compare(b.e.address)
	})
	for i := len(list) - 1; i > 0; i-- {
		others := list[:i] // the slower ones were ejected, or the loop has ended
		median := others[len(others)/2].average
		if len(others)%2 == 0 {
			median = (median + others[len(others)/2-1].average) / 2
		}
		if list[i].average < time.Duration(p.Latency)*median || !s.eject(list[i].e, p, now, Latency) {
			return
		}
	}
}

// room reports whether one more endpoint may be left out.
func (s *Service) room(p *policy.Ejection) bool {
	out, well := 0, 0
	for _, e := range s.endpoints {
		switch w := e.word.Load(); {
		case w&ejected != 0:
			out++
		case w&unhealthy == 0:
			well++
		}
	}
	return p.Max > 0 && well > 1 && (out == 0 || (out+1)*100 <= int(p.Max)*len(s.endpoints))
}

// floor brings ejected endpoints back when nobody else is left. The caller has the
// lock.
func (s *Service) floor() {
	for _, e := range s.endpoints {
		if !e.Out() {
			return
		}
	}
	for _, e := range s.endpoints {
		if e.word.Load()&ejected != 0 {
			e.clear(ejected)
			e.forgive()
			s.generation.Add(1)
		}
	}
}

// eject leaves an endpoint out, if that may be.
func (s *Service) eject(e *Endpoint, p *policy.Ejection, now int64, why Reason) bool {
	if e.word.Load()&ejected == 0 && !s.room(p) {
		return false
	}
	e.backoff = min(max(2*e.backoff, p.Base), max(p.MaxBackoff, p.Base))
	e.until.Store(now + int64(e.backoff))
	e.claimed.Store(0)
	e.reason = why
	e.ejections++
	s.ejections[why]++
	e.set(ejected)
	s.generation.Add(1)
	return true
}

// relax halves the back-off for each window without a failure. The caller has
// the lock.
func (e *Endpoint) relax(p *policy.Ejection, now int64) {
	for w := (now - e.lastBad) / int64(max(p.Window, minWindow)); w > 0 && e.backoff > 0; w-- {
		e.backoff /= 2
		if e.backoff < p.Base/2 {
			e.backoff = 0
		}
	}
}

// probed takes how the request went that tried an ejected endpoint.
func (s *Service) probed(e *Endpoint, now int64, ok bool) {
	p := &s.Policy().Ejection
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.word.Load()&ejected == 0 {
		return
	}
	if !ok && !p.Off {
		e.lastBad = now
		s.eject(e, p, now, e.reason)
		return
	}
	s.forget(e)
	e.lastBad = now
	e.trial.Store(now + int64(p.Window))
	e.joined.Store(now)
	e.claimed.Store(0)
	e.word.And(unhealthy | suspect | mistaken) // neither ejected nor failing in a row
	s.generation.Add(1)
}
