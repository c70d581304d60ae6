package loop

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"

	"tulle.dev/tulle/internal/proxy/poll"
)

const (
	// pipeSize is what a pipe should hold. The kernel counts pages of memory,
	// whatever is in them: a segment as a network brings it takes one for 1,448
	// bytes.
	pipeSize = 512 << 10
	// maxPipes bounds the pipes of a loop: as many receivers may be slow while
	// bytes wait for them in the kernel. What is on its way to others is copied.
	maxPipes = 64
)

// ErrCopy is returned by Move when bytes can't be moved past the buffers.
var ErrCopy = errors.New("loop: these bytes have to be copied")

// Relay moves what comes on one plain connection to another, within the kernel:
// through a pipe, which it has only while there are bytes in it. The zero value is
// ready. Order is kept: no more is taken from the one before all that was taken
// has gone to the other.
type Relay struct {
	pipe poll.Pipe
	held int // bytes in it
}

// Held is how many bytes were taken from the one connection and haven't gone to
// the other.
func (r *Relay) Held() int { return r.held }

// Move moves up to most bytes (at least 1). It returns how many it took from the
// one connection and how many it gave to the other, whatever the error: nil when
// there may be more to move; poll.ErrAgain when there is nothing now, or no room,
// and the handler of the connection that it waits for will be called; io.EOF when
// from has ended; ErrCopy when one isn't plain, when something is in from's buffer
// or there is no pipe to be had. Any other error is from's Err or to's SendErr.
func (r *Relay) Move(from, to *Conn, most int) (in, out int, err error) {
	switch {
	case from.layer != nil || to.layer != nil:
		return 0, 0, ErrCopy
	case to.sendErr != nil:
		return 0, 0, to.sendErr
	}
	if err := to.settle(); err != nil {
		return 0, 0, err
	}
	if r.held == 0 {
		if in, err = r.take(from, most); err != nil {
			return in, 0, err
		}
	}
	out, err = r.give(to)
	return in, out, err
}

// settle makes sure that what is spliced into the socket comes after all that was
// written.
func (c *Conn) settle() error {
	if c.out.Len() > 0 && !c.unsealed && !c.connecting {
		if err := c.drain(); err != nil && err != poll.ErrAgain {
			c.fail(err)
			return err
		}
	}
	if c.out.Len() > 0 || c.connecting || c.unsealed {
		c.starved = true
		return poll.ErrAgain
	}
	if !c.writable {
		return poll.ErrAgain
	}
	return nil
}

// take fills the pipe, which is empty.
func (r *Relay) take(c *Conn, most int) (n int, err error) {
	switch {
	case c.err != nil:
		return 0, c.err
	case c.in.Len() > 0 || c.in.held:
		return 0, ErrCopy
	case c.ended:
		return 0, io.EOF
	case !c.readable || c.hadShare(splicedShare):
		c.Rest()
		return 0, poll.ErrAgain
	}
	c.Rest()
	if r.pipe, err = c.loop.pipes.get(c.loop); err != nil {
		return 0, ErrCopy
	}
	n, err = c.loop.Poller.Splice(c.fd, r.pipe.W, min(most, splicedShare))
	c.spent += n
	c.Received += uint64(n)
	if r.held = n; n == 0 {
		c.loop.pipes.put(c.loop, r.pipe)
	}
	switch err {
	case nil: // how full the pipe got doesn't tell whether there is more
	case poll.ErrAgain:
		c.readable = false
	case io.EOF:
		if c.sendErr == unix.ECONNRESET { // as in Fill
			c.err, err = c.sendErr, c.sendErr
			break
		}
		c.ended = true
	default:
		c.err = err
	}
	return n, err
}

// give empties the pipe. The kernel stops half way when a signal is pending, such
// as the runtime's for preemption, though the socket has room: only ErrAgain says
// that there will be an event.
func (r *Relay) give(c *Conn) (out int, err error) {
	for r.held > 0 {
		n, err := c.loop.Poller.Splice(r.pipe.R, c.fd, r.held)
		c.Sent += uint64(n)
		out += n
		r.held -= n
		switch err {
		case nil:
		case poll.ErrAgain:
			c.writable = false
			return out, err
		default:
			c.fail(err)
			return out, err
		}
	}
	c.loop.pipes.put(c.loop, r.pipe)
	return out, nil
}

// Drop forgets the bytes that haven't gone on.
func (r *Relay) Drop(l *Loop) {
	if r.held > 0 {
		r.held = 0
		l.pipes.close(l, r.pipe)
	}
}

// Full reports whether the socket took less than it was last given: it says when
// there is room again.
func (c *Conn) Full() bool { return !c.writable }

// pipes are those of a loop: empty ones, for whoever has bytes to move, and those
// in use.
type pipes struct {
	all, free []poll.Pipe
	low       int // the fewest that were free since the last trim
}

func (p *pipes) get(l *Loop) (poll.Pipe, error) {
	n := len(p.free)
	if n > 0 {
		pipe := p.free[n-1]
		p.free = p.free[:n-1]
		p.low = min(p.low, n-1)
		return pipe, nil
	}
	p.low = 0
	if len(p.all) >= maxPipes {
		return poll.Pipe{}, ErrCopy
	}
	pipe, err := l.Pipe(pipeSize)
	if err == nil {
		p.all = append(p.all, pipe)
	}
	return pipe, err
}

// put takes an empty pipe back.
func (p *pipes) put(l *Loop, pipe poll.Pipe) {
	p.free = append(p.free, pipe)
	if !l.trim.On() {
		l.trim.Set(trimEvery)
	}
}

func (p *pipes) close(l *Loop, pipe poll.Pipe) {
	for i := range p.all {
		if p.all[i] == pipe {
			p.all[i] = p.all[len(p.all)-1]
			p.all = p.all[:len(p.all)-1]
			break
		}
	}
	l.Poller.Close(pipe.R)
	l.Poller.Close(pipe.W)
}

// trim closes those that nobody needed since the last time.
func (p *pipes) trim(l *Loop) {
	for range p.low {
		n := len(p.free) - 1
		p.close(l, p.free[n])
		p.free = p.free[:n]
	}
	p.low = len(p.free)
	if len(p.all) == 0 {
		p.all, p.free = nil, nil
	}
}
