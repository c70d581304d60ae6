package h2

import (
	"time"

	wire "tulle.dev/tulle/internal/wire/h2"
)

// drain is how far a connection is on its way to an end in good order.
type drain struct {
	begun    bool
	final    bool          // the true last stream was told
	at       time.Duration // when it is told at the latest; 0: no wait
	last     uint32        // streams above aren't taken
	peer     bool          // the peer is going away
	peerLast uint32        // and has not touched streams above this one
}

// Drain lets the connection end once its streams have. A server first says
// that it is going away with the highest possible stream, so that requests
// under way to it aren't lost, and the true last one when the peer has seen
// that (RFC 9113, 6.8). A client opens no more streams.
func (c *Conn) Drain() {
	if c.drain.begun || c.err != nil {
		return
	}
	c.drain.begun = true
	c.grow()
	if !c.cfg.Server {
		c.out = wire.AppendGoAway(c.out, 0, wire.NoError, "")
		return
	}
	c.out = wire.AppendGoAway(c.out, wire.MaxStream, wire.NoError, "")
	c.out = wire.AppendPing(c.out, false, pingDrain)
	c.drain.at = c.env.Now + drainWait
}

// Draining says whether Drain was called or the peer is going away.
func (c *Conn) Draining() bool { return c.drain.begun || c.drain.peer }

func (c *Conn) tickDrain(now time.Duration) {
	if c.drain.at != 0 && now >= c.drain.at {
		c.finishDrain()
	}
}

// finishDrain tells the true last stream.
func (c *Conn) finishDrain() {
	if !c.cfg.Server || !c.drain.begun || c.drain.final {
		return
	}
	c.drain.final, c.drain.at, c.drain.last = true, 0, c.lastID
	c.grow()
	c.out = wire.AppendGoAway(c.out, c.lastID, wire.NoError, "")
}

// takeGoAway handles GOAWAY: streams the peer hasn't touched are reset with
// REFUSED_STREAM, so that their owners may send the requests elsewhere.
func (c *Conn) takeGoAway(f wire.Frame) error {
	g, err := wire.ParseGoAway(f)
	if err != nil {
		return err
	}
	if g.LastStream > c.drain.peerLast {
		return wire.ConnectionError{Code: wire.ProtocolError, Reason: "GOAWAY takes streams back"}
	}
	if !c.drain.peer {
		c.drain.peer, c.noticed.draining = true, true
	}
	c.drain.peerLast = g.LastStream
	if c.cfg.Server {
		return nil
	}
	for s, next := c.firstOpen, (*Stream)(nil); s != nil; s = next {
		next = s.nextOpen
		if s.ID <= g.LastStream {
			continue
		}
		if !s.done {
			s.code = wire.RefusedStream
			c.note(s, noteReset)
		}
		c.close(s)
	}
	return nil
}
