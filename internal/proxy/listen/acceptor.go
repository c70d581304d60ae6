package listen

import (
	"net/netip"
	"sync/atomic"
	"time"

	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/proxy/poll"
)

const (
	// burst bounds the connections accepted before others get their turn.
	burst = 64
	// pause is how long an acceptor rests that may or can accept no more.
	pause = 50 * time.Millisecond
)

// Limit bounds the connections of the whole proxy. All loops share it.
type Limit struct {
	max, open atomic.Int64
}

// Set changes the limit; connections above a lower one go on.
func (l *Limit) Set(max int64) { l.max.Store(max) }

// Take counts a connection, if there may be one more.
func (l *Limit) Take() bool {
	if l.open.Add(1) > l.max.Load() {
		l.open.Add(-1)
		return false
	}
	return true
}

// Give counts the end of a connection.
func (l *Limit) Give() { l.open.Add(-1) }

// Open is the number of connections.
func (l *Limit) Open() int64 { return l.open.Load() }

// Acceptor accepts the connections of one listening socket on one loop.
type Acceptor struct {
	loop  *loop.Loop
	fd    poll.FD
	limit *Limit
	serve func(fd poll.FD, peer netip.AddrPort)
	fault func(error)
	timer loop.Timer
	// last says that Finish was called: the timer is its.
	last bool
}

// New accepts connections on fd, a listening socket that the poller watches.
// serve takes each over, and gives the limit back when it ends. fault, which may
// be nil, hears of errors other than those of single connections.
func New(l *loop.Loop, fd poll.FD, limit *Limit, serve func(poll.FD, netip.AddrPort), fault func(error)) *Acceptor {
	a := &Acceptor{loop: l, fd: fd, limit: limit, serve: serve, fault: fault}
	a.timer.Init(l, a)
	l.Register(fd, a)
	l.Later(a.accept) // those that came before
	return a
}

// Ready is called by the loop: there are connections.
func (a *Acceptor) Ready(poll.Ready) { a.accept() }

// Expire ends a rest, or the time that Finish gave.
func (a *Acceptor) Expire(*loop.Timer) {
	if a.last {
		a.finish()
		return
	}
	a.accept()
}

func (a *Acceptor) accept() {
	for range burst {
		if a.fd == poll.None {
			return
		}
		if !a.limit.Take() {
			a.rest() // connections wait in the kernel's queue
			return
		}
		fd, peer, err := a.loop.Accept(a.fd)
		if err == nil {
			a.serve(fd, peer)
			continue
		}
		a.limit.Give()
		if err != poll.ErrAgain {
			if a.fault != nil {
				a.fault(err)
			}
			a.rest() // out of descriptors, mostly
		}
		return
	}
	a.loop.Post(a.accept) // the rest in the next turn
}

// rest has accept called again in a while, unless finish will be.
func (a *Acceptor) rest() {
	if !a.last {
		a.timer.Set(pause)
	}
}

// Finish ends listening so that nobody is reset who believes to be connected: new
// connections are refused, those whose handshake ends within settle are accepted,
// and then the socket is closed. The limit doesn't hold for them: there will be
// no more.
func (a *Acceptor) Finish(settle time.Duration) {
	if a.fd == poll.None {
		return
	}
	if p, ok := a.loop.Poller.(interface{ Refuse(poll.FD) }); ok {
		p.Refuse(a.fd)
	}
	a.last = true
	if settle > 0 {
		a.timer.Set(settle)
		a.accept()
		return
	}
	a.finish()
}

// finish accepts what waits in the socket's queue, then closes.
func (a *Acceptor) finish() {
	for a.fd != poll.None {
		a.limit.open.Add(1)
		fd, peer, err := a.loop.Accept(a.fd)
		if err != nil {
			a.limit.Give()
			break
		}
		a.serve(fd, peer)
	}
	a.Close()
}

// FD is the listening socket.
func (a *Acceptor) FD() poll.FD { return a.fd }

// Leave stops accepting on a socket that another process has too: what waits in
// its queue is that one's.
func (a *Acceptor) Leave() {
	if a.fd == poll.None {
		return
	}
	// While the other has it open, closing it here would not end its events.
	if p, ok := a.loop.Poller.(interface{ Forget(poll.FD) }); ok {
		p.Forget(a.fd)
	}
	a.Close()
}

// Close stops accepting. Connections that wait in the socket's queue are reset.
func (a *Acceptor) Close() {
	if a.fd != poll.None {
		a.timer.Stop()
		a.loop.Close(a.fd)
		a.fd = poll.None
	}
}
