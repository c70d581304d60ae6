package dial

import (
	"slices"

	"tulle.dev/tulle/internal/proxy/balance"
	"tulle.dev/tulle/internal/proxy/loop"
)

const (
	// MaxTries bounds the endpoints that a connection is offered to; for requests
	// it is their policy that does.
	MaxTries = 3
	// remembered is how many endpoints are avoided: as many as a request may try.
	remembered = 11
)

// Tried are the endpoints that one request or connection has tried in vain.
type Tried struct {
	list [remembered]*balance.Endpoint
	n    int
}

// Add adds an endpoint; the last ones are remembered.
func (t *Tried) Add(e *balance.Endpoint) {
	if !t.Has(e) {
		t.list[t.n%remembered] = e
		t.n++
	}
}

// Has reports whether an endpoint was tried.
func (t *Tried) Has(e *balance.Endpoint) bool {
	return slices.Contains(t.list[:min(t.n, remembered)], e)
}

// Untried reports whether the cluster has an endpoint, now, that may be picked
// and wasn't tried.
func (c *Cluster) Untried(t *Tried) bool {
	for _, e := range c.set.All() {
		if !e.Out() && !t.Has(e) {
			return true
		}
	}
	return false
}

// Pick chooses an endpoint that suits what the request wants, or nil when there
// is none; one that was tried is chosen only when there is no other. The caller
// then calls the endpoint's Begin.
func (c *Cluster) Pick(l *loop.Loop, t *Tried, w balance.Want) *balance.Endpoint {
	if t.n == 0 {
		return c.set.Pick(int64(l.Now()), l.Rand, w, nil)
	}
	return c.set.Pick(int64(l.Now()), l.Rand, w, t.Has)
}
