package l7http

import (
	"time"

	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/wire/h1"
)

// A client that sends its request's body, or takes its answer, by the drop holds
// a stream for as long as it likes, for a byte now and then is progress. At edges
// it has to keep to Limits.MinBodyRate, on average over a window of time. Only
// what the client does counts: a window in which somebody else held the body up
// isn't looked at.

const (
	// paceWindow is how long the body of a request is watched at a time.
	paceWindow = 30 * time.Second
	// readWindow is the same for who takes an answer over HTTP/1.1: the system's
	// buffer takes and gives in large pieces. In HTTP/2 the engine watches
	// (h2.StallTime).
	readWindow = 5 * time.Minute
)

var bodyTooSlow = &Failure{408, "http_request_error", "The request's body came too slowly.", true}

// pacing is how fast a client is. Pace sets it.
type pacing struct {
	minRate   int           // bytes a second; 0: nobody looks
	paceAt    time.Duration // when the window ends; 0: none is open
	paceBegan time.Duration
	reading   bool   // it is about the answer
	heldUp    bool   // somebody else than the client held the body up, or the answer
	arrived   uint64 // of the request's body
	seenThen  uint64 // arrived, or bytes of the answer that had left, then
	owedThen  int    // bytes of the answer that waited then
}

// Pace has the client keep to Limits.MinBodyRate. Calls of gRPC, tunnels and what
// may become one are left alone, and a request that is being answered before all
// of it has come: they last as long as both sides like.
func (x *Exchange) Pace() {
	r := &x.Request
	if x.call || r.Method == h1.CONNECT || len(r.Upgrade) > 0 {
		return
	}
	x.minRate = x.worker.Limits.MinBodyRate
	if x.minRate > 0 && x.awaitsBody() {
		x.openPace(false, paceWindow)
	}
}

// awaitsBody reports whether some of the request's body has still to come.
func (x *Exchange) awaitsBody() bool {
	switch d := x.client().(type) {
	case *serverConn:
		st := d.stream
		return !st.body.Done() && (x.Request.Framing != h1.Length || x.Request.Length > int64(d.conn.In().Len()))
	case *h2Stream:
		return !d.complete
	}
	return false
}

// openPace begins a window.
func (x *Exchange) openPace(reading bool, d time.Duration) {
	now := x.worker.Loop.Now()
	x.paceBegan, x.paceAt, x.reading = now, now+d, reading
	x.heldUp = x.holdsUp(now)
	x.seenThen, x.owedThen = x.arrived, 0
	if reading {
		x.heldUp = false
		s := x.client().(*serverConn)
		x.owedThen = s.conn.Pending() + x.stuck()
		x.seenThen = s.conn.Sent - uint64(s.conn.Pending())
	}
	x.arm()
}

// holdsUp reports whether the client couldn't send now, or at some time since.
func (x *Exchange) holdsUp(since time.Duration) bool {
	if x.up == nil || !x.up.Room() || x.heldBack() || x.Request.Expect100 && x.interims == 0 && x.arrived == 0 {
		return true
	}
	st, ok := x.client().(*h2Stream)
	return ok && st.engine().Cramped(since)
}

// paced is called at the end of a window.
func (x *Exchange) paced() {
	if x.reading {
		x.readPaced()
		return
	}
	switch {
	case x.status != 0 || !x.awaitsBody():
		x.arm()
	case x.heldUp || x.holdsUp(x.paceBegan) || x.arrived-x.seenThen >= x.least(paceWindow):
		x.openPace(false, paceWindow)
	default:
		if s, ok := x.client().(*serverConn); ok {
			s.stream.closes = true
		}
		x.Fail(bodyTooSlow)
	}
}

func (x *Exchange) least(d time.Duration) uint64 {
	return uint64(x.minRate) * uint64(d/time.Second)
}

// watchReader is called when a client of HTTP/1.1 doesn't take its answer as fast
// as that comes.
func (x *Exchange) watchReader() {
	if x.minRate > 0 && x.paceAt == 0 && x.status != 0 {
		x.openPace(true, readWindow)
	}
}

// readPaced ends an exchange whose client hasn't even taken what waited for it
// when the window began: then it was the client that everybody waited for, all
// the time.
func (x *Exchange) readPaced() {
	s := x.client().(*serverConn)
	left := s.conn.Sent - uint64(s.conn.Pending())
	owed := uint64(x.owedThen)
	if x.stuck() > 0 && !x.heldUp {
		owed = max(owed, loop.LargeBuffer) // all the time more waited than a pipe shows
	}
	if left-x.seenThen >= min(owed, x.least(readWindow)) {
		x.arm() // should it wait again, watchReader opens the next
		return
	}
	x.abandon()
	if x.Cluster != nil {
		x.Cluster.Fail(readerTooSlow)
	}
	x.noteBroken(readerTooSlow)
	x.count(x.status)
	x.down.Cut()
}

// How the two are counted.
const (
	senderTooSlow = "request_body_too_slow"
	readerTooSlow = "response_read_too_slow"
)
