package overload

import (
	"math"
	"sync/atomic"
	"time"

	"tulle.dev/tulle/internal/policy"
)

const (
	// Levels is the number of priorities; DefaultLevel is that of what no
	// priority matches.
	Levels       = 10
	DefaultLevel = 5

	// initial is the concurrency before anything is known.
	initial = 20
	// A window, after which the limit is looked at again, ends when so many requests
	// have ended that its mean latency is known well enough, as latencies vary: the
	// standard error is one part in precise. That is at least minWindow and at most
	// maxWindow requests, firstWindow before anything is known; fewWindow are enough
	// when they take longWindow.
	precise     = 8
	minWindow   = 32
	firstWindow = 64
	maxWindow   = 1024
	fewWindow   = 16
	longWindow  = time.Second
	// grain is the unit, as a power of two of nanoseconds, in which latencies are
	// squared.
	grain = 14
	// probeEvery is the least time between two measurements of the latency without
	// load while the limit binds; it is longer for programs that take long, in
	// multiples of their latency. An urgent one comes after urgentEvery.
	probeEvery   = 10 * time.Second
	probeLatency = 200
	urgentEvery  = time.Second
	// patient bounds the wait for a measurement to begin.
	patient = time.Second
	// clip bounds what one request may count as, in multiples of the latency
	// without load: a single slow one says nothing of the load.
	clip = 20
	// drift is how much of a lightly loaded window's latency goes into the base.
	drift = 0.1
	// calming is how fast it is forgotten that latencies varied, by window.
	calming = 0.95
)

// Gate admits requests to one program. All loops of the proxy share it: the
// limit holds for the proxy. Its methods don't lock or allocate; only one loop at
// a time works out a new limit, and what others count meanwhile may be lost to
// the statistics, never to the requests under way.
//
// The limit follows Little's law: a program that completes X requests a second
// which take the time B without load works on X·B at once. The limit is Tolerance
// times that: when requests come faster than the program works, X is what it can
// do, and the latency settles at Tolerance·B. X is counted all the time. B is the
// latency while there is little to do; under a load that doesn't end it is
// measured now and then by admitting less than the program can do for a moment.
type Gate struct {
	settings atomic.Pointer[settings]

	inflight atomic.Int64
	limit    atomic.Int64 // what holds now, during a measurement too
	by       [Levels]level
	refused  atomic.Uint64 // ever
	lines    atomic.Pointer[[]*Line]

	// The window that is being counted.
	n, sum, squares, start, peak atomic.Int64
	bound                        atomic.Int64 // requests that met the limit
	from                         atomic.Int64 // only requests that began since count
	enough                       atomic.Int64 // requests that make a window
	closing                      atomic.Bool

	learnt // by whoever has closing
	shown  struct {
		limit, base atomic.Int64
	}
}

// level is what is known of one priority.
type level struct {
	inflight atomic.Int64
	quota    atomic.Int64 // bounds what is under way of this level and those below
	arrived  atomic.Int64 // in the window
	refused  atomic.Uint64
}

// settings are a policy, ready for use.
type settings struct {
	min, max   int64
	tolerance  float64
	queue      time.Duration
	priorities []priority
}

type priority struct {
	when  *policy.Matcher
	level uint8
}

// learnt is what the gate has found out.
type learnt struct {
	concurrency float64       // the limit, as a number that can grow by less than 1
	base        time.Duration // the latency without load, 0 unknown
	variety     float64       // the squared coefficient of variation of latencies
	probing     bool
	drained     bool          // the measurement has begun: what came before is gone
	asked       time.Duration // when it was to begin
	doubtful    bool          // the base has fallen: it may still be too high
	probed      time.Duration // when the last one ended
	atProbe     float64       // the limit then
}

// New makes a gate.
func New(p *policy.Overload, now time.Duration) *Gate {
	g := &Gate{}
	g.start.Store(int64(now))
	g.enough.Store(firstWindow)
	g.Update(p)
	s := g.settings.Load()
	g.concurrency = min(max(initial, float64(s.min)), float64(s.max))
	g.probe(s, now)
	g.shown.limit.Store(int64(g.concurrency))
	return g
}

// Update takes other settings over; what was learnt stays.
func (g *Gate) Update(p *policy.Overload) {
	s := &settings{
		min: max(int64(p.Min), 1), max: int64(p.Max),
		tolerance: max(float64(p.Tolerance)/100, 1.05), queue: p.Queue,
	}
	s.max = max(s.max, s.min)
	for _, e := range p.Priority {
		s.priorities = append(s.priorities, priority{policy.NewMatcher(e.When), min(e.Level, Levels-1)})
	}
	for i := range g.by {
		g.by[i].quota.Store(math.MaxInt64)
	}
	g.settings.Store(s)
}

// Level is the priority of a request.
func (g *Gate) Level(s *policy.Subject) uint8 {
	for _, p := range g.settings.Load().priorities {
		if p.when.Met(s) {
			return p.level
		}
	}
	return DefaultLevel
}

// Prioritised reports whether requests have different priorities.
func (g *Gate) Prioritised() bool { return len(g.settings.Load().priorities) > 0 }

// Queue is how long a request may wait.
func (g *Gate) Queue() time.Duration { return g.settings.Load().queue }

// Arrive counts a request that wants in, once.
func (g *Gate) Arrive(l uint8) { g.by[l].arrived.Add(1) }

// Enter reports whether a request may begin. If so, Leave must follow.
func (g *Gate) Enter(l uint8, now time.Duration) bool {
	n := g.inflight.Add(1)
	if n > g.limit.Load() {
		g.inflight.Add(-1)
		g.bound.Add(1)
		if g.from.Load() == math.MaxInt64 {
			g.impatient(now)
		}
		return false
	}
	if len(g.settings.Load().priorities) > 0 {
		below := int64(1)
		for i := range l + 1 {
			below += g.by[i].inflight.Load()
		}
		if below > g.by[l].quota.Load() {
			g.inflight.Add(-1)
			g.bound.Add(1)
			return false
		}
	}
	g.by[l].inflight.Add(1)
	for peak := g.peak.Load(); n > peak && !g.peak.CompareAndSwap(peak, n); peak = g.peak.Load() {
	}
	return true
}

// Refuse counts a request that was turned away.
func (g *Gate) Refuse(l uint8) {
	g.refused.Add(1)
	g.by[l].refused.Add(1)
}

// Leave ends a request that was let in at began. good says that the program
// answered it: how long it took tells of the load. Of another one only a long
// time does.
func (g *Gate) Leave(l uint8, began, now time.Duration, good bool) {
	g.by[l].inflight.Add(-1)
	left := g.inflight.Add(-1)
	if int64(began) < g.from.Load() {
		if left <= g.limit.Load() {
			g.begin(now)
		}
		return
	}
	d := int64(max(now-began, 1))
	if base := g.shown.base.Load(); base > 0 {
		if !good && d < base {
			return
		}
		d = min(d, clip*base)
	} else if !good {
		return
	}
	g.sum.Add(d)
	g.squares.Add((d >> grain) * (d >> grain))
	n := g.n.Add(1)
	if n >= g.enough.Load() || n >= fewWindow && int64(now)-g.start.Load() >= int64(longWindow) {
		g.close(now)
	}
}

// Limit, Base and Inflight are what the gate believes now, for people: how many
// requests at once, the latency without load, and those under way.
func (g *Gate) Limit() int             { return int(g.shown.limit.Load()) }
func (g *Gate) Base() time.Duration    { return time.Duration(g.shown.base.Load()) }
func (g *Gate) Inflight() int          { return int(g.inflight.Load()) }
func (g *Gate) Refused() uint64        { return g.refused.Load() }
func (g *Gate) RefusedAt(l int) uint64 { return g.by[l].refused.Load() }
