package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"tulle.dev/tulle/internal/wire/h2"
	"tulle.dev/tulle/internal/wire/hpack"
)

const (
	// streamWindow is how much of a stream may wait to be received, in bytes.
	streamWindow = 256 << 10
	// connWindow is the same for all streams of a connection.
	connWindow = 1 << 20
	// maxFields and maxHeaderBlock bound a response's head and its trailers.
	maxFields      = 64
	maxHeaderBlock = 64 << 10
	// maxContinuations bounds the frames of a header block: endless ones are a
	// known attack (CVE-2024-27316).
	maxContinuations = 8
	// writeTimeout bounds one write to the connection.
	writeTimeout = 10 * time.Second
	// maxUnsentAcks bounds answers to PING and SETTINGS that the peer doesn't
	// read: writes block, so one at a time is pending; this is per second.
	maxAnswersPerSecond = 100
)

// ErrClosed says that the connection was closed by this side.
var ErrClosed = errors.New("rpc: the connection was closed")

// Conn is a connection to a gRPC server. It is safe for concurrent use.
type Conn struct {
	conn      net.Conn
	authority string
	agent     string
	done      chan struct{} // closed when the reader has ended

	writing sync.Mutex // held while writing to conn; taken before mu
	out     []byte     // under writing
	encoder hpack.Encoder

	mu         sync.Mutex
	changed    sync.Cond // on mu: windows, streams or err changed
	err        error     // why no new stream can be made
	streams    map[uint32]*Stream
	nextStream uint32
	going      bool  // the peer said GOAWAY
	sendWindow int64 // of the connection
	initial    int64 // the peer's SETTINGS_INITIAL_WINDOW_SIZE
	maxFrame   uint32
	maxStreams uint32
	unreturned uint32 // bytes received and consumed, not yet given back to the connection's window
}

// Options name the two ends.
type Options struct {
	// Authority is the :authority of requests.
	Authority string
	// Agent is the user agent, "tulle-proxy/1.2".
	Agent string
}

// NewConn begins HTTP/2 on a connection and takes it over. It doesn't wait for
// the peer.
func NewConn(conn net.Conn, o Options) (*Conn, error) {
	c := &Conn{
		conn:       conn,
		authority:  o.Authority,
		agent:      o.Agent,
		done:       make(chan struct{}),
		streams:    make(map[uint32]*Stream),
		nextStream: 1,
		sendWindow: h2.InitialWindow,
		initial:    h2.InitialWindow,
		maxFrame:   h2.MinMaxFrameSize,
		maxStreams: 100, // until the peer says
	}
	c.changed.L = &c.mu
	b := append([]byte(nil), h2.Preface...)
	b = h2.AppendSettings(b,
		h2.Setting{ID: h2.EnablePush, Value: 0},
		h2.Setting{ID: h2.InitialWindowSize, Value: streamWindow},
		h2.Setting{ID: h2.MaxHeaderListSize, Value: maxHeaderBlock},
	)
	b = h2.AppendWindowUpdate(b, 0, connWindow-h2.InitialWindow)
	// The reader may answer only after the preface, but must read before it is
	// written: the peer may be writing too, to a connection without buffers.
	c.writing.Lock()
	go c.read()
	err := c.writeLocked(b)
	c.writing.Unlock()
	if err != nil {
		<-c.done
		return nil, err
	}
	return c, nil
}

// Done is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err says why the connection ended, or nil.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection and all its streams, and waits for its goroutine.
func (c *Conn) Close() {
	c.fail(ErrClosed)
	c.conn.Close()
	<-c.done
}

// fail ends all streams with err, the first time.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
	for id, s := range c.streams {
		s.end(c.err)
		delete(c.streams, id)
	}
	c.changed.Broadcast()
}

// write sends bytes; a failure ends the connection.
func (c *Conn) write(b []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.writeLocked(b)
}

func (c *Conn) writeLocked(b []byte) error {
	c.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := c.conn.Write(b); err != nil {
		c.fail(fmt.Errorf("rpc: write: %w", err))
		c.conn.Close()
		return err
	}
	return nil
}

// read is the connection's goroutine.
func (c *Conn) read() {
	defer close(c.done)
	r := &reader{c: c}
	err := r.run()
	if err == io.EOF {
		err = errors.New("rpc: the server closed the connection")
	}
	c.fail(err)
	if broken, ok := errors.AsType[h2.ConnectionError](err); ok {
		c.write(h2.AppendGoAway(nil, 0, broken.Code, broken.Reason))
	}
	c.conn.Close()
}

// reader is the state of the reading goroutine.
type reader struct {
	c       *Conn
	decoder hpack.Decoder
	fields  hpack.Reader

	// The header block that is being joined; block's stream is 0 outside one.
	block         []byte
	blockStream   uint32
	blockEnd      bool
	continuations int

	answers int // in the second that began at since
	since   time.Time
}

func (r *reader) run() error {
	var buf []byte
	chunk := make([]byte, 0, 16<<10)
	buf = chunk
	first := true
	for {
		f, n, err := h2.Cut(buf, h2.MinMaxFrameSize)
		if err != nil {
			return err
		}
		if n == 0 {
			if buf, err = r.fill(buf); err != nil {
				return err
			}
			continue
		}
		if first && (f.Type != h2.Settings || f.Flags.Has(h2.FlagAck)) {
			return h2.ConnectionError{Code: h2.ProtocolError, Reason: "the first frame is not SETTINGS"}
		}
		first = false
		if err := r.frame(f); err != nil {
			lost, ok := errors.AsType[h2.StreamError](err)
			if !ok {
				return err
			}
			r.c.reset(lost.Stream, lost.Code, lost)
		}
		buf = buf[n:]
	}
}

// fill reads more bytes behind those in buf.
func (r *reader) fill(buf []byte) ([]byte, error) {
	const room = 4 << 10
	if cap(buf)-len(buf) < room {
		// Whole frames were consumed from the front: move the rest there, in
		// a buffer that holds one frame and a read.
		next := make([]byte, len(buf), max(16<<10, len(buf)+h2.HeaderLen+h2.MinMaxFrameSize))
		copy(next, buf)
		buf = next
	}
	n, err := r.c.conn.Read(buf[len(buf):cap(buf)])
	if n > 0 {
		return buf[:len(buf)+n], nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return nil, err
}

func (r *reader) frame(f h2.Frame) error {
	if r.blockStream != 0 && (f.Type != h2.Continuation || f.Stream != r.blockStream) {
		return h2.ConnectionError{Code: h2.ProtocolError, Reason: "a frame inside a header block"}
	}
	c := r.c
	switch f.Type {
	case h2.Data:
		data, end, err := h2.ParseData(f)
		if err != nil {
			return err
		}
		return c.data(f.Stream, data, int(f.Length)-len(data), end)
	case h2.Headers:
		h, err := h2.ParseHeaders(f)
		if err != nil {
			return err
		}
		r.blockStream, r.blockEnd, r.continuations = f.Stream, h.EndStream, 0
		r.block = append(r.block[:0], h.Fragment...)
		if h.EndHeaders {
			return r.endBlock()
		}
	case h2.Continuation:
		if r.blockStream == 0 {
			return h2.ConnectionError{Code: h2.ProtocolError, Reason: "CONTINUATION outside a header block"}
		}
		fragment, end, err := h2.ParseContinuation(f)
		if err != nil {
			return err
		}
		r.continuations++
		if r.continuations > maxContinuations || len(r.block)+len(fragment) > maxHeaderBlock {
			return h2.ConnectionError{Code: h2.EnhanceYourCalm, Reason: "a header block too long"}
		}
		r.block = append(r.block, fragment...)
		if end {
			return r.endBlock()
		}
	case h2.Priority:
		return h2.ParsePriority(f)
	case h2.RSTStream:
		code, err := h2.ParseRSTStream(f)
		if err != nil {
			return err
		}
		c.peerReset(f.Stream, code)
	case h2.Settings:
		list, ack, err := h2.ParseSettings(f)
		if err != nil || ack {
			return err
		}
		return r.settings(list)
	case h2.PushPromise:
		return h2.ConnectionError{Code: h2.ProtocolError, Reason: "PUSH_PROMISE although push is off"}
	case h2.Ping:
		data, ack, err := h2.ParsePing(f)
		if err != nil || ack {
			return err
		}
		if err := r.answer(); err != nil {
			return err
		}
		return c.write(h2.AppendPing(nil, true, data))
	case h2.GoAway:
		g, err := h2.ParseGoAway(f)
		if err != nil {
			return err
		}
		c.goAway(g)
	case h2.WindowUpdate:
		n, err := h2.ParseWindowUpdate(f)
		if err != nil {
			return err
		}
		return c.windowUpdate(f.Stream, n)
	}
	return nil // other types are ignored (section 5.5)
}

// answer bounds how often the peer makes this side write.
func (r *reader) answer() error {
	now := time.Now()
	if now.Sub(r.since) > time.Second {
		r.since, r.answers = now, 0
	}
	if r.answers++; r.answers > maxAnswersPerSecond {
		return h2.ConnectionError{Code: h2.EnhanceYourCalm, Reason: "too many PING or SETTINGS frames"}
	}
	return nil
}

func (r *reader) settings(list h2.SettingsList) error {
	if err := r.answer(); err != nil {
		return err
	}
	c := r.c
	var table uint32
	var tableSet bool
	c.mu.Lock()
	for i := range list.Len() {
		s := list.At(i)
		if err := s.Check(true); err != nil {
			c.mu.Unlock()
			return err
		}
		switch s.ID {
		case h2.HeaderTableSize:
			table, tableSet = s.Value, true
		case h2.MaxConcurrentStreams:
			c.maxStreams = s.Value
		case h2.MaxFrameSize:
			c.maxFrame = s.Value
		case h2.InitialWindowSize:
			delta := int64(s.Value) - c.initial
			c.initial = int64(s.Value)
			for _, stream := range c.streams {
				if stream.sendWindow += delta; stream.sendWindow > h2.MaxWindow {
					c.mu.Unlock()
					return h2.ConnectionError{Code: h2.FlowControlError, Reason: "a stream's window above 2^31-1"}
				}
			}
		}
	}
	c.changed.Broadcast()
	c.mu.Unlock()
	c.writing.Lock()
	defer c.writing.Unlock()
	if tableSet {
		c.encoder.SetLimit(table)
	}
	return c.writeLocked(h2.AppendSettingsAck(nil))
}

// endBlock reads a complete header block: a response's head or its trailers.
func (r *reader) endBlock() error {
	id, end := r.blockStream, r.blockEnd
	r.blockStream = 0
	r.fields.Reset(&r.decoder, r.block)
	var h head
	var count int
	for {
		var f hpack.Field
		more, err := r.fields.Next(&f)
		if err != nil {
			return h2.ConnectionError{Code: h2.CompressionError, Reason: err.Error()}
		}
		if !more {
			break
		}
		// Above the bound the rest is read, since it changes the table, but
		// not kept.
		if count++; count <= maxFields {
			h.add(f.Name, f.Value)
		}
	}
	if count > maxFields {
		return h2.StreamError{Stream: id, Code: h2.EnhanceYourCalm, Reason: "too many header fields"}
	}
	return r.c.headers(id, &h, end)
}

// stream returns an open stream; for one that has ended it returns nil, and an
// error for one that never was (section 5.1). c.mu is held.
func (c *Conn) stream(id uint32) (*Stream, error) {
	if s := c.streams[id]; s != nil {
		return s, nil
	}
	if id%2 == 0 || id >= c.nextStream {
		return nil, h2.ConnectionError{Code: h2.ProtocolError, Reason: "a frame on an idle stream"}
	}
	return nil, nil
}

func (c *Conn) headers(id uint32, h *head, end bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, err := c.stream(id)
	if s == nil {
		return err
	}
	if err := s.headers(h, end); err != nil {
		return err
	}
	if end {
		delete(c.streams, id)
		c.changed.Broadcast()
	}
	return nil
}

func (c *Conn) data(id uint32, data []byte, padding int, end bool) error {
	c.mu.Lock()
	s, err := c.stream(id)
	if err != nil {
		c.mu.Unlock()
		return err
	}
	if s == nil {
		// The stream is over; its bytes still count for the connection.
		c.mu.Unlock()
		return c.giveBack(nil, len(data)+padding)
	}
	err = s.data(data, padding, end)
	if err == nil && end {
		delete(c.streams, id)
	}
	c.changed.Broadcast()
	c.mu.Unlock()
	if err != nil {
		return err
	}
	if padding > 0 {
		return c.giveBack(s, padding)
	}
	return nil
}

func (c *Conn) windowUpdate(id, n uint32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id == 0 {
		if c.sendWindow += int64(n); c.sendWindow > h2.MaxWindow {
			return h2.ConnectionError{Code: h2.FlowControlError, Reason: "the connection's window above 2^31-1"}
		}
		c.changed.Broadcast()
		return nil
	}
	s, err := c.stream(id)
	if s == nil {
		return err
	}
	if s.sendWindow += int64(n); s.sendWindow > h2.MaxWindow {
		return h2.StreamError{Stream: id, Code: h2.FlowControlError, Reason: "the stream's window above 2^31-1"}
	}
	c.changed.Broadcast()
	return nil
}

func (c *Conn) peerReset(id uint32, code h2.Code) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.streams[id]; s != nil {
		s.end(&StatusError{Code: statusOfReset(code), Message: "the server reset the stream: " + code.String()})
		delete(c.streams, id)
	}
	c.changed.Broadcast()
}

// goAway ends the streams that the server says it won't process, and refuses
// new ones.
func (c *Conn) goAway(g h2.GoAwayFrame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.going = true
	for id, s := range c.streams {
		if id > g.LastStream {
			s.end(&StatusError{Code: Unavailable, Message: "the server is going away: " + g.Code.String()})
			delete(c.streams, id)
		}
	}
	c.changed.Broadcast()
}

// reset ends a stream from this side.
func (c *Conn) reset(id uint32, code h2.Code, why error) {
	c.mu.Lock()
	s := c.streams[id]
	if s != nil {
		s.end(why)
		delete(c.streams, id)
	}
	c.changed.Broadcast()
	c.mu.Unlock()
	if s != nil {
		c.write(h2.AppendRSTStream(nil, id, code))
	}
}

// giveBack returns n consumed bytes to the windows. s is nil when the stream
// needs none.
func (c *Conn) giveBack(s *Stream, n int) error {
	c.mu.Lock()
	var b []byte
	if c.unreturned += uint32(n); c.unreturned >= connWindow/2 {
		b = h2.AppendWindowUpdate(b, 0, c.unreturned)
		c.unreturned = 0
	}
	if s != nil && s.err == nil && !s.remoteClosed {
		if s.unreturned += uint32(n); s.unreturned >= streamWindow/2 {
			b = h2.AppendWindowUpdate(b, s.id, s.unreturned)
			s.received -= int64(s.unreturned)
			s.unreturned = 0
		}
	}
	c.mu.Unlock()
	if b == nil {
		return nil
	}
	return c.write(b)
}

// wait blocks until ready reports true or the context ends. c.mu is held.
func (c *Conn) wait(ctx context.Context, ready func() bool) error {
	if ready() {
		return nil
	}
	stop := context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.changed.Broadcast()
	})
	defer stop()
	for !ready() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		c.changed.Wait()
	}
	return nil
}
