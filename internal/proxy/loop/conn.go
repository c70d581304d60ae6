package loop

import (
	"net/netip"

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

	done  func() // see OnDone
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

// SetPeer says that the connection is another's, who was named in it.
func (c *Conn) SetPeer(peer netip.AddrPort) { c.peer = peer }

// OnDone calls f once when the connection is done with: it is closed, or lingers.
// It stays with the connection when another Conn takes it.
func (c *Conn) OnDone(f func()) { c.done = f }

func (c *Conn) isDone() {
	if f := c.done; f != nil {
		c.done = nil
		f()
	}
}

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

// Close closes the socket at once and gives the buffers back.
func (c *Conn) Close() {
	if !c.Open() {
		return
	}
	c.isDone()
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
