package l7http

import (
	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/wire/h1"
)

// maxCopies bounds the copies of a request that are under way (policy.Hedge).
const maxCopies = 3

// race is a request and its copies, which are exchanges of their own until the
// first response: then the client's exchange goes on with the upstream that
// answered, and the others are cancelled. A nil race has no copies.
type race struct {
	main   *Exchange
	copies [maxCopies]*Exchange
	n      int
	sent   int // copies in all
	// How the client's own try ended, when it did: it waits for the copies.
	why     policy.Condition
	failure *Failure
}

// hedge is called when the client's try has had no response for so long that
// another endpoint is asked too.
func (x *Exchange) hedge() {
	r, now := &x.Policy.Retry, x.worker.Loop.Now()
	if x.up == nil || x.status != 0 {
		return
	}
	if x.race == nil {
		x.race = &race{main: x}
	}
	if x.race.spent(x) {
		return
	}
	x.hedgeAt = now + x.Policy.Hedge.After
	x.arm()
	switch {
	case !x.down.Whole(): // not all of it is here yet
		return
	case !x.Cluster.Budget.Try(now, r.Budget):
		x.Cluster.Retried(meter.RetryHedge, meter.RetryNoBudget)
		return
	}
	x.Cluster.Retried(meter.RetryHedge, meter.Retried)
	x.race.start()
}

// hedges says whether copies of the request may be made.
func (x *Exchange) hedges() bool {
	h := &x.Policy.Hedge
	return h.After > 0 && h.Max > 0 && !x.race.spent(x) && x.Request.Method.Idempotent() && len(x.Request.Upgrade) == 0
}

// start sends a copy to an endpoint that hasn't been asked.
func (r *race) start() {
	x := r.main
	c := &Exchange{Request: x.Request, serial: x.serial, trail: x.trail}
	c.Request.Fields = append([]h1.Field(nil), x.Request.Fields...)
	c.exchangeState = exchangeState{
		Cluster: x.Cluster, Series: x.Series, Rule: x.Rule, Backend: x.Backend, Policy: x.Policy,
		HTTP2: x.HTTP2, Serving: x.Serving, worker: x.worker, router: x.router, gate: gates,
		race: r, failed: x.failed, fresh: x.fresh,
	}
	c.began, c.deadline, c.call = x.began, x.deadline, x.call
	c.timer.Init(x.worker.Loop, c)
	c.down = &copyDown{c, x.down}
	c.failed.Add(x.endpoint)
	for _, other := range r.copies[:r.n] {
		c.failed.Add(other.endpoint)
	}
	r.copies[r.n] = c
	r.n++
	r.sent++
	c.connect()
}

// spent reports whether x may have no further copies.
func (r *race) spent(x *Exchange) bool {
	return r != nil && (r.main != x || r.sent >= min(int(x.Policy.Hedge.Max), maxCopies))
}

// copied reports whether x is a copy: it makes no tries of its own.
func (r *race) copied(x *Exchange) bool { return r != nil && r.main != x }

// waits reports whether x, when its own try has failed, waits for copies.
func (r *race) waits(x *Exchange) bool { return r != nil && r.main == x && r.n > 0 }

// lost is told that a try of x has failed, and reports whether that is settled:
// the exchange waits for its copies, or x was one.
func (r *race) lost(x *Exchange, why policy.Condition, f *Failure) bool {
	switch {
	case r == nil || r.main == x && r.n == 0:
		return false
	case r.main == x:
		r.why, r.failure = why, f
		x.hedgeAt, x.tryEnd = 0, 0
		x.arm()
		return true
	}
	r.remove(x)
	r.over()
	return true
}

// over lets the client's exchange go on when it has waited for the last copy.
func (r *race) over() {
	x, f := r.main, r.failure
	if r.n > 0 || f == nil {
		return
	}
	r.failure = nil
	x.again(r.why, 0, f)
}

// answered is told of the head of a response to x. It returns the client's
// exchange when the response is its, or nil when nobody wants it.
func (r *race) answered(x *Exchange, resp *h1.Response) *Exchange {
	if r == nil {
		return x
	}
	m := r.main
	others := r.n > 1 || x == m && r.n > 0 || x != m && m.up != nil
	if others && x.unwanted(resp) != 0 {
		x.noteStatus(resp)
		v := x.verdict()
		x.status = 0
		if x == m {
			x.again(x.unwanted(resp), v, unwantedAnswer)
		} else {
			x.leave(v)
			r.remove(x)
			r.over()
		}
		return nil
	}
	if x != m {
		r.remove(x)
		m.outrun()
		m.take(x)
	}
	r.cancel()
	return m
}

// outrun ends a try that was slower than another: that much is known of its
// endpoint.
func (x *Exchange) outrun() {
	if up := x.up; up != nil {
		x.up = nil
		up.Cancel()
	}
	x.leave(0)
}

// movable is an upstream that can be given to another exchange.
type movable interface{ moveTo(*Exchange) }

// take makes the copy's try the exchange's own.
func (x *Exchange) take(c *Exchange) {
	x.up, x.endpoint, x.ticket = c.up, c.endpoint, c.ticket
	x.sent, x.reused, x.unsent = c.sent, c.reused, c.unsent
	x.race.failure = nil
	x.attempt = c.attempt
	c.up, c.endpoint = nil, nil
	x.up.(movable).moveTo(x)
}

func (c *clientConn) moveTo(x *Exchange) { c.x = x }
func (c *h2Call) moveTo(x *Exchange)     { c.x = x }

// remove forgets a copy that has ended.
func (r *race) remove(c *Exchange) {
	c.timer.Stop()
	for i, other := range r.copies[:r.n] {
		if other == c {
			r.n--
			r.copies[i] = r.copies[r.n]
			r.copies[r.n] = nil
			return
		}
	}
}

// cancel ends the copies that are under way.
func (r *race) cancel() {
	if r == nil {
		return
	}
	for r.n > 0 {
		c := r.copies[r.n-1]
		r.remove(c)
		c.outrun()
	}
	r.failure = nil
}

// copyDown is the Downstream of a copy: it has the request, and hears of nothing
// but the end.
type copyDown struct {
	x    *Exchange
	down Downstream // the client's
}

// Interim drops what only one of the endpoints says.
func (*copyDown) Interim(*h1.Response) {}

// Pull sends the request's body, which is all there.
func (d *copyDown) Pull() {
	if d.down != nil {
		down := d.down
		d.down = nil
		down.Replay(d.x.up)
	}
}

// Reply is the end of a copy that failed.
func (d *copyDown) Reply(*Failure) {}

// The rest is never called: a response is the client's exchange's.
func (*copyDown) Response(*h1.Response) {}
func (*copyDown) Room() bool            { return false }
func (*copyDown) Body([]byte)           {}
func (*copyDown) End([]h1.Field)        {}
func (*copyDown) Cut()                  {}
func (*copyDown) Rewind() bool          { return false }
func (*copyDown) Whole() bool           { return false }
func (*copyDown) Replay(Upstream)       {}
func (*copyDown) Tunnel(*loop.Conn)     {}
func (*copyDown) watchStall()           {}
