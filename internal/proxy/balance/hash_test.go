package balance

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/eject"
	"tulle.dev/tulle/internal/view"
)

var hashes = map[string]policy.Algorithm{"ring": policy.RingHash, "maglev": policy.Maglev}

func hashSet(a policy.Algorithm, list []view.Endpoint) *Set {
	s := &Set{}
	s.Follow("", &policy.Upstream{Balance: policy.Balance{Algorithm: a}}, "")
	s.Update(list)
	return s
}

// keys are as many hashes as are asked about.
const keys = 20000

// placed is the endpoint of each key.
func placed(s *Set, avoid func(*Endpoint) bool) []string {
	rng := rand.New(rand.NewPCG(1, 2))
	places := make([]string, keys)
	for i := range places {
		e := s.Pick(1, rng, Want{Hash: Hash([]byte("user-" + strconv.Itoa(i))), Hashed: true}, avoid)
		places[i] = e.Address.String()
	}
	return places
}

func moved(a, b []string) (n int) {
	for i := range a {
		if a[i] != b[i] {
			n++
		}
	}
	return n
}

func count(places []string, of string) (n int) {
	for _, p := range places {
		if p == of {
			n++
		}
	}
	return n
}

// When one of n endpoints goes, its keys move and hardly any others; when one
// comes, it takes about its share and hardly any others move.
func TestHashDisruption(t *testing.T) {
	for name, a := range hashes {
		for _, n := range []int{2, 3, 10, 30, 100} {
			t.Run(fmt.Sprintf("%s of %d", name, n), func(t *testing.T) {
				list := endpoints(n)
				before := placed(hashSet(a, list), nil)
				victim := list[n/2].Address.String()
				own := count(before, victim)
				if share := float64(own) / keys * float64(n); share < 0.6 || share > 1.5 {
					t.Errorf("an endpoint has %.2f times its share", share)
				}
				after := placed(hashSet(a, slices.Delete(slices.Clone(list), n/2, n/2+1)), nil)
				extra := float64(moved(before, after)-own) / keys
				limit := 0.0
				if a == policy.Maglev {
					limit = 0.06 // it trades some disruption for evenness
				}
				if extra < 0 || extra > limit {
					t.Errorf("%.3f of the keys moved without need, want at most %.2f", extra, limit)
				}
			})
		}
	}
}

// All make the same of the same endpoints, in whatever order they are told.
func TestHashAgrees(t *testing.T) {
	for name, a := range hashes {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(3, 4))
			for range 10 {
				list := endpoints(1 + rng.IntN(40))
				for i := range list {
					list[i].Weight = uint32(rng.IntN(4))
					list[i].Identity = []string{"", "spiffe://mesh.local/ns/a/sa/b"}[rng.IntN(2)]
				}
				want := placed(hashSet(a, list), nil)
				rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
				if n := moved(want, placed(hashSet(a, list), nil)); n != 0 {
					t.Fatalf("%d of %d keys are elsewhere in another loop", n, keys)
				}
			}
		})
	}
}

// The hash of a key is one for ever: other versions of the proxy have to agree.
func TestHashIsStable(t *testing.T) {
	for key, want := range map[string]uint64{"": 0xf52a15e9a9b5e89b, "alice": 0xc5d1556d66774a5c} {
		if got := Hash([]byte(key)); got != want {
			t.Errorf("Hash(%q) = %#x, want %#x", key, got, want)
		}
	}
	list := endpoints(5)
	for name, want := range map[string]string{"ring": "235212212515342545311325", "maglev": "412523145134431445211454"} {
		var got []byte
		for _, p := range placed(hashSet(hashes[name], list), nil)[:24] {
			got = append(got, p[len("10.0.0.")])
		}
		if string(got) != want {
			t.Errorf("%s: the first keys are at %s, want %s", name, got, want)
		}
	}
}

func TestHashWeights(t *testing.T) {
	for name, a := range hashes {
		list := endpoints(4)
		list[0].Weight = 3
		places := placed(hashSet(a, list), nil)
		if share := float64(count(places, list[0].Address.String())) / keys; math.Abs(share-0.5) > 0.08 {
			t.Errorf("%s: weight 3 beside three of 1 has %.3f of the keys, want about 0.5", name, share)
		}
	}
}

// Only the keys of an endpoint that is left out, or was tried in vain, go
// elsewhere, spread over the others; in panic none do.
func TestHashLeftOut(t *testing.T) {
	for name, a := range hashes {
		t.Run(name, func(t *testing.T) {
			p := &policy.Upstream{Balance: policy.Balance{Algorithm: a}, Panic: 50, Health: &policy.HealthCheck{}}
			s := &Set{}
			s.Share(eject.New().Service("x"))
			s.Follow("x", p, "")
			s.Update(endpoints(6))
			before := placed(s, nil)
			victim := s.All()[2]
			own := count(before, victim.Address.String())

			check := func(how string, after []string) {
				t.Helper()
				if n := moved(before, after); n != own {
					t.Errorf("%s: %d keys moved, want the %d of the endpoint", how, n, own)
				}
				if n := count(after, victim.Address.String()); n != 0 {
					t.Errorf("%s: it still has %d keys", how, n)
				}
				for _, e := range s.All() {
					if e != victim && count(after, e.Address.String()) < count(before, e.Address.String())+own/20 {
						t.Errorf("%s: %s gets next to none of its keys", how, e.Address)
					}
				}
			}
			check("tried in vain", placed(s, func(e *Endpoint) bool { return e == victim }))
			victim.Shared().SetHealthy(1, false, "")
			check("unhealthy", placed(s, nil))
			for _, e := range s.All() {
				e.Shared().SetHealthy(1, false, "")
			}
			if n := moved(before, placed(s, nil)); n != 0 {
				t.Errorf("in panic %d keys moved", n)
			}
			victim.Shared().SetHealthy(1, true, "")
			if placed(s, func(*Endpoint) bool { return true }) == nil {
				t.Error("no endpoint though all were tried")
			}
		})
	}
}

// Without a key chance decides.
func TestHashWithoutKey(t *testing.T) {
	for name, a := range hashes {
		s := hashSet(a, endpoints(4))
		rng := rand.New(rand.NewPCG(5, 6))
		seen := map[*Endpoint]int{}
		for range 4000 {
			seen[s.Pick(1, rng, Want{Hash: 1}, nil)]++
		}
		for e, n := range seen {
			if n < 800 || n > 1200 {
				t.Errorf("%s: %s gets %d of 4000", name, e.Address, n)
			}
		}
	}
}

// The tables are bounded, however many endpoints and however unlike their weights.
func TestHashTablesAreBounded(t *testing.T) {
	list := make([]view.Endpoint, 5000)
	for i := range list {
		list[i].Address = endpoints(1)[0].Address
		list[i].Identity = strconv.Itoa(i)
		list[i].Weight = uint32(1 + i%1000)
	}
	for name, a := range hashes {
		s := hashSet(a, list)
		s.Pick(1, rand.New(rand.NewPCG(1, 2)), Want{Hash: 5, Hashed: true}, nil)
		if n := len(s.table.ring) + len(s.table.slots); n > maxPoints+2*len(list) {
			t.Errorf("%s: %d entries", name, n)
		}
	}
}

// A session stays with its endpoint while that is well; its token is nobody
// else's, and not 0.
func TestSession(t *testing.T) {
	for _, a := range []policy.Algorithm{policy.PeakEWMA, policy.RoundRobin, policy.Maglev} {
		p := *policy.DefaultUpstream
		p.Balance.Algorithm, p.Health = a, &policy.HealthCheck{}
		s := &Set{}
		s.Share(eject.New().Service("cart.default:80"))
		s.Follow("cart.default:80", &p, "")
		s.Update(endpoints(5))
		rng := rand.New(rand.NewPCG(1, 2))
		e := s.All()[3]
		want := Want{Session: e.Token("cart.default:80")}
		if want.Session == 0 {
			t.Fatal("token 0")
		}
		for range 100 {
			if got := s.Pick(1, rng, want, nil); got != e {
				t.Fatalf("algorithm %d: the session went to %s", a, got.Address)
			}
		}
		if s.Pick(1, rng, want, func(o *Endpoint) bool { return o == e }) == e {
			t.Error("the session stays where it was tried in vain")
		}
		e.Shared().SetHealthy(1, false, "")
		if s.Pick(1, rng, want, nil) == e {
			t.Error("the session stays at an unhealthy endpoint")
		}
		s.Update(endpoints(2))
		if s.Pick(1, rng, want, nil) == nil {
			t.Error("a session whose endpoint is gone gets none")
		}
	}
}

// No algorithm allocates for a request.
func TestPickDoesntAllocate(t *testing.T) {
	for a := policy.PeakEWMA; a <= policy.Maglev; a++ {
		p := *policy.DefaultUpstream
		p.Balance.Algorithm = a
		x := &trial{policy: &p, list: zoned("a", "a", "a", "b", "b"), zone: "a", loops: 1}
		x.list[0].Weight = 3
		x.begin()
		s, now := x.sets[0], int64(time.Second)
		tried := s.All()[0]
		avoid := func(e *Endpoint) bool { return e == tried }
		token := s.All()[4].Token("cart.default:80")
		if n := testing.AllocsPerRun(2000, func() {
			now += int64(time.Millisecond)
			for _, e := range []*Endpoint{
				s.Pick(now, x.rng, Want{}, nil),
				s.Pick(now, x.rng, Want{Hash: uint64(now), Hashed: true}, avoid),
				s.Pick(now, x.rng, Want{Session: token}, nil),
			} {
				e.End(now, e.Begin(), Outcome{Latency: time.Millisecond})
			}
		}); n != 0 {
			t.Errorf("algorithm %d: %v allocations", a, n)
		}
	}
}

// BenchmarkTable is what a change of the endpoints costs the loop.
func BenchmarkTable(b *testing.B) {
	for name, a := range hashes {
		for _, n := range []int{10, 100, 1000} {
			b.Run(fmt.Sprintf("%s of %d", name, n), func(b *testing.B) {
				list := make([]view.Endpoint, n)
				for i := range list {
					list[i].Address = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 80)
				}
				s := hashSet(a, list)
				for b.Loop() {
					var t table
					t.build(s.endpoints, a)
				}
			})
		}
	}
}
