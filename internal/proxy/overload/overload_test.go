package overload

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tulle.dev/tulle/internal/policy"
)

var defaults = policy.Overload{Min: 4, Max: 1000, Tolerance: 200}

func withQueue(d time.Duration) *policy.Overload {
	p := defaults
	p.Queue = d
	return &p
}

// The program of the issue: 8 workers, 10 ms each, asked for three times of what it
// can do. Without load an answer takes 10 ms.
const (
	capacity = 800.0
	unloaded = 10 * time.Millisecond
)

func TestThreeTimesCapacity(t *testing.T) {
	for _, queue := range []time.Duration{0, 50 * time.Millisecond} {
		for seed := range uint64(3) {
			m := newModel(seed, withQueue(queue))
			m.run(20 * time.Second)
			r := m.result(0, 20*time.Second)
			if r.goodput < 0.95*capacity || r.p99 > 4*unloaded {
				t.Errorf("queue %s, seed %d: %.0f answers a second, p99 %s; want at least %.0f and at most %s", queue, seed, r.goodput, r.p99, 0.95*capacity, 4*unloaded)
			}
		}
	}
	m := newModel(1, nil)
	m.run(20 * time.Second)
	if r := m.result(0, 20*time.Second); r.p99 < time.Second {
		t.Errorf("without shedding p99 is %s: the model is not overloaded", r.p99)
	}
}

// Latencies that vary as real ones do mustn't starve the program.
func TestVaryingLatencies(t *testing.T) {
	for name, service := range map[string]func(*rand.Rand) time.Duration{
		"exponential": exponential(unloaded), "one of ten takes 91 times as long": mixed,
	} {
		for seed := range uint64(3) {
			m := newModel(seed, withQueue(50*time.Millisecond))
			m.service = service
			m.run(40 * time.Second)
			if r := m.result(5*time.Second, 40*time.Second); r.goodput < 0.8*capacity {
				t.Errorf("%s, seed %d: %.0f answers a second, want at least %.0f", name, seed, r.goodput, 0.8*capacity)
			}
		}
	}
}

// What the program can do changes while it is overloaded.
func TestSteps(t *testing.T) {
	m := newModel(1, withQueue(0))
	at := time.Duration(0)
	for _, step := range []struct {
		name    string
		workers int
		service time.Duration
	}{
		{"at first", 8, 10 * time.Millisecond},
		{"half the workers", 4, 10 * time.Millisecond},
		{"one worker", 1, 10 * time.Millisecond},
		{"more workers than ever", 16, 10 * time.Millisecond},
		{"slower by itself", 16, 30 * time.Millisecond},
		{"fast again", 16, 10 * time.Millisecond},
	} {
		m.workers, m.service = step.workers, constant(step.service)
		m.run(at + 35*time.Second)
		r := m.result(at+5*time.Second, at+35*time.Second)
		able := float64(step.workers) / step.service.Seconds()
		// Below the least concurrency nothing can be kept short.
		worst := 5 * max(step.service, time.Duration(4/step.workers)*step.service)
		if r.goodput < 0.85*min(able, m.rate) || r.p99 > worst {
			t.Errorf("%s: %.0f answers a second of %.0f, p99 %s of %s", step.name, r.goodput, able, r.p99, step.service)
		}
		at += 35 * time.Second
	}
}

// A program that isn't overloaded is left alone, also when it becomes slower.
func TestLeftAlone(t *testing.T) {
	m := newModel(1, withQueue(50*time.Millisecond))
	m.rate = 200
	m.run(10 * time.Second)
	m.service = constant(30 * time.Millisecond) // three quarters of its workers are busy
	m.run(40 * time.Second)
	if r := m.result(0, 10*time.Second); r.success[DefaultLevel] < 0.999 {
		t.Errorf("%.2f %% admitted with a quarter of the load it can take", 100*r.success[DefaultLevel])
	}
	if r := m.result(10*time.Second, 40*time.Second); r.success[DefaultLevel] < 0.97 {
		t.Errorf("%.2f %% admitted after it had become slower", 100*r.success[DefaultLevel])
	}
}

// A program that does a lot at once is found out soon.
func TestGrows(t *testing.T) {
	m := newModel(1, withQueue(50*time.Millisecond))
	m.workers, m.service, m.rate = 400, constant(50*time.Millisecond), 6000
	m.run(5 * time.Second)
	if r := m.result(2*time.Second, 5*time.Second); r.success[DefaultLevel] < 0.98 {
		t.Errorf("%.2f %% admitted; limit %d, base %s", 100*r.success[DefaultLevel], m.gate.Limit(), m.gate.Base())
	}
}

func TestPriorities(t *testing.T) {
	for _, c := range []struct {
		queue          time.Duration
		most, ordinary float64
	}{{0, 0.95, 0.8}, {50 * time.Millisecond, 0.99, 0.9}} {
		p, queue := withQueue(c.queue), c.queue
		for _, l := range []uint8{1, 5, 9} {
			p.Priority = append(p.Priority, policy.Priority{When: policy.Match{Methods: []string{string('0' + l)}}, Level: l})
		}
		m := newModel(1, p)
		m.levels = func(r *rand.Rand) uint8 { // a fifth each of what it can do, and too much
			switch r.IntN(15) {
			case 0:
				return 9
			case 1, 2:
				return 5
			}
			return 1
		}
		m.run(20 * time.Second)
		r := m.result(2*time.Second, 20*time.Second)
		if r.success[9] < c.most || r.success[5] < c.ordinary || r.success[1] > 0.3 {
			t.Errorf("queue %s: %.3f of the most, %.3f of the ordinary and %.3f of the least important were admitted", queue, r.success[9], r.success[5], r.success[1])
		}
		if r.goodput < 0.85*capacity {
			t.Errorf("queue %s: %.0f answers a second", queue, r.goodput)
		}
	}
	// All of one level are one crowd.
	p := withQueue(0)
	p.Priority = []policy.Priority{{When: policy.Match{Methods: []string{"GET"}}, Level: 9}}
	m := newModel(1, p)
	m.run(20 * time.Second)
	if r := m.result(0, 20*time.Second); r.goodput < 0.95*capacity {
		t.Errorf("with priorities that nothing meets: %.0f answers a second", r.goodput)
	}
}

func TestLevel(t *testing.T) {
	g := New(&policy.Overload{Min: 1, Max: 1, Priority: []policy.Priority{
		{When: policy.Match{Methods: []string{"GET"}}, Level: 7},
		{When: policy.Match{From: []string{"*.batch"}}, Level: 1},
		{When: policy.Match{From: []string{"x.batch"}}, Level: 200},
	}}, 0)
	for _, c := range []struct {
		s    policy.Subject
		want uint8
	}{
		{policy.Subject{Method: []byte("GET"), Caller: "x.batch"}, 7},
		{policy.Subject{Method: []byte("PUT"), Caller: "x.batch"}, 1},
		{policy.Subject{Method: []byte("PUT")}, DefaultLevel},
	} {
		if got := g.Level(&c.s); got != c.want {
			t.Errorf("%s from %s: %d, want %d", c.s.Method, c.s.Caller, got, c.want)
		}
	}
}

// The limit holds for all loops together, also one that is smaller than their
// number.
func TestLoopsTogether(t *testing.T) {
	for _, loops := range []int{1, 4} {
		for _, limit := range []uint32{1, 3, 50} {
			g := New(&policy.Overload{Min: limit, Max: limit, Tolerance: 200}, 0)
			var inside, most atomic.Int64
			var clock atomic.Int64
			var all sync.WaitGroup
			for range loops {
				all.Go(func() {
					line := g.NewLine(0, func() {})
					for range 20_000 {
						now := time.Duration(clock.Add(1000))
						if !line.Enter(DefaultLevel, now) {
							if line.Join(DefaultLevel, now, nil) != nil {
								t.Error("a request joined a queue that there isn't")
							}
							continue
						}
						n := inside.Add(1)
						for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
						}
						inside.Add(-1)
						line.Done(DefaultLevel, now, time.Duration(clock.Add(1000)), true)
					}
				})
			}
			all.Wait()
			if most.Load() > int64(limit) || g.Inflight() != 0 {
				t.Errorf("%d loops, limit %d: %d at once, %d left", loops, limit, most.Load(), g.Inflight())
			}
		}
	}
}

// recorder is a waiter that notes what became of it.
type recorder struct {
	name string
	log  *[]string
	do   func()
}

func (r *recorder) Admitted() {
	*r.log = append(*r.log, r.name+" in")
	if r.do != nil {
		r.do()
	}
}
func (r *recorder) TurnedAway() { *r.log = append(*r.log, r.name+" away") }

func TestLine(t *testing.T) {
	ms := time.Millisecond
	g := New(&policy.Overload{Min: 1, Max: 1, Tolerance: 200, Queue: 50 * ms}, 0)
	var log []string
	woken := 0
	line := g.NewLine(0, func() { t.Error("its own line was woken") })
	other := g.NewLine(0, func() { woken++ })
	join := func(l *Line, name string, level uint8, now time.Duration) *Ticket {
		if l.Enter(level, now) {
			t.Fatalf("%s got in", name)
		}
		return l.Join(level, now, &recorder{name: name, log: &log})
	}
	done := func(l *Line, level uint8, began, now time.Duration) {
		if l.Done(level, began, now, true) {
			l.Serve(now)
		}
	}
	if !line.Enter(5, 0) {
		t.Fatal("the first one didn't get in")
	}
	join(line, "a", 5, 1*ms)
	gone := join(line, "b", 5, 2*ms)
	join(line, "c", 9, 3*ms)
	join(line, "d", 1, 4*ms)
	if d := line.Next(4 * ms); d != 47*ms {
		t.Errorf("looked at again in %s, want 47ms", d)
	}
	line.Leave(gone)
	done(line, 5, 0, 10*ms) // c
	if line.Enter(5, 11*ms) || line.Enter(9, 11*ms) {
		t.Error("the limit of 1 doesn't hold")
	}
	done(line, 9, 10*ms, 20*ms) // a
	line.Serve(54 * ms)         // d has waited for too long
	if want := "c in a in d away"; join3(log) != want {
		t.Errorf("%s, want %s", join3(log), want)
	}
	if g.Refused() != 1 || g.RefusedAt(1) != 1 {
		t.Errorf("%d refused, %d of level 1", g.Refused(), g.RefusedAt(1))
	}
	// A place that one loop frees is for those who wait on another, too.
	join(other, "e", 5, 55*ms)
	done(line, 5, 20*ms, 60*ms)
	if woken != 1 {
		t.Fatalf("woken %d times", woken)
	}
	other.Serve(61 * ms)
	if want := "c in a in d away e in"; join3(log) != want {
		t.Errorf("%s, want %s", join3(log), want)
	}
	// Whoever is let in may be done at once.
	again := &recorder{name: "f", log: &log}
	again.do = func() { done(other, 5, 70*ms, 70*ms) }
	other.Join(5, 62*ms, again)
	join(other, "g", 5, 63*ms)
	done(other, 5, 61*ms, 70*ms)
	if want := "c in a in d away e in f in g in"; join3(log) != want {
		t.Errorf("%s, want %s", join3(log), want)
	}
	done(other, 5, 70*ms, 71*ms)
	if g.Inflight() != 0 || other.Next(71*ms) != 0 {
		t.Errorf("%d under way, next %s", g.Inflight(), other.Next(71*ms))
	}
}

func join3(list []string) string {
	s := ""
	for i, e := range list {
		if i > 0 {
			s += " "
		}
		s += e
	}
	return s
}

// A line is bounded.
func TestLineFull(t *testing.T) {
	g := New(&policy.Overload{Min: 1, Max: 1, Tolerance: 200, Queue: time.Second}, 0)
	line := g.NewLine(0, func() {})
	line.Enter(5, 0)
	for i := range maxWaiting {
		if line.Join(5, 0, &recorder{log: new([]string)}) == nil {
			t.Fatalf("the line was full at %d", i)
		}
	}
	if line.Join(5, 0, &recorder{}) != nil {
		t.Error("the line has no end")
	}
}

// Requests that never end don't hold a measurement up for ever.
func TestMeasurementGivenUp(t *testing.T) {
	g := New(&policy.Overload{Min: 1, Max: 1000, Tolerance: 200}, 0)
	now := time.Duration(0)
	for range firstWindow { // the first measurement
		if !g.Enter(5, now) {
			t.Fatal("refused alone")
		}
		now += unloaded
		g.Leave(5, now-unloaded, now, true)
	}
	for g.Enter(5, now) { // hangs for ever
	}
	g.probe(g.settings.Load(), now)
	few := g.limit.Load()
	now += patient + time.Millisecond
	g.Enter(5, now)
	if g.limit.Load() <= few {
		t.Errorf("the limit is still %d", g.limit.Load())
	}
}

func TestFailures(t *testing.T) {
	g := New(withQueue(0), 0)
	now := time.Duration(0)
	turn := func(took time.Duration, good bool) {
		if !g.Enter(5, now) {
			t.Fatal("refused alone")
		}
		now += took
		g.Leave(5, now-took, now, good)
	}
	for range firstWindow {
		turn(unloaded, true)
	}
	if g.Base() != unloaded {
		t.Fatalf("base %s", g.Base())
	}
	for range 5 * maxWindow {
		turn(time.Microsecond, false) // fails fast
	}
	if g.Base() != unloaded {
		t.Errorf("failures made the program look fast: base %s", g.Base())
	}
}

func TestAllocations(t *testing.T) {
	p := withQueue(0)
	p.Priority = []policy.Priority{{When: policy.Match{Methods: []string{"GET"}}, Level: 9}}
	g := New(p, 0)
	line := g.NewLine(0, func() {})
	now := time.Duration(0)
	s := &policy.Subject{Method: []byte("GET")}
	if n := testing.AllocsPerRun(1000, func() {
		l := g.Level(s)
		if line.Enter(l, now) {
			now += time.Millisecond
			line.Done(l, now-time.Millisecond, now, true)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// The last one that was let in leaves, on another loop, between a request's attempt
// to enter and its joining the line: it must not wait for somebody to leave.
func TestNobodyLeftToWake(t *testing.T) {
	g := New(&policy.Overload{Min: 1, Max: 1, Tolerance: 200, Queue: time.Second}, 0)
	woken := 0
	other, line := g.NewLine(0, func() {}), g.NewLine(0, func() { woken++ })
	if !other.Enter(5, 0) || line.Enter(5, 0) {
		t.Fatal("want one let in, and not the other")
	}
	other.Done(5, 0, 0, true)
	w := &waits{}
	if line.Join(5, 0, w) == nil || woken != 1 {
		t.Fatalf("woken %d times, want once: there is room", woken)
	}
	if line.Serve(0); !w.in {
		t.Error("not let in")
	}
	if line.Join(5, 0, &waits{}) == nil || woken != 1 {
		t.Errorf("woken %d times, want once: there is no room", woken)
	}
}

type waits struct{ in bool }

func (w *waits) Admitted()   { w.in = true }
func (w *waits) TurnedAway() {}
