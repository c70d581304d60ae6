package balance

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"time"

	"tulle.dev/tulle/internal/proxy/eject"
	"tulle.dev/tulle/internal/view"
)

const (
	// decay is how fast an old latency is forgotten: after one decay it counts
	// for 1/e.
	decay = 10 * time.Second
	// seedLatency is what an endpoint is thought to take while its first
	// requests are under way. Before them it is thought to take nothing, so
	// that a new endpoint is tried at once, but by few requests at first.
	seedLatency = 30 * time.Millisecond
	// alike is the ratio of two loads up to which chance decides: a difference
	// that small is noise, and following it would send everything to one of two
	// equal endpoints while there is little traffic.
	alike = 1.5
	// shyFor is how long an endpoint is passed over where there is a choice of two
	// when a request has failed, so that one that fails fast doesn't look fast. It
	// doubles with each failure in a row, up to maxShy.
	shyFor = 100 * time.Millisecond
	maxShy = 5 * time.Second
	// busyFor is how long an endpoint gets less that said that it is too busy and
	// not until when; maxBusy bounds what it may say.
	busyFor = time.Second
	maxBusy = 10 * time.Second
)

// Endpoint is one endpoint as one loop sees it. It stays the same value while
// its address and identity stay in the set, so pools may key by its pointer.
type Endpoint struct {
	view.Endpoint

	cost    float64 // peak-EWMA latency, ns
	stamp   int64   // when cost was last updated, ns
	pending int     // requests in flight
	known   bool    // a request has ended: cost is a measurement

	tally   eject.Tally
	claimed bool  // it was picked to be tried after an ejection
	busy    int64 // until when it is
	shy     int64 // until when it is passed over for failures
	fails   int   // in a row
	token   uint64

	// What Set.rebuild worked out.
	out     bool
	suspect bool
	scale   float64 // mean weight of its group by its own
	current float64 // of smooth round robin
	warm    int64   // when its share began to grow
	grown   int64   // and when it is whole; 0: it always was

	// Gone is set when the endpoint left the set: requests in flight end, new
	// ones and pooled connections must not use it.
	Gone bool
	// Pool is the owner's: the loop's connections to this endpoint.
	Pool any
}

// Verdict is what a request says of the endpoint that it was sent to.
type Verdict uint8

// The verdicts.
const (
	// Good is any answer that doesn't say that the endpoint is at fault.
	Good Verdict = iota
	// Failed says that the endpoint did not do its work: refused, reset, 5xx.
	Failed
	// TimedOut is Failed, and nothing was heard of the endpoint.
	TimedOut
	// Busy says that it has too much to do (429, RESOURCE_EXHAUSTED): no
	// failure, but a reason to send less.
	Busy
)

// Outcome is how a request went.
type Outcome struct {
	Verdict Verdict
	// Latency is until the answer began, or until it was given up.
	Latency time.Duration
	// After is when a busy endpoint wants to be asked again; 0 is unknown.
	After time.Duration
}

// Ticket is one request's place in its endpoint's load, from Begin until End or
// Cancel. The zero value is that of an ordinary request.
type Ticket struct{ probe bool }

func (e *Endpoint) weight() float64 { return float64(max(e.Weight, 1)) }

// load is what an endpoint costs now: lower is better.
func (e *Endpoint) load(now int64) float64 {
	return e.latency(now) * e.queue()
}

// queue is the length of its queue, counting in the request that is to come. An
// endpoint that weighs more is drawn more often and may have a longer one.
func (e *Endpoint) queue() float64 { return 1 + float64(e.pending)*e.scale }

// latency is the cost, decayed towards zero since it was last updated, so that
// an endpoint that was slow once is tried again.
func (e *Endpoint) latency(now int64) float64 {
	if !e.known {
		if e.pending == 0 {
			return 0
		}
		return float64(seedLatency)
	}
	if dt := now - e.stamp; dt > 0 {
		return e.cost * math.Exp(-float64(dt)/float64(decay))
	}
	return e.cost
}

// Latency is the endpoint's peak-EWMA latency at now (ns, as the loop counts).
func (e *Endpoint) Latency(now int64) time.Duration { return time.Duration(e.latency(now)) }

// Pending is the number of requests in flight from this loop.
func (e *Endpoint) Pending() int { return e.pending }

// Out reports whether the endpoint is left out: it is ejected, or its health
// check fails.
func (e *Endpoint) Out() bool { return e.out }

// Shared is what all loops know of the endpoint; nil where nothing is shared.
func (e *Endpoint) Shared() *eject.Endpoint { return e.tally.Endpoint }

// Begin counts a request in flight; each Begin needs one End or Cancel. After a
// Pick it comes before the next one.
func (e *Endpoint) Begin() Ticket {
	e.pending++
	t := Ticket{probe: e.claimed}
	e.claimed = false
	return t
}

// End reports how a request went that ended at now (ns).
func (e *Endpoint) End(now int64, t Ticket, o Outcome) {
	e.pending--
	switch o.Verdict {
	case Failed, TimedOut:
		e.shy = now + int64(min(shyFor<<min(e.fails, 10), maxShy))
		e.fails++
		e.slower(now, o.Latency)
	case Busy:
		after := o.After
		if after <= 0 {
			after = busyFor
		}
		after = min(after, maxBusy)
		e.busy = now + int64(after)
		e.slower(now, max(o.Latency, after))
	default:
		e.fails, e.shy = 0, 0
		e.observe(now, o.Latency)
	}
	failed := o.Verdict == Failed || o.Verdict == TimedOut
	switch {
	case t.probe:
		e.tally.Probed(now, !failed)
	case failed:
		e.tally.Bad(now)
	case o.Verdict == Good:
		e.tally.Good(now, o.Latency)
	}
	if o.Verdict == TimedOut {
		e.tally.TimedOut(now)
	}
}

// Answers says that an answer has begun that is no failure, of which the rest may
// take long: a request that tries an ejected endpoint has shown what it was to.
func (e *Endpoint) Answers(now int64, t *Ticket) {
	if t.probe {
		t.probe = false
		e.tally.Probed(now, true)
	}
}

// Reached says that a connection to the endpoint was made, in d, of which nothing
// else will be heard: a stream of bytes.
func (e *Endpoint) Reached(now int64, t *Ticket, d time.Duration) {
	e.fails, e.shy = 0, 0
	if t.probe {
		e.Answers(now, t)
		return
	}
	e.tally.Good(now, d)
}

// observe takes a latency into the cost.
func (e *Endpoint) observe(now int64, latency time.Duration) {
	took := float64(latency)
	switch dt := now - e.stamp; {
	case !e.known || took > e.cost:
		e.cost = took // a peak counts at once
	case dt > 0:
		w := math.Exp(-float64(dt) / float64(decay))
		e.cost = e.cost*w + took*(1-w)
	}
	e.stamp, e.known = now, true
}

// slower takes a latency that says only that it isn't faster.
func (e *Endpoint) slower(now int64, latency time.Duration) {
	if !e.known {
		latency = max(latency, seedLatency)
	}
	if float64(latency) > e.latency(now) {
		e.observe(now, latency)
	}
}

// Cancel takes a Begin back without a verdict: the client went away.
func (e *Endpoint) Cancel(t Ticket) {
	e.pending--
	if t.probe && e.tally.Endpoint != nil {
		e.tally.Endpoint.Unclaim()
	}
}

// share is how much of its full share an endpoint gets while that grows: a tenth
// at first.
func (e *Endpoint) share(now int64) float64 {
	if now >= e.grown {
		return 1
	}
	const least = 0.1
	return max(least, float64(now-e.warm)/float64(e.grown-e.warm))
}

// penalised reports whether the endpoint gets less than the others just now.
func (e *Endpoint) penalised(now int64) bool { return e.suspect || now < e.busy }

// fainter is penalised for the choice between two: failures count as well, and
// that the control plane doubts it. That may be true of nearly all when it is the
// control plane that was away, and so must not send everything to the few others.
func (e *Endpoint) fainter(now int64) bool {
	return now < e.shy || e.Suspect || e.penalised(now)
}

// Token names the endpoint in sessions of the service port: the same for all
// proxies, and not its address. It is never 0.
func (e *Endpoint) Token(service string) uint64 {
	if e.token == 0 {
		b := make([]byte, 0, 128)
		b = append(append(b, service...), 0)
		b = e.Address.AppendTo(b)
		b = append(append(b, 0), e.Identity...)
		sum := sha256.Sum256(b)
		e.token = max(binary.BigEndian.Uint64(sum[:]), 1)
	}
	return e.token
}
