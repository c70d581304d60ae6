package probe

import (
	"slices"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/balance"
	"tulle.dev/tulle/internal/proxy/eject"
	"tulle.dev/tulle/internal/proxy/loop"
)

const (
	// maxChecks bounds the endpoints that a proxy checks; of more nothing is
	// asked, and they are thought healthy.
	maxChecks = 4096
	// defaultInterval and defaultTimeout hold where a policy says 0.
	defaultInterval = 10 * time.Second
	defaultTimeout  = time.Second
	// minInterval bounds how often an endpoint is asked.
	minInterval = 50 * time.Millisecond
	// firstWithin bounds the time until an endpoint is asked first.
	firstWithin = time.Second
)

// Target is an endpoint to be asked.
type Target interface {
	// Ask asks once. done is called once, on the loop and not from within Ask; why
	// says what is wrong. The function that is returned gives the question up.
	Ask(h *policy.HealthCheck, done func(healthy bool, why string)) (cancel func())
	// Drop says that it will not be asked again.
	Drop()
}

// Prober asks endpoints at intervals.
type Prober struct {
	loop   *loop.Loop
	target func(service string, e *balance.Endpoint) Target
	checks map[*eject.Endpoint]*check
}

// New makes a prober for a loop; target makes what asks an endpoint.
func New(l *loop.Loop, target func(service string, e *balance.Endpoint) Target) *Prober {
	return &Prober{loop: l, target: target, checks: make(map[*eject.Endpoint]*check)}
}

// check is one endpoint that is asked.
type check struct {
	prober  *Prober
	service string
	health  policy.HealthCheck
	state   *eject.Endpoint
	target  Target
	timer   loop.Timer
	cancel  func() // of the question under way
	out     bool
	row     uint8 // answers in a row that say otherwise than out
}

// Len is the number of endpoints that are asked.
func (p *Prober) Len() int { return len(p.checks) }

// Follow asks the endpoints of a service from now on, and no others of it; nil
// asks none.
func (p *Prober) Follow(service string, h *policy.HealthCheck, list []*balance.Endpoint) {
	wanted := make(map[*eject.Endpoint]bool, len(list))
	if h != nil {
		for _, e := range list {
			if e.Shared() != nil {
				wanted[e.Shared()] = true
			}
		}
	}
	for state, c := range p.checks {
		if c.service == service && (!wanted[state] || !same(h, &c.health)) {
			c.stop()
		}
	}
	if h == nil {
		return
	}
	for _, e := range list { // in an order that repeats
		state := e.Shared()
		if state == nil || p.checks[state] != nil || len(p.checks) >= maxChecks {
			continue
		}
		c := &check{prober: p, service: service, health: *h, state: state, out: state.Unhealthy(), target: p.target(service, e)}
		c.health.Interval = max(or(h.Interval, defaultInterval), minInterval)
		c.health.Timeout = or(h.Timeout, defaultTimeout)
		p.checks[state] = c
		c.timer.Init(p.loop, c)
		c.timer.Set(c.jittered(0, min(c.health.Interval, firstWithin)))
	}
}

// Asks says whether any endpoint's health is asked for.
func (p *Prober) Asks() bool { return len(p.checks) > 0 }

func or(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

// same reports whether a policy asks as a check does.
func same(h, now *policy.HealthCheck) bool {
	return h.Kind == now.Kind && h.Path == now.Path && h.Host == now.Host && h.Service == now.Service &&
		slices.Equal(h.Statuses, now.Statuses) && h.Healthy == now.Healthy && h.Unhealthy == now.Unhealthy &&
		max(or(h.Interval, defaultInterval), minInterval) == now.Interval && or(h.Timeout, defaultTimeout) == now.Timeout
}

// jittered is a time between two.
func (c *check) jittered(least, most time.Duration) time.Duration {
	return least + time.Duration(c.prober.loop.Rand.Int64N(int64(most-least)+1)) + 1
}

// Expire asks.
func (c *check) Expire(*loop.Timer) {
	c.cancel = c.target.Ask(&c.health, c.answered)
}

func (c *check) answered(healthy bool, why string) {
	if c.cancel == nil { // it was stopped
		return
	}
	c.cancel = nil
	h := &c.health
	c.timer.Set(c.jittered(h.Interval*9/10, h.Interval*11/10)) // so that checks don't keep step
	if healthy != c.out {
		c.row = 0
		if c.out { // still, and maybe for another reason
			c.set(false, why)
		}
		return
	}
	c.row++
	switch {
	case healthy && c.row >= max(h.Healthy, 1):
		c.set(true, "")
	case !healthy && c.row >= max(h.Unhealthy, 1):
		c.set(false, why)
	}
}

func (c *check) set(healthy bool, why string) {
	c.out, c.row = !healthy, 0
	c.state.SetHealthy(int64(c.prober.loop.Now()), healthy, why)
}

func (c *check) stop() {
	c.timer.Stop()
	if c.cancel != nil {
		c.cancel()
		c.cancel = nil
	}
	c.target.Drop()
	delete(c.prober.checks, c.state)
}
