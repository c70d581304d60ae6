package h2

import (
	"time"

	wire "tulle.dev/tulle/internal/wire/h2"
)

// Flow control (RFC 9113, 5.2 and 6.9), both directions.

// Consumed says that n bytes of bodies received on the stream have moved on,
// and returns that much credit to the peer.
func (c *Conn) Consumed(s *Stream, n int) {
	k := min(int64(n), s.held)
	if k <= 0 {
		return // the stream has ended: all of it was given back then
	}
	s.held -= k
	s.owed += k
	c.credit(k)
	c.update(s)
}

// credit returns credit for the connection's window, unless that was done when
// the bytes came.
func (c *Conn) credit(n int64) {
	if !c.cfg.Shared {
		c.giveBack(n)
	}
}

// giveBack returns credit for the connection's window, in few frames.
func (c *Conn) giveBack(n int64) {
	c.owed += n
	if c.owed >= int64(c.cfg.ConnWindow)/2 && c.err == nil {
		c.grow()
		c.out = wire.AppendWindowUpdate(c.out, 0, uint32(c.owed))
		c.recvWindow += c.owed
		c.owed = 0
	}
}

// Cramped reports whether the peer's streams stand, or have stood since then, in
// each other's way: most of the connection's window is taken by bodies that have
// not moved on.
func (c *Conn) Cramped(since time.Duration) bool {
	return c.recvWindow < int64(c.cfg.ConnWindow)/4 || c.crampedAt != 0 && c.crampedAt >= since
}

// update returns credit for a stream's window, in few frames.
func (c *Conn) update(s *Stream) {
	if s.owed >= int64(c.cfg.StreamWindow)/2 && !s.remoteEnd && !s.closed && c.err == nil {
		c.grow()
		c.out = wire.AppendWindowUpdate(c.out, s.ID, uint32(s.owed))
		s.recvWindow += s.owed
		s.owed = 0
	}
}

// takeWindowUpdate handles WINDOW_UPDATE.
func (c *Conn) takeWindowUpdate(f wire.Frame) error {
	n, err := wire.ParseWindowUpdate(f)
	if f.Stream != 0 && c.idle(f.Stream) {
		return wire.ConnectionError{Code: wire.ProtocolError, Reason: "WINDOW_UPDATE on an idle stream"}
	}
	if err != nil {
		return err
	}
	if err := c.guard.update(); err != nil {
		return err
	}
	if f.Stream == 0 {
		if c.sendWindow += int64(n); c.sendWindow > wire.MaxWindow {
			return wire.ConnectionError{Code: wire.FlowControlError, Reason: "connection's window above 2^31-1"}
		}
		return nil
	}
	s := c.find(f.Stream)
	if s == nil {
		return nil // closed a moment ago
	}
	if s.sendWindow += int64(n); s.sendWindow > wire.MaxWindow {
		return wire.StreamError{Stream: s.ID, Code: wire.FlowControlError, Reason: "stream's window above 2^31-1"}
	}
	c.reready(s)
	return nil
}

// setInitialWindow applies SETTINGS_INITIAL_WINDOW_SIZE, also to the streams
// that are open; their windows may fall below 0 (RFC 9113, 6.9.2).
func (c *Conn) setInitialWindow(n int32) error {
	by := int64(n) - int64(c.peerWindow)
	c.peerWindow = n
	for s := c.firstOpen; s != nil; s = s.nextOpen {
		if s.sendWindow += by; s.sendWindow > wire.MaxWindow {
			return wire.ConnectionError{Code: wire.FlowControlError, Reason: "stream's window above 2^31-1"}
		}
		c.reready(s)
	}
	return nil
}
