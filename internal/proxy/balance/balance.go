package balance

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/eject"
	"tulle.dev/tulle/internal/view"
)

// overprovision is what share of its own requests' capacity a zone is thought to
// have to spare: while healthy endpoints × overprovision are enough for the
// zone's requests, none leaves it.
const overprovision = 1.4

// Want is what a request asks of its endpoint.
type Want struct {
	// Hash decides with RingHash and Maglev, if Hashed; without, chance does.
	Hash   uint64
	Hashed bool
	// Session is the token of the endpoint that the client is to stay at; 0 is none.
	Session uint64
}

// Set is the endpoints of one service port, owned by one loop.
type Set struct {
	endpoints []*Endpoint
	service   string
	policy    *policy.Upstream
	zone      string
	shared    *eject.Service // nil: nothing is shared, nobody is left out

	// What rebuild worked out. near and far are the endpoints that may be
	// picked; near alone holds them where zones don't matter.
	built     bool
	seen      uint64 // the generation
	wake      int64  // when flags change by themselves
	retry     int64  // when an ejected endpoint may be tried
	near, far group
	stay      float64 // the share of requests that stay near
	warming   int64   // until when some endpoint gets less than its full share
	panicking bool
	table     table // of the hashes
}

// key tells endpoints apart: an address used by another workload is another endpoint.
type key struct {
	address          netip.AddrPort
	identity, unique string
}

func keyOf(v *view.Endpoint) key { return key{v.Address, v.Identity, v.UniqueID} }

const never = math.MaxInt64

// Share makes the set take part in what all loops know of the service. It comes
// before the first Update.
func (s *Set) Share(service *eject.Service) { s.shared = service }

// Follow says whose endpoints these are, how they are chosen (nil is
// policy.DefaultUpstream) and which zone is the proxy's own.
func (s *Set) Follow(service string, p *policy.Upstream, zone string) {
	if p == nil {
		p = policy.DefaultUpstream
	}
	s.service, s.policy, s.zone = service, p, zone
	s.built = false
	s.table = table{}
	if s.shared != nil {
		s.shared.SetPolicy(p)
	}
}

// Update makes the set hold exactly list, less what the policy's subset leaves
// out. Endpoints that stay keep what was learnt about them; those that leave are
// marked Gone and returned.
func (s *Set) Update(list []view.Endpoint) (gone []*Endpoint) {
	if s.policy == nil {
		s.policy = policy.DefaultUpstream
	}
	old := make(map[key]*Endpoint, len(s.endpoints))
	for _, e := range s.endpoints {
		old[keyOf(&e.Endpoint)] = e
	}
	next := make([]*Endpoint, 0, len(list))
	for i := range list {
		v := &list[i]
		if !s.holds(v) {
			continue
		}
		k := keyOf(v)
		e := old[k]
		if e == nil {
			e = &Endpoint{scale: 1}
			if s.shared != nil {
				e.tally.Endpoint = s.shared.Enter(v)
			}
		}
		delete(old, k)
		e.Endpoint = *v
		next = append(next, e)
	}
	if s.shared != nil {
		s.shared.Entered()
	}
	for _, e := range s.endpoints {
		if old[keyOf(&e.Endpoint)] == e {
			e.Gone = true
			gone = append(gone, e)
			if shared := e.tally.Endpoint; shared != nil {
				s.shared.Leave(shared)
			}
		}
	}
	s.endpoints = next
	s.built = false
	s.table = table{}
	return gone
}

// holds reports whether an endpoint is one that the policy wants: its labels are
// the subset's, its zone is ours where no other will do.
func (s *Set) holds(v *view.Endpoint) bool {
	if s.policy.Locality == policy.OnlyZone && s.zone != "" && v.Zone != s.zone {
		return false
	}
	for _, want := range s.policy.Subset {
		if !labelled(v.Labels, want) {
			return false
		}
	}
	return true
}

// labelled reports whether "K=V,K=V" has a label.
func labelled(labels, want string) bool {
	for len(labels) > 0 {
		one, rest, _ := strings.Cut(labels, ",")
		if one == want {
			return true
		}
		labels = rest
	}
	return false
}

// Len is the number of endpoints.
func (s *Set) Len() int { return len(s.endpoints) }

// All returns the endpoints; the slice must not be changed or kept.
func (s *Set) All() []*Endpoint { return s.endpoints }

// Fresh brings what is known of the endpoints' state up to now. Pick does it by
// itself.
func (s *Set) Fresh(now int64) {
	if !s.built || now >= s.wake || s.shared != nil && s.shared.Generation() != s.seen {
		s.rebuild(now)
	}
}

// rebuild works out who may be picked. It runs when the endpoints, the policy or
// the state of an endpoint has changed, not for a request.
func (s *Set) rebuild(now int64) {
	if s.policy == nil {
		s.policy = policy.DefaultUpstream
	}
	s.built = true
	s.wake, s.retry, s.warming = never, never, 0
	if s.shared != nil {
		s.seen = s.shared.Generation() // before the flags: what changes now is seen next time
	}
	well := 0
	for _, e := range s.endpoints {
		s.look(e, now)
		if !e.out {
			well++
		}
	}
	s.panicking = well*100 < int(s.policy.Panic)*len(s.endpoints)
	s.near.reset()
	s.far.reset()
	local := s.divides()
	var own, all float64 // the weight of our zone and of all, well or not
	zones := 0
	for i, e := range s.endpoints {
		near := !local || e.Zone == s.zone
		if local {
			all += e.weight()
			if near {
				own += e.weight()
			}
			if !slices.ContainsFunc(s.endpoints[:i], func(o *Endpoint) bool { return o.Zone == e.Zone }) {
				zones++
			}
		}
		switch {
		case e.out && !s.panicking:
		case near:
			s.near.list = append(s.near.list, e)
		default:
			s.far.list = append(s.far.list, e)
		}
	}
	s.near.weigh()
	s.far.weigh()
	s.stay = 1
	if local && len(s.far.list) > 0 {
		// Callers are thought to be spread over the zones alike: a zone whose
		// endpoints are fewer than its callers' share keeps less.
		s.stay = min(1, overprovision*s.near.total/max(own, all/float64(zones)))
	}
}

// divides reports whether zones matter: ours is known, has endpoints, and there
// are others. The hashes don't look at zones, for all callers must agree.
func (s *Set) divides() bool {
	if s.zone == "" || s.policy.Locality != policy.PreferZone || s.hashes() {
		return false
	}
	ours, others := false, false
	for _, e := range s.endpoints {
		if e.Zone == s.zone {
			ours = true
		} else {
			others = true
		}
	}
	return ours && others
}

func (s *Set) hashes() bool {
	return s.policy.Balance.Algorithm == policy.RingHash || s.policy.Balance.Algorithm == policy.Maglev
}

// look takes over what all loops know of an endpoint.
func (s *Set) look(e *Endpoint, now int64) {
	shared := e.tally.Endpoint
	e.suspect = false
	if shared == nil {
		return
	}
	was := e.out
	if e.out = shared.Out(); e.out {
		if at, ok := shared.Retry(); ok {
			s.retry = min(s.retry, at)
		}
		return
	}
	if until, yes := shared.Suspect(now); yes {
		e.suspect = true
		s.wake = min(s.wake, until)
	}
	if joined := shared.Joined(now); joined != e.warm {
		e.warm, e.grown = joined, max(joined+int64(s.policy.SlowStart), shared.Trial())
		if was { // what was learnt of it is what it was ejected for
			e.known, e.busy, e.shy, e.fails = false, 0, 0, 0
		}
	}
	s.warming = max(s.warming, e.grown)
}

// group is endpoints among which one is drawn by weight.
type group struct {
	list  []*Endpoint
	total float64
	// equal says that all weigh the same; else alias draws by weight (Walker's
	// method): take entry i with the probability, or its other.
	equal bool
	alias []entry
	next  int // of round robin
}

type entry struct {
	probability float64
	other       int32
}

func (g *group) reset() {
	clear(g.list)
	g.list = g.list[:0]
}

// weigh prepares drawing.
func (g *group) weigh() {
	g.total, g.equal = 0, true
	for _, e := range g.list {
		g.total += e.weight()
		g.equal = g.equal && e.weight() == g.list[0].weight()
	}
	n := len(g.list)
	for _, e := range g.list {
		e.scale = g.total / float64(n) / e.weight()
	}
	if g.equal {
		return
	}
	g.alias = slices.Grow(g.alias[:0], n)[:n]
	small, large := make([]int32, 0, n), make([]int32, 0, n)
	for i, e := range g.list {
		g.alias[i] = entry{probability: e.weight() * float64(n) / g.total, other: int32(i)}
		if g.alias[i].probability < 1 {
			small = append(small, int32(i))
		} else {
			large = append(large, int32(i))
		}
	}
	for len(small) > 0 && len(large) > 0 {
		a, b := small[len(small)-1], large[len(large)-1]
		small = small[:len(small)-1]
		g.alias[a].other = b
		g.alias[b].probability -= 1 - g.alias[a].probability
		if g.alias[b].probability < 1 {
			large = large[:len(large)-1]
			small = append(small, b)
		}
	}
	for _, rest := range [][]int32{small, large} { // 1, but for rounding
		for _, i := range rest {
			g.alias[i].probability = 1
		}
	}
}

// draw returns the index of an endpoint, drawn by weight.
func (g *group) draw(rng *rand.Rand) int {
	i := rng.IntN(len(g.list))
	if !g.equal && rng.Float64() >= g.alias[i].probability {
		i = int(g.alias[i].other)
	}
	return i
}
