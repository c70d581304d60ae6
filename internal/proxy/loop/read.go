package loop

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"

	"tulle.dev/tulle/internal/proxy/poll"
)

// turnShare is how much is read from one connection in one turn, splicedShare how
// much of it goes past the buffers: a fast one mustn't keep the others waiting.
// Each takes about 50 µs, of a megabyte's 0.2 ms spliced and up to 1 ms copied,
// decrypted and encrypted.
const (
	turnShare    = LargeBuffer - SmallBuffer
	splicedShare = 256 << 10
)

// ErrFull is returned by Fill when what is to be read doesn't fit.
var ErrFull = errors.New("loop: read buffer is full")

// In is what was read and not consumed.
func (c *Conn) In() *Buffer { return &c.in }

// Fill reads more, after what the buffer holds. It returns poll.ErrAgain when
// there is nothing now, io.EOF at the end of the stream, ErrFull when the
// buffer is full and may not grow beyond limit bytes.
func (c *Conn) Fill(limit int) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	if c.ended {
		return 0, io.EOF
	}
	if c.connecting || !c.readable && (c.layer == nil || c.dry) {
		c.Rest()
		return 0, poll.ErrAgain
	}
	if c.hadShare(turnShare) {
		return 0, poll.ErrAgain
	}
	if err := c.makeRoom(limit); err != nil {
		return 0, err
	}
	free := c.in.b[c.in.w:min(len(c.in.b), max(c.in.r+limit, c.in.w+1))]
	n, err := c.read(free)
	c.in.w += n
	c.spent += n
	c.Received += uint64(n)
	if n == len(free) {
		c.bulk = true
	} else if n < SmallBuffer/2 {
		c.bulk = false
	}
	switch err {
	case nil:
	case poll.ErrAgain:
		c.dry = true
		c.Rest()
	case io.EOF:
		if c.sendErr == unix.ECONNRESET {
			// The kernel tells of a reset once. A write has taken it; what reads
			// as the end isn't one.
			c.err = c.sendErr
			return n, c.err
		}
		c.ended = true
	default:
		c.err = err
	}
	return n, err
}

// hadShare reports whether the connection has read its share of this turn. The
// handler is called again in the next one.
func (c *Conn) hadShare(share int) bool {
	if c.turn != c.loop.turn {
		c.turn, c.spent = c.loop.turn, 0
	}
	if c.spent < share {
		return false
	}
	if !c.yielded {
		c.yielded = true
		c.loop.yielded = append(c.loop.yielded, c)
	}
	return true
}

// makeRoom makes sure that at least a byte can be read.
func (c *Conn) makeRoom(limit int) error {
	if c.in.held {
		if c.in.w < len(c.in.b) {
			return nil
		}
		return ErrFull
	}
	if c.in.r == c.in.w {
		c.in.r, c.in.w = 0, 0
		size := SmallBuffer
		if c.bulk {
			size = LargeBuffer
		}
		c.loop.get(&c.in, min(size, max(limit, SmallBuffer)))
		return nil
	}
	if c.in.Len() >= limit {
		return ErrFull
	}
	if c.in.w < len(c.in.b) {
		return nil
	}
	if c.in.r > 0 {
		c.in.w = copy(c.in.b, c.in.b[c.in.r:c.in.w])
		c.in.r = 0
		return nil
	}
	size := LargeBuffer
	if len(c.in.b) >= LargeBuffer {
		size = limit
	}
	c.loop.get(&c.in, size)
	return nil
}

func (c *Conn) read(p []byte) (int, error) {
	if c.layer != nil {
		return c.layer.Read(c, p)
	}
	return c.RawRead(p)
}

// RawRead reads from the socket itself: for layers.
func (c *Conn) RawRead(p []byte) (int, error) {
	if !c.readable {
		return 0, poll.ErrAgain
	}
	n, err := c.loop.Poller.Read(c.fd, p)
	if err == poll.ErrAgain || err == nil && n < len(p) && !c.hangup {
		c.readable = false // an event will tell when there is more
	}
	return n, err
}

// Rest gives the read buffer back when it is empty: an idle connection holds
// no memory but its own.
func (c *Conn) Rest() {
	if c.in.b != nil && c.in.r == c.in.w && !c.in.held {
		c.loop.put(&c.in)
	}
}

// Ended reports whether the peer has ended its side and all of it was read.
func (c *Conn) Ended() bool { return c.ended }

// Stale reports whether a connection that should be silent isn't: it has bytes
// to read, was closed or is broken.
func (c *Conn) Stale() bool {
	if c.err != nil || c.sendErr != nil || c.ended || c.in.Len() > 0 {
		return true
	}
	if !c.readable && (c.layer == nil || c.dry) {
		return c.hangup
	}
	_, err := c.Fill(SmallBuffer)
	return err != poll.ErrAgain
}
