package h2

import (
	"cmp"
	"errors"

	wire "tulle.dev/tulle/internal/wire/h2"
)

// frame is the DATA frame whose payload is being taken. DATA is handed on as
// it comes; every other frame is taken whole.
type frame struct {
	stream *Stream // nil: the data is thrown away
	data   int     // bytes of data still to come
	pad    int     // bytes of padding after them
	end    bool
	any    bool // the frame goes on
}

// block is a field block of which only some fragments have come.
type block struct {
	open   bool
	id     uint32
	end    bool // END_STREAM
	self   bool // depends on itself
	frames int  // CONTINUATION frames so far
	bytes  []byte
}

// Feed takes bytes that came from the peer. It returns how many it took and,
// at most, one event. Call it until it takes nothing and returns None: the
// rest of in must then be given again, with more behind it. It never asks for
// more than one frame of 16 KiB at once.
func (c *Conn) Feed(in []byte) (n int, ev *Event) {
	c.ev = Event{}
	for c.ev.Kind == None && n < len(in) {
		if c.err != nil || c.closed {
			return len(in), &c.ev // a connection that is over hears nothing
		}
		k, err := c.step(in[n:])
		n += k
		if err != nil {
			c.failed(err)
		} else if k == 0 {
			break
		}
	}
	if n > 0 {
		c.times.heard(c.env.Now)
	}
	return n, &c.ev
}

// Blocked says that Feed takes nothing until what was gathered is sent: the
// peer has asked for more answers than it takes.
func (c *Conn) Blocked() bool { return c.guard.unsentAcks > MaxUnsentAcks }

// failed does what an error asks for.
func (c *Conn) failed(err error) {
	var se wire.StreamError
	if errors.As(err, &se) {
		c.streamError(se)
		return
	}
	var ce wire.ConnectionError
	if !errors.As(err, &ce) {
		ce = wire.ConnectionError{Code: wire.InternalError, Reason: err.Error()}
	}
	c.fatal(ce)
}

// streamError resets a stream for the peer's error. It counts as an early end:
// a peer that makes us reset wins nothing over one that resets (CVE-2025-8671).
func (c *Conn) streamError(e wire.StreamError) {
	s := c.find(e.Stream)
	if s != nil || !c.forgone.has(e.Stream) { // else it was reset
		c.sendReset(e.Stream, e.Code)
	}
	c.ev = Event{Kind: Rejected, Code: e.Code}
	if s != nil {
		if !s.done {
			c.ev = Event{Kind: Reset, Stream: s, Code: e.Code, Fault: true}
		}
		c.close(s)
	}
	if !c.cfg.Server {
		return // a client's own streams bound what a server can make it reset
	}
	if err := c.guard.early(c.env.Now); err != nil {
		c.failed(err)
	}
}

// stray says whether a frame on a closed stream is to be ignored: it may have
// been under way when we reset the stream. A client has reset, or seen the end
// of, whatever stream of its own is closed; and of another proxy's streams any
// number may be reset at once.
func (c *Conn) stray(id uint32) bool { return !c.cfg.Server || c.cfg.Peer || c.forgone.has(id) }

// step takes the front of in: some of a preface, a frame, or some of a DATA
// frame. It returns 0 when it needs more bytes.
func (c *Conn) step(in []byte) (int, error) {
	if c.preface < len(wire.Preface) {
		return c.takePreface(in)
	}
	if c.frame.any {
		return c.takeData(in), nil
	}
	if c.Blocked() || len(in) < wire.HeaderLen {
		return 0, nil
	}
	h := wire.ParseHeader(in)
	if h.Type == wire.Data && c.peerSettings && !c.block.open && h.Length <= wire.MinMaxFrameSize {
		return c.beginData(in, h)
	}
	f, n, err := wire.Cut(in, wire.MinMaxFrameSize)
	if err != nil || n == 0 {
		return 0, cmp.Or(err, c.doomed(h))
	}
	return n, c.take(f)
}

// doomed is what is wrong with a frame whatever the rest of it will be: its sender
// may be waiting for our word.
func (c *Conn) doomed(h wire.Header) error {
	switch {
	case c.block.open && (h.Type != wire.Continuation || h.Stream != c.block.id),
		!c.block.open && h.Type == wire.Continuation,
		!c.peerSettings && h.Type != wire.Settings,
		h.Type == wire.PushPromise:
		return c.take(wire.Frame{Header: h})
	}
	return h.Check()
}

func (c *Conn) takePreface(in []byte) (int, error) {
	want := wire.Preface[c.preface:]
	n := min(len(in), len(want))
	if string(in[:n]) != want[:n] {
		return 0, wire.ConnectionError{Code: wire.ProtocolError, Reason: "not the preface of HTTP/2"}
	}
	c.preface += n
	return n, nil
}

// take handles a whole frame other than DATA.
func (c *Conn) take(f wire.Frame) error {
	if c.block.open && (f.Type != wire.Continuation || f.Stream != c.block.id) {
		return wire.ConnectionError{Code: wire.ProtocolError, Reason: f.Type.String() + " within a field block"}
	}
	if !c.peerSettings && f.Type != wire.Settings {
		return wire.ConnectionError{Code: wire.ProtocolError, Reason: "first frame is not SETTINGS"}
	}
	switch f.Type {
	case wire.Headers:
		c.guard.stirred()
		return c.takeHeaders(f)
	case wire.Continuation:
		return c.takeContinuation(f)
	case wire.WindowUpdate:
		return c.takeWindowUpdate(f)
	case wire.RSTStream:
		return c.takeReset(f)
	case wire.Settings:
		return c.takeSettings(f)
	case wire.Ping:
		return c.takePing(f)
	case wire.GoAway:
		return c.takeGoAway(f)
	case wire.Priority:
		if err := wire.ParsePriority(f); err != nil {
			return c.notIdle(err)
		}
		return c.guard.priority()
	case wire.PushPromise:
		return wire.ConnectionError{Code: wire.ProtocolError, Reason: "PUSH_PROMISE though push is disabled"}
	case wire.Data: // only before SETTINGS or within a block, or too long: refused above
		return wire.ConnectionError{Code: wire.ProtocolError, Reason: "DATA out of place"}
	}
	return c.guard.unknown(c.env.Now)
}

// idle says whether nobody has opened the stream yet.
func (c *Conn) idle(id uint32) bool {
	if id%2 == 1 == c.cfg.Server { // opened by the peer: a client's are odd
		return id > c.lastID
	}
	return id >= c.nextID || c.cfg.Server // a server opens none
}

// notIdle makes a stream's error one of the connection where nobody has opened the
// stream: RST_STREAM may not be sent for that (RFC 9113, 6.4).
func (c *Conn) notIdle(err error) error {
	if e, ok := err.(wire.StreamError); ok && c.idle(e.Stream) {
		return wire.ConnectionError{Code: e.Code, Reason: e.Reason}
	}
	return err
}

// beginData handles the header of a DATA frame, and then what of its payload
// is there.
func (c *Conn) beginData(in []byte, h wire.Header) (int, error) {
	if h.Stream == 0 {
		return 0, wire.ConnectionError{Code: wire.ProtocolError, Reason: "DATA on stream 0"}
	}
	n, pad := wire.HeaderLen, 0
	if h.Flags.Has(wire.FlagPadded) {
		if h.Length == 0 {
			return 0, wire.ConnectionError{Code: wire.FrameSizeError, Reason: "DATA too short for its pad length"}
		}
		if len(in) <= n {
			return 0, nil
		}
		pad = int(in[n])
		n++
		if pad >= int(h.Length) {
			return 0, wire.ConnectionError{Code: wire.ProtocolError, Reason: "DATA with more padding than payload"}
		}
	}
	total := int64(h.Length)
	data := wire.HeaderLen + int(h.Length) - n - pad
	end := h.Flags.Has(wire.FlagEndStream)
	if data == 0 && !end {
		if err := c.guard.empty(); err != nil {
			return 0, err
		}
	} else {
		c.guard.filled()
	}
	c.guard.stirred()
	if total > c.recvWindow {
		return 0, wire.ConnectionError{Code: wire.FlowControlError, Reason: "DATA beyond the connection's window"}
	}
	c.recvWindow -= total
	if c.recvWindow < int64(c.cfg.ConnWindow)/4 {
		c.crampedAt = c.env.Now
	}
	if c.cfg.Shared {
		c.giveBack(total)
	}
	c.frame = frame{data: data, pad: pad, end: end, any: true}
	s, err := c.dataStream(h.Stream, total, int64(data), end)
	if err != nil || s == nil {
		c.credit(total)
		return n + c.takeData(in[n:]), err
	}
	s.recvWindow -= total
	c.credit(total - int64(data)) // padding is consumed at once
	s.owed += total - int64(data)
	if s.done { // nobody reads it any more
		c.credit(int64(data))
		s.owed += int64(data)
	} else {
		s.held += int64(data)
	}
	if !end {
		c.update(s)
	}
	c.frame.stream = s
	return n + c.takeData(in[n:]), nil
}

// dataStream finds the stream that a DATA frame may go to; nil without an
// error means that the data is thrown away.
func (c *Conn) dataStream(id uint32, total, data int64, end bool) (*Stream, error) {
	s := c.find(id)
	if s == nil {
		switch {
		case c.idle(id):
			return nil, wire.ConnectionError{Code: wire.ProtocolError, Reason: "DATA on an idle stream"}
		case c.stray(id):
			return nil, nil
		}
		return nil, wire.StreamError{Stream: id, Code: wire.StreamClosed, Reason: "DATA on a closed stream"}
	}
	if s.remoteEnd {
		return nil, wire.StreamError{Stream: id, Code: wire.StreamClosed, Reason: "DATA after END_STREAM"}
	}
	if !c.cfg.Server && !s.answered {
		return nil, wire.StreamError{Stream: id, Code: wire.ProtocolError, Reason: "DATA before the response"}
	}
	if total > s.recvWindow {
		return nil, wire.StreamError{Stream: id, Code: wire.FlowControlError, Reason: "DATA beyond the stream's window"}
	}
	if s.left >= 0 {
		if data > s.left || end && data < s.left {
			return nil, wire.StreamError{Stream: id, Code: wire.ProtocolError, Reason: "DATA doesn't add up to content-length"}
		}
		s.left -= data
	}
	return s, nil
}

// takeData hands on what in holds of the DATA frame's payload.
func (c *Conn) takeData(in []byte) int {
	f := &c.frame
	n := min(len(in), f.data)
	f.data -= n
	if s := f.stream; s != nil && (n > 0 || f.data == 0) {
		end := f.end && f.data == 0
		if !s.done && (n > 0 || end) {
			c.ev = Event{Kind: Body, Stream: s, Data: in[:n:n], End: end}
		}
		if f.data == 0 {
			f.stream = nil
			if end {
				s.remoteEnd = true
				c.ends(s)
			}
		}
	}
	if f.data == 0 {
		k := min(len(in)-n, f.pad)
		f.pad -= k
		n += k
		f.any = f.pad > 0
	}
	return n
}

// takeReset handles RST_STREAM.
func (c *Conn) takeReset(f wire.Frame) error {
	code, err := wire.ParseRSTStream(f)
	if err != nil {
		return err
	}
	s := c.find(f.Stream)
	if s == nil {
		if c.idle(f.Stream) {
			return wire.ConnectionError{Code: wire.ProtocolError, Reason: "RST_STREAM on an idle stream"}
		}
		return nil
	}
	c.quit.add(f.Stream)
	early, done := c.cfg.Server && !c.cfg.Trusted && !s.localEnd, s.done
	c.close(s)
	if !done {
		c.ev = Event{Kind: Reset, Stream: s, Code: code}
	}
	if early {
		return c.guard.early(c.env.Now)
	}
	return nil
}

// takeSettings handles SETTINGS.
func (c *Conn) takeSettings(f wire.Frame) error {
	list, ack, err := wire.ParseSettings(f)
	if err != nil {
		return err
	}
	if ack {
		if !c.peerSettings {
			return wire.ConnectionError{Code: wire.ProtocolError, Reason: "first frame is not SETTINGS"}
		}
		c.settingsUnread = false
		return nil
	}
	if err := c.guard.settings(c.env.Now); err != nil {
		return err
	}
	for i := range list.Len() {
		if err := c.setting(list.At(i)); err != nil {
			return err
		}
	}
	if !c.peerSettings && !c.cfg.Server {
		c.noticed.capacity = true
	}
	c.peerSettings = true
	c.grow()
	c.out = wire.AppendSettingsAck(c.out)
	c.guard.unsentAcks++
	return nil
}

// setting applies one parameter.
func (c *Conn) setting(p wire.Setting) error {
	if err := p.Check(!c.cfg.Server); err != nil {
		return err
	}
	switch p.ID {
	case wire.HeaderTableSize:
		c.encoder.SetLimit(p.Value)
	case wire.MaxConcurrentStreams:
		if p.Value > c.peerStreams {
			c.noticed.capacity = true
		}
		c.peerStreams = p.Value
	case wire.InitialWindowSize:
		return c.setInitialWindow(int32(p.Value))
	case wire.MaxFrameSize:
		c.peerFrame = p.Value
	case wire.EnableConnectProtocol:
		if c.peerConnect && p.Value == 0 {
			return wire.ConnectionError{Code: wire.ProtocolError, Reason: "SETTINGS_ENABLE_CONNECT_PROTOCOL taken back"}
		}
		c.peerConnect = p.Value == 1
	}
	return nil
}

// takePing handles PING.
func (c *Conn) takePing(f wire.Frame) error {
	data, ack, err := wire.ParsePing(f)
	if err != nil {
		return err
	}
	if ack {
		c.pong(data)
		return nil
	}
	if err := c.guard.ping(c.env.Now); err != nil {
		return err
	}
	c.grow()
	c.out = wire.AppendPing(c.out, true, data)
	c.guard.unsentAcks++
	return nil
}
