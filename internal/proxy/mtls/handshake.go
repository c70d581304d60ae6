package mtls

import (
	"crypto/tls"
	"errors"
	"iter"
	"time"

	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/proxy/poll"
)

const (
	// Timeout bounds a handshake.
	Timeout = 10 * time.Second
	// maxWaiting bounds the handshakes of one loop that wait for their turn to
	// compute; beyond it a new one is refused.
	maxWaiting = 1024
	// stackRoom is what a handshake's stack grows to in the end, the post-quantum
	// key exchange included.
	stackRoom = 12 << 10
	// part is how long a handshake computes on the loop before it may be interrupted:
	// two thirds of the longest that can't be, an agreement on a key.
	part = 50 * time.Microsecond
)

var (
	// ErrTimeout says that the peer didn't finish the handshake in time.
	ErrTimeout = errors.New("the handshake took too long")
	// ErrBusy says that there are too many handshakes at once.
	ErrBusy = errors.New("too many handshakes at once")
	// errEnded says that the connection ended during the handshake.
	errEnded    = errors.New("the peer closed the connection during the handshake")
	errCanceled = errors.New("canceled")
)

// Runner runs a computation off the loop. It may also run it at once, which is
// how a simulation steps handshakes one at a time.
type Runner interface {
	Run(compute func())
}

type goroutines struct{}

func (goroutines) Run(compute func()) { go compute() }

// Handshakes bounds the computations of one loop's handshakes.
type Handshakes struct {
	// Clients is how many connections of clients the loop has, those among them that
	// do their handshakes included. While there are no others, handshakes on the loop
	// aren't interrupted: nobody would have anything of it, and each time costs some
	// µs. A nil one means that there always are.
	Clients func() int

	loop    *loop.Loop
	serving int // handshakes of clients under way
	max     int
	runner  Runner
	running int
	waiting []*Handshake
	// interrupted was, in its computation on the loop, and goes on before others begin.
	interrupted *Handshake
	// employed says that the loop knows of those that wait: with max 0.
	employed bool
}

// New makes the Handshakes of a loop. max of them compute off the loop at the same
// time, through the runner; a nil one means goroutines. With 0 they compute on the
// loop, between its turns: what is right when there is no processor for them that
// the loops don't need. Two threads of the operating system would take turns of
// milliseconds there.
func New(l *loop.Loop, max int, runner Runner) *Handshakes {
	if runner == nil {
		runner = goroutines{}
	}
	return &Handshakes{loop: l, max: max, runner: runner}
}

// Handshake is one handshake under way. It is the handler of its connection
// until it is done.
type Handshake struct {
	owner *Handshakes
	conn  *loop.Conn
	wire  *wire
	tls   *tls.Conn
	done  func(*Session, error)
	timer loop.Timer

	// next runs the coroutine until it needs bytes or has finished; stop ends
	// it. They belong to the computation while computing is true.
	next func() (struct{}, bool)
	stop func()
	err  error

	computing bool // or waiting to, or interrupted
	server    bool
	finished  bool // the coroutine has returned
	over      bool // done was called, or nobody wants to know any more
}

// Client begins a handshake as a client on a connection that was established.
// done is called once, from the loop and not from within Client; then the
// connection has its layer, or an error says why not and it is the caller's to
// close.
func (o *Handshakes) Client(c *loop.Conn, config *tls.Config, done func(*Session, error)) *Handshake {
	h := o.begin(c, done)
	h.tls = tls.Client(h.wire, config)
	h.compute()
	return h
}

// Server is Client for the other side. Bytes that were read from the connection
// and not consumed are the beginning of the handshake.
func (o *Handshakes) Server(c *loop.Conn, config *tls.Config, done func(*Session, error)) *Handshake {
	h := o.begin(c, done)
	h.server = true
	o.serving++
	h.tls = tls.Server(h.wire, config)
	in := c.In()
	h.wire.in = append(h.wire.in, in.Bytes()...)
	in.Consume(in.Len())
	c.Rest()
	if len(h.wire.in) > 0 {
		h.compute()
	} else {
		o.loop.Later(h.Ready)
	}
	return h
}

func (o *Handshakes) begin(c *loop.Conn, done func(*Session, error)) *Handshake {
	h := &Handshake{owner: o, conn: c, done: done, wire: &wire{loop: o.loop}}
	c.SetHandler(h)
	c.AwaitLayer()
	h.timer.Init(o.loop, h)
	h.timer.Set(Timeout)
	return h
}

// Ready is called by the loop: there may be bytes for the handshake, or room
// for its own.
func (h *Handshake) Ready() {
	if h.over || h.computing {
		return
	}
	if err := h.wire.flush(h.conn); err != nil && err != poll.ErrAgain {
		h.end(err)
		return
	}
	if h.read() {
		h.compute()
	}
}

// read takes what the socket has and reports whether that is anything new.
func (h *Handshake) read() bool {
	w := h.wire
	room := w.loop.Lend(loop.SmallBuffer)
	n, err := h.conn.RawRead(room)
	w.in = append(w.in, room[:n]...)
	w.loop.Return(room)
	if err != nil && err != poll.ErrAgain {
		w.ended = true
		return true
	}
	return n > 0
}

// compute runs the handshake on until it needs more bytes.
func (h *Handshake) compute() {
	h.computing = true
	o := h.owner
	switch {
	case o.running < o.max:
		o.run(h)
	case len(o.waiting) >= maxWaiting:
		o.loop.Later(h.refuse)
	default:
		o.waiting = append(o.waiting, h)
		if o.max == 0 && !o.employed {
			o.employed = true
			o.loop.Employ(o)
		}
	}
}

// refuse ends a handshake that there is no room for.
func (h *Handshake) refuse() {
	h.computing = false
	if h.over {
		h.discard()
		return
	}
	h.end(ErrBusy)
}

// first takes who waits for longest.
func (o *Handshakes) first() *Handshake {
	h := o.waiting[0]
	o.waiting[0] = nil
	o.waiting = o.waiting[1:]
	return h
}

// Work computes a part for the first of those that wait; the loop calls it.
func (o *Handshakes) Work() bool {
	h := o.interrupted
	if o.interrupted = nil; h == nil {
		h = o.first()
	}
	if !h.over {
		h.wire.divided = o.Clients == nil || o.Clients() > o.serving
		h.wire.begun = o.loop.Poller.Now()
		h.step()
	}
	h.computed()
	o.employed = o.interrupted != nil || len(o.waiting) > 0
	return o.employed
}

// run computes off the loop.
func (o *Handshakes) run(h *Handshake) {
	o.running++
	o.runner.Run(func() {
		h.step()
		o.loop.Post(func() {
			o.running--
			for len(o.waiting) > 0 && o.running < o.max {
				if next := o.first(); next.over {
					next.computed()
				} else {
					o.run(next)
				}
			}
			h.computed()
		})
	})
}

// step resumes the coroutine, or starts it.
func (h *Handshake) step() {
	if h.next == nil {
		h.next, h.stop = iter.Pull(h.handshake)
	}
	_, more := h.next()
	h.finished = !more
}

// handshake is the coroutine: it yields when it needs bytes.
func (h *Handshake) handshake(yield func(struct{}) bool) {
	grow(0)
	h.wire.yield = yield
	h.err = h.tls.Handshake()
	h.wire.yield = nil
}

// grow makes room on a new stack at once: it would be copied each time it gets too
// small. i keeps the compiler from leaving the room out.
//
//go:noinline
func grow(i int) byte {
	var room [stackRoom]byte
	return room[i]
}

// computed is called on the loop after each computation.
func (h *Handshake) computed() {
	h.computing = false
	if h.over {
		h.discard()
		return
	}
	if !h.conn.Open() {
		h.end(errEnded) // closed by its owner meanwhile
		return
	}
	if h.wire.paused {
		h.computing, h.owner.interrupted = true, h
		return
	}
	err := h.wire.flush(h.conn)
	switch {
	case h.finished && h.err != nil:
		h.end(h.err)
	case err != nil && err != poll.ErrAgain:
		h.end(err)
	case h.finished:
		h.end(nil)
	default:
		h.Ready() // what came meanwhile
	}
}

// Expire ends a handshake that takes too long.
func (h *Handshake) Expire(*loop.Timer) { h.end(ErrTimeout) }

func (h *Handshake) end(err error) {
	if h.over {
		return
	}
	h.leave()
	if err != nil {
		h.discard()
		h.done(nil, err)
		return
	}
	s := &Session{tls: h.tls, wire: h.wire}
	h.conn.SetLayer(s)
	h.done(s, nil)
}

// Cancel gives the handshake up; done will not be called any more.
func (h *Handshake) Cancel() {
	if !h.over {
		h.leave()
		h.discard()
	}
}

// leave marks a handshake that is over.
func (h *Handshake) leave() {
	h.over = true
	h.timer.Stop()
	if h.server {
		h.owner.serving--
	}
}

// discard ends the coroutine, unless it is computing: then computed will.
func (h *Handshake) discard() {
	if h.computing || h.stop == nil || h.finished {
		return
	}
	h.finished = true
	if h.owner.max == 0 {
		h.stop()
	} else {
		h.owner.runner.Run(h.stop)
	}
}
