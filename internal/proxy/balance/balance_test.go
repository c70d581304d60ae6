package balance

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/eject"
	"tulle.dev/tulle/internal/view"
)

func endpoints(n int) []view.Endpoint {
	list := make([]view.Endpoint, n)
	for i := range list {
		list[i].Address = netip.MustParseAddrPort(fmt.Sprintf("10.0.0.%d:80", i+1))
	}
	return list
}

// flight is a request under way.
type flight struct {
	e       *Endpoint
	ticket  Ticket
	end     int64
	outcome Outcome
}

func (f *flight) done(now int64) { f.e.End(now, f.ticket, f.outcome) }

// simulate sends requests through the set in virtual time, each endpoint
// serving in its own latency, and returns how many each one got.
func simulate(s *Set, requests, inFlight int, serve func(i int) (time.Duration, bool)) []int {
	rng := rand.New(rand.NewPCG(1, 2))
	index := map[*Endpoint]int{}
	for i, e := range s.All() {
		index[e] = i
	}
	counts := make([]int, s.Len())
	var now int64
	var flights []flight
	for range requests {
		for len(flights) >= inFlight {
			first := 0
			for i := range flights {
				if flights[i].end < flights[first].end {
					first = i
				}
			}
			f := flights[first]
			flights = append(flights[:first], flights[first+1:]...)
			now = max(now, f.end)
			f.done(now)
		}
		e := s.Pick(now, rng, Want{}, nil)
		ticket := e.Begin()
		i := index[e]
		counts[i]++
		latency, failed := serve(i)
		o := Outcome{Latency: latency}
		if failed {
			o.Verdict = Failed
		}
		flights = append(flights, flight{e: e, ticket: ticket, end: now + int64(latency), outcome: o})
	}
	for _, f := range flights {
		f.done(f.end)
	}
	for _, e := range s.All() {
		if e.Pending() != 0 {
			panic("a request is still counted")
		}
	}
	return counts
}

func TestEqualEndpointsShareEvenly(t *testing.T) {
	var s Set
	s.Update(endpoints(4))
	counts := simulate(&s, 40000, 16, func(int) (time.Duration, bool) { return time.Millisecond, false })
	for i, n := range counts {
		if n < 8500 || n > 11500 {
			t.Errorf("endpoint %d got %d of 40000, want about 10000: %v", i, n, counts)
		}
	}
}

// With one request at a time every endpoint is idle when the next is chosen:
// noise, and what a first request costs, must not decide.
func TestEqualEndpointsShareEvenlyAtLowRates(t *testing.T) {
	var s Set
	s.Update(endpoints(2))
	rng := rand.New(rand.NewPCG(5, 6))
	counts := simulate(&s, 4000, 1, func(int) (time.Duration, bool) {
		return time.Millisecond + time.Duration(rng.IntN(300))*time.Microsecond, false
	})
	if counts[0] < 1600 || counts[0] > 2400 {
		t.Errorf("two equal endpoints got %v of 4000 requests, want about half each", counts)
	}
}

func TestSlowEndpointGetsLittle(t *testing.T) {
	var s Set
	s.Update(endpoints(4))
	counts := simulate(&s, 20000, 16, func(i int) (time.Duration, bool) {
		if i == 0 {
			return 100 * time.Millisecond, false
		}
		return time.Millisecond, false
	})
	if share := float64(counts[0]) / 20000; share > 0.01 {
		t.Errorf("the slow endpoint got %.3f of the requests, want under 0.01: %v", share, counts)
	}
	if counts[0] == 0 {
		t.Error("the slow endpoint was never tried")
	}
}

func TestFastFailuresDontAttract(t *testing.T) {
	var s Set
	s.Update(endpoints(3))
	counts := simulate(&s, 20000, 8, func(i int) (time.Duration, bool) {
		if i == 2 {
			return 10 * time.Microsecond, true
		}
		return 2 * time.Millisecond, false
	})
	if share := float64(counts[2]) / 20000; share > 0.01 {
		t.Errorf("the failing endpoint got %.3f of the requests, want under 0.01: %v", share, counts)
	}
}

func TestRecoveredEndpointComesBack(t *testing.T) {
	var s Set
	s.Update(endpoints(2))
	slow := s.All()[0]
	slow.End(0, slow.Begin(), Outcome{Latency: 2 * time.Second})
	now := int64(2 * time.Minute)
	for _, e := range s.All()[1:] {
		e.End(now, e.Begin(), Outcome{Latency: time.Millisecond})
	}
	if slow.load(now) > s.All()[1].load(now) {
		t.Errorf("two minutes after a slow answer its load is still %v", slow.load(now))
	}
}

func TestWeights(t *testing.T) {
	list := endpoints(2)
	list[0].Weight = 3
	var s Set
	s.Update(list)
	counts := simulate(&s, 40000, 32, func(int) (time.Duration, bool) { return time.Millisecond, false })
	if ratio := float64(counts[0]) / float64(counts[1]); ratio < 2 || ratio > 4 {
		t.Errorf("weights 3 and 1 got %v, ratio %.2f, want about 3", counts, ratio)
	}
}

func TestUpdateKeepsWhatStays(t *testing.T) {
	var s Set
	list := endpoints(3)
	s.Update(list)
	kept := s.All()[1]
	kept.End(1, kept.Begin(), Outcome{Latency: time.Second})
	kept.Begin()

	reused := list[0]
	reused.Identity = "spiffe://mesh.local/ns/default/sa/other"
	gone := s.Update([]view.Endpoint{list[1], reused})
	if s.All()[0] != kept || kept.Pending() != 1 || kept.Latency(2) < 900*time.Millisecond {
		t.Errorf("the endpoint that stayed lost what was learnt: %+v", s.All()[0])
	}
	if len(gone) != 2 || !gone[0].Gone || !gone[1].Gone || gone[0].Address != list[0].Address {
		t.Errorf("gone: %+v, want the reused address and the third", gone)
	}
	kept.Cancel(Ticket{})
	if kept.Pending() != 0 {
		t.Errorf("pending %d after Cancel, want 0", kept.Pending())
	}
}

func TestPickAvoids(t *testing.T) {
	var s Set
	rng := rand.New(rand.NewPCG(3, 4))
	if s.Pick(0, rng, Want{}, nil) != nil {
		t.Error("an empty set gave an endpoint")
	}
	s.Update(endpoints(5))
	only := s.All()[3]
	for range 200 {
		if e := s.Pick(0, rng, Want{}, func(e *Endpoint) bool { return e != only }); e != only {
			t.Fatalf("picked %v, want the only one not to avoid", e.Address)
		}
	}
	if s.Pick(0, rng, Want{}, func(*Endpoint) bool { return true }) == nil {
		t.Error("no endpoint although the set isn't empty: avoiding is a wish")
	}
}

func BenchmarkPick(b *testing.B) {
	var s Set
	s.Update(endpoints(10))
	rng := rand.New(rand.NewPCG(1, 2))
	b.ReportAllocs()
	now := int64(0)
	for b.Loop() {
		now += 1000
		e := s.Pick(now, rng, Want{}, nil)
		e.End(now, e.Begin(), Outcome{Latency: time.Millisecond})
	}
}

// BenchmarkPickShared is BenchmarkPick as a proxy does it: with what all loops
// know of the endpoints, and by each algorithm.
func BenchmarkPickShared(b *testing.B) {
	for _, a := range []policy.Algorithm{policy.PeakEWMA, policy.LeastRequest, policy.RoundRobin, policy.Random, policy.RingHash, policy.Maglev} {
		b.Run(strconv.Itoa(int(a)), func(b *testing.B) {
			p := *policy.DefaultUpstream
			p.Balance.Algorithm = a
			var s Set
			s.Share(eject.New().Service("cart.default:80"))
			s.Follow("cart.default:80", &p, "")
			s.Update(endpoints(10))
			rng := rand.New(rand.NewPCG(1, 2))
			b.ReportAllocs()
			now := int64(0)
			for b.Loop() {
				now += 1000
				e := s.Pick(now, rng, Want{Hash: uint64(now) * fnvPrime, Hashed: true}, nil)
				e.End(now, e.Begin(), Outcome{Latency: time.Millisecond})
			}
		})
	}
}

// A stream of bytes says something of its endpoint when it is connected, and no
// more: failures to connect that are days apart don't add up, and an ejected
// endpoint is back when a connection is made, however long that lasts.
func TestReached(t *testing.T) {
	var s Set
	s.Share(eject.New().Service("db.default:5432"))
	p := *policy.DefaultUpstream
	p.Ejection.SuccessRate = 0
	s.Follow("db.default:5432", &p, "")
	s.Update(endpoints(2))
	rng := rand.New(rand.NewPCG(1, 2))
	e, now := s.All()[0], int64(time.Second)
	for range 3 * policy.DefaultEjection.Consecutive {
		e.End(now, e.Begin(), Outcome{Verdict: Failed})
		ticket := e.Begin()
		e.Reached(now, &ticket, time.Millisecond)
		e.Cancel(ticket)
	}
	if e.Shared().Out() {
		t.Fatal("ejected for failures that weren't in a row")
	}
	for !e.Shared().Out() {
		e.End(now, e.Begin(), Outcome{Verdict: Failed})
	}
	now += int64(policy.DefaultEjection.Base)
	if got := s.Pick(now, rng, Want{}, nil); got != e {
		t.Fatalf("%s was picked, want the ejected one, to try it", got.Address)
	}
	ticket := e.Begin()
	if s.Pick(now, rng, Want{}, nil) == e {
		t.Error("it is tried twice")
	}
	e.Reached(now, &ticket, time.Millisecond)
	if e.Shared().Out() {
		t.Error("out though it was reached")
	}
	e.Cancel(ticket)
	if e.Pending() != 0 || e.Shared().Out() {
		t.Error("the end of the stream says something")
	}
}
