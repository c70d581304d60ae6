package balance

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"

	"tulle.dev/tulle/internal/policy"
)

// The tables of RingHash and Maglev are made of all endpoints, whether they are
// well or not, in an order of their own: all loops and all proxies with the same
// endpoints make the same, and an endpoint that is ejected changes nothing for
// the keys of others.

const (
	// pointsEach is how many points of the ring an endpoint of mean weight has,
	// maxPoints bounds them all; more endpoints than that aren't in the ring.
	pointsEach = 160
	maxPoints  = 1 << 16
	// rehashes bounds how often Maglev looks elsewhere when a key's endpoint is out.
	rehashes = 32
)

// maglevSizes are the sizes that Maglev's table may have, primes: the first that
// is a hundred times the endpoints. With few sizes it seldom changes with their
// number, for then most keys move.
var maglevSizes = []int{4093, 65537}

// table is what a hash is looked up in.
type table struct {
	ring  []point
	slots []int32
	order []*Endpoint // sorted, so that all agree
}

// point is 48 bits of a hash and, below them, whose it is: one number, so that
// many are sorted soon.
type point uint64

func (p point) of() int32 { return int32(p & (maxPoints - 1)) }

// Hash is a hash of bytes that is the same everywhere: FNV-1a, and mixed so that
// keys that are alike are far apart.
func Hash(b []byte) uint64 { return mix(fnv(fnvBasis, b)) }

// HashAddr is the hash of a client's address.
func HashAddr(a netip.Addr) uint64 {
	b := a.Unmap().As16()
	return Hash(b[:])
}

const (
	fnvBasis = 14695981039346656037
	fnvPrime = 1099511628211
)

func fnv[T string | []byte](h uint64, b T) uint64 {
	for i := range len(b) {
		h = (h ^ uint64(b[i])) * fnvPrime
	}
	return h
}

// mix spreads each bit over all (the finaliser of SplitMix64).
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// hashed returns the endpoint of a hash: the first in the table that is well and
// not to be avoided.
func (s *Set) hashed(hash uint64, avoid func(*Endpoint) bool) *Endpoint {
	if s.table.order == nil {
		s.table.build(s.endpoints, s.policy.Balance.Algorithm)
	}
	t := &s.table
	good := func(i int32) bool {
		e := t.order[i]
		return (!e.out || s.panicking) && (avoid == nil || !avoid(e))
	}
	if t.ring != nil {
		i, _ := slices.BinarySearch(t.ring, point(hash&^(maxPoints-1)))
		for k := range t.ring {
			if of := t.ring[(i+k)%len(t.ring)].of(); good(of) {
				return t.order[of]
			}
		}
	} else {
		h := hash
		for range rehashes {
			if of := t.slots[h%uint64(len(t.slots))]; good(of) {
				return t.order[of]
			}
			h = mix(h + fnvPrime)
		}
	}
	// All are to be avoided, or nearly: the first that is at least well.
	start := int(hash % uint64(len(t.order)))
	var fallback *Endpoint
	for k := range t.order {
		i := int32((start + k) % len(t.order))
		if good(i) {
			return t.order[i]
		}
		if e := t.order[i]; fallback == nil && (!e.out || s.panicking) {
			fallback = e
		}
	}
	return fallback
}

func (t *table) build(list []*Endpoint, a policy.Algorithm) {
	t.order = slices.SortedFunc(slices.Values(list), func(a, b *Endpoint) int {
		return cmp.Or(a.Address.Compare(b.Address), cmp.Compare(a.Identity, b.Identity))
	})
	if a == policy.Maglev {
		t.maglev()
		return
	}
	t.points()
}

// name is the hash of an endpoint's name.
func (e *Endpoint) name() uint64 {
	b := make([]byte, 0, 64)
	b = e.Address.AppendTo(b)
	b = append(b, 0)
	return fnv(fnv(fnvBasis, b), e.Identity)
}

// points makes the ring: each endpoint at as many points as its weight says.
func (t *table) points() {
	total := 0.0
	for _, e := range t.order {
		total += e.weight()
	}
	n := float64(len(t.order))
	each := min(pointsEach, max(1, maxPoints/n))
	t.ring = make([]point, 0, int(each*n)+len(t.order))
	var digits []byte
	for i, e := range t.order[:min(len(t.order), maxPoints)] {
		name := e.name()
		for k := range max(1, int(each*e.weight()*n/total+0.5)) {
			digits = strconv.AppendInt(append(digits[:0], '#'), int64(k), 10)
			t.ring = append(t.ring, point(mix(fnv(name, digits))&^(maxPoints-1)|uint64(i)))
		}
	}
	slices.Sort(t.ring)
}

// maglev fills the table (Eisenbud et al., Maglev, NSDI 2016, 3.4): the endpoints
// take slots in turn, each in an order of its own, the heavier more often.
func (t *table) maglev() {
	size := maglevSizes[len(maglevSizes)-1]
	for _, m := range maglevSizes {
		if m >= 100*len(t.order) {
			size = m
			break
		}
	}
	m := uint64(size)
	offset, skip, next := make([]uint64, len(t.order)), make([]uint64, len(t.order)), make([]uint64, len(t.order))
	heaviest := 0.0
	for i, e := range t.order {
		name := e.name()
		offset[i] = mix(name) % m
		skip[i] = mix(name+fnvPrime)%(m-1) + 1
		heaviest = max(heaviest, e.weight())
	}
	credit := make([]float64, len(t.order))
	t.slots = make([]int32, size)
	for i := range t.slots {
		t.slots[i] = -1
	}
	for filled := 0; filled < size; {
		for i, e := range t.order {
			if credit[i] += e.weight() / heaviest; credit[i] < 1 {
				continue
			}
			credit[i]--
			for {
				slot := (offset[i] + next[i]*skip[i]) % m
				next[i]++
				if t.slots[slot] < 0 {
					t.slots[slot] = int32(i)
					break
				}
			}
			if filled++; filled == size {
				return
			}
		}
	}
}
