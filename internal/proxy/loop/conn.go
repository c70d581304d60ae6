package loop

import (
	"errors"
	"io"
	"math"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"tulle.dev/tulle/internal/proxy/poll"
)

// Handler is the protocol on a connection.
type Handler interface {
	// Ready is called when the connection may have something to read, has room
	// to write again, was established, or has failed: look at it and go on.
	Ready()
}

// Layer transforms a connection's bytes: TLS. Its methods use the connection's
// Raw calls and are called by it alone.
type Layer interface {
	// Read decrypts into p; poll.ErrAgain when a record isn't whole yet.
	Read(c *Conn, p []byte) (int, error)
	// Write encrypts some of p and writes what the socket takes. It returns 0
	// and poll.ErrAgain while what it encrypted before isn't gone.
	Write(c *Conn, p []byte) (int, error)
	// Flush writes what is encrypted; poll.ErrAgain when some is left.
	Flush(c *Conn) error
	// CloseWrite says in the stream that no more will come. It may be called
	// again after poll.ErrAgain.
	CloseWrite(c *Conn) error
	// Release gives memory back when the connection is closed.
	Release()
}

const (
	// maxPending is how much may wait to be written on one connection before
	// whoever produces it is held up.
	maxPending = LargeBuffer
	// direct is the size from which bytes go to the socket at once rather than
	// being gathered: a copy costs less than a call only for small ones.
	direct = 4 << 10
	// turnShare is how much is read from one connection in one turn: a fast one
	// mustn't keep the others waiting.
	turnShare = 256 << 10
	// Lingering: after our last byte we read what still comes, for this long
	// and this much, so that the peer doesn't lose our answer to a reset
	// (RFC 9112, 9.6).
	lingerTime  = 2 * time.Second
	lingerBytes = 4 << 20
	// stallTime is how long the peer may take none of our last bytes.
	stallTime = 30 * time.Second
)

// ErrFull is returned by Fill when what is to be read doesn't fit.
var ErrFull = errors.New("loop: read buffer is full")

// Conn is one connected socket on a loop, plain or inside TLS. It belongs to
// the loop's goroutine. Bytes that were read wait in it until consumed; bytes
// that are written gather in it until the handler that wrote them has returned.
type Conn struct {
	loop    *Loop
	fd      poll.FD
	handler Handler
	layer   Layer
	peer    netip.AddrPort
	in, out Buffer
	err     error // why nothing can be read any more
	sendErr error // why nothing can be written any more

	connecting bool
	readable   bool // a read may bring something
	writable   bool // a write may take something
	hangup     bool // the end of the stream lies ahead
	ended      bool // the end of the stream was read
	dry        bool // the layer has nothing that it read already
	bulk       bool // reads filled the buffer: use large ones
	dirty      bool // in the loop's list of connections to flush
	yielded    bool // in its list of connections that wait for the next turn
	unsealed   bool // nothing may be written before a layer is set
	shut       bool // no more will be written
	shutDone   bool // and the peer has been told
	starved    bool // a writer was told there's no room

	turn  uint64 // the last turn in which something was read
	spent int    // how much, in that turn

	// Received and Sent count the stream's bytes, without what TLS adds.
	Received, Sent uint64
}

// Init opens a connection over an accepted socket that the poller watches.
// Conn is meant to be part of its handler.
func (c *Conn) Init(l *Loop, fd poll.FD, peer netip.AddrPort, h Handler) {
	*c = Conn{loop: l, fd: fd, handler: h, peer: peer, writable: true}
	l.Register(fd, c)
}

// InitConnecting is Init for a socket whose connection is being established.
func (c *Conn) InitConnecting(l *Loop, fd poll.FD, peer netip.AddrPort, h Handler) {
	c.Init(l, fd, peer, h)
	c.connecting, c.writable = true, false
}

// Take makes c the connection that other was: its socket, what was read and what
// is to be written.
func (c *Conn) Take(other *Conn, h Handler) {
	*c = *other
	c.handler = h
	c.dirty, c.yielded = false, false
	c.loop.Register(c.fd, c)
	if other.dirty {
		c.markDirty()
	}
	*other = Conn{loop: c.loop, fd: poll.None, dirty: other.dirty}
}

// SetHandler gives the connection to another protocol.
func (c *Conn) SetHandler(h Handler) { c.handler = h }

// SetLayer puts TLS between the socket and what is read and written. Raw bytes
// already read must have been given to the layer.
func (c *Conn) SetLayer(l Layer) {
	c.layer = l
	c.unsealed = false
	c.readable, c.dry = true, false // it may hold bytes that no event will tell of
	c.loop.again(c)
}

// AwaitLayer keeps what is written back until there is a layer: it must never
// leave in the clear.
func (c *Conn) AwaitLayer() { c.unsealed = true }

// Layer returns what SetLayer set.
func (c *Conn) Layer() Layer { return c.layer }

// Loop is the loop the connection lives on.
func (c *Conn) Loop() *Loop { return c.loop }

// FD is the socket.
func (c *Conn) FD() poll.FD { return c.fd }

// Peer is the other end's address.
func (c *Conn) Peer() netip.AddrPort { return c.peer }

// Connecting reports whether the connection is still being established.
func (c *Conn) Connecting() bool { return c.connecting }

// Err is why reading broke; nil while it is of use.
func (c *Conn) Err() error { return c.err }

// SendErr is why writing broke. What the peer sent before may still be read.
func (c *Conn) SendErr() error { return c.sendErr }

// Open reports whether the socket is open.
func (c *Conn) Open() bool { return c.fd != poll.None && c.loop != nil }

// Ready takes the socket's events; the loop calls it.
func (c *Conn) Ready(r poll.Ready) {
	if r&poll.Hangup != 0 {
		c.hangup = true
	}
	if r&poll.Readable != 0 {
		c.readable, c.dry = true, false
	}
	if r&poll.Writable != 0 {
		if c.connecting {
			if err := c.loop.ConnectError(c.fd); err != nil {
				c.err, c.sendErr = err, err
			}
			c.connecting = false
		}
		c.writable = true
	}
	if c.writable && (c.out.Len() > 0 || c.layer != nil || c.shut && !c.shutDone) {
		c.flush()
	}
	if c.Open() {
		c.handler.Ready()
	}
}

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
	if c.hadShare() {
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
func (c *Conn) hadShare() bool {
	if c.turn != c.loop.turn {
		c.turn, c.spent = c.loop.turn, 0
	}
	if c.spent < turnShare {
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
	if len(p) > 0 {
		c.ensure(len(p))
		c.out.w += copy(c.out.b[c.out.w:], p)
	}
	c.markDirty()
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
		c.loop.Shutdown(c.fd)
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

// Close closes the socket at once and gives the buffers back.
func (c *Conn) Close() {
	if !c.Open() {
		return
	}
	c.loop.Close(c.fd)
	c.fd = poll.None
	c.loop.put(&c.in)
	c.loop.put(&c.out)
	if c.layer != nil {
		c.layer.Release()
		c.layer = nil
	}
}

// Abort closes with a reset, so that the peer can't take what it got for the
// whole.
func (c *Conn) Abort() {
	if c.Open() {
		c.loop.Reset(c.fd)
		c.Close()
	}
}

// Linger closes in good order: what is queued is written, our side is ended,
// and what the peer still sends is read and thrown away until it ends too or
// time is up. The handler hears nothing more.
func (c *Conn) Linger() {
	if !c.Open() {
		return
	}
	if c.err != nil || c.sendErr != nil {
		c.Close()
		return
	}
	c.in.held = false
	c.CloseWrite()
	l := &linger{conn: c, sent: math.MaxUint64}
	c.handler = l
	l.timer.Init(c.loop, l)
	l.timer.Set(lingerTime)
	c.readable = true
	c.loop.again(c)
}
