package eject

import (
	"math"
	"net/netip"
	"sync/atomic"
	"time"
)

// The flags of Endpoint.word; above them is the number of failures in a row.
const (
	ejected   uint64       = 1 << iota // left out for failures
	unhealthy                          // left out by its health check
	suspect                            // others at its address don't answer
	mistaken                           // another workload answers at its address
	flags     = 8                      // bits
	failure   = 1 << flags             // one failure in a row
	maxInARow = 1 << 24                // more aren't counted
)

const (
	// claimFor is how long a request that tries an ejected endpoint may take
	// before another one may try.
	claimFor = 10 * time.Second
	// suspectFor is how long an endpoint is suspect after the last sign that its
	// host is gone.
	suspectFor = 10 * time.Second
	// together is the time in which endpoints of one address must time out for
	// the address to be suspected, with no answer from it in between. The kernel
	// gives connections up whose last bytes left at about the same time, but looks
	// at each only when it would repeat them.
	together = 3 * time.Second
)

// always is when an endpoint joined that was there from the beginning.
const always = math.MinInt64 / 2

// Endpoint is what all loops know of one endpoint. Times are nanoseconds as the
// loops count.
type Endpoint struct {
	service  *Service
	address  netip.AddrPort
	identity string
	unique   string
	workload string
	order    uint64 // of coming

	// Read by the loops without a lock.
	word    atomic.Uint64
	joined  atomic.Int64 // when it came, or came back; 0: not yet seen
	until   atomic.Int64 // when an ejected one may be tried
	claimed atomic.Int64 // until when a request is trying it
	doubt   atomic.Int64 // until when it is suspect
	trial   atomic.Int64 // until when, after an ejection, little is forgiven

	// Under the service's lock.
	refs      int
	record    window
	backoff   time.Duration // of the last ejection
	lastBad   int64
	reason    Reason
	why       string // of its health check
	ejections uint64
}

// Out reports whether the endpoint is to be left out.
func (e *Endpoint) Out() bool { return e.word.Load()&(ejected|unhealthy) != 0 }

// Unhealthy reports whether its health check says so.
func (e *Endpoint) Unhealthy() bool { return e.word.Load()&unhealthy != 0 }

// Suspect reports whether the endpoint's host seems to be gone, and until when
// that is thought.
func (e *Endpoint) Suspect(now int64) (until int64, yes bool) {
	if e.word.Load()&suspect == 0 {
		return 0, false
	}
	until = e.doubt.Load()
	return until, now < until
}

// mistakenWhy says it for people.
const mistakenWhy = "another workload answers at its address"

// Mistaken reports whether another workload was met at its address last.
func (e *Endpoint) Mistaken() bool { return e.word.Load()&mistaken != 0 }

// SetMistaken notes who was met there, and reports whether that is news.
func (e *Endpoint) SetMistaken(yes bool) bool {
	if e.Mistaken() == yes {
		return false
	}
	if yes {
		return e.word.Or(mistaken)&mistaken == 0
	}
	return e.word.And(^mistaken)&mistaken != 0
}

// Retry returns when an endpoint that is out may be tried by one request; false
// when it isn't ejected, or its health check must pass first.
func (e *Endpoint) Retry() (at int64, ok bool) {
	if e.word.Load()&(ejected|unhealthy) != ejected {
		return 0, false
	}
	return max(e.until.Load(), e.claimed.Load()), true
}

// Claim reports whether this request is the one that tries an ejected endpoint
// now. Whoever claims it says how it went: with a Tally's Probed, or Unclaim.
func (e *Endpoint) Claim(now int64) bool {
	if at, ok := e.Retry(); !ok || now < at {
		return false
	}
	c := e.claimed.Load()
	return now >= c && e.claimed.CompareAndSwap(c, now+int64(claimFor))
}

// Unclaim lets another request try: this one was given up.
func (e *Endpoint) Unclaim() {
	e.claimed.Store(0)
	e.service.generation.Add(1)
}

// Joined returns when the endpoint came or came back, which is now when it is new.
func (e *Endpoint) Joined(now int64) int64 {
	if e.joined.CompareAndSwap(0, now) {
		return now
	}
	return e.joined.Load()
}

// Trial returns until when an endpoint that came back after an ejection gets less
// than the others, and is ejected sooner.
func (e *Endpoint) Trial() int64 { return e.trial.Load() }

// Address is where it is.
func (e *Endpoint) Address() netip.AddrPort { return e.address }

// SetHealthy takes what a health check found. why says it for people.
func (e *Endpoint) SetHealthy(now int64, healthy bool, why string) {
	s := e.service
	s.mu.Lock()
	defer s.mu.Unlock()
	e.why = why
	was := e.word.Load()&unhealthy == 0
	switch {
	case was == healthy:
		return
	case healthy:
		e.clear(unhealthy)
		e.joined.Store(now)
	default:
		e.set(unhealthy)
		s.floor()
	}
	s.generation.Add(1)
}

func (e *Endpoint) set(flag uint64)   { e.word.Or(flag) }
func (e *Endpoint) clear(flag uint64) { e.word.And(^flag) }

// inARow is the number of failures since the last success.
func (e *Endpoint) inARow() uint32 { return uint32(e.word.Load() >> flags) }

func (e *Endpoint) failedAgain() {
	if e.inARow() < maxInARow {
		e.word.Add(failure)
	}
}

// forgive forgets the failures in a row.
func (e *Endpoint) forgive() { e.word.And(failure - 1) }
