package l7http

import (
	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/wire/h1"
)

// This file is how the bodies of requests are kept for another try: at most as
// much as the policy says (policy.Retry.Buffer), and beyond what every request
// may have, as much as the loop has left for all of them.

// maxHeldBodies bounds what one loop keeps of bodies beyond what the small buffers
// of its connections hold anyway. When that is reached a request with a body is sent
// once only. Bodies longer than maxKept leave the others an eighth of it.
const (
	maxHeldBodies = 32 << 20
	maxHeldLong   = maxHeldBodies / 8 * 7
)

// keeps is how much of the request's body may be kept.
func (x *Exchange) keeps() int {
	p := x.Policy
	if p == nil || p.Retry.Attempts == 0 && p.Hedge.After == 0 {
		return 0
	}
	return int(p.Retry.Buffer)
}

// hold takes n more bytes of what the loop has left for bodies, of which most may
// be taken then.
func (w *Worker) hold(n, most int) bool {
	if w.held+n > most {
		return false
	}
	w.held += n
	return true
}

// keepMore makes room for more of a request of which all has been kept so far,
// and whose buffer is full.
func (s *serverConn) keepMore() bool {
	st, in := s.stream, s.conn.In()
	limit := st.x.keeps()
	kept := in.Since(st.mark) + in.Len()
	if kept >= limit || st.headSent {
		return false
	}
	size := loop.LargeBuffer
	if kept >= loop.LargeBuffer {
		size = limit + limit/8 // room for the body's framing as well
	}
	if size <= kept || !s.worker.hold(size, maxHeldLong) {
		return false
	}
	st.extra += size
	old := s.worker.Loop.Extend(in, st.mark, size)
	if st.mark = 0; st.head == nil {
		st.head = old
	} else {
		s.worker.Loop.Return(old)
	}
	return true
}

// giveBody gives back what a request's body took.
func (w *Worker) giveBody(st *stream) {
	if st.head != nil {
		w.Loop.Return(st.head)
		st.head = nil
	}
	w.held -= st.extra
	st.extra = 0
}

// Whole reports whether all of the request is here and is kept.
func (s *serverConn) Whole() bool {
	st := s.stream
	return !st.lossy && st.body.Done() && s.conn.In().Held()
}

// Replay sends the body to one more upstream.
func (s *serverConn) Replay(up Upstream) {
	st := s.stream
	if r := &st.x.Request; r.Framing == h1.NoBody || r.Framing == h1.Length && r.Length == 0 {
		return
	}
	var body h1.Body
	body.InitRequest(&st.x.Request, &s.worker.Limits.Head)
	p := s.conn.In().From(st.mark)
	for {
		data, n, done, e := body.Next(p)
		if e != nil || n == 0 && !done {
			return // never: it was read like this before
		}
		p = p[n:]
		if len(data) > 0 {
			up.Body(data)
		}
		if done {
			up.End(body.Trailers)
			return
		}
	}
}

// Whole reports whether all of the request is here and is kept.
func (st *h2Stream) Whole() bool {
	return !st.lossy && !st.bodiless && st.ended || st.bodiless && st.complete
}

// Replay sends the body to one more upstream.
func (st *h2Stream) Replay(up Upstream) {
	if st.bodiless {
		return
	}
	if len(st.body) > 0 {
		up.Body(st.body)
	}
	up.End(st.trailers)
}

// keep adds some of the request's body to what is kept.
func (st *h2Stream) keep(p []byte) {
	w := st.server.worker
	if !st.lent && !st.lossy && len(st.body)+len(p) > maxKept && len(st.body)+len(p) <= loop.LargeBuffer {
		// A buffer of the loop's, so that long bodies leave no garbage.
		st.lent = true
		st.body = append(w.Loop.Lend(loop.LargeBuffer)[:0], st.body...)
	}
	if st.lent && len(st.body)+len(p) > cap(st.body) {
		w.Loop.Return(st.body[:cap(st.body)])
		st.lent = false
		st.body = append(make([]byte, 0, 2*(len(st.body)+len(p))), st.body...)
	}
	st.body = append(st.body, p...)
}

// tooMuch reports whether the body is longer than what may be kept of it.
func (st *h2Stream) tooMuch() bool {
	n := len(st.body)
	if st.headSent {
		return true // it won't be sent again
	}
	switch limit := st.x.keeps(); {
	case n > limit:
		return true
	case n <= st.extra:
		return false
	case n <= maxKept:
		return !st.hold(n, maxHeldBodies)
	default:
		return !st.hold(limit, maxHeldLong)
	}
}

// hold makes it n bytes that the body may take.
func (st *h2Stream) hold(n, most int) bool {
	if !st.server.worker.hold(n-st.extra, most) {
		return false
	}
	st.extra = n
	return true
}

// giveBody gives back what the request's body took.
func (st *h2Stream) giveBody() {
	w := st.server.worker
	w.held -= st.extra
	st.extra = 0
	if st.lent {
		w.Loop.Return(st.body[:cap(st.body)])
		st.body, st.lent = nil, false
	}
}
