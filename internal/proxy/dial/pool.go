package dial

import "tulle.dev/tulle/internal/proxy/balance"

// Pooled is a connection that waits for its next request.
type Pooled interface {
	// Fresh reports whether it may be used: it is open, silent and not about
	// to be closed by the server.
	Fresh() bool
	// Retire closes it.
	Retire()
}

// maxIdle bounds the idle connections of one loop to one endpoint.
const maxIdle = 256

// Pool holds one loop's idle connections to one endpoint.
type Pool struct {
	idle []Pooled
	// Shared are the connections that carry several requests at once; whoever
	// makes them keeps them here.
	Shared interface{ Retire() }
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

// Get returns the connection that was used last, which the server is least
// likely to close now, or nil.
func (p *Pool) Get() Pooled {
	for n := len(p.idle); n > 0; n = len(p.idle) {
		c := p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		if c.Fresh() {
			return c
		}
		c.Retire()
	}
	return nil
}

// Put takes a connection back. When there are too many the oldest goes.
func (p *Pool) Put(c Pooled) {
	if len(p.idle) >= maxIdle {
		oldest := p.idle[0]
		p.Remove(oldest)
		oldest.Retire()
	}
	p.idle = append(p.idle, c)
}

// Remove takes out a connection that ended while it was idle.
func (p *Pool) Remove(c Pooled) {
	for i, other := range p.idle {
		if other == c {
			p.idle = append(p.idle[:i], p.idle[i+1:]...)
			return
		}
	}
}

// Len is the number of idle connections.
func (p *Pool) Len() int { return len(p.idle) }

// Drop closes all of them: the endpoint is gone.
func (p *Pool) Drop() {
	for _, c := range p.idle {
		c.Retire()
	}
	p.idle = nil
	if p.Shared != nil {
		p.Shared.Retire()
	}
}
