package h2

import (
	wire "tulle.dev/tulle/internal/wire/h2"
)

// Stream is one request and its response. It belongs to its connection's loop,
// and to the owner from the event (or call) that gave it out until Done.
type Stream struct {
	// ID is the stream's identifier.
	ID uint32
	// Owner is the owner's own.
	Owner any

	conn *Conn
	// Ends of the two directions, and of the stream on the wire.
	localEnd, remoteEnd, closed bool
	done                        bool // given back by the owner
	answered                    bool // a final response head was sent or has come
	bodiless                    bool // the response has no body, whatever its Length: to HEAD
	tunnel                      bool // CONNECT: Length means nothing
	watched                     bool // the owner wants to know when bytes leave
	inReady                     bool
	noted                       bool
	slot                        bool // counts against the limit of streams
	notes                       uint8
	interim                     uint8
	code                        wire.Code // of noteReset

	sendWindow int64
	recvWindow int64
	held       int64 // received and not consumed: what the owner holds
	owed       int64 // consumed and not yet given back to the peer
	left       int64 // of the body, by Content-Length; -1: unknown

	first, last          *chunk // what waits to be sent
	queued               int    // bytes in them
	endQueued            bool   // END_STREAM follows them
	trailers             *Head  // and before that, these
	nextReady, prevReady *Stream
	nextOpen, prevOpen   *Stream
	stall                stall
}

// What Poll tells of a stream.
const (
	noteReset = 1 << iota
	noteWritable
)

// Conn is the stream's connection.
func (s *Stream) Conn() *Conn { return s.conn }

// Held is how many bytes were received and not yet Consumed.
func (s *Stream) Held() int { return int(s.held) }

// Queued is how many bytes written wait in the stream.
func (s *Stream) Queued() int { return s.queued }

// Ended says whether the stream is over on the wire: both sides have ended it,
// or one has reset it. What is written to it is dropped.
func (s *Stream) Ended() bool { return s.closed }

// find returns the open stream of that number, or nil.
func (c *Conn) find(id uint32) *Stream {
	if s := c.recent; s != nil && s.ID == id {
		return s
	}
	s := c.streams[id]
	if s != nil {
		c.recent = s
	}
	return s
}

// newStream opens a stream.
func (c *Conn) newStream(id uint32) *Stream {
	s := c.env.getStream()
	s.ID, s.conn = id, c
	s.sendWindow, s.recvWindow = int64(c.peerWindow), int64(c.cfg.StreamWindow)
	s.left = -1
	if c.streams == nil {
		c.streams = make(map[uint32]*Stream)
	}
	c.streams[id] = s
	c.link(s)
	c.recent = s
	c.slots++
	c.taken++
	s.slot = true
	c.times.active(c.env.Now)
	return s
}

// close ends a stream on the wire; its owner keeps it until Done.
func (c *Conn) close(s *Stream) {
	if s.closed {
		return
	}
	s.closed = true
	delete(c.streams, s.ID)
	c.unlink(s)
	if c.recent == s {
		c.recent = nil
	}
	if c.frame.stream == s {
		c.frame.stream = nil
	}
	c.dropQueue(s)
	c.credit(s.held) // what the owner holds is its own from now on
	s.held = 0
	if !c.cfg.Server || s.done || s.localEnd && s.remoteEnd {
		c.freeSlot(s)
	}
	c.recycle(s)
}

// freeSlot lets the peer (or, for a client, us) open another stream.
func (c *Conn) freeSlot(s *Stream) {
	if !s.slot {
		return
	}
	s.slot = false
	if !c.cfg.Server && uint32(c.taken) >= min(c.peerStreams, c.cfg.MaxStreams) {
		c.noticed.capacity = true
	}
	c.taken--
}

// ends closes the stream once both sides have ended it.
func (c *Conn) ends(s *Stream) {
	if s.localEnd && s.remoteEnd {
		c.close(s)
	}
}

// Done gives the stream back: the owner has stopped all work for it. What a
// server has written is still sent, and what comes of the request is thrown
// away; a stream that lacks more than that is reset with CANCEL.
func (c *Conn) Done(s *Stream) {
	if s.done {
		return
	}
	s.done, s.Owner = true, nil
	c.unwatch(s)
	if !s.closed && c.err == nil {
		if c.cfg.Server && s.pendingEnd() {
			c.credit(s.held)
			s.held = 0
			c.endedEarly(s)
		} else {
			c.reset(s, wire.Cancel)
		}
	}
	c.recycle(s)
}

// endedEarly resets a stream whose response is complete while the request
// isn't, once nobody reads that any more (RFC 9113, 8.1).
func (c *Conn) endedEarly(s *Stream) {
	if c.cfg.Server && s.done && s.localEnd && !s.remoteEnd && !s.closed {
		c.reset(s, wire.NoError)
	}
}

// pendingEnd says whether all was written that will be.
func (s *Stream) pendingEnd() bool { return s.localEnd || s.endQueued }

// Reset resets the stream; the owner still has to give it back.
func (c *Conn) Reset(s *Stream, code wire.Code) {
	if !s.closed && c.err == nil {
		c.reset(s, code)
	}
}

// reset sends RST_STREAM and closes.
func (c *Conn) reset(s *Stream, code wire.Code) {
	c.sendReset(s.ID, code)
	c.close(s)
}

func (c *Conn) sendReset(id uint32, code wire.Code) {
	c.grow()
	c.out = wire.AppendRSTStream(c.out, id, code)
	c.forgone.add(id)
}

// recycle frees a stream that neither the wire nor its owner needs.
func (c *Conn) recycle(s *Stream) {
	if !s.closed || !s.done || s.noted || s.conn == nil {
		return
	}
	c.freeSlot(s)
	c.slots--
	c.times.active(c.env.Now)
	c.env.putStream(s)
}

// note has Poll tell about a stream.
func (c *Conn) note(s *Stream, what uint8) {
	s.notes |= what
	if !s.noted {
		s.noted = true
		c.notes = append(c.notes, s)
	}
}

// gaps remembers which streams the peer skipped, and so closed without ever
// opening them: a frame on one of those is another error than one on a stream
// that was open once. Old gaps are forgotten.
type gaps struct {
	list [8]struct{ from, to uint32 } // to is excluded
	n    uint8
}

func (g *gaps) add(from, to uint32) {
	g.list[g.n%8] = struct{ from, to uint32 }{from, to}
	g.n++
}

func (g *gaps) has(id uint32) bool {
	for _, r := range g.list {
		if r.from <= id && id < r.to {
			return true
		}
	}
	return false
}

// lastFew remembers some streams of a kind: the latest ones, at least as many
// as may be open at once at an edge.
type lastFew struct {
	list *[256]uint32 // nil while there are none
	n    uint8
}

func (r *lastFew) add(id uint32) {
	if r.list == nil {
		r.list = new([256]uint32)
	}
	r.list[r.n] = id
	r.n++
}

func (r *lastFew) has(id uint32) bool {
	if r.list == nil {
		return false
	}
	for _, x := range r.list {
		if x == id {
			return true
		}
	}
	return false
}

// fifo is a queue of streams, linked through nextReady and prevReady.
type fifo struct{ first, last *Stream }

func (q *fifo) push(s *Stream) {
	if s.inReady {
		return
	}
	s.inReady = true
	s.prevReady = q.last
	if q.last == nil {
		q.first = s
	} else {
		q.last.nextReady = s
	}
	q.last = s
}

func (q *fifo) remove(s *Stream) {
	if !s.inReady {
		return
	}
	if s.prevReady == nil {
		q.first = s.nextReady
	} else {
		s.prevReady.nextReady = s.nextReady
	}
	if s.nextReady == nil {
		q.last = s.prevReady
	} else {
		s.nextReady.prevReady = s.prevReady
	}
	s.nextReady, s.prevReady, s.inReady = nil, nil, false
}

// link and unlink keep the open streams in the order in which they were
// opened: whatever is done to all of them is done in that order.
func (c *Conn) link(s *Stream) {
	s.prevOpen = c.lastOpen
	if c.lastOpen == nil {
		c.firstOpen = s
	} else {
		c.lastOpen.nextOpen = s
	}
	c.lastOpen = s
}

func (c *Conn) unlink(s *Stream) {
	if s.prevOpen == nil {
		c.firstOpen = s.nextOpen
	} else {
		s.prevOpen.nextOpen = s.nextOpen
	}
	if s.nextOpen == nil {
		c.lastOpen = s.prevOpen
	} else {
		s.nextOpen.prevOpen = s.prevOpen
	}
	s.nextOpen, s.prevOpen = nil, nil
}
