package meter

import (
	"cmp"
	"maps"
	"slices"
)

// jwtKey names a series of requests by what their tokens came to.
type jwtKey struct {
	direction                Direction
	service, issuer, outcome string
}

type jwtCounter struct {
	key     jwtKey
	counter *Counter
}

// maxJWT bounds the label sets of tokens, by loop.
const maxJWT = 1000

// JWT returns the handle of a series of requests by what their token came to, the
// same one for the same labels. issuer is one of a policy's, or empty; outcome is
// one of a fixed set of words. It costs a map look-up.
func (s *Shard) JWT(d Direction, service, issuer, outcome string) *Counter {
	k := jwtKey{d, service, issuer, outcome}
	c := s.jwt[k]
	if c == nil {
		if len(s.jwt) >= maxJWT {
			k.service, k.issuer = overflow, overflow
			if c = s.jwt[k]; c != nil {
				return c
			}
		}
		c = &Counter{}
		if s.jwt == nil {
			s.jwt = make(map[jwtKey]*Counter)
		}
		s.jwt[k] = c
		s.mu.Lock()
		s.jwtList = append(s.jwtList, jwtCounter{k, c})
		s.mu.Unlock()
	}
	return c
}

// External counts a request about which another program was asked, by what that
// came to. outcome is one of a fixed set of words.
func (s *Shard) External(d Direction, service, outcome string) {
	s.count(&s.external, faultKey{d, service, outcome})
}

func (r *Registry) writeJWT(w *Writer) {
	sums := make(map[jwtKey]uint64)
	for _, s := range r.shards {
		s.mu.Lock()
		list := s.jwtList
		s.mu.Unlock()
		for _, c := range list {
			sums[c.key] += c.counter.n.Load()
		}
	}
	if len(sums) > 0 {
		w.Family("tulle_jwt_total", CounterKind, "Requests where tokens are looked for, by what theirs came to.")
	}
	for _, k := range slices.SortedFunc(maps.Keys(sums), func(a, b jwtKey) int {
		return cmp.Or(cmp.Compare(a.direction, b.direction), cmp.Compare(a.service, b.service),
			cmp.Compare(a.issuer, b.issuer), cmp.Compare(a.outcome, b.outcome))
	}) {
		w.Count(sums[k], "direction", k.direction.String(), "service", k.service, "issuer", k.issuer, "outcome", k.outcome)
	}
	keys, asked := r.sumFaults(func(s *Shard) *faults { return &s.external })
	if len(keys) > 0 {
		w.Family("tulle_external_authorization_total", CounterKind, "Requests about which another program was asked, by what that came to.")
	}
	for _, k := range keys {
		w.Count(asked[k], "direction", k.direction.String(), "service", k.service, "outcome", k.kind)
	}
}
