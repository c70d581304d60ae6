package h2

import (
	wire "tulle.dev/tulle/internal/wire/h2"
)

// headOut is the head that is being written.
type headOut struct {
	start    int   // of its frame in out
	trailers *Head // when they wait behind a body: they are kept here instead
	void     bool  // its stream is over: nothing is written
}

// grow makes sure that out has memory.
func (c *Conn) grow() {
	if c.out == nil {
		c.out = c.env.getOut()
	}
}

// Open opens a stream as a client and begins its request's head: Field and
// EndHead follow. protocol is that of extended CONNECT; scheme and path are
// empty for plain CONNECT. It returns nil when CanOpen says no.
func (c *Conn) Open(method, scheme, authority, path, protocol []byte) *Stream {
	if !c.CanOpen() {
		return nil
	}
	s := c.newStream(c.nextID)
	c.nextID += 2
	c.guard.streams++
	s.tunnel = string(method) == "CONNECT"
	s.bodiless = string(method) == "HEAD"
	c.beginHead(s)
	o := c.out
	o = c.encoder.Append(o, nameMethod, method, false)
	if len(scheme) > 0 {
		o = c.encoder.Append(o, nameScheme, scheme, false)
	}
	if len(authority) > 0 {
		o = c.encoder.Append(o, nameAuthority, authority, false)
	}
	if len(path) > 0 {
		o = c.encoder.Append(o, namePath, path, false)
	}
	if len(protocol) > 0 {
		o = c.encoder.Append(o, nameProtocol, protocol, false)
	}
	c.out = o
	return s
}

var (
	nameMethod    = []byte(":method")
	nameScheme    = []byte(":scheme")
	nameAuthority = []byte(":authority")
	namePath      = []byte(":path")
	nameProtocol  = []byte(":protocol")
)

// BeginResponse begins a response's head, which may be an interim one; Field
// and EndHead follow.
func (c *Conn) BeginResponse(s *Stream, status int) {
	c.beginHead(s)
	if c.head.void {
		return
	}
	c.out = c.encoder.AppendStatus(c.out, status)
	if status >= 200 {
		s.answered = true
	}
}

// BeginTrailers begins the section that ends a message; Field and EndHead
// follow. They go out behind what waits in the stream.
func (c *Conn) BeginTrailers(s *Stream) {
	if s.queued > 0 && !s.pendingEnd() {
		c.head = headOut{trailers: c.env.GetHead()}
		return
	}
	c.beginHead(s)
}

func (c *Conn) beginHead(s *Stream) {
	if s.closed || s.pendingEnd() {
		c.head = headOut{void: true}
		return
	}
	c.grow()
	c.head = headOut{start: len(c.out)}
	c.out = c.encoder.Begin(wire.BeginHeaders(c.out))
}

// Field adds a field to the head that was begun. Names may be in any case; the
// caller keeps connection-specific fields out.
func (c *Conn) Field(name, value []byte, never bool) {
	if c.head.void {
		return
	}
	for i, b := range name {
		if classes[b]&isUpper != 0 {
			name = c.lower(name, i)
			break
		}
	}
	if t := c.head.trailers; t != nil {
		// Names and values one behind another; the lengths are in the fields.
		at := len(t.arena)
		t.arena = append(append(t.arena, name...), value...)
		a := t.arena
		t.Fields = append(t.Fields, Field{a[at : at+len(name)], a[at+len(name):], never})
		return
	}
	c.out = c.encoder.Append(c.out, name, value, never)
}

// lower returns the name in lower case, in memory that the next call reuses.
func (c *Conn) lower(name []byte, from int) []byte {
	c.env.lower = append(c.env.lower[:0], name...)
	for i := from; i < len(name); i++ {
		c.env.lower[i] = lower(name[i])
	}
	return c.env.lower
}

// EndHead completes the head. end says that nothing follows it; trailers
// always end. What was begun on a stream that has ended meanwhile is not sent.
func (c *Conn) EndHead(s *Stream, end bool) {
	h := c.head
	c.head = headOut{}
	switch {
	case h.void:
	case h.trailers != nil:
		s.trailers, s.endQueued = h.trailers, true
	default:
		c.finishHead(s, h.start, end)
	}
}

func (c *Conn) finishHead(s *Stream, start int, end bool) {
	c.out = wire.FinishHeaders(c.out, start, s.ID, end, c.maxFrame())
	if end {
		c.endLocal(s)
	}
}

// endLocal notes that END_STREAM was sent.
func (c *Conn) endLocal(s *Stream) {
	s.localEnd, s.endQueued = true, false
	c.ends(s)
	if !s.closed {
		c.endedEarly(s)
	}
}

// Room is how many bytes may be written to the stream now. When it is 0, a
// Writable event follows once there is more.
func (c *Conn) Room(s *Stream) int {
	n := SendBuffer
	if c.env.scarce {
		n = scarceBuffer
	}
	if n -= s.queued; n <= 0 {
		c.watch(s)
		return 0
	}
	return n
}

// Watch asks for a Writable event when bytes that wait in the stream leave.
func (c *Conn) Watch(s *Stream) { c.watch(s) }

// Write sends bytes of a body, or keeps them until they can be; p is not kept.
// end says that they are the last and no trailers follow.
func (c *Conn) Write(s *Stream, p []byte, end bool) {
	if s.closed || s.pendingEnd() || c.err != nil {
		return
	}
	if s.queued == 0 && c.ready.first == nil {
		n := max(0, min(int64(len(p)), s.sendWindow, c.sendWindow, int64(MaxOutput-len(c.out))))
		for n > 0 || end && len(p) == 0 {
			k := int(min(n, int64(c.maxFrame())))
			last := end && k == len(p)
			c.grow()
			c.out = wire.AppendData(c.out, s.ID, last, p[:k])
			c.sentData(s, k)
			n -= int64(k)
			p = p[k:]
			if last {
				c.endLocal(s)
				return
			}
		}
	}
	if len(p) > 0 {
		if s.queued == 0 {
			c.waits()
			c.times.stallBegins(c, s)
		}
		c.enqueue(s, p)
	}
	if end {
		if s.queued == 0 {
			c.grow()
			c.out = wire.AppendData(c.out, s.ID, true, nil)
			c.endLocal(s)
			return
		}
		s.endQueued = true
	}
	c.reready(s)
}

// maxFrame is the longest payload we send.
func (c *Conn) maxFrame() uint32 { return min(c.peerFrame, quantum) }

// sentData accounts for n bytes of a body.
func (c *Conn) sentData(s *Stream, n int) {
	s.sendWindow -= int64(n)
	c.sendWindow -= int64(n)
	c.times.moved = c.env.Now
	s.stall.moved += n
	c.guard.data++
	c.guard.idlePings = 0
}

// enqueue copies p behind what waits in the stream.
func (c *Conn) enqueue(s *Stream, p []byte) {
	s.queued += len(p)
	c.queued += len(p)
	for len(p) > 0 {
		k := s.last
		if k == nil || k.w == len(k.b) {
			k = c.env.getChunk()
			if s.last == nil {
				s.first = k
			} else {
				s.last.next = k
			}
			s.last = k
		}
		n := copy(k.b[k.w:], p)
		k.w += n
		p = p[n:]
	}
}

// dropQueue forgets what waits in a stream.
func (c *Conn) dropQueue(s *Stream) {
	for s.first != nil {
		k := s.first
		s.first = k.next
		c.env.putChunk(k)
	}
	if s.queued > 0 {
		c.queued -= s.queued
		c.waited()
	}
	c.unwatch(s)
	s.last, s.queued = nil, 0
	c.env.PutHead(s.trailers)
	s.trailers = nil
	c.ready.remove(s)
}

// reready puts a stream in the queue of those that can send, if it can; a
// window that shrank takes it out.
func (c *Conn) reready(s *Stream) {
	if s.queued > 0 && s.sendWindow > 0 {
		c.ready.push(s)
	} else {
		c.ready.remove(s)
	}
}

// Flush gathers what can be sent now and returns it: at most room bytes of
// bodies, one frame of each stream in turn, so that none waits for another's
// length. The owner writes it and calls Flushed.
func (c *Conn) Flush(room int) []byte {
	room = min(room, MaxOutput)
	for c.err == nil && c.sendWindow > 0 && c.ready.first != nil {
		free := room - len(c.out) - wire.HeaderLen
		if free <= 0 {
			break
		}
		s := c.ready.first
		c.ready.remove(s)
		c.sendQueued(s, free)
	}
	return c.out
}

// sendQueued sends one frame of what waits in a stream.
func (c *Conn) sendQueued(s *Stream, free int) {
	n := int(min(int64(s.queued), int64(c.maxFrame()), s.sendWindow, c.sendWindow, int64(free)))
	last := n == s.queued && s.endQueued && s.trailers == nil
	c.grow()
	c.out = wire.AppendDataHeader(c.out, s.ID, last, n)
	for left := n; left > 0; {
		k := s.first
		m := min(left, k.w-k.r)
		c.out = append(c.out, k.b[k.r:k.r+m]...)
		k.r += m
		left -= m
		if k.r == k.w {
			s.first = k.next
			if s.first == nil {
				s.last = nil
			}
			c.env.putChunk(k)
		}
	}
	s.queued -= n
	c.queued -= n
	c.sentData(s, n)
	if s.queued == 0 {
		c.waited()
	}
	if s.watched {
		c.unwatch(s)
		c.note(s, noteWritable)
	}
	switch {
	case last:
		c.endLocal(s)
	case s.queued == 0 && s.trailers != nil:
		c.sendTrailers(s)
	default:
		c.reready(s)
	}
}

// sendTrailers sends those that waited behind a body.
func (c *Conn) sendTrailers(s *Stream) {
	t := s.trailers
	s.trailers = nil
	start := len(c.out)
	c.out = c.encoder.Begin(wire.BeginHeaders(c.out))
	for i := range t.Fields {
		f := &t.Fields[i]
		c.out = c.encoder.Append(c.out, f.Name, f.Value, f.Never)
	}
	c.env.PutHead(t)
	c.finishHead(s, start, true)
}

// Pending says whether Flush has anything to give, if there is room.
func (c *Conn) Pending() bool {
	return len(c.out) > 0 || c.err == nil && c.sendWindow > 0 && c.ready.first != nil
}

// Flushed says that the owner has taken what Flush returned.
func (c *Conn) Flushed() {
	c.env.putOut(c.out)
	c.out = nil
}

// Unsent says how many bytes of what was flushed the socket hasn't taken yet.
func (c *Conn) Unsent(n int) {
	if n == 0 && len(c.out) == 0 {
		c.guard.unsentAcks = 0
	} else if n > maxOutputHard {
		c.fatal(wire.ConnectionError{Code: wire.EnhanceYourCalm, Reason: "answers are not read"})
	}
}
