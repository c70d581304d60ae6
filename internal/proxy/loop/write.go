package loop

import "tulle.dev/tulle/internal/proxy/poll"

const (
	// maxPending is how much may wait to be written on one connection before
	// whoever produces it is held up.
	maxPending = LargeBuffer
	// direct is the size from which bytes go to the socket at once rather than
	// being gathered: a copy costs less than a call only for small ones.
	direct = 4 << 10
)

// Room is how many bytes may be written now before whoever produces them should
// wait. Once it was 0, the handler is called when there is room again.
func (c *Conn) Room() int {
	n := maxPending - c.out.Len()
	if n <= 0 {
		c.starved = true
		return 0
	}
	return n
}

// Pending is how many bytes are written and not gone.
func (c *Conn) Pending() int { return c.out.Len() }

// gone is how many bytes were written and are gone.
func (c *Conn) gone() uint64 { return c.Sent - uint64(c.out.Len()) }

// Append returns the memory that follows what is to be written, with room for n
// bytes, for the caller to append to; Wrote takes what it made of it.
func (c *Conn) Append(n int) []byte {
	c.ensure(n)
	return c.out.b[:c.out.w]
}

// Wrote takes the slice that Append returned, with bytes appended.
func (c *Conn) Wrote(b []byte) {
	if c.sendErr != nil {
		return
	}
	c.Sent += uint64(len(b) - c.out.w)
	if cap(b) > 0 && (cap(c.out.b) == 0 || &b[:1][0] != &c.out.b[:1][0]) {
		c.loop.give(c.out.b) // the caller's append outgrew the room
		c.loop.lent++
		c.out.b = b[:cap(b)]
	}
	c.out.w = len(b)
	c.markDirty()
}

// ensure makes room for n more bytes to be written.
func (c *Conn) ensure(n int) {
	if c.out.r == c.out.w {
		c.out.r, c.out.w = 0, 0
	}
	if c.out.w+n <= len(c.out.b) {
		return
	}
	if c.out.r > 0 {
		c.out.w = copy(c.out.b, c.out.b[c.out.r:c.out.w])
		c.out.r = 0
	}
	need := c.out.w + n
	switch {
	case need <= len(c.out.b):
	case need <= SmallBuffer:
		c.loop.get(&c.out, SmallBuffer)
	case need <= LargeBuffer:
		c.loop.get(&c.out, LargeBuffer)
	default:
		c.loop.get(&c.out, max(need, 2*LargeBuffer))
	}
}

// Write queues all of p. Many bytes on a plain connection go to the socket at
// once, and only what it didn't take is copied.
func (c *Conn) Write(p []byte) {
	if c.sendErr != nil || c.shut {
		return
	}
	c.Sent += uint64(len(p))
	if len(p) >= direct && c.layer == nil && c.writable && !c.unsealed {
		n, err := c.loop.Writev(c.fd, c.out.Bytes(), p)
		if err == nil || err == poll.ErrAgain {
			if n < c.out.Len()+len(p) {
				c.writable = false
			}
			queued := min(n, c.out.Len())
			c.out.Consume(queued)
			p = p[n-queued:]
		} else {
			c.fail(err)
			return
		}
	}
	if len(p) >= direct && c.layer != nil && c.writable && !c.unsealed && !c.connecting && c.out.Len() == 0 {
		for len(p) > 0 {
			n, err := c.layer.Write(c, p)
			p = p[n:]
			if err == poll.ErrAgain {
				break
			} else if err != nil {
				c.Sent -= uint64(len(p))
				c.fail(err)
				return
			}
		}
	}
	if len(p) > 0 {
		c.ensure(len(p))
		c.out.w += copy(c.out.b[c.out.w:], p)
	}
	c.markDirty()
}

// Collect is Write for a part of many bytes, more of which follow in this turn
// mostly: they go to the socket together.
func (c *Conn) Collect(p []byte) {
	if c.layer == nil && len(p) >= direct && c.out.Len()+len(p) < maxPending && c.sendErr == nil && !c.shut {
		c.Sent += uint64(len(p))
		c.ensure(len(p))
		c.out.w += copy(c.out.b[c.out.w:], p)
		c.markDirty()
		return
	}
	c.Write(p)
}

func (c *Conn) markDirty() {
	if !c.dirty {
		c.dirty = true
		c.loop.dirty = append(c.loop.dirty, c)
	}
}

// CloseWrite ends our side once all that was written is gone.
func (c *Conn) CloseWrite() {
	if !c.shut {
		c.shut = true
		c.markDirty()
	}
}

// flush writes what is queued.
func (c *Conn) flush() {
	if !c.Open() || c.connecting || c.unsealed || c.sendErr != nil {
		return
	}
	if err := c.drain(); err != nil {
		if err != poll.ErrAgain {
			c.fail(err)
		}
		return
	}
	c.loop.put(&c.out)
	if c.shut && !c.shutDone {
		if c.layer != nil {
			if err := c.layer.CloseWrite(c); err == poll.ErrAgain {
				return
			}
		}
		c.shutDone = true
		if _, last := c.handler.(*linger); !last || !c.ended {
			c.loop.Shutdown(c.fd) // else it is closed at once, which says the same
		}
		c.loop.again(c)
	}
	if c.starved {
		c.starved = false
		c.handler.Ready()
	}
}

// drain writes until the queue is empty or the socket takes no more.
func (c *Conn) drain() error {
	for c.out.Len() > 0 {
		if !c.writable {
			return poll.ErrAgain
		}
		n, err := c.write(c.out.Bytes())
		c.out.Consume(n)
		if err != nil {
			return err
		}
	}
	if c.layer != nil {
		return c.layer.Flush(c)
	}
	return nil
}

func (c *Conn) write(p []byte) (int, error) {
	if c.layer != nil {
		return c.layer.Write(c, p)
	}
	return c.RawWrite(p)
}

// RawWrite writes to the socket itself: for layers.
func (c *Conn) RawWrite(p []byte) (int, error) {
	if !c.writable {
		return 0, poll.ErrAgain
	}
	n, err := c.loop.Poller.Write(c.fd, p)
	if err == poll.ErrAgain || err == nil && n < len(p) {
		c.writable = false
	}
	return n, err
}

// fail notes why nothing can be written and tells the handler, from the loop
// rather than from within the handler's own call.
func (c *Conn) fail(err error) {
	c.sendErr = err
	c.Sent -= uint64(c.out.Len())
	c.loop.put(&c.out)
	c.readable = true // what the peer had to say, or why it is gone
	c.loop.again(c)
}
