package eject

import "time"

// Tally is one loop's part of what is known of an endpoint. It belongs to that
// loop. Its methods do nothing when Endpoint is nil.
type Tally struct {
	Endpoint *Endpoint

	n       uint32 // went well, and not handed over yet
	latency int64
	next    int64 // when to hand over
}

// Good takes a request that went well, or was at least answered.
func (t *Tally) Good(now int64, latency time.Duration) {
	e := t.Endpoint
	if e == nil {
		return
	}
	if e.word.Load() != 0 {
		e.answered()
	}
	t.n++
	t.latency += int64(latency)
	if now >= t.next {
		e.service.good(e, now, t.n, t.latency)
		t.rest(now)
	}
}

// Bad takes a request that failed.
func (t *Tally) Bad(now int64) {
	if e := t.Endpoint; e != nil {
		e.service.bad(e, now, t.n, t.latency)
		t.rest(now)
	}
}

// Probed takes how the request went that tried an ejected endpoint.
func (t *Tally) Probed(now int64, ok bool) {
	if e := t.Endpoint; e != nil {
		t.n, t.latency = 0, 0 // of a time that is over
		e.service.probed(e, now, ok)
	}
}

// TimedOut says that the endpoint let a request time out; it comes beside Bad.
func (t *Tally) TimedOut(now int64) {
	if e := t.Endpoint; e != nil {
		e.service.registry.timedOut(e, now)
	}
}

func (t *Tally) rest(now int64) {
	part := partOf(&t.Endpoint.service.Policy().Ejection)
	t.n, t.latency, t.next = 0, 0, (now/part+1)*part
}

// answered takes back what a success disproves.
func (e *Endpoint) answered() {
	if e.inARow() > 0 {
		e.forgive()
	}
	if e.word.Load()&suspect != 0 {
		e.service.registry.answers(e)
	}
}
