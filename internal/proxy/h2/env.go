package h2

import (
	"time"

	"tulle.dev/tulle/internal/proxy/spare"
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
	streams spare.List[Stream]
	heads   spare.List[Head]
	chunks  spare.List[chunk]
	outs    [][]byte
	marks   []mark
	crumbs  []mark
	lower   []byte

	stock  *Stock // nil: nothing is counted together
	share  *member
	load   int   // bytes that the connections hold for their peers
	told   int   // of that, what the stock knows
	laden  *Conn // the connections that hold some, linked through nextLaden
	scarce bool  // all hold more than half of what they may
}

// How much free memory is kept for good, and while it may be of use: what the
// streams of a busy loop take, and the chunks of 64 streams that have much to send.
const (
	keptStreams, maxStreams = 64, 1024
	keptHeads, maxHeads     = 64, 1024
	keptChunks, maxChunks   = 64, 64 * SendBuffer / chunkSize

	keptOuts  = 8
	keptArena = 4 << 10
)

// chunk is a piece of what waits in a stream to be sent.
type chunk struct {
	next *chunk
	r, w int
	b    [chunkSize]byte
}

const chunkSize = 4 << 10

func (e *Env) getChunk() *chunk {
	e.load += chunkSize
	k := e.chunks.Get()
	if k == nil {
		return new(chunk)
	}
	k.next, k.r, k.w = nil, 0, 0
	return k
}

func (e *Env) putChunk(k *chunk) {
	e.load -= chunkSize
	e.chunks.Put(k, maxChunks)
}

// Surplus reports whether there is more free memory than is kept for good; then
// Trim, called a second later or so, gives up what wasn't needed since the last
// time.
func (e *Env) Surplus() bool {
	return e.chunks.Len() > keptChunks || e.streams.Len() > keptStreams || e.heads.Len() > keptHeads
}

// Trim gives up surplus memory.
func (e *Env) Trim() {
	e.chunks.Trim(keptChunks)
	e.streams.Trim(keptStreams)
	e.heads.Trim(keptHeads)
}

func (e *Env) getStream() *Stream {
	if s := e.streams.Get(); s != nil {
		return s
	}
	return new(Stream)
}

func (e *Env) putStream(s *Stream) {
	*s = Stream{}
	e.streams.Put(s, maxStreams)
}

// GetHead returns an empty head.
func (e *Env) GetHead() *Head {
	if h := e.heads.Get(); h != nil {
		return h
	}
	return &Head{arena: make([]byte, 0, 512), Fields: make([]Field, 0, 16)}
}

// PutHead takes a head back: one of an event, once its owner has done with it.
func (e *Env) PutHead(h *Head) {
	if h == nil {
		return
	}
	if h.conn != nil {
		h.conn.heldHeads -= h.held
	}
	if cap(h.arena) > keptArena {
		return
	}
	clear(h.Fields)
	*h = Head{arena: h.arena[:0], Fields: h.Fields[:0]}
	e.heads.Put(h, maxHeads)
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
