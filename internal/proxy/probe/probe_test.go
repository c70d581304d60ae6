package probe

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/balance"
	"tulle.dev/tulle/internal/proxy/eject"
	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/proxy/sim"
	"tulle.dev/tulle/internal/view"
)

// bench is a prober in virtual time.
type bench struct {
	world  *sim.World
	loop   *loop.Loop
	prober *Prober
	set    balance.Set
	asked  map[string][]time.Duration
	under  int // questions under way
	sick   map[string]bool
	mute   bool // nobody answers
	drops  int
}

type target struct {
	b  *bench
	at string
}

func (t target) Ask(h *policy.HealthCheck, done func(bool, string)) func() {
	b := t.b
	b.asked[t.at] = append(b.asked[t.at], b.loop.Now())
	b.under++
	live := true
	if !b.mute {
		b.loop.Later(func() {
			if live {
				b.under--
				live = false
				done(!b.sick[t.at], "sick")
			}
		})
	}
	return func() {
		if live {
			b.under--
			live = false
		}
	}
}

func (t target) Drop() { t.b.drops++ }

func newBench(n int) *bench {
	b := &bench{world: sim.New(1, sim.Weather{}, nil), asked: map[string][]time.Duration{}, sick: map[string]bool{}}
	b.loop = loop.New(b.world.Poller("host", netip.MustParseAddr("10.0.0.9")), 0, 1)
	b.prober = New(b.loop, func(_ string, e *balance.Endpoint) Target { return target{b, e.Address.String()} })
	b.set.Share(eject.New().Service("a.b:1"))
	b.update(n)
	return b
}

func (b *bench) update(n int) {
	var list []view.Endpoint
	for i := range n {
		list = append(list, view.Endpoint{Address: netip.MustParseAddrPort(fmt.Sprintf("10.0.0.%d:1", i+1))})
	}
	b.set.Update(list)
}

// run turns the loop for a time.
func (b *bench) run(t *testing.T, d time.Duration) {
	t.Helper()
	for end := b.world.Now() + d; b.world.Now() < end; {
		if !b.world.Run(b.world.Now()+2*time.Millisecond, 1000, nil) {
			t.Fatal("going round in circles")
		}
		b.loop.Turn(0)
	}
}

func (b *bench) out(i int) bool { return b.set.All()[i].Shared().Out() }

var health = &policy.HealthCheck{Interval: time.Second, Timeout: 100 * time.Millisecond, Unhealthy: 3, Healthy: 2}

// Each endpoint is asked once in an interval, and they don't keep step.
func TestIntervals(t *testing.T) {
	b := newBench(20)
	b.prober.Follow("a.b:1", health, b.set.All())
	b.run(t, 30*time.Second)
	first := map[time.Duration]bool{}
	for at, times := range b.asked {
		if len(times) < 25 || len(times) > 34 {
			t.Errorf("%s was asked %d times in 30 s", at, len(times))
		}
		if times[0] > firstWithin*8/7 { // a timer may be late by a seventh
			t.Errorf("%s was asked first after %v", at, times[0])
		}
		first[times[len(times)-1].Truncate(10*time.Millisecond)] = true
	}
	if len(b.asked) != 20 || len(first) < 10 {
		t.Errorf("%d of 20 are asked, at %d different times", len(b.asked), len(first))
	}
}

// As many failures in a row as the policy says take an endpoint out, as many
// successes bring it back.
func TestThresholds(t *testing.T) {
	b := newBench(2)
	b.prober.Follow("a.b:1", health, b.set.All())
	b.run(t, 5*time.Second)
	if b.out(0) || b.out(1) {
		t.Fatal("healthy endpoints are out")
	}
	const victim = "10.0.0.1:1"
	until := func(n int) { // n more questions
		for want := len(b.asked[victim]) + n; len(b.asked[victim]) < want; {
			b.run(t, 10*time.Millisecond)
		}
		b.run(t, 10*time.Millisecond)
	}
	b.sick[victim] = true
	until(2)
	if b.out(0) {
		t.Fatal("out after 2 failures, want 3")
	}
	b.sick[victim] = false
	until(1)
	b.sick[victim] = true
	until(2)
	if b.out(0) {
		t.Fatal("a success in between doesn't count")
	}
	until(1)
	if !b.out(0) || b.out(1) {
		t.Fatal("not out after 3 failures in a row")
	}
	b.sick[victim] = false
	until(1)
	if !b.out(0) {
		t.Fatal("back after one success, want 2")
	}
	until(1)
	if b.out(0) {
		t.Fatal("not back after 2 successes")
	}
}

// Whatever is gone isn't asked any more: an endpoint, the policy, the service.
func TestStops(t *testing.T) {
	b := newBench(3)
	b.mute = true
	b.prober.Follow("a.b:1", health, b.set.All())
	b.run(t, 3*time.Second)
	if b.under != 3 {
		t.Fatalf("%d questions under way, want one for each endpoint however long it takes", b.under)
	}
	b.update(1)
	b.prober.Follow("a.b:1", health, b.set.All())
	if b.prober.Len() != 1 || b.under != 1 || b.drops != 2 {
		t.Errorf("%d are asked, %d questions under way, %d dropped, when two of three are gone", b.prober.Len(), b.under, b.drops)
	}
	b.prober.Follow("other:1", health, nil)
	if b.prober.Len() != 1 {
		t.Error("another service's endpoints stop this one's")
	}
	again := *health
	b.prober.Follow("a.b:1", &again, b.set.All())
	if b.drops != 2 {
		t.Error("the same policy begins anew")
	}
	again.Path = "/other"
	b.prober.Follow("a.b:1", &again, b.set.All())
	if b.drops != 3 || b.prober.Len() != 1 {
		t.Error("another policy doesn't begin anew")
	}
	b.prober.Follow("a.b:1", nil, b.set.All())
	if b.prober.Len() != 0 || b.under != 0 {
		t.Errorf("%d are asked, %d questions under way, without a policy", b.prober.Len(), b.under)
	}
	before := len(b.asked["10.0.0.1:1"])
	b.run(t, 5*time.Second)
	if len(b.asked["10.0.0.1:1"]) != before {
		t.Error("it is asked all the same")
	}
}

// The number of endpoints that are asked is bounded.
func TestBound(t *testing.T) {
	b := newBench(0)
	list := make([]view.Endpoint, maxChecks+10)
	for i := range list {
		list[i] = view.Endpoint{Address: netip.MustParseAddrPort("10.0.0.1:1"), Identity: fmt.Sprint(i)}
	}
	b.set.Update(list)
	b.prober.Follow("a.b:1", health, b.set.All())
	if b.prober.Len() != maxChecks {
		t.Errorf("%d are asked, want %d", b.prober.Len(), maxChecks)
	}
}
