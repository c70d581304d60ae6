package h2

import (
	"cmp"
	"time"

	wire "tulle.dev/tulle/internal/wire/h2"
	"tulle.dev/tulle/internal/wire/hpack"
)

// Config is what the connections of one kind share; it is not changed once
// they use it.
type Config struct {
	// Server is the role.
	Server bool
	// MaxStreams is how many streams the peer of a server may have open at
	// once (SETTINGS_MAX_CONCURRENT_STREAMS), and how many a client opens at
	// most, whatever its server allows; at least 1.
	MaxStreams uint32
	// StreamWindow and ConnWindow are how many bytes of bodies the peer may
	// send before they were Consumed, on one stream and on all together:
	// wire.InitialWindow to wire.MaxWindow.
	StreamWindow, ConnWindow int32
	// Trusted says that the client's resets aren't held against it
	// (MaxEarlyResets): it is the proxy's own program, or another proxy with
	// the resets of its clients, which it holds to that limit itself.
	Trusted bool
	// Shared says that the streams are many clients': the connection's window
	// opens again as soon as bytes have come, so that readers who have stopped,
	// however many, don't hold up the others. What is buffered is bounded by
	// the streams' windows then.
	Shared bool
	// ConnectProtocol makes a server take extended CONNECT (RFC 8441).
	ConnectProtocol bool
	// Peer says that the other end is one of us, over mutual TLS: requests
	// without an authority, as HTTP/1.0 has them, are taken from it.
	Peer bool
	// Huffman is hpack.Encoder's.
	Huffman bool
	// MaxFields, MaxCookie and MaxList bound the fields of a message; 0 is the
	// constant of that name. Between proxies they are what HTTP/1.1 may have.
	MaxFields, MaxCookie, MaxList int
	// MaxHeldHeads is as the constant, 0 the same.
	MaxHeldHeads int
	// StallTime and StallBytes are the least that a stream which waits for the
	// peer must move, or it is reset; the constants of that name where the peer
	// isn't trusted. A StallTime of 0 waits for ever.
	StallTime  time.Duration
	StallBytes int
	// PingAfter is the silence after which a connection with open streams is
	// asked whether it lives, PingTime how long the answer may take. 0: never.
	PingAfter, PingTime time.Duration
	// IdleTime is how long a connection may have no streams before it is
	// closed in good order. 0: for ever.
	IdleTime time.Duration
}

func (c *Config) maxFields() int { return cmp.Or(c.MaxFields, MaxFields) }
func (c *Config) maxCookie() int { return cmp.Or(c.MaxCookie, MaxCookie) }
func (c *Config) maxList() int   { return cmp.Or(c.MaxList, MaxList) }

func (c *Config) maxHeld() int { return cmp.Or(c.MaxHeldHeads, MaxHeldHeads) }

// maxBlock and maxContinuations bound a compressed block: at the constants'
// limits for what the constants allow, in proportion for more.
func (c *Config) maxBlock() int { return max(MaxBlock, c.maxList()) }
func (c *Config) maxContinuations() int {
	return max(MaxContinuations, 2*c.maxList()/wire.MinMaxFrameSize)
}

// Kind is what an Event tells.
type Kind uint8

// The kinds of events.
const (
	// None: nothing (more) happened.
	None Kind = iota
	// Request: a server's peer opened a stream. Head, and End when no body follows.
	Request
	// Response: a response's head, interim ones included; Head and End.
	Response
	// Body: bytes of a body, perhaps none, and End when they are the last.
	Body
	// Trailers end the message; Head holds them.
	Trailers
	// Reset: the stream is over, by the peer's word, for the peer's errors, or
	// with its connection. Code says why; wire.RefusedStream means that the
	// peer hasn't touched the request.
	Reset
	// Rejected: something the peer sent was refused, with Code, and no stream of
	// the owner's had to do with it. Only to be counted.
	Rejected
	// Writable: Room has grown, or bytes that were queued have left.
	Writable
	// Capacity: a client may open (more) streams.
	Capacity
	// Draining: the peer wants no more streams on this connection.
	Draining
	// Closed: the connection is over, Err says why (nil: in good order). Flush
	// once more, then close the socket.
	Closed
)

// Event is one thing that happened.
type Event struct {
	Kind   Kind
	Stream *Stream
	Head   *Head
	Data   []byte
	End    bool
	Code   wire.Code
	// Fault says of Reset that the peer broke a rule, rather than reset.
	Fault bool
}

// Conn is one connection. It belongs to its event loop; no method may be
// called from within another's event.
type Conn struct {
	// Owner is the owner's own; set after Init.
	Owner any

	env *Env
	cfg *Config

	decoder hpack.Decoder
	encoder hpack.Encoder

	streams             map[uint32]*Stream // open on the wire
	firstOpen, lastOpen *Stream            // the same, in the order of their opening
	recent              *Stream            // the stream of the last frame
	slots               int                // streams given out and not yet recycled
	taken               int                // those that count against the limit: of a server also one that was reset, until Done
	nextID              uint32             // of the stream a client opens next
	lastID              uint32             // the highest stream the peer has opened
	gaps                gaps
	forgone             lastFew // streams reset by us whose frames may still come

	quit lastFew // streams reset by the peer

	// What the peer wants.
	peerWindow     int32 // initial send window of streams
	peerFrame      uint32
	peerStreams    uint32
	peerConnect    bool
	peerSettings   bool // its first SETTINGS has come
	settingsUnread bool // our SETTINGS is not acknowledged

	sendWindow int64         // of the connection; bytes we may still send
	recvWindow int64         // bytes the peer may still send
	crampedAt  time.Duration // when that was last little; see Cramped
	owed       int64         // consumed and not yet given back to the peer

	// Input.
	preface int // bytes of the client's preface seen, of a server
	frame   frame
	block   block

	// Output.
	out       []byte
	head      headOut
	ready     fifo // streams with something to send and a window for it
	waiting   int  // streams with something to send
	queued    int  // bytes that wait in them
	heldHeads int

	nextLaden, prevLaden *Conn // of env.laden

	notes   []*Stream
	noted   int
	noticed struct{ capacity, draining, closed bool }

	guard  guard
	drain  drain
	times  times
	err    error
	closed bool // the Closed event was given out
	ev     Event
}

// Init makes c a new connection and gathers what must be sent first. c must be
// the zero value.
func (c *Conn) Init(env *Env, cfg *Config) {
	*c = Conn{
		env: env, cfg: cfg, nextID: 1,
		peerWindow: wire.InitialWindow, peerFrame: wire.MinMaxFrameSize, peerStreams: assumedStreams,
		sendWindow: wire.InitialWindow, recvWindow: int64(cfg.ConnWindow), settingsUnread: true,
	}
	c.encoder.Huffman = cfg.Huffman
	c.drain.peerLast = wire.MaxStream
	c.drain.last = wire.MaxStream
	c.times.init(env.Now)
	c.guard.init(env.Now)
	c.grow()
	if cfg.Server {
		c.out = wire.AppendSettings(c.out,
			wire.Setting{ID: wire.MaxConcurrentStreams, Value: cfg.MaxStreams},
			wire.Setting{ID: wire.InitialWindowSize, Value: uint32(cfg.StreamWindow)},
			wire.Setting{ID: wire.MaxHeaderListSize, Value: uint32(cfg.maxList())},
			wire.Setting{ID: wire.EnableConnectProtocol, Value: b2u(cfg.ConnectProtocol)})
	} else {
		c.preface = len(wire.Preface)
		c.out = append(c.out, wire.Preface...)
		c.out = wire.AppendSettings(c.out,
			wire.Setting{ID: wire.EnablePush, Value: 0},
			wire.Setting{ID: wire.InitialWindowSize, Value: uint32(cfg.StreamWindow)},
			wire.Setting{ID: wire.MaxHeaderListSize, Value: uint32(cfg.maxList())})
	}
	if more := cfg.ConnWindow - wire.InitialWindow; more > 0 {
		c.out = wire.AppendWindowUpdate(c.out, 0, uint32(more))
	}
}

func b2u(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

// Err is why the connection is over; nil while it isn't, and after an end in
// good order.
func (c *Conn) Err() error { return c.err }

// Streams is the number of streams given out and not given back.
func (c *Conn) Streams() int { return c.slots }

// PeerConnect says whether the server takes extended CONNECT.
func (c *Conn) PeerConnect() bool { return c.peerConnect }

// Greeted says whether the peer's first SETTINGS have come, so that it is known
// what it takes.
func (c *Conn) Greeted() bool { return c.peerSettings }

// CanOpen says whether a client may open a stream now.
func (c *Conn) CanOpen() bool {
	return !c.cfg.Server && c.Usable() && uint32(c.taken) < min(c.peerStreams, c.cfg.MaxStreams)
}

// Usable says whether a client may open streams on the connection, now or
// later: it is neither over nor going away, and has identifiers left.
func (c *Conn) Usable() bool {
	return c.err == nil && !c.drain.begun && !c.drain.peer && c.nextID < wire.MaxStream-1
}

// Fail ends the connection because the socket has: every stream is reset.
func (c *Conn) Fail(err error) {
	if c.err == nil && !c.closed {
		c.err = err
		c.closeAll(wire.Cancel)
	}
}

// fatal ends the connection because the peer broke a rule, or for the reason
// given to Abort: GOAWAY, and every stream is reset.
func (c *Conn) fatal(e wire.ConnectionError) {
	if c.err != nil || c.closed {
		return
	}
	c.grow()
	c.out = wire.AppendGoAway(c.out, min(c.lastID, c.drain.last), e.Code, e.Reason)
	c.err = e
	c.closeAll(e.Code)
}

// Abort ends the connection with a GOAWAY of that code.
func (c *Conn) Abort(code wire.Code, reason string) {
	c.fatal(wire.ConnectionError{Code: code, Reason: reason})
}

// closeAll resets every stream, which the owners learn from Poll.
func (c *Conn) closeAll(code wire.Code) {
	c.block = block{}
	for s := c.firstOpen; s != nil; s = c.firstOpen {
		code := code
		if !c.cfg.Server && c.drain.peer && s.ID > c.drain.peerLast {
			code = wire.RefusedStream
		}
		if !s.done {
			s.code = code
			c.note(s, noteReset) // which keeps it from being recycled
		}
		c.close(s)
	}
	c.noticed.closed = true
}

// Poll returns what happened otherwise than by the bytes of Feed, or None.
func (c *Conn) Poll() *Event {
	c.ev = Event{}
	for c.noted < len(c.notes) {
		s := c.notes[c.noted]
		c.notes[c.noted] = nil
		c.noted++
		n := s.notes
		s.notes, s.noted = 0, false
		switch {
		case s.done:
			c.recycle(s)
		case n&noteReset != 0:
			c.ev = Event{Kind: Reset, Stream: s, Code: s.code}
			return &c.ev
		case n&noteWritable != 0:
			c.ev = Event{Kind: Writable, Stream: s}
			return &c.ev
		}
	}
	c.notes, c.noted = c.notes[:0], 0
	switch {
	case c.noticed.draining:
		c.noticed.draining = false
		c.ev.Kind = Draining
	case c.noticed.capacity:
		c.noticed.capacity = false
		if c.CanOpen() {
			c.ev.Kind = Capacity
		}
	case c.noticed.closed || c.finished():
		if !c.closed {
			c.noticed.closed, c.closed = false, true
			c.ev.Kind = Closed
		}
	}
	return &c.ev
}

// finished says whether a connection that is going away has nothing left to do.
func (c *Conn) finished() bool {
	return c.err == nil && c.slots == 0 && len(c.streams) == 0 &&
		(c.drain.final || !c.cfg.Server && (c.drain.begun || c.drain.peer))
}
