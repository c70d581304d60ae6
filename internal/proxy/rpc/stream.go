package rpc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"tulle.dev/tulle/internal/wire/h2"
)

// MaxMessage bounds a received message, in bytes.
const MaxMessage = 16 << 20

const prefixSize = 5 // a message's compression flag and length

// Stream is one call. Several goroutines may send while one receives. The fields
// are guarded by the connection's mu.
type Stream struct {
	c       *Conn
	id      uint32
	sending sync.Mutex // held while a message's frames are sent

	sendWindow   int64
	received     int64 // bytes received and not given back to the window
	unreturned   uint32
	buf          []byte // received, not consumed; bounded by streamWindow
	headSeen     bool
	remoteClosed bool
	localClosed  bool
	err          error       // why it ended; io.EOF is status OK
	stop         func() bool // releases the context
}

// open starts a call.
func (c *Conn) open(ctx context.Context, method string) (*Stream, error) {
	// Stream ids must reach the wire in order, so they are given out under the
	// write lock.
	c.mu.Lock()
	err := c.wait(ctx, func() bool {
		return c.err != nil || c.going || uint32(len(c.streams)) < c.maxStreams
	})
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	c.mu.Lock()
	switch {
	case c.err != nil:
		err = c.err
	case c.going || c.nextStream > h2.MaxStream-2:
		err = &StatusError{Code: Unavailable, Message: "the server is going away"}
	}
	if err != nil {
		c.mu.Unlock()
		return nil, err
	}
	s := &Stream{c: c, id: c.nextStream, sendWindow: c.initial}
	c.nextStream += 2
	c.streams[s.id] = s
	maxFrame := c.maxFrame
	c.mu.Unlock()

	out := h2.BeginHeaders(c.out[:0])
	out = c.encoder.Begin(out)
	field := func(name, value string) { out = c.encoder.Append(out, []byte(name), []byte(value), false) }
	field(":method", "POST")
	field(":scheme", "https")
	field(":path", method)
	field(":authority", c.authority)
	field("te", "trailers")
	field("content-type", "application/grpc")
	field("user-agent", c.agent)
	if deadline, ok := ctx.Deadline(); ok {
		field("grpc-timeout", timeout(time.Until(deadline)))
	}
	c.out = h2.FinishHeaders(out, 0, s.id, false, maxFrame)
	if err := c.writeLocked(c.out); err != nil {
		return nil, err
	}
	return s, nil
}

// timeout writes a grpc-timeout value: at most eight digits and a unit.
func timeout(d time.Duration) string {
	ms := max(d.Milliseconds(), 1)
	if ms <= 99999999 {
		return strconv.FormatInt(ms, 10) + "m"
	}
	return strconv.FormatInt(min(ms/1000, 99999999), 10) + "S"
}

// Stream starts a bidirectional call. It ends when the context does.
func (c *Conn) Stream(ctx context.Context, method string) (*Stream, error) {
	s, err := c.open(ctx, method)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { c.reset(s.id, h2.Cancel, context.Cause(ctx)) })
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.err != nil {
		stop()
	} else {
		s.stop = stop
	}
	return s, nil
}

// Call makes a unary call; the context's deadline goes to the server too.
func (c *Conn) Call(ctx context.Context, method string, request []byte) ([]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := c.Stream(ctx, method)
	if err != nil {
		return nil, err
	}
	if err := s.send(ctx, request, true); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	response, err := s.Receive()
	if err == io.EOF {
		return nil, &StatusError{Code: Internal, Message: "the server answered with status OK and no message"}
	}
	if err != nil {
		return nil, err
	}
	if _, err := s.Receive(); err != io.EOF {
		if err == nil {
			err = &StatusError{Code: Internal, Message: "the server answered a unary call with two messages"}
		}
		return nil, err
	}
	return response, nil
}

// Send sends a message. It blocks while the server's windows are full. Once the
// call has ended it returns io.EOF; Receive says how.
func (s *Stream) Send(ctx context.Context, message []byte) error { return s.send(ctx, message, false) }

// CloseSend says that no more messages will be sent.
func (s *Stream) CloseSend() error { return s.frames(context.Background(), nil, true) }

// Cancel ends the call at once.
func (s *Stream) Cancel() { s.c.reset(s.id, h2.Cancel, context.Canceled) }

func (s *Stream) send(ctx context.Context, message []byte, end bool) error {
	b := make([]byte, prefixSize, prefixSize+len(message))
	binary.BigEndian.PutUint32(b[1:], uint32(len(message)))
	return s.frames(ctx, append(b, message...), end)
}

func (s *Stream) frames(ctx context.Context, b []byte, end bool) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	for {
		n, err := s.take(ctx, len(b))
		if err != nil {
			return err
		}
		last := n == len(b)
		if err := s.c.write(h2.AppendData(nil, s.id, end && last, b[:n])); err != nil {
			return err
		}
		if b = b[n:]; last {
			return nil
		}
	}
}

// take waits for room in both windows and takes up to want bytes of it.
func (s *Stream) take(ctx context.Context, want int) (int, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.wait(ctx, func() bool {
		return s.err != nil || s.remoteClosed || want == 0 || min(s.sendWindow, c.sendWindow) > 0
	})
	if err != nil {
		return 0, err
	}
	if s.err != nil || s.remoteClosed {
		return 0, io.EOF
	}
	n := min(int64(want), s.sendWindow, c.sendWindow, int64(c.maxFrame))
	if want == 0 {
		n = 0
	}
	s.sendWindow -= n
	c.sendWindow -= n
	return int(n), nil
}

// Receive returns the next message, io.EOF after the last one when the call
// ended well, or a *StatusError.
func (s *Stream) Receive() ([]byte, error) {
	var prefix [prefixSize]byte
	if err := s.consume(prefix[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(prefix[1:])
	var err error
	switch {
	case prefix[0] != 0:
		err = &StatusError{Code: Internal, Message: "the server sent a compressed message, none was asked for"}
	case n > MaxMessage:
		err = &StatusError{Code: ResourceExhausted, Message: fmt.Sprintf("the server sent a message of %d bytes, want at most %d", n, MaxMessage)}
	}
	if err != nil {
		s.c.reset(s.id, h2.Cancel, err)
		return nil, err
	}
	message := make([]byte, 0, min(int(n), 64<<10))
	for len(message) < int(n) {
		// Grow with what arrives, not with what was promised.
		part := min(int(n)-len(message), 64<<10)
		start := len(message)
		message = append(message, make([]byte, part)...)
		if err := s.consume(message[start:]); err != nil {
			if err == io.EOF {
				err = &StatusError{Code: Internal, Message: "the call ended inside a message"}
			}
			return nil, err
		}
	}
	return message, nil
}

// consume fills p from what was received.
func (s *Stream) consume(p []byte) error {
	for len(p) > 0 {
		s.c.mu.Lock()
		// No context: the stream's own end wakes it.
		for len(s.buf) == 0 && s.err == nil {
			s.c.changed.Wait()
		}
		if len(s.buf) == 0 {
			err := s.err
			s.c.mu.Unlock()
			return err
		}
		n := copy(p, s.buf)
		p, s.buf = p[n:], s.buf[n:]
		if len(s.buf) == 0 {
			s.buf = nil
		}
		s.c.mu.Unlock()
		if err := s.c.giveBack(s, n); err != nil {
			return err
		}
	}
	return nil
}

// end sets how the stream ended, once. c.mu is held.
func (s *Stream) end(err error) {
	if s.err == nil {
		s.err = err
		if s.stop != nil {
			s.stop()
		}
	}
}

// data takes a DATA frame. c.mu is held.
func (s *Stream) data(data []byte, padding int, end bool) error {
	if !s.headSeen {
		return h2.StreamError{Stream: s.id, Code: h2.ProtocolError, Reason: "DATA before HEADERS"}
	}
	if s.received += int64(len(data) + padding); s.received > streamWindow {
		return h2.StreamError{Stream: s.id, Code: h2.FlowControlError, Reason: "more than the stream's window"}
	}
	s.buf = append(s.buf, data...)
	if end {
		s.remoteClosed = true
		s.end(&StatusError{Code: Internal, Message: "the call ended without a status"})
	}
	return nil
}

// headers takes a header block: the response's head, or the trailers. c.mu is
// held.
func (s *Stream) headers(h *head, end bool) error {
	fail := func(format string, args ...any) error {
		return h2.StreamError{Stream: s.id, Code: h2.ProtocolError, Reason: fmt.Sprintf(format, args...)}
	}
	if !s.headSeen {
		if len(h.status) == 3 && h.status[0] == '1' && !end {
			return nil // an interim response
		}
		if h.status != "200" {
			s.end(&StatusError{Code: statusOfHTTP(h.status), Message: fmt.Sprintf("the server answered HTTP status %.16q", h.status)})
			return fail("not a gRPC response")
		}
		if !strings.HasPrefix(h.contentType, "application/grpc") {
			s.end(&StatusError{Code: Unknown, Message: fmt.Sprintf("the server answered with content type %.64q, want application/grpc", h.contentType)})
			return fail("not a gRPC response")
		}
		s.headSeen = true
		if !end {
			return nil
		}
	} else if !end {
		return fail("HEADERS in the middle of a response")
	}
	s.remoteClosed = true
	s.end(h.error())
	s.c.changed.Broadcast()
	return nil
}
