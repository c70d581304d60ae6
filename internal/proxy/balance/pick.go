package balance

import (
	"math/rand/v2"

	"tulle.dev/tulle/internal/policy"
)

const (
	// draws bounds how often chance is asked again when it falls on an endpoint
	// that gets less than its share.
	draws = 4
	// lenience is how often an endpoint that is penalised is taken all the same
	// where chance or turns decide, so that it is seen to recover.
	lenience = 0.1
)

// Pick chooses an endpoint at now (ns), or nil when there is none. An endpoint
// for which avoid is true is chosen only when there is no other; avoid may be
// nil. It doesn't allocate, unless the endpoints' state has changed. The caller
// then calls Begin.
func (s *Set) Pick(now int64, rng *rand.Rand, want Want, avoid func(*Endpoint) bool) *Endpoint {
	s.Fresh(now)
	if want.Session != 0 {
		if e := s.named(want.Session); e != nil && (avoid == nil || !avoid(e)) {
			return e
		}
	}
	if now >= s.retry && avoid == nil {
		if e := s.halfOpen(now); e != nil {
			return e
		}
	}
	g, other := &s.near, &s.far
	if len(s.far.list) > 0 && (len(s.near.list) == 0 || s.stay < 1 && rng.Float64() >= s.stay) {
		g, other = other, g
	}
	e := s.among(g, now, rng, want, avoid)
	if avoid != nil && len(other.list) > 0 && (e == nil || avoid(e)) {
		if o := s.among(other, now, rng, want, avoid); o != nil && !avoid(o) {
			return o
		}
	}
	return e
}

// named returns the endpoint of a session, if it is well.
func (s *Set) named(token uint64) *Endpoint {
	for _, e := range s.endpoints {
		if e.Token(s.service) == token {
			if e.out && !s.panicking {
				return nil
			}
			return e
		}
	}
	return nil
}

// Serves reports whether a session's endpoint is here, and well.
func (s *Set) Serves(token uint64) bool { return s.named(token) != nil }

// halfOpen returns an ejected endpoint whose time is over, for this request to
// try it; each is tried by one request of all loops. A request that has failed
// before doesn't.
func (s *Set) halfOpen(now int64) *Endpoint {
	s.retry = never
	for _, e := range s.endpoints {
		if !e.out {
			continue
		}
		at, ok := e.tally.Endpoint.Retry()
		switch {
		case !ok:
		case now < at || !e.tally.Endpoint.Claim(now):
			s.retry = min(s.retry, max(at, now+1))
		default:
			e.claimed = true
			s.retry = now // there may be another
			return e
		}
	}
	return nil
}

// among chooses from a group.
func (s *Set) among(g *group, now int64, rng *rand.Rand, want Want, avoid func(*Endpoint) bool) *Endpoint {
	switch len(g.list) {
	case 0:
		return nil
	case 1:
		return g.list[0]
	}
	switch s.policy.Balance.Algorithm {
	case policy.RingHash, policy.Maglev:
		if want.Hashed {
			return s.hashed(want.Hash, avoid)
		}
	case policy.RoundRobin:
		return g.turn(now, s.warming, rng, avoid)
	case policy.PeakEWMA, policy.LeastRequest:
		return s.better(g, now, rng, avoid)
	}
	return g.random(now, s.warming, rng, avoid)
}

// better is the better of two that chance chose.
func (s *Set) better(g *group, now int64, rng *rand.Rand, avoid func(*Endpoint) bool) *Endpoint {
	n := len(g.list)
	var i, j int
	if g.equal && now >= s.warming {
		i, j = rng.IntN(n), rng.IntN(n-1)
		if j >= i {
			j++
		}
	} else {
		i = g.drawGrown(now, rng)
		for range draws {
			if j = g.drawGrown(now, rng); j != i {
				break
			}
		}
		if j == i {
			j = (i + 1) % n
		}
	}
	a, b := g.list[i], g.list[j]
	if avoid != nil {
		switch avoidA, avoidB := avoid(a), avoid(b); {
		case avoidA && avoidB:
			return g.from(i, avoid)
		case avoidB:
			return a
		case avoidA:
			return b
		}
	}
	if p, q := a.fainter(now), b.fainter(now); p != q {
		if q {
			return a
		}
		return b
	}
	if s.policy.Balance.Algorithm == policy.LeastRequest {
		if b.queue() < a.queue() {
			return b
		}
		return a
	}
	// The one with the lower load; a, which was drawn by chance, when they are alike.
	if b.load(now)*alike < a.load(now) {
		return b
	}
	return a
}

// drawGrown draws by weight, and less often what hasn't its full share yet.
func (g *group) drawGrown(now int64, rng *rand.Rand) int {
	i := g.draw(rng)
	for range draws {
		if f := g.list[i].share(now); f >= 1 || rng.Float64() < f {
			break
		}
		i = g.draw(rng)
	}
	return i
}

// from is the first endpoint, from index i on, that isn't to be avoided; else
// the one at i.
func (g *group) from(i int, avoid func(*Endpoint) bool) *Endpoint {
	for k := range g.list {
		if e := g.list[(i+k)%len(g.list)]; !avoid(e) {
			return e
		}
	}
	return g.list[i]
}

// random draws by weight alone.
func (g *group) random(now, warming int64, rng *rand.Rand, avoid func(*Endpoint) bool) *Endpoint {
	i := 0
	for range draws {
		if i = g.draw(rng); now < warming {
			i = g.drawGrown(now, rng)
		}
		e := g.list[i]
		if avoid != nil && avoid(e) || e.penalised(now) && rng.Float64() >= lenience {
			continue
		}
		return e
	}
	if avoid != nil {
		return g.from(i, avoid)
	}
	return g.list[i]
}

// turn takes the endpoints in turn. With weights, each turn gives every endpoint
// its weight of credit, and the one with the most pays all of it back: so that
// the turns of a heavy one are spread out.
func (g *group) turn(now, warming int64, rng *rand.Rand, avoid func(*Endpoint) bool) *Endpoint {
	n := len(g.list)
	if g.equal && now >= warming {
		for range n {
			g.next = (g.next + 1) % n
			e := g.list[g.next]
			if avoid != nil && avoid(e) || e.penalised(now) && rng.Float64() >= lenience {
				continue
			}
			return e
		}
		if avoid != nil {
			return g.from(g.next, avoid)
		}
		return g.list[g.next]
	}
	var best *Endpoint
	total := 0.0
	for _, e := range g.list {
		w := e.weight() * e.share(now)
		if e.penalised(now) {
			w *= lenience
		}
		if avoid != nil && avoid(e) {
			continue
		}
		e.current += w
		total += w
		if best == nil || e.current > best.current {
			best = e
		}
	}
	if best == nil {
		return g.list[rng.IntN(n)]
	}
	best.current -= total
	return best
}
