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
