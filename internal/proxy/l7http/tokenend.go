package l7http

import (
	"time"

	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/proxy/token"
	"tulle.dev/tulle/internal/wire/h1"
)

// This file ends what goes on when the token that it was allowed by has ended. What
// says beforehand how long it is comes to an end by itself, and may. The rest might
// go on for ever: gRPC calls, upgraded connections, CONNECT, bodies without a
// length, as event streams have.

// tokenReason is how it is counted, beside tulle_jwt_total.
const tokenReason = "token_ended"

// tokenEnded is the answer to a request whose token ended before there was one.
var tokenEnded = &Failure{401, "http_request_denied", "The token has ended while the request was under way.", false}

var (
	valueTokenEnded   = []byte(`Bearer error="invalid_token", error_description="it has ended"`)
	valueUnauthorised = []byte("16") // grpcUnauthenticated
	valueEndedMessage = []byte("The token has ended.")
)

// tokenStep is when to look again at a token that has still so long to go. A timer
// is late by up to an eighth of its time: so the end is met within a second, after
// few looks.
func tokenStep(left time.Duration) time.Duration {
	if left <= 8*time.Second {
		return left
	}
	return left - left/8
}

// tokenLeft is how long a token is still good for, with what clocks may differ.
func tokenLeft(l *loop.Loop, t *token.Token) time.Duration {
	return t.Ends.Add(token.Skew).Sub(l.Wall())
}

// watchToken has the exchange look at its token's end.
func (x *Exchange) watchToken() {
	x.tokenOver = false
	x.tokenLook = x.worker.Loop.Now() + max(tokenStep(tokenLeft(x.worker.Loop, x.token)), 1)
	x.arm()
}

// lookAtToken ends the exchange, if its token has ended and it might go on for ever.
func (x *Exchange) lookAtToken() {
	switch {
	case x.token == nil:
		x.arm()
	case tokenLeft(x.worker.Loop, x.token) > 0:
		x.watchToken()
	default:
		x.tokenOver = true
		x.arm()
		if x.call || x.endless || !x.requestEnds() {
			x.endForToken()
		}
	}
}

// requestEnds reports whether the request's body has a length, or has come.
func (x *Exchange) requestEnds() bool {
	if x.Request.Framing != h1.Chunked {
		return true
	}
	switch d := x.client().(type) {
	case *serverConn:
		return d.stream == nil || d.stream.body.Done()
	case *h2Stream:
		return d.complete
	}
	return true
}

// unending reports whether a response might go on for ever.
func unending(r *h1.Response) bool { return r.Framing != h1.NoBody && r.Framing != h1.Length }

// answersTooLate refuses a response that begins when the token has ended, and might
// go on for ever.
func (x *Exchange) answersTooLate(r *h1.Response) bool {
	if !x.tokenOver || !x.call && !unending(r) {
		return false
	}
	x.noteStatus(r)
	x.noteLeft()
	v := x.verdict()
	x.status = 0
	x.leave(v)
	x.endForToken()
	return true
}

// endForToken ends the exchange so that the client can tell why, where that is
// possible still.
func (x *Exchange) endForToken() {
	x.tokenOver, x.tokenLook = false, 0
	x.proven.count(x.token.Name, token.Ended)
	x.logRefused("token ended", "issuer", x.token.Name)
	if x.status == 0 {
		x.extra(nameAuthenticate, valueTokenEnded)
		x.Fail(tokenEnded)
		return
	}
	x.abandon()
	x.Cluster.Fail(tokenReason)
	x.noteBroken(tokenReason)
	_, two := x.client().(*h2Stream)
	if !x.call || !two {
		x.count(x.status)
		x.down.Cut()
		return
	}
	x.callCode, x.coded = grpcUnauthenticated, true
	trailers := []h1.Field{{Name: nameGRPCStatus, Value: valueUnauthorised}, {Name: nameGRPCMessage, Value: valueEndedMessage}}
	if x.trail != nil {
		trailers = append(trailers, x.storyField())
	}
	x.count(x.status)
	x.down.End(trailers)
}

// lease ends a tunnel with the token that it was made with.
type lease struct {
	worker *Worker
	tokens *Tokens
	token  *token.Token
	fail   func(reason string)
	timer  loop.Timer
	end    func()
}

// leased has a tunnel end with its token; the caller calls the returned function,
// nil without a token, when the tunnel has ended.
func (w *Worker) leased(x *Exchange, end func()) (ended func()) {
	if x.token == nil || x.proven == nil {
		return nil
	}
	l := &lease{worker: w, tokens: x.proven, token: x.token, fail: x.Cluster.Fail, end: end}
	l.timer.Init(w.Loop, l)
	l.timer.Set(tokenStep(tokenLeft(w.Loop, x.token)))
	return l.timer.Stop
}

// Expire looks at the token's end.
func (l *lease) Expire(*loop.Timer) {
	if left := tokenLeft(l.worker.Loop, l.token); left > 0 {
		l.timer.Set(tokenStep(left))
		return
	}
	l.tokens.count(l.token.Name, token.Ended)
	l.fail(tokenReason)
	l.end()
}
