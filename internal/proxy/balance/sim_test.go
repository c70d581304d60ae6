package balance

import (
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/eject"
	"tulle.dev/tulle/internal/view"
)

// trial is a service under load in virtual time: requests come by chance, at so
// many a second, to the loops of one proxy, whether or not the ones before have
// been answered.
type trial struct {
	policy *policy.Upstream
	list   []view.Endpoint
	zone   string
	loops  int
	rate   float64 // requests a second
	serve  func(i int, now int64, rng *rand.Rand) Outcome
	want   func(rng *rand.Rand) Want

	service *eject.Service
	sets    []*Set
	rng     *rand.Rand
	now     int64
	flights flights
}

// result is what became of the requests of some time.
type result struct {
	n         int
	per       []int // by endpoint
	failed    int
	none      int // there was no endpoint
	latencies []time.Duration
}

func (r *result) share(i int) float64 { return float64(r.per[i]) / float64(r.n) }

func (r *result) p99() time.Duration {
	slices.Sort(r.latencies)
	return r.latencies[len(r.latencies)*99/100]
}

type flights []flight

func (f flights) Len() int           { return len(f) }
func (f flights) Less(i, j int) bool { return f[i].end < f[j].end }
func (f flights) Swap(i, j int)      { f[i], f[j] = f[j], f[i] }
func (f *flights) Push(v any)        { *f = append(*f, v.(flight)) }
func (f *flights) Pop() any {
	old := *f
	v := old[len(old)-1]
	*f = old[:len(old)-1]
	return v
}

func (t *trial) begin() {
	t.rng = rand.New(rand.NewPCG(7, 8))
	t.service = eject.New().Service("cart.default:80")
	t.now = int64(time.Second)
	for range t.loops {
		s := &Set{}
		s.Share(t.service)
		s.Follow("cart.default:80", t.policy, t.zone)
		s.Update(t.list)
		t.sets = append(t.sets, s)
	}
}

// update changes the endpoints.
func (t *trial) update(list []view.Endpoint) {
	t.list = list
	for _, s := range t.sets {
		s.Update(list)
	}
}

// run lets requests come for a time.
func (t *trial) run(d time.Duration) *result {
	if t.sets == nil {
		t.begin()
	}
	r := &result{per: make([]int, len(t.list))}
	index := map[string]int{}
	for i := range t.list {
		index[t.list[i].Address.String()] = i
	}
	for end := t.now + int64(d); ; {
		t.now += int64(t.rng.ExpFloat64() / t.rate * 1e9)
		for len(t.flights) > 0 && t.flights[0].end <= t.now {
			f := heap.Pop(&t.flights).(flight)
			f.done(f.end)
		}
		if t.now >= end {
			return r
		}
		s := t.sets[t.rng.IntN(len(t.sets))]
		var want Want
		if t.want != nil {
			want = t.want(t.rng)
		}
		r.n++
		e := s.Pick(t.now, t.rng, want, nil)
		if e == nil {
			r.none++
			continue
		}
		ticket := e.Begin()
		i := index[e.Address.String()]
		r.per[i]++
		o := t.serve(i, t.now, t.rng)
		if o.Verdict == Failed || o.Verdict == TimedOut {
			r.failed++
		}
		r.latencies = append(r.latencies, o.Latency)
		heap.Push(&t.flights, flight{e: e, ticket: ticket, end: t.now + int64(o.Latency), outcome: o})
	}
}

// usual is how long a request takes: a few milliseconds, sometimes many.
func usual(rng *rand.Rand) time.Duration {
	return time.Duration(float64(3*time.Millisecond) * math.Exp(rng.NormFloat64()/2))
}

func forLoops(t *testing.T, f func(t *testing.T, loops int)) {
	for _, loops := range []int{1, 4} {
		t.Run(fmt.Sprintf("%d loops", loops), func(t *testing.T) { f(t, loops) })
	}
}

// With one of ten endpoints half a second slower than the others, the 99th
// percentile is at most 1.3 times what it is without that one.
func TestSlowEndpointDoesntShow(t *testing.T) {
	for _, rate := range []float64{100, 1000, 5000} {
		forLoops(t, func(t *testing.T, loops int) {
			measure := func(n int) (time.Duration, *result) {
				x := &trial{list: endpoints(n), loops: loops, rate: rate, serve: func(i int, _ int64, rng *rand.Rand) Outcome {
					d := usual(rng)
					if i == 9 {
						d += 500 * time.Millisecond
					}
					return Outcome{Latency: d}
				}}
				x.run(10 * time.Second)
				r := x.run(30 * time.Second)
				return r.p99(), r
			}
			without, _ := measure(9)
			with, r := measure(10)
			t.Logf("%.0f requests/s: p99 %v, without the slow one %v; it got %.3f %%", rate, with, without, 100*r.share(9))
			if with > without*13/10 {
				t.Errorf("%.0f requests/s: p99 %v with the slow endpoint, %v without, want at most 1.3 times that", rate, with, without)
			}
		})
	}
}

// One of ten endpoints that answers 503 to three of ten requests gets under 1 % of
// them within ten seconds, whatever the algorithm, and none of the others less.
func TestFailingEndpointIsEjected(t *testing.T) {
	for _, a := range []policy.Algorithm{policy.PeakEWMA, policy.LeastRequest, policy.RoundRobin, policy.Random} {
		forLoops(t, func(t *testing.T, loops int) {
			p := *policy.DefaultUpstream
			p.Balance.Algorithm = a
			x := &trial{policy: &p, list: endpoints(10), loops: loops, rate: 1000, serve: func(i int, _ int64, rng *rand.Rand) Outcome {
				o := Outcome{Latency: usual(rng)}
				if i == 9 && rng.Float64() < 0.3 {
					o.Verdict = Failed
				}
				return o
			}}
			first := x.run(10 * time.Second)
			for part := range 3 {
				r := x.run(10 * time.Second)
				if r.share(9) >= 0.01 {
					t.Errorf("algorithm %d: after %d s the failing endpoint gets %.2f %%, want under 1", a, 10+10*part, 100*r.share(9))
				}
				t.Logf("algorithm %d: %.2f %%, then %.2f %%", a, 100*first.share(9), 100*r.share(9))
			}
		})
	}
}

// An endpoint that was ejected and is well again gets its share again.
func TestEjectedEndpointComesBack(t *testing.T) {
	forLoops(t, func(t *testing.T, loops int) {
		bad := true
		x := &trial{list: endpoints(4), loops: loops, rate: 500, serve: func(i int, _ int64, rng *rand.Rand) Outcome {
			if i == 0 && bad {
				return Outcome{Latency: time.Millisecond, Verdict: Failed}
			}
			return Outcome{Latency: usual(rng)}
		}}
		if r := x.run(5 * time.Second); r.share(0) > 0.05 {
			t.Errorf("the dead endpoint got %.1f %%", 100*r.share(0))
		}
		bad = false
		x.run(25 * time.Second)
		if r := x.run(10 * time.Second); r.share(0) < 0.15 || r.share(0) > 0.35 {
			t.Errorf("well again it gets %.1f %%, want about a quarter", 100*r.share(0))
		}
	})
}

// In an outage of all, requests go on to all endpoints as before.
func TestOutageEjectsNobody(t *testing.T) {
	forLoops(t, func(t *testing.T, loops int) {
		for _, n := range []int{1, 2, 3, 10} {
			bad := false
			x := &trial{list: endpoints(n), loops: loops, rate: 200, serve: func(_ int, _ int64, rng *rand.Rand) Outcome {
				if bad {
					return Outcome{Latency: time.Millisecond, Verdict: Failed}
				}
				return Outcome{Latency: usual(rng)}
			}}
			x.run(10 * time.Second)
			bad = true
			r := x.run(20 * time.Second)
			out := 0
			for _, e := range x.sets[0].All() {
				if e.Shared().Out() {
					out++
				}
			}
			if r.none > 0 || out > n/2 {
				t.Errorf("%d endpoints: %d are out, %d requests had none", n, out, r.none)
			}
			bad = false
			x.run(30 * time.Second)
			r = x.run(10 * time.Second)
			for i := range n {
				if r.share(i) < 0.5/float64(n) {
					t.Errorf("%d endpoints: after the outage endpoint %d gets %.1f %%", n, i, 100*r.share(i))
				}
			}
		}
	})
}

// A busy endpoint that says so (429) gets less, and isn't ejected.
func TestBusyEndpoint(t *testing.T) {
	for _, a := range []policy.Algorithm{policy.PeakEWMA, policy.LeastRequest, policy.RoundRobin, policy.Random} {
		forLoops(t, func(t *testing.T, loops int) {
			p := *policy.DefaultUpstream
			p.Balance.Algorithm = a
			x := &trial{policy: &p, list: endpoints(4), loops: loops, rate: 500, serve: func(i int, _ int64, rng *rand.Rand) Outcome {
				if i == 0 {
					return Outcome{Latency: 100 * time.Microsecond, Verdict: Busy, After: 2 * time.Second}
				}
				return Outcome{Latency: usual(rng)}
			}}
			x.run(time.Second)
			r := x.run(20 * time.Second)
			if r.share(0) > 0.10 {
				t.Errorf("algorithm %d: the busy endpoint gets %.1f %%", a, 100*r.share(0))
			}
			if r.per[0] == 0 && a != policy.PeakEWMA {
				t.Errorf("algorithm %d: the busy endpoint is never tried", a)
			}
			if x.sets[0].All()[0].Shared().Out() {
				t.Errorf("algorithm %d: the busy endpoint was ejected", a)
			}
		})
	}
}

// A new endpoint's share grows.
func TestSlowStart(t *testing.T) {
	for _, a := range []policy.Algorithm{policy.PeakEWMA, policy.LeastRequest, policy.RoundRobin, policy.Random} {
		forLoops(t, func(t *testing.T, loops int) {
			p := *policy.DefaultUpstream
			p.Balance.Algorithm = a
			p.SlowStart = 20 * time.Second
			x := &trial{policy: &p, list: endpoints(4), loops: loops, rate: 1000, serve: func(_ int, _ int64, rng *rand.Rand) Outcome {
				return Outcome{Latency: usual(rng)}
			}}
			if r := x.run(2 * time.Second); r.share(0) < 0.2 {
				t.Errorf("algorithm %d: endpoints that were there from the beginning begin slowly: %.2f", a, r.share(0))
			}
			x.update(endpoints(5))
			var shares []float64
			for range 5 {
				shares = append(shares, x.run(5*time.Second).share(4))
			}
			if shares[0] > 0.08 || shares[2] < shares[0] || shares[2] > 0.19 || shares[4] < 0.15 || shares[4] > 0.25 {
				t.Errorf("algorithm %d: shares each 5 s: %.3f, want it to grow to about 0.2", a, shares)
			}
		})
	}
}

// A share is what the weight says, for all that don't measure.
func TestWeighted(t *testing.T) {
	for _, a := range []policy.Algorithm{policy.PeakEWMA, policy.LeastRequest, policy.RoundRobin, policy.Random} {
		for _, rate := range []float64{20, 5000} {
			forLoops(t, func(t *testing.T, loops int) {
				p := *policy.DefaultUpstream
				p.Balance.Algorithm = a
				list := endpoints(3)
				list[0].Weight, list[1].Weight, list[2].Weight = 1, 2, 5
				x := &trial{policy: &p, list: list, loops: loops, rate: rate, serve: func(_ int, _ int64, rng *rand.Rand) Outcome {
					return Outcome{Latency: usual(rng)}
				}}
				r := x.run(time.Duration(20000/rate) * time.Second)
				for i, want := range []float64{0.125, 0.25, 0.625} {
					slack := 0.02
					if a == policy.PeakEWMA || a == policy.LeastRequest {
						slack = 0.14 // they measure, and what is asked more often has more peaks
					}
					if math.Abs(r.share(i)-want) > slack {
						t.Errorf("algorithm %d, %.0f requests/s: endpoint %d of weight %d gets %.3f, want about %.3f", a, rate, i, list[i].Weight, r.share(i), want)
					}
				}
			})
		}
	}
}

// Round robin takes turns: with weights 5, 1 and 1 the heavy one's are spread out.
func TestTurns(t *testing.T) {
	p := &policy.Upstream{Balance: policy.Balance{Algorithm: policy.RoundRobin}}
	var s Set
	s.Follow("", p, "")
	list := endpoints(3)
	list[0].Weight = 5
	s.Update(list)
	rng := rand.New(rand.NewPCG(1, 2))
	var got []byte
	for range 14 {
		e := s.Pick(1, rng, Want{}, nil)
		e.Begin()
		got = append(got, 'a'+e.Address.Addr().As4()[3]-1)
	}
	if string(got) != "aabacaaaabacaa" {
		t.Errorf("turns %s, want aabacaaaabacaa", got)
	}
}

func zoned(zones ...string) []view.Endpoint {
	list := endpoints(len(zones))
	for i, z := range zones {
		list[i].Zone = z
	}
	return list
}

func TestLocality(t *testing.T) {
	for _, test := range []struct {
		name     string
		locality policy.Locality
		zone     string
		list     []view.Endpoint
		bad      int // endpoints from the first on that fail
		want     float64
	}{
		{"enough near", policy.PreferZone, "a", zoned("a", "a", "b", "b"), 0, 1},
		{"one of four near fails: still enough", policy.PreferZone, "a", zoned("a", "a", "a", "a", "b", "b", "b", "b"), 1, 1},
		{"two of four near fail", policy.PreferZone, "a", zoned("a", "a", "a", "a", "b", "b", "b", "b"), 2, 0.7},
		{"one near for every third caller, and nine far", policy.PreferZone, "a", zoned("a", "b", "b", "b", "b", "b", "c", "c", "c", "c"), 0, 0.42},
		{"none near", policy.PreferZone, "a", zoned("b", "b", "c"), 0, 0},
		{"the proxy's zone is unknown", policy.PreferZone, "", zoned("a", "b"), 0, 0},
		{"any zone", policy.AnyZone, "a", zoned("a", "b", "b", "b"), 0, 0.25},
		{"only this zone", policy.OnlyZone, "a", zoned("a", "b", "b", "b"), 0, 1},
	} {
		for _, a := range []policy.Algorithm{policy.PeakEWMA, policy.LeastRequest, policy.RoundRobin, policy.Random} {
			t.Run(fmt.Sprintf("%s, algorithm %d", test.name, a), func(t *testing.T) {
				p := *policy.DefaultUpstream
				p.Balance.Algorithm, p.Locality = a, test.locality
				x := &trial{policy: &p, list: test.list, zone: test.zone, loops: 2, rate: 1000, serve: func(i int, _ int64, rng *rand.Rand) Outcome {
					o := Outcome{Latency: usual(rng)}
					if i < test.bad {
						o.Verdict = Failed
					}
					return o
				}}
				x.run(8 * time.Second) // those that fail are ejected, and tried in vain
				r := x.run(2 * time.Second)
				near := 0.0
				for i, e := range test.list {
					if e.Zone == test.zone {
						near += r.share(i)
					}
				}
				if math.Abs(near-test.want) > 0.04 {
					t.Errorf("%.3f stay in the zone, want %.2f", near, test.want)
				}
			})
		}
	}
}

// With less than Panic percent well, all are used; without a threshold those that
// are well, and none when there are none.
func TestPanic(t *testing.T) {
	for _, test := range []struct {
		threshold uint8
		sick      int
		used      int
	}{{50, 2, 2}, {50, 3, 4}, {50, 4, 4}, {0, 3, 1}, {0, 4, 0}, {100, 1, 4}} {
		p := *policy.DefaultUpstream
		p.Panic = test.threshold
		p.Health = &policy.HealthCheck{}
		x := &trial{policy: &p, list: endpoints(4), loops: 1, rate: 1000, serve: func(_ int, _ int64, rng *rand.Rand) Outcome {
			return Outcome{Latency: usual(rng)}
		}}
		x.begin()
		for i := range test.sick {
			x.sets[0].All()[i].Shared().SetHealthy(x.now, false, "test")
		}
		r := x.run(time.Second)
		used := 0
		for i := range 4 {
			if r.per[i] > 0 {
				used++
			}
		}
		if used != test.used {
			t.Errorf("threshold %d, %d of 4 unhealthy: %d are used, want %d", test.threshold, test.sick, used, test.used)
		}
		if test.used == 0 && r.none != r.n {
			t.Errorf("%d of %d requests found no endpoint", r.none, r.n)
		}
	}
}

func TestSubset(t *testing.T) {
	list := endpoints(3)
	list[0].Labels = "app=cart,track=canary"
	list[1].Labels = "app=cart,track=canary2"
	list[2].Labels = "app=cart,track=canary,zone=a"
	p := *policy.DefaultUpstream
	var s Set
	for _, test := range []struct {
		subset []string
		want   int
	}{{nil, 3}, {[]string{"track=canary"}, 2}, {[]string{"app=cart", "zone=a"}, 1}, {[]string{"track=stable"}, 0}} {
		p.Subset = test.subset
		s.Follow("", &p, "")
		s.Update(list)
		if s.Len() != test.want {
			t.Errorf("subset %v: %d endpoints, want %d", test.subset, s.Len(), test.want)
		}
	}
}

// The endpoints of a suspect host get little while there are others; one that the
// control plane doubts gets little where two are compared.
func TestSuspect(t *testing.T) {
	for _, a := range []policy.Algorithm{policy.PeakEWMA, policy.LeastRequest, policy.RoundRobin, policy.Random} {
		compares := a == policy.PeakEWMA || a == policy.LeastRequest
		for _, host := range []bool{false, true} {
			p := *policy.DefaultUpstream
			p.Balance.Algorithm = a
			list := endpoints(5)
			for i := range 2 {
				list[i].Address = netip.MustParseAddrPort(fmt.Sprintf("10.9.9.9:%d", i+1))
			}
			x := &trial{policy: &p, list: list, loops: 2, rate: 1000}
			x.serve = func(i int, _ int64, rng *rand.Rand) Outcome {
				if i < 2 && host {
					return Outcome{Latency: usual(rng), Verdict: TimedOut}
				}
				return Outcome{Latency: usual(rng)}
			}
			if !host {
				list[0].Suspect, list[1].Suspect = true, true
			} else {
				p.Ejection.Off = true
			}
			x.run(time.Second)
			r := x.run(5 * time.Second)
			share := r.share(0) + r.share(1)
			if most := 0.18; (host || compares) && share > most {
				t.Errorf("algorithm %d, host %v: two of five suspects get %.3f", a, host, share)
			}
			for i := range list {
				list[i].Suspect = !host
			}
			if x.update(list); host {
				continue
			}
			if r := x.run(5 * time.Second); r.share(0) < 0.15 {
				t.Errorf("algorithm %d: where all are suspect one gets %.3f", a, r.share(0))
			}
		}
	}
}
