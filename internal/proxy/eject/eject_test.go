package eject

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"bytes"
	"strings"
	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/view"
)

const second = int64(time.Second)

// service makes a service with n endpoints and one loop's tallies of them.
func service(t *testing.T, p *policy.Upstream, n int) (*Service, []*Tally) {
	t.Helper()
	s := New().Service("cart.default:80")
	s.SetPolicy(p)
	var tallies []*Tally
	for i := range n {
		e := s.Enter(&view.Endpoint{Address: netip.MustParseAddrPort(fmt.Sprintf("10.0.0.%d:80", i+1))})
		tallies = append(tallies, &Tally{Endpoint: e})
	}
	s.Entered()
	return s, tallies
}

func out(tallies []*Tally) (n int) {
	for _, y := range tallies {
		if y.Endpoint.Out() {
			n++
		}
	}
	return n
}

func TestConsecutive(t *testing.T) {
	s, y := service(t, nil, 3)
	limit := int(policy.DefaultEjection.Consecutive)
	now := second
	before := s.Generation()
	for range limit - 1 {
		y[0].Bad(now)
	}
	y[0].Good(now, time.Millisecond)
	for range limit - 1 {
		y[0].Bad(now)
	}
	if y[0].Endpoint.Out() {
		t.Fatalf("ejected after %d failures in a row, want %d", limit-1, limit)
	}
	y[0].Bad(now)
	if !y[0].Endpoint.Out() {
		t.Fatalf("not ejected after %d failures in a row", limit)
	}
	if s.Generation() == before {
		t.Error("the loops aren't told")
	}
	if at, ok := y[0].Endpoint.Retry(); !ok || at != now+int64(policy.DefaultEjection.Base) {
		t.Errorf("to be tried at %v, want after %v", time.Duration(at), policy.DefaultEjection.Base)
	}
}

// One request of all loops tries an endpoint whose time is over, and what becomes
// of it decides.
func TestHalfOpen(t *testing.T) {
	_, y := service(t, nil, 2)
	e, base := y[0].Endpoint, int64(policy.DefaultEjection.Base)
	now := second
	for !e.Out() {
		y[0].Bad(now)
	}
	if e.Claim(now + base - 1) {
		t.Fatal("tried before its time is over")
	}
	now += base
	if !e.Claim(now) {
		t.Fatal("not tried when its time is over")
	}
	if e.Claim(now) {
		t.Fatal("tried by two requests at once")
	}
	e.Unclaim()
	if !e.Claim(now) {
		t.Fatal("not tried again after the request was given up")
	}
	if !e.Claim(now + int64(claimFor)) {
		t.Fatal("a request that never ends keeps others from trying")
	}
	now += int64(claimFor)
	y[0].Probed(now, false)
	if at, _ := e.Retry(); at != now+2*base {
		t.Errorf("after a second failure out for %v, want %v", time.Duration(at-now), time.Duration(2*base))
	}
	for range 10 { // the back-off has a bound
		at, _ := e.Retry()
		if at-now > int64(policy.DefaultEjection.MaxBackoff) {
			t.Fatalf("out for %v", time.Duration(at-now))
		}
		now = at
		if !e.Claim(now) {
			t.Fatal("not tried")
		}
		y[0].Probed(now, false)
	}
	now, _ = e.Retry()
	e.Claim(now)
	y[0].Probed(now, true)
	if e.Out() {
		t.Fatal("still out after a request went well")
	}
	if joined := e.Joined(now + 5); joined != now {
		t.Errorf("joined at %d, want %d", joined, now)
	}
}

// The back-off halves for each window that goes well.
func TestBackoffHalves(t *testing.T) {
	_, y := service(t, nil, 2)
	e, p := y[0].Endpoint, policy.DefaultEjection
	now := second
	fail := func() time.Duration {
		for !e.Out() {
			y[0].Bad(now)
		}
		at, _ := e.Retry()
		d := time.Duration(at - now)
		now = at
		e.Claim(now)
		y[0].Probed(now, true)
		return d
	}
	if a, b, c := fail(), fail(), fail(); a != p.Base || b != 2*p.Base || c != 4*p.Base {
		t.Errorf("out for %v, %v, %v; want it to double from %v", a, b, c, p.Base)
	}
	now += 2 * int64(p.Window)
	if d := fail(); d != 2*p.Base {
		t.Errorf("two good windows after one of %v: %v, want a quarter of it doubled, %v", 4*p.Base, d, 2*p.Base)
	}
	now += 100 * int64(p.Window)
	if d := fail(); d != p.Base {
		t.Errorf("long after: %v, want %v again", d, p.Base)
	}
}

// However bad it gets, never more than Max percent are out, never the last one,
// and none when all fail alike.
func TestFloor(t *testing.T) {
	for n := 1; n <= 12; n++ {
		for _, cap := range []uint8{0, 5, 34, 50, 100} {
			t.Run(fmt.Sprintf("%d endpoints, at most %d percent", n, cap), func(t *testing.T) {
				p := *policy.DefaultUpstream
				p.Ejection.Max = cap
				_, y := service(t, &p, n)
				now := second
				good := max(n/4, 1) // a few work, so that it isn't an outage
				for range 50 {
					now += second / 100
					for i, one := range y {
						if i < good {
							one.Good(now, time.Millisecond)
						} else if !one.Endpoint.Out() {
							one.Bad(now)
						}
					}
				}
				want := min(n*int(cap)/100, n-good)
				if cap > 0 && n > 1 {
					want = max(want, min(1, n-good))
				}
				if got := out(y); got != want {
					t.Errorf("%d are out, want %d", got, want)
				}
			})
		}
	}
	for n := 1; n <= 12; n++ {
		_, y := service(t, nil, n)
		now := second
		for range 100 {
			now += second / 100
			for _, one := range y {
				one.Bad(now)
			}
		}
		if got := out(y); got > n/2 || got >= n {
			t.Errorf("%d of %d are out in an outage", got, n)
		}
	}
}

// An outage of all, endpoint after endpoint in turn, ejects nobody: to leave some
// out would help nobody.
func TestOutage(t *testing.T) {
	_, y := service(t, nil, 10)
	now := second
	for range 1000 { // well
		now += second / 100
		for _, one := range y {
			one.Good(now, time.Millisecond)
		}
	}
	for range 1000 {
		now += second / 100
		for _, one := range y {
			one.Bad(now)
		}
	}
	if got := out(y); got != 0 {
		t.Errorf("%d of 10 are out", got)
	}
}

func TestSuccessRate(t *testing.T) {
	for _, test := range []struct {
		name        string
		own, others int // failures of ten
		want        bool
	}{
		{"three of ten fail, the others are well", 3, 0, true},
		{"one of ten fails, which is allowed", 1, 0, false},
		{"all are alike", 5, 5, false},
		{"all are bad, this one much more", 8, 4, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, y := service(t, nil, 10)
			now := second
			for range 100 {
				now += second / 100
				for i, one := range y {
					bad := test.others
					if i == 0 {
						bad = test.own
					}
					for k := range 10 {
						if k*bad/10 != (k+1)*bad/10 {
							one.Bad(now)
						} else {
							one.Good(now, time.Millisecond)
						}
					}
				}
			}
			if got := y[0].Endpoint.Out(); got != test.want {
				t.Errorf("ejected: %v", got)
			}
			if others := out(y[1:]); others != 0 {
				t.Errorf("%d others are out", others)
			}
		})
	}
}

// Old failures don't count, and few requests say nothing.
func TestSuccessRateNeedsRequests(t *testing.T) {
	p := *policy.DefaultUpstream
	p.Ejection.Consecutive = 0
	_, y := service(t, &p, 3)
	now := second
	for range 60 { // fewer than MinRequests in each window
		now += int64(p.Ejection.Window) / int64(p.Ejection.MinRequests-2)
		for i, one := range y {
			if i == 0 {
				one.Bad(now)
			} else {
				one.Good(now, time.Millisecond)
			}
		}
	}
	if out(y) != 0 {
		t.Error("ejected for too few requests")
	}
}

func TestLatency(t *testing.T) {
	p := *policy.DefaultUpstream
	p.Ejection.Latency = 5
	_, y := service(t, &p, 5)
	now := second
	for range 200 {
		now += second / 20
		for i, one := range y {
			latency := 2 * time.Millisecond
			if i == 3 {
				latency = 12 * time.Millisecond
			}
			one.Good(now, latency)
		}
	}
	if !y[3].Endpoint.Out() || out(y) != 1 {
		t.Errorf("six times the median: out %v; %d are out in all", y[3].Endpoint.Out(), out(y))
	}
}

// Endpoints of one address that time out together make all of it suspect, of
// every service; an answer takes that back.
func TestDeadHost(t *testing.T) {
	r := New()
	a, b := r.Service("a.default:80"), r.Service("b.default:80")
	enter := func(s *Service, at string) *Tally {
		return &Tally{Endpoint: s.Enter(&view.Endpoint{Address: netip.MustParseAddrPort(at)})}
	}
	one, two, three := enter(a, "10.0.0.1:1"), enter(a, "10.0.0.1:2"), enter(b, "10.0.0.1:3")
	other := enter(b, "10.0.0.2:3")
	suspects := func(now int64) (n int) {
		for _, y := range []*Tally{one, two, three, other} {
			if _, yes := y.Endpoint.Suspect(now); yes {
				n++
			}
		}
		return n
	}
	now := second
	one.TimedOut(now)
	one.TimedOut(now)
	later := now + int64(together) + second
	two.TimedOut(later)
	if n := suspects(later); n != 0 {
		t.Fatalf("%d are suspect after one endpoint timed out, and later another", n)
	}
	before := b.Generation()
	one.TimedOut(later + second/2)
	if n := suspects(later + second); n != 3 {
		t.Errorf("%d are suspect, want the three of the address", n)
	}
	if b.Generation() == before {
		t.Error("the other service's loops aren't told")
	}
	if one.Endpoint.Out() {
		t.Error("a suspect is left out")
	}
	if n := suspects(later + second/2 + int64(suspectFor)); n != 0 {
		t.Errorf("%d are suspect long after", n)
	}
	one.TimedOut(now + 20*second)
	two.TimedOut(now + 20*second)
	three.Good(now+20*second, time.Millisecond)
	if n := suspects(now + 20*second); n != 0 {
		t.Errorf("%d are suspect after an answer", n)
	}
}

func TestHealth(t *testing.T) {
	p := *policy.DefaultUpstream
	p.Health = &policy.HealthCheck{}
	s, y := service(t, &p, 2)
	e := y[0].Endpoint
	e.SetHealthy(second, false, "status 503")
	if !e.Out() {
		t.Fatal("an unhealthy endpoint isn't out")
	}
	if _, ok := e.Retry(); ok || e.Claim(100*second) {
		t.Error("a request tries an endpoint whose health check fails")
	}
	states := s.registry.States(2*second, 10)
	if len(states) != 2 || states[0].State != Unhealthy || states[0].Why != "status 503" {
		t.Errorf("states: %+v", states)
	}
	e.SetHealthy(second, true, "")
	if e.Out() {
		t.Error("it stays out")
	}
	e.SetHealthy(second, false, "status 503")
	s.SetPolicy(nil)
	if e.Out() {
		t.Error("it stays out though nobody asks any more")
	}
}

// When those that were well are gone, or unhealthy, the ejected ones are used.
func TestNobodyElse(t *testing.T) {
	for _, gone := range []bool{true, false} {
		p := *policy.DefaultUpstream
		p.Health = &policy.HealthCheck{}
		s, y := service(t, &p, 4)
		for _, one := range y[:2] {
			for !one.Endpoint.Out() {
				one.Bad(second)
			}
		}
		for _, one := range y[2:] {
			if out(y[:2]) != 2 {
				t.Fatal("back though others are well")
			}
			if gone {
				s.Leave(one.Endpoint)
			} else {
				one.Endpoint.SetHealthy(second, false, "")
			}
		}
		if out(y[:2]) != 0 {
			t.Errorf("gone %v: %d of the two that are left are out", gone, out(y[:2]))
		}
	}
}

// What a loop has goes on being known until the last one lets it go.
func TestEnterLeave(t *testing.T) {
	s, y := service(t, nil, 1)
	v := &view.Endpoint{Address: y[0].Endpoint.Address()}
	if s.Enter(v) != y[0].Endpoint {
		t.Fatal("two loops see two endpoints")
	}
	s.Leave(y[0].Endpoint)
	if s.Enter(v) != y[0].Endpoint {
		t.Fatal("forgotten while a loop has it")
	}
	s.Leave(y[0].Endpoint)
	s.Leave(y[0].Endpoint)
	e := s.Enter(v)
	if e == y[0].Endpoint {
		t.Fatal("kept though nobody has it")
	}
	if e.Joined(7) != 7 {
		t.Error("an endpoint that comes back isn't new")
	}
	if len(s.registry.hosts) != 1 {
		t.Errorf("%d hosts", len(s.registry.hosts))
	}
	s.Leave(e)
	if len(s.registry.hosts) != 0 {
		t.Errorf("%d hosts are left", len(s.registry.hosts))
	}
}

func TestMetrics(t *testing.T) {
	m := meter.New(1, "test")
	s, y := service(t, nil, 3)
	m.Collect(func(w *meter.Writer) { s.registry.Collect(w, 2*second) })
	for !y[1].Endpoint.Out() {
		y[1].Bad(second)
	}
	var b bytes.Buffer
	if err := m.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`tulle_endpoint_ejections_total{service="cart.default:80",reason="consecutive"} 1`,
		`tulle_endpoints{service="cart.default:80",state="healthy"} 2`,
		`tulle_endpoints{service="cart.default:80",state="ejected"} 1`,
	} {
		if !strings.Contains(b.String(), want+"\n") {
			t.Errorf("no %s in\n%s", want, &b)
		}
	}
}

// A success costs nothing that grows.
func TestGoodDoesntAllocate(t *testing.T) {
	_, y := service(t, nil, 3)
	now := second
	if n := testing.AllocsPerRun(1000, func() {
		now += second / 100
		y[0].Good(now, time.Millisecond)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// What is counted of the service is the sum of what is counted of its endpoints,
// whatever happens.
func TestCountsAddUp(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	p := *policy.DefaultUpstream
	p.Ejection.Latency = 3
	s, y := service(t, &p, 6)
	now := second
	for step := range 20000 {
		now += rng.Int64N(second / 20)
		i := rng.IntN(len(y))
		one := y[i]
		switch k := rng.IntN(100); {
		case k < 70:
			one.Good(now, time.Duration(1+rng.IntN(10))*time.Millisecond)
		case k < 95:
			one.Bad(now)
		case k < 98:
			if one.Endpoint.Claim(now) {
				one.Probed(now, rng.IntN(2) == 0)
			}
		case k == 98:
			at := one.Endpoint.Address()
			s.Leave(one.Endpoint)
			*one = Tally{Endpoint: s.Enter(&view.Endpoint{Address: at})}
		default:
			now += rng.Int64N(3 * int64(p.Ejection.Window))
		}
		var sum window
		sum.tick = s.total.tick
		for _, e := range s.endpoints {
			e.record.turn(s.total.tick)
			for b := range e.record.list {
				sum.list[b].good += e.record.list[b].good
				sum.list[b].bad += e.record.list[b].bad
				sum.list[b].latency += e.record.list[b].latency
			}
		}
		if sum != s.total {
			t.Fatalf("step %d: %+v, want %+v", step, s.total, sum)
		}
		if out(y) > len(y)/2 {
			t.Fatalf("step %d: %d are out", step, out(y))
		}
	}
	if s.ejections[Consecutive]+s.ejections[SuccessRate]+s.ejections[Latency] == 0 {
		t.Error("nothing was ever ejected")
	}
}
