package loop

import (
	"io"

	"tulle.dev/tulle/internal/proxy/poll"
)

// Splice moves up to max bytes from the socket into a pipe, or from a pipe into
// the socket, past the buffers, which must be empty. It is only for plain
// connections.
func (c *Conn) Splice(pipe poll.FD, max int, in bool) (n int, err error) {
	if in {
		if c.ended {
			return 0, io.EOF
		}
		if !c.readable || c.hadShare() {
			return 0, poll.ErrAgain
		}
		n, err = c.loop.Poller.Splice(c.fd, pipe, max)
		c.spent += n
		switch {
		case err == io.EOF:
			c.ended = true
		case err == poll.ErrAgain:
			c.readable = false
		case err != nil:
			c.err = err
		}
		c.Received += uint64(n)
		return n, err
	}
	if !c.writable {
		return 0, poll.ErrAgain
	}
	n, err = c.loop.Poller.Splice(pipe, c.fd, max)
	switch {
	case err == poll.ErrAgain:
		c.writable = false
	case err != nil:
		c.sendErr = err
	}
	c.Sent += uint64(n)
	return n, err
}
