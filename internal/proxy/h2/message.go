package h2

import wire "tulle.dev/tulle/internal/wire/h2"

// takeHeaders handles HEADERS.
func (c *Conn) takeHeaders(f wire.Frame) error {
	h, err := wire.ParseHeaders(f)
	if err != nil {
		return err
	}
	if c.idle(f.Stream) && (!c.cfg.Server || f.Stream%2 == 0) {
		return wire.ConnectionError{Code: wire.ProtocolError, Reason: "HEADERS on a stream that the peer may not open"}
	}
	if c.cfg.Server && !c.idle(f.Stream) && c.find(f.Stream) == nil && c.gaps.has(f.Stream) {
		return wire.ConnectionError{Code: wire.ProtocolError, Reason: "stream identifier below an earlier one"}
	}
	if h.EndHeaders {
		c.guard.filled()
		return c.takeBlock(f.Stream, h.Fragment, h.EndStream, h.SelfDependent)
	}
	if len(h.Fragment) == 0 {
		if err := c.guard.empty(); err != nil {
			return err
		}
	}
	c.block = block{open: true, id: f.Stream, end: h.EndStream, self: h.SelfDependent, bytes: append(c.block.bytes[:0], h.Fragment...)}
	c.times.blockBegins(c.env.Now)
	return nil
}

// takeContinuation handles CONTINUATION.
func (c *Conn) takeContinuation(f wire.Frame) error {
	if !c.block.open {
		return wire.ConnectionError{Code: wire.ProtocolError, Reason: "CONTINUATION outside a field block"}
	}
	fragment, end, err := wire.ParseContinuation(f)
	if err != nil {
		return err
	}
	b := &c.block
	if b.frames++; b.frames > c.cfg.maxContinuations() || len(b.bytes)+len(fragment) > c.cfg.maxBlock() {
		return wire.ConnectionError{Code: wire.EnhanceYourCalm, Reason: "field block too long"}
	}
	if len(fragment) == 0 && !end {
		if err := c.guard.empty(); err != nil {
			return err
		}
	} else {
		c.guard.filled()
	}
	b.bytes = append(b.bytes, fragment...)
	if !end {
		return nil
	}
	whole := b.bytes
	b.open, b.bytes = false, nil
	err = c.takeBlock(b.id, whole, b.end, b.self)
	if cap(whole) <= wire.MinMaxFrameSize {
		b.bytes = whole[:0]
	}
	return err
}

// takeBlock handles a whole field block.
func (c *Conn) takeBlock(id uint32, bytes []byte, end, self bool) error {
	s := c.find(id)
	if s != nil {
		if c.cfg.Server || s.answered {
			return c.takeTrailers(s, bytes, end, self)
		}
		return c.takeResponse(s, bytes, end, self)
	}
	if !c.cfg.Server || !c.idle(id) {
		h, _, err := c.decode(bytes, trailers)
		c.env.PutHead(h)
		if err != nil || c.stray(id) {
			return err
		}
		if c.quit.has(id) {
			return wire.StreamError{Stream: id, Code: wire.StreamClosed, Reason: "HEADERS on a closed stream"}
		}
		return wire.ConnectionError{Code: wire.StreamClosed, Reason: "HEADERS on a stream that has ended"}
	}
	return c.takeRequest(id, bytes, end, self)
}

// takeRequest opens a stream.
func (c *Conn) takeRequest(id uint32, bytes []byte, end, self bool) error {
	h, fault, err := c.decode(bytes, request)
	if err != nil {
		return err
	}
	if c.lastID > 0 && id > c.lastID+2 || c.lastID == 0 && id > 1 {
		c.gaps.add(c.lastID+1, id)
	}
	c.lastID = id
	if id > c.drain.last {
		c.env.PutHead(h)
		c.forgone.add(id)
		return nil // RFC 9113, 6.8: ignored, the peer has been told
	}
	c.guard.opened(c.env.Now)
	switch {
	case uint32(c.taken) >= c.cfg.MaxStreams:
		c.env.PutHead(h)
		return wire.StreamError{Stream: id, Code: wire.RefusedStream, Reason: "more streams than announced"}
	case self:
		c.env.PutHead(h)
		return wire.StreamError{Stream: id, Code: wire.ProtocolError, Reason: "stream depends on itself"}
	case fault.malformed != "":
		return wire.StreamError{Stream: id, Code: wire.ProtocolError, Reason: fault.malformed}
	case fault.tooLarge:
		return c.tooLarge(id, end)
	case c.heldHeads > c.cfg.maxHeld():
		c.env.PutHead(h)
		return wire.StreamError{Stream: id, Code: wire.EnhanceYourCalm, Reason: "heads hold too much memory"}
	case end && h.Length > 0:
		c.env.PutHead(h)
		return wire.StreamError{Stream: id, Code: wire.ProtocolError, Reason: "content-length without a body"}
	}
	s := c.newStream(id)
	s.tunnel = string(h.Method) == "CONNECT"
	s.bodiless = string(h.Method) == "HEAD"
	s.left, s.remoteEnd = h.Length, end
	c.ev = Event{Kind: Request, Stream: s, Head: h, End: end}
	return nil
}

// tooLarge answers a request whose fields are beyond the limits with 431; the
// owner never hears of it.
func (c *Conn) tooLarge(id uint32, end bool) error {
	s := c.newStream(id)
	s.remoteEnd = end
	c.BeginResponse(s, 431)
	if c.env.Own != nil {
		c.env.Own(c)
	}
	c.EndHead(s, true)
	if !s.closed {
		c.reset(s, wire.NoError)
	}
	s.done = true
	c.recycle(s)
	c.ev = Event{Kind: Rejected, Code: wire.EnhanceYourCalm}
	return c.guard.early(c.env.Now)
}

// takeResponse handles a response's head.
func (c *Conn) takeResponse(s *Stream, bytes []byte, end, self bool) error {
	h, fault, err := c.decode(bytes, response)
	if err != nil {
		return err
	}
	bad := ""
	switch {
	case fault.malformed != "":
		bad = fault.malformed
	case fault.tooLarge:
		bad = "fields beyond the limits"
	case self:
		bad = "stream depends on itself"
	case h.Interim() && end:
		bad = "interim response with END_STREAM"
	case h.Interim():
		if s.interim++; s.interim > MaxInterim {
			bad = "too many interim responses"
		}
	default:
		s.answered = true
		switch {
		case s.tunnel && h.Status < 300:
			h.Length = -1 // RFC 9110, 9.3.6
		case s.bodiless || h.Status == 204 || h.Status == 304:
			s.left = 0
		default:
			s.tunnel = false
			s.left = h.Length
			if end && h.Length > 0 {
				bad = "content-length without a body"
			}
		}
	}
	if bad != "" {
		c.env.PutHead(h)
		return wire.StreamError{Stream: s.ID, Code: wire.ProtocolError, Reason: bad}
	}
	s.remoteEnd = end
	c.give(s, Event{Kind: Response, Stream: s, Head: h, End: end})
	return nil
}

// takeTrailers handles the field block that ends a message.
func (c *Conn) takeTrailers(s *Stream, bytes []byte, end, self bool) error {
	h, fault, err := c.decode(bytes, trailers)
	if err != nil {
		return err
	}
	bad, code := "", wire.ProtocolError
	switch {
	case s.remoteEnd:
		bad, code = "HEADERS after END_STREAM", wire.StreamClosed
	case fault.malformed != "":
		bad = fault.malformed
	case fault.tooLarge:
		bad = "fields beyond the limits"
	case self:
		bad = "stream depends on itself"
	case s.tunnel:
		bad = "HEADERS in a tunnel" // RFC 9113, 8.5
	case !end:
		bad = "trailers without END_STREAM"
	case s.left > 0:
		bad = "DATA doesn't add up to content-length"
	}
	if bad != "" {
		c.env.PutHead(h)
		return wire.StreamError{Stream: s.ID, Code: code, Reason: bad}
	}
	s.remoteEnd = true
	c.give(s, Event{Kind: Trailers, Stream: s, Head: h, End: true})
	return nil
}

// give makes an event of what came on a stream, and closes the stream if that
// was all of it. What comes for a stream that was given back is dropped.
func (c *Conn) give(s *Stream, ev Event) {
	if s.done {
		c.env.PutHead(ev.Head)
	} else {
		c.ev = ev
	}
	if ev.End {
		c.ends(s)
	}
}
