package l4

import (
	"io"
	"math"
	"time"

	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/proxy/meter"
)

// spliceAfter is how many bytes must have been copied one way before they are
// spliced: by then the stream is a long one.
const spliceAfter = 256 << 10

// resetEarly is why a server's connection ended that had said nothing.
const resetEarly = "connection_terminated"

// Options say how a tunnel is counted and ended.
type Options struct {
	// Series counts it; may be nil. Opened says that the client's connection
	// has been counted as open already.
	Series *meter.Traffic
	Opened bool
	// Idle ends a tunnel that carried nothing for so long; 0 never does.
	Idle time.Duration
	// Failed is told why there is no connection to a server, or that one was reset
	// before it had said anything; may be nil. It is called before Done.
	Failed func(reason string)
	// Done is called when the tunnel has ended; may be nil.
	Done func()
	// Preface is sent to the server before anything else; may be nil.
	Preface []byte
	// Greeted, when not nil, is called once with what the server said first, if
	// the client had sent nothing by then.
	Greeted func([]byte)
	// Vet, when not nil, must let the client's bytes pass.
	Vet Vet
}

// tunnel is two connections and what flows between them.
type tunnel struct {
	client, server *loop.Conn
	options        Options
	timer          loop.Timer
	up, down       flow
	received, sent uint64 // counted so far
	seen           uint64 // had moved when the timer was set
	done           bool
}

// flow is one direction.
type flow struct {
	from, to *loop.Conn
	relay    loop.Relay
	spliced  bool // through the relay
	moved    int  // copied since the relay was last of no use
	ended    bool // the end has been passed on
	greeted  func([]byte)
}

// Join ties two connections together for the rest of their lives. What was read
// from either and not consumed is sent on.
func Join(client, server *loop.Conn, o Options) Joined {
	t := &tunnel{client: client, server: server, options: o}
	t.up = flow{from: client, to: server}
	t.down = flow{from: server, to: client, greeted: o.Greeted}
	t.received, t.sent = client.Received, client.Sent
	t.timer.Init(client.Loop(), t)
	if o.Idle > 0 {
		t.watch()
	}
	if o.Series != nil && !o.Opened {
		o.Series.Opened(meter.TCP)
		t.received, t.sent = 0, 0 // bytes that came before are the tunnel's
	}
	client.SetHandler(t)
	server.SetHandler(t)
	t.Ready()
	return Joined{t}
}

// Joined is two connections that were tied together. The zero value is none.
type Joined struct{ tunnel *tunnel }

// Reset ends both with a reset, if they haven't ended.
func (j Joined) Reset() {
	if j.tunnel != nil {
		j.tunnel.end(true)
	}
}

// Ready moves what can be moved.
func (t *tunnel) Ready() {
	if t.done {
		return
	}
	before := t.moved()
	for t.upward() || t.down.move() {
		if t.down.greeted != nil && t.client.Received > 0 {
			t.down.greeted = nil
		}
	}
	if t.done { // the client was refused
		return
	}
	if t.options.Idle > 0 && t.moved() != before {
		t.watch()
	}
	t.count()
	switch {
	case t.up.broken() || t.down.broken():
		// Either side's failure is both's: an end in good order would pass off
		// what arrived as the whole.
		t.end(true)
	case t.up.ended && t.down.ended:
		t.end(false)
	}
}

// moved counts the bytes that have come or gone on both sides.
func (t *tunnel) moved() uint64 {
	return t.client.Received + t.client.Sent - uint64(t.client.Pending()) +
		t.server.Received + t.server.Sent - uint64(t.server.Pending())
}

// watch (re)starts the time in which something must move.
func (t *tunnel) watch() {
	t.seen = t.moved()
	t.timer.Set(t.options.Idle)
}

// Expire ends a tunnel in which nothing moves. A slow receiver that still takes
// what was read before is no such case.
func (t *tunnel) Expire(*loop.Timer) {
	if t.moved() != t.seen {
		t.watch()
		return
	}
	t.end(true)
}

func (t *tunnel) end(reset bool) {
	if t.done {
		return
	}
	t.done = true
	if reset && t.options.Failed != nil && t.server.Received == 0 && (t.server.Err() != nil || t.server.SendErr() != nil) {
		t.options.Failed(resetEarly)
	}
	t.timer.Stop()
	t.up.relay.Drop(t.client.Loop())
	t.down.relay.Drop(t.client.Loop())
	if reset {
		t.client.Abort()
		t.server.Abort()
	} else {
		t.client.Linger()
		t.server.Linger()
	}
	if t.options.Series != nil {
		t.options.Series.Closed()
	}
	if t.options.Done != nil {
		t.options.Done()
	}
}

func (t *tunnel) count() {
	if s := t.options.Series; s != nil {
		s.Received(int(t.client.Received - t.received))
		s.Sent(int(t.client.Sent - t.sent))
		t.received, t.sent = t.client.Received, t.client.Sent
	}
}

// broken reports whether nothing more will get through this way though it has
// not ended.
func (f *flow) broken() bool {
	return f.from.Err() != nil || f.to.SendErr() != nil
}

// move takes one step in this direction, or reports that it has to wait.
func (f *flow) move() bool {
	if f.ended || f.broken() {
		return false
	}
	if f.spliced {
		return f.splice()
	}
	in := f.from.In()
	if in.Len() == 0 {
		switch _, err := f.from.Fill(loop.LargeBuffer); err {
		case nil:
		case io.EOF:
			f.end()
			return true
		default:
			return false
		}
	}
	if f.greeted != nil {
		if f.to.Received == 0 {
			f.greeted(in.Bytes())
		}
		f.greeted = nil
	}
	n := min(f.to.Room(), in.Len())
	if n == 0 {
		return false
	}
	f.to.Write(in.Bytes()[:n])
	in.Consume(n)
	f.moved += n
	f.spliced = f.moved >= spliceAfter && in.Len() == 0
	return true
}

// splice moves bytes past the buffers, or goes back to copying where that can't be.
func (f *flow) splice() bool {
	_, _, err := f.relay.Move(f.from, f.to, math.MaxInt)
	switch err {
	case nil:
		return true
	case io.EOF:
		f.end()
		return true
	case loop.ErrCopy:
		f.spliced, f.moved = false, 0
		return true
	}
	return false
}

func (f *flow) end() {
	f.ended = true
	f.to.CloseWrite()
}

var _ loop.Handler = (*tunnel)(nil)
