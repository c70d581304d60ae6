package story

import "time"

const (
	// A request is slow that waits for its answer twice as long as all but one in
	// a hundred do, if that is more than slowFloor: less is noise that nobody asks
	// about. Before a service has answered slowWarm requests nothing is known.
	slowFactor = 2
	slowFloor  = 10 * time.Millisecond
	slowWarm   = 100

	// pace is how far the estimate moves for one request; quantile is what it is of.
	pace     = 0.1
	quantile = 0.99
)

// DefaultSlow is the wait that is slow whatever a service's usual one is.
const DefaultSlow = time.Second

// Pace learns how long requests to a service usually wait for their answer. It
// belongs to one loop. The zero value knows nothing.
type Pace struct {
	estimate float64 // nanoseconds: one in a hundred waits longer
	seen     int
}

// Slow takes a wait in and reports whether it was a long one; limit is one that
// always is.
func (p *Pace) Slow(d, limit time.Duration) bool {
	t := float64(d)
	slow := d >= limit || p.seen >= slowWarm && d > slowFloor && t > slowFactor*p.estimate
	switch {
	case p.seen == 0:
		p.estimate = t
	case t > p.estimate:
		p.estimate *= 1 + pace*quantile
	default:
		p.estimate *= 1 - pace*(1-quantile)
	}
	p.estimate = max(p.estimate, 1)
	if p.seen < slowWarm {
		p.seen++
	}
	return slow
}
