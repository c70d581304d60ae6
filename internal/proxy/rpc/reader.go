package rpc

import (
	"errors"
	"io"
	"time"

	"tulle.dev/tulle/internal/wire/h2"
	"tulle.dev/tulle/internal/wire/hpack"
)

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
