package h2

import (
	"time"

	"tulle.dev/tulle/internal/wire/hpack"
)

// Env is what all HTTP/2 connections of one event loop share: the time, and
// free memory. It belongs to that loop.
type Env struct {
	// Now is the time of the turn; the owner sets it before it calls anything.
	Now time.Duration
	// Own adds the fields of an answer that the engine makes itself to the head
	// that it has begun; nil adds none.
	Own func(*Conn)

	reader  hpack.Reader
	streams []*Stream
	heads   []*Head
	outs    [][]byte
	chunks  *chunk
	spare   int // chunks in the list
	low     int // the fewest there were since the last Trim
	marks   []mark
	crumbs  []mark
	lower   []byte
}

// How much free memory is kept.
const (
	keptStreams = 256
	keptHeads   = 64
	keptOuts    = 8
	keptChunks  = 64
	keptArena   = 4 << 10
	// maxSpare bounds the chunks that are kept while they may be of use: what
	// 64 streams take that have much to send.
	maxSpare = 64 * SendBuffer / chunkSize
)

// chunk is a piece of what waits in a stream to be sent.
type chunk struct {
	next *chunk
	r, w int
	b    [chunkSize]byte
}

const chunkSize = 4 << 10

func (e *Env) getChunk() *chunk {
	k := e.chunks
	if k == nil {
		return new(chunk)
	}
	e.chunks, k.next = k.next, nil
	e.spare--
	e.low = min(e.low, e.spare)
	k.r, k.w = 0, 0
	return k
}

// Surplus reports whether there is more free memory than is kept for good; then
// Trim, called a second later or so, gives up what wasn't needed since the last
// time.
func (e *Env) Surplus() bool { return e.spare > keptChunks }

// Trim gives up surplus memory.
func (e *Env) Trim() {
	for drop := min(e.low, e.spare-keptChunks); drop > 0; drop-- {
		e.chunks = e.chunks.next
		e.spare--
	}
	e.low = e.spare
}

func (e *Env) putChunk(k *chunk) {
	if e.spare < maxSpare {
		k.next, e.chunks = e.chunks, k
		e.spare++
	}
}

func (e *Env) getStream() *Stream {
	n := len(e.streams)
	if n == 0 {
		return new(Stream)
	}
	s := e.streams[n-1]
	e.streams = e.streams[:n-1]
	return s
}

func (e *Env) putStream(s *Stream) {
	*s = Stream{}
	if len(e.streams) < keptStreams {
		e.streams = append(e.streams, s)
	}
}

// GetHead returns an empty head.
func (e *Env) GetHead() *Head {
	n := len(e.heads)
	if n == 0 {
		return &Head{arena: make([]byte, 0, 512), Fields: make([]Field, 0, 16)}
	}
	h := e.heads[n-1]
	e.heads = e.heads[:n-1]
	return h
}

// PutHead takes a head back: one of an event, once its owner has done with it.
func (e *Env) PutHead(h *Head) {
	if h == nil {
		return
	}
	if h.conn != nil {
		h.conn.heldHeads -= h.held
	}
	if len(e.heads) >= keptHeads || cap(h.arena) > keptArena {
		return
	}
	clear(h.Fields)
	*h = Head{arena: h.arena[:0], Fields: h.Fields[:0]}
	e.heads = append(e.heads, h)
}

func (e *Env) getOut() []byte {
	n := len(e.outs)
	if n == 0 {
		return make([]byte, 0, 4<<10)
	}
	b := e.outs[n-1]
	e.outs = e.outs[:n-1]
	return b
}

func (e *Env) putOut(b []byte) {
	if cap(b) > 0 && cap(b) <= 2*MaxOutput && len(e.outs) < keptOuts {
		e.outs = append(e.outs, b[:0])
	}
}
