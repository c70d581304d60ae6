package l7http

import (
	"io"
	"math"

	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/proxy/poll"
	"tulle.dev/tulle/internal/wire/h1"
)

// This file is how long bodies go from one plain connection of HTTP/1.1 to
// another past the buffers. What has to be looked at, kept, framed anew, slowed
// down or encrypted is copied.

// spliceFrom is how many bytes must be left of a body for it to begin.
const spliceFrom = 64 << 10

// way is how a body goes on.
type way uint8

const (
	copied  way = iota // so far
	spliced            // from now on
	onlyCopied
)

// splice moves some of the answer's body. ok is false when it has to be copied,
// more when there is another step to take.
func (c *clientConn) splice() (more, ok bool) {
	s, direct := c.x.down.(*serverConn)
	if !direct || c.way == onlyCopied {
		return false, false
	}
	left := c.body.Left()
	if left < 0 && c.resp.Framing == h1.UntilClose {
		left = math.MaxInt
	}
	if c.way == copied && (left < spliceFrom || s.stream.framing != c.resp.Framing) || left <= 0 {
		return false, false
	}
	c.way = spliced
	in, out, err := c.relay.Move(&c.conn, &s.conn, int(min(left, math.MaxInt)))
	c.body.Skip(int64(out))
	c.x.returned += uint64(out)
	if in+out > 0 {
		s.watchStall()
	}
	switch {
	case err == nil:
		return true, true
	case err == loop.ErrCopy:
		c.way = afterErrCopy(&c.conn)
		return false, false
	case err == poll.ErrAgain:
		if c.relay.Held() > 0 {
			c.x.watchReader()
		} else if !s.conn.Full() {
			c.x.heldUp = true // the endpoint has no more
		}
	case s.conn.SendErr() == nil: // else s hears of it
		c.broke(err)
	}
	return false, true
}

// splice is the same for the request's body.
func (s *serverConn) splice(up Upstream) (more, ok bool) {
	st := s.stream
	c, direct := up.(*clientConn)
	if !direct || st.way == onlyCopied || c.chunked || s.conn.In().Held() || len(st.x.copies.list) > 0 {
		return false, false
	}
	left := st.body.Left()
	if st.way == copied && left < spliceFrom || left <= 0 {
		return false, false
	}
	st.way = spliced
	in, out, err := st.relay.Move(&s.conn, &c.conn, int(min(left, math.MaxInt)))
	st.body.Skip(int64(out))
	st.x.arrived += uint64(in)
	if in+out > 0 {
		s.watchStall()
	}
	switch {
	case err == nil:
		if st.body.Done() {
			s.endBody(up)
		}
		return true, true
	case err == loop.ErrCopy:
		st.way = afterErrCopy(&s.conn)
		return false, false
	case err == poll.ErrAgain:
		st.x.heldUp = st.x.heldUp || c.conn.Full()
		return false, true
	case c.conn.SendErr() != nil:
		// The endpoint takes no more, but may answer yet: the rest is read and
		// thrown away.
		st.body.Skip(int64(st.relay.Held()))
		st.relay.Drop(s.worker.Loop)
		st.way = onlyCopied
		if st.body.Done() {
			s.endBody(up)
		}
		return true, true
	case err == io.EOF:
		s.cut()
		return true, true
	}
	s.lost()
	return false, true
}

// afterErrCopy is how a body goes on that couldn't be spliced just now.
func afterErrCopy(from *loop.Conn) way {
	if from.In().Len() > 0 {
		return copied // what came with the head
	}
	return onlyCopied
}

// stuck is how many bytes of the answer's body wait in the kernel for the client.
func (x *Exchange) stuck() int {
	if c, ok := x.up.(*clientConn); ok {
		return c.relay.Held()
	}
	return 0
}

// heldBack reports whether the request's body waits in the kernel for the endpoint.
func (x *Exchange) heldBack() bool {
	s, ok := x.client().(*serverConn)
	return ok && s.stream.relay.Held() > 0
}
