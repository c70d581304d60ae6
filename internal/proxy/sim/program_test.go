package sim_test

import (
	"io"
	"net/netip"

	"golang.org/x/sys/unix"

	"tulle.dev/tulle/internal/proxy/poll"
	"tulle.dev/tulle/internal/proxy/sim"
)

// program is something on a host that isn't a proxy: it has sockets and is told
// what becomes of them.
type program struct {
	*sim.Poller
	world   *sim.World
	handles map[poll.FD]func(poll.Ready)
}

func newProgram(w *sim.World, host string, addr netip.Addr) *program {
	p := &program{Poller: w.Poller(host, addr), world: w, handles: map[poll.FD]func(poll.Ready){}}
	p.Turn = func() {
		var events [poll.MaxEvents]poll.Event
		n := p.Wait(events[:], 0)
		for _, e := range events[:n] {
			if h := p.handles[e.FD]; h != nil {
				h(e.Ready)
			}
		}
	}
	return p
}

// serve listens and hands accepted sockets on.
func (p *program) serve(addr netip.AddrPort, accept func(poll.FD)) {
	l, _, err := p.Listen(addr, false)
	if err != nil {
		panic(err)
	}
	p.handles[l] = func(poll.Ready) {
		for {
			fd, _, err := p.Accept(l)
			if err != nil {
				return
			}
			accept(fd)
		}
	}
}

// pipe is a program's end of a connection: bytes in, bytes out.
type pipe struct {
	program *program
	fd      poll.FD
	out     []byte
	fin     bool // end our side once out is gone
	ended   bool // the peer has ended
	failed  error
	broke   error // a write failed
	gone    bool
	pace    int // bytes read at a time; 0 reads all
	pausing bool
	onData  func([]byte)
	onEnd   func(error) // the peer's end (nil) or a break
	onRoom  func()
}

// open takes a socket over.
func (p *program) open(fd poll.FD) *pipe {
	c := &pipe{program: p, fd: fd}
	p.handles[fd] = func(r poll.Ready) { c.ready(r) }
	return c
}

func (c *pipe) ready(r poll.Ready) {
	if r&poll.Writable != 0 {
		c.flush()
	}
	if r&poll.Readable != 0 && !c.pausing {
		c.read()
	}
}

func (c *pipe) read() {
	buf := make([]byte, 32<<10)
	if c.pace > 0 {
		buf = buf[:c.pace]
	}
	for !c.gone && !c.ended && c.failed == nil {
		n, err := c.program.Read(c.fd, buf)
		switch err {
		case nil:
		case poll.ErrAgain:
			return
		case io.EOF:
			c.ended = true
			if c.broke != nil && c.broke != unix.EPIPE {
				c.failed = c.broke
			}
			c.onEnd(c.failed)
			return
		default:
			c.failed = err
			c.onEnd(err)
			return
		}
		c.onData(buf[:n])
		if c.pace > 0 && !c.gone {
			c.pausing = true
			c.program.world.After(paceTime, func() {
				c.pausing = false
				if !c.gone {
					c.read()
				}
			})
			return
		}
	}
}

func (c *pipe) write(b []byte) {
	c.out = append(c.out, b...)
	c.flush()
}

func (c *pipe) flush() {
	for !c.gone && c.failed == nil && len(c.out) > 0 {
		n, err := c.program.Write(c.fd, c.out)
		if err == poll.ErrAgain {
			return
		}
		if err != nil {
			c.out, c.broke = nil, err
			return // what came before may still be read
		}
		c.out = c.out[n:]
	}
	if c.fin && len(c.out) == 0 && !c.gone {
		c.fin = false
		c.program.Shutdown(c.fd)
	}
	if len(c.out) == 0 && c.onRoom != nil && !c.gone {
		c.onRoom()
	}
}

// end ends our side once everything is written.
func (c *pipe) end() {
	c.fin = true
	c.flush()
}

// close closes, with a reset if so wished.
func (c *pipe) close(reset bool) {
	if c.gone {
		return
	}
	c.gone = true
	delete(c.program.handles, c.fd)
	if reset {
		c.program.Reset(c.fd)
	}
	c.program.Close(c.fd)
}
