package overload

import (
	"math"
	"time"
)

// This file is how a gate learns. Who has g.closing may use g.learnt.

// begin starts a measurement's counting, once what began before is through.
func (g *Gate) begin(now time.Duration) {
	if !g.closing.CompareAndSwap(false, true) {
		return
	}
	if g.probing && !g.drained {
		g.drained = true
		g.reset(now)
		g.from.Store(int64(now))
	}
	g.closing.Store(false)
}

// close ends a window and draws conclusions.
func (g *Gate) close(now time.Duration) {
	if !g.closing.CompareAndSwap(false, true) {
		return
	}
	n, sum, squares := g.n.Load(), g.sum.Load(), g.squares.Load()
	took := now - time.Duration(g.start.Load())
	if n >= fewWindow && took > 0 {
		g.vary(n, sum, squares)
		g.conclude(g.settings.Load(), now, time.Duration(sum/n), float64(n)/took.Seconds(), took)
		g.reset(now)
	}
	g.closing.Store(false)
}

// vary works out how many requests make a window. It doesn't look at the one that
// is being counted: ending it when it looks calm would make it look calm.
func (g *Gate) vary(n, sum, squares int64) {
	mean := max(float64(sum>>grain)/float64(n), 1)
	variety := float64(squares)/float64(n)/(mean*mean) - 1
	g.variety = max(variety, g.variety*calming)
	g.enough.Store(int64(min(max(precise*precise*g.variety, minWindow), maxWindow)))
}

func (g *Gate) reset(now time.Duration) {
	g.n.Store(0)
	g.sum.Store(0)
	g.squares.Store(0)
	g.bound.Store(0)
	g.peak.Store(g.inflight.Load())
	g.start.Store(int64(now))
	for i := range g.by {
		g.by[i].arrived.Store(0)
	}
}

// conclude takes a window's mean latency and its rate in requests a second.
func (g *Gate) conclude(s *settings, now, latency time.Duration, rate float64, took time.Duration) {
	g.reserve(s, latency, took)
	if g.probing {
		g.doubtful = latency < g.base*3/4
		g.base = latency
		g.probing, g.drained = false, false
		g.probed, g.atProbe = now, g.concurrency
		g.show(s, g.concurrency)
		return
	}
	if g.base == 0 {
		g.base = latency
	}
	base := g.base
	worst := time.Duration(s.tolerance * float64(base))
	limited := g.bound.Load() > 0 || float64(g.peak.Load()) >= g.concurrency
	congested := latency > worst
	switch {
	case limited && latency < base*3/4:
		g.base, g.doubtful = latency, true
	case !limited && !congested:
		g.base += time.Duration(drift * float64(latency-base))
	}
	if limited || congested {
		target := s.tolerance * rate * base.Seconds()
		if !congested {
			target = max(target, g.concurrency)
		}
		target = min(max(target, g.concurrency/2), 2*g.concurrency)
		g.concurrency = min(max((g.concurrency+target)/2, float64(s.min)), float64(s.max))
		if limited && !congested {
			g.concurrency = min(max(target, float64(s.min)), float64(s.max))
		}
	}
	g.show(s, g.concurrency)
	every := max(probeEvery, probeLatency*base)
	// The limit has fallen by half: is it the load, or has the program become
	// slower by itself?
	if g.doubtful || congested && (g.concurrency <= g.atProbe/2 || g.concurrency <= float64(s.min)) {
		every = max(urgentEvery, probeLatency/10*base)
	}
	if (limited || congested) && now-g.probed >= every {
		g.probe(s, now)
	}
}

// probe begins a measurement: so few requests are let in that none of them waits
// for another, if the limit is anything like right. If it was too high by a
// factor, the next measurement finds half of that.
func (g *Gate) probe(s *settings, now time.Duration) {
	g.probing, g.drained, g.asked = true, false, now
	few := max(g.concurrency/(2*s.tolerance), float64(s.min), 1)
	if g.base == 0 {
		few = max(g.concurrency/2, float64(s.min))
	}
	g.from.Store(math.MaxInt64)
	g.limit.Store(int64(few))
	if g.inflight.Load() <= int64(few) {
		g.drained = true
		g.reset(now)
		g.from.Store(int64(now))
	}
}

// impatient gives a measurement up that can't begin because what began before
// doesn't end.
func (g *Gate) impatient(now time.Duration) {
	if !g.closing.CompareAndSwap(false, true) {
		return
	}
	if g.probing && !g.drained && now-g.asked > max(patient, clip*g.base) {
		g.probing, g.probed, g.atProbe = false, now, g.concurrency
		g.show(g.settings.Load(), g.concurrency)
		g.reset(now)
	}
	g.closing.Store(false)
}

// show puts a limit into force.
func (g *Gate) show(s *settings, limit float64) {
	g.limit.Store(int64(limit + 0.5))
	g.shown.limit.Store(int64(limit + 0.5))
	g.shown.base.Store(int64(g.base))
	g.from.Store(0)
}

// reserve keeps room for the more important requests: of each level and those
// below only so many may be under way that the ones above, as many as came
// lately, find room.
func (g *Gate) reserve(s *settings, latency, took time.Duration) {
	if len(s.priorities) == 0 {
		return
	}
	above := 0.0
	for l := Levels - 1; l >= 0; l-- {
		quota := int64(math.MaxInt64)
		if above > 0 {
			quota = max(int64(g.concurrency-above-2*math.Sqrt(above)), 0)
		}
		g.by[l].quota.Store(quota)
		above += float64(g.by[l].arrived.Load()) / took.Seconds() * latency.Seconds()
	}
}
