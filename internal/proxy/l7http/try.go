package l7http

import (
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/balance"

	wire "tulle.dev/tulle/internal/wire/h2"
)

// This file is how a try ends, and what that says of its endpoint.

// leave ends the exchange's part in its endpoint's load.
func (x *Exchange) leave(v balance.Verdict) {
	x.noteLeft()
	x.waiting.Release()
	if e := x.endpoint; e != nil {
		now := x.worker.Loop.Now()
		if x.latency == 0 {
			x.latency = now - x.sent
		}
		e.End(int64(now), x.ticket, balance.Outcome{Verdict: v, Latency: x.latency, After: max(x.after, 0)})
		if v != balance.Good {
			x.failed.Add(e)
		}
	}
	x.endpoint, x.up, x.latency = nil, nil, 0
}

// upLost is called when the upstream connection broke before a response began.
// One that had been idle may have been closed by the server at the moment it was
// used: then the request is sent again on a fresh one, when that can't do harm,
// for nothing was sent, or sending it twice means what once means (RFC 9110,
// 9.2.2; RFC 9112, 9.3.1).
func (x *Exchange) upLost(sent bool, err error) {
	if x.reused && x.interims == 0 && (!sent || x.Request.Method.Idempotent()) {
		x.fresh = true
		x.noVerdict()
		x.again(policy.Unsent|policy.Reset, balance.Good, lost)
		return
	}
	v := balance.Failed
	if vanished(err) {
		v = balance.TimedOut
	}
	f := lost
	if spoiled(err) {
		f = badResponse
	}
	x.again(policy.Reset, v, f)
}

// upRefused is called when the endpoint says that it hasn't touched the request.
// It may just be closing the connection: another endpoint is asked, but no
// verdict is passed.
func (x *Exchange) upRefused() {
	x.failed.Add(x.endpoint)
	x.noVerdict()
	x.again(policy.Unsent, balance.Good, lost)
}

// upBroken is called when the endpoint has reset the stream before a response
// began, on a connection that goes on.
func (x *Exchange) upBroken(code wire.Code) {
	if x.race.waits(x) {
		x.again(policy.Reset, balance.Failed, lost)
		return
	}
	if pause, ok := x.mayRetry(policy.Reset, 0); ok {
		x.leave(balance.Failed)
		x.retry(pause)
		return
	}
	if x.race.copied(x) || !x.upReset(code) {
		x.again(0, balance.Failed, lost)
	}
}

// upReset passes a reset by the endpoint on to a client that speaks HTTP/2 too:
// it is the program's word to the program. It reports false when it is not.
func (x *Exchange) upReset(code wire.Code) bool {
	st, ok := x.client().(*h2Stream)
	switch code {
	case wire.NoError, wire.Cancel, wire.InternalError, wire.EnhanceYourCalm:
	default:
		ok = false
	}
	if !ok {
		return false
	}
	v := balance.Failed
	if code == wire.Cancel {
		v = balance.Good
	}
	x.leave(v)
	x.Cluster.Fail("http_response_incomplete")
	if x.status == 0 {
		x.status = 502
	}
	x.count(x.status)
	st.reset(code)
	return true
}

// noVerdict ends the exchange's part in its endpoint's load without saying
// anything about that.
func (x *Exchange) noVerdict() {
	x.noteTried(lost.Error, 0)
	x.waiting.Release()
	x.endpoint.Cancel(x.ticket)
	x.endpoint, x.up = nil, nil
}

// upFailed is called when the upstream failed for good.
func (x *Exchange) upFailed(f *Failure) {
	if x.status == 0 {
		x.again(0, balance.Failed, f)
		return
	}
	x.leave(balance.Failed)
	x.Cluster.Fail("http_response_incomplete")
	x.noteBroken("http_response_incomplete")
	x.count(x.status)
	x.down.Cut()
}

// giveUp is abandon with a verdict.
func (x *Exchange) giveUp(v balance.Verdict) {
	x.waiting.Release()
	if up := x.up; up != nil {
		x.up = nil
		up.Cancel()
	}
	x.leave(v)
}

// verdict is what the response says of its endpoint.
func (x *Exchange) verdict() balance.Verdict {
	switch {
	case x.status == 504 && x.impatient && x.worker.Loop.Now() >= x.deadline-time.Millisecond:
		return balance.Good // it knows how long the caller waits, as we do
	case x.shed():
		return balance.Busy
	case x.status >= 500:
		return balance.Failed
	case x.status == 429 || x.coded && x.callCode == grpcExhausted:
		return balance.Busy
	}
	return balance.Good
}
