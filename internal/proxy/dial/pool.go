package dial

import (
	"time"

	"tulle.dev/tulle/internal/proxy/balance"
)

// Pooled is a connection that waits for its next request.
type Pooled interface {
	// Rested is how long it has rested; false when it is of no use any more: it
	// is closed, or says something unasked.
	Rested() (time.Duration, bool)
	// Retire closes it.
	Retire()
}

const (
	// maxIdle bounds the idle connections of one loop to one endpoint.
	maxIdle = 256
	// assumedIdle is how long a server of which nothing is known yet is trusted
	// to keep an idle connection.
	assumedIdle = 500 * time.Millisecond
	// minIdle bounds what is learnt: connections that are closed at once, as when
	// a server ends, say little of how long idle ones are kept.
	minIdle = 50 * time.Millisecond
	// probeEvery is how often a connection is left to rest, unused, beyond what
	// was learnt, to see whether that still holds.
	probeEvery = time.Minute
)

// Pool holds one loop's idle connections to one endpoint, and learns how long its
// server keeps them. A request that is sent on a connection just as the server
// closes it is lost, and may not be sent again when it isn't idempotent; so
// connections retire before that: 10 % before the server closed one. As long as
// nothing was seen, a request that can't be repeated uses a connection only when
// others have been seen to live that long; the rest of them show that meanwhile.
type Pool struct {
	idle []Pooled
	// Shared are the connections that carry several requests at once; whoever
	// makes them keeps them here.
	Shared interface{ Retire() }

	inLine []*Attempt // who waits for its turn, and would take one that rests

	learnt  time.Duration // after how long a rest the server closed; 0: never seen
	lived   time.Duration // the longest rest that a connection survived
	probe   Pooled        // rests beyond what was learnt
	probeAt time.Duration // when the next one may
}

// PoolOf returns the endpoint's pool.
func PoolOf(e *balance.Endpoint) *Pool {
	if p, ok := e.Pool.(*Pool); ok {
		return p
	}
	p := &Pool{}
	e.Pool = p
	return p
}

// Keep is how long a connection may rest; at most limit.
func (p *Pool) Keep(limit time.Duration) time.Duration {
	if p.learnt == 0 {
		return limit
	}
	return min(limit, below(p.learnt))
}

// Learnt is after how long a rest the server was seen to close a connection; 0
// when it never was.
func (p *Pool) Learnt() time.Duration { return p.learnt }

// below is 10 % less.
func below(d time.Duration) time.Duration { return d - d/10 }

// Get returns the connection that was used last, which the server is least
// likely to close now, or nil. limit is how long one may rest at most; careful
// says that the request can't be repeated.
func (p *Pool) Get(limit time.Duration, careful bool) Pooled {
	limit = p.Keep(limit)
	p.watch()
	for n := len(p.idle); n > 0; n = len(p.idle) {
		c := p.idle[n-1]
		rested, ok := c.Rested()
		if ok && careful && p.learnt == 0 && rested > max(assumedIdle, below(p.lived)) {
			return nil // it goes on resting, and shows how long that may be
		}
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		if ok && rested < limit {
			return c
		}
		c.Retire()
	}
	return nil
}

// watch notes how long the one that rests longest has.
func (p *Pool) watch() {
	if len(p.idle) > 0 && p.learnt == 0 {
		if rested, ok := p.idle[0].Rested(); ok {
			p.lived = max(p.lived, rested)
		}
	}
}

// Put takes a connection back. When there are too many the oldest goes.
func (p *Pool) Put(c Pooled) {
	p.watch()
	if len(p.idle) >= maxIdle {
		oldest := p.idle[0]
		p.Remove(oldest)
		oldest.Retire()
	}
	p.idle = append(p.idle, c)
}

// Remove takes out a connection that ended while it was idle.
func (p *Pool) Remove(c Pooled) {
	if p.probe == c {
		p.probe = nil
		return
	}
	for i, other := range p.idle {
		if other == c {
			p.idle = append(p.idle[:i], p.idle[i+1:]...)
			return
		}
	}
}

// Closed is told that the server has closed a connection that had rested for so
// long.
func (p *Pool) Closed(c Pooled, rested time.Duration) {
	probe := p.probe == c
	p.Remove(c)
	switch rested = max(rested, minIdle); {
	case p.learnt == 0 || rested < p.learnt || probe:
		p.learnt = rested
		p.lived = min(p.lived, below(rested))
	}
}

// Over is told that a connection has rested for as long as it may, and reports
// whether it is to go on resting, unused, until limit. It is out of the pool.
func (p *Pool) Over(c Pooled, rested, limit, now time.Duration) bool {
	if p.probe == c { // the server keeps them for longer than it was thought to
		p.probe = nil
		p.learnt, p.lived = 0, max(p.lived, rested)
		return false
	}
	p.Remove(c)
	p.lived = max(p.lived, rested)
	if p.learnt == 0 || rested >= limit || p.probe != nil || now < p.probeAt {
		return false
	}
	p.probe, p.probeAt = c, now+probeEvery
	return true
}

// Len is the number of idle connections.
func (p *Pool) Len() int { return len(p.idle) }

// Drop closes all of them: the endpoint is gone.
func (p *Pool) Drop() {
	for _, c := range p.idle {
		c.Retire()
	}
	p.idle = nil
	if p.probe != nil {
		p.probe.Retire()
		p.probe = nil
	}
	if p.Shared != nil {
		p.Shared.Retire()
	}
}
