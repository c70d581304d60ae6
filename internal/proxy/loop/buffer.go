package loop

import "time"

// Sizes of the buffers a loop hands out. A head is read into a small one; a
// head that doesn't fit, or a stream that fills it, gets a large one.
const (
	SmallBuffer = 4 << 10
	LargeBuffer = 64 << 10
)

// keptBuffers is how many free buffers of each size a loop keeps when it is idle.
const keptBuffers = 4

// trimEvery is how often surplus free buffers are given back.
const trimEvery = time.Second

// freeList keeps buffers of one size for reuse on the same loop.
type freeList struct {
	size int
	free [][]byte
	low  int // the fewest there were since the last trim
}

func (f *freeList) get() []byte {
	n := len(f.free)
	if n == 0 {
		f.low = 0
		return make([]byte, f.size)
	}
	b := f.free[n-1]
	f.free[n-1] = nil
	f.free = f.free[:n-1]
	f.low = min(f.low, n-1)
	return b
}

func (f *freeList) put(b []byte) { f.free = append(f.free, b[:f.size]) }

// trim drops what lay unused since the last time.
func (f *freeList) trim() {
	for drop := min(f.low, len(f.free)-keptBuffers); drop > 0; drop-- {
		f.free[len(f.free)-1] = nil
		f.free = f.free[:len(f.free)-1]
	}
	f.low = len(f.free)
}

// Buffer is a queue of bytes in one piece of memory from its loop: b[r:w].
// While it is held, bytes that were consumed stay where they are, so that
// slices of them stay good and Rewind can bring them back.
type Buffer struct {
	b    []byte
	r, w int
	held bool
}

// Len is how many bytes it holds.
func (b *Buffer) Len() int { return b.w - b.r }

// Bytes returns what it holds. The slice is good until the buffer is next filled.
func (b *Buffer) Bytes() []byte { return b.b[b.r:b.w] }

// Consume takes n bytes off the front.
func (b *Buffer) Consume(n int) { b.r += n }

// Hold keeps everything from now on in its place until Release.
func (b *Buffer) Hold() { b.held = true }

// Release ends Hold.
func (b *Buffer) Release() { b.held = false }

// Held reports whether the buffer is held.
func (b *Buffer) Held() bool { return b.held }

// Mark is a place to Rewind to: good while the buffer is held.
func (b *Buffer) Mark() int { return b.r }

// Rewind takes back what was consumed since the mark.
func (b *Buffer) Rewind(mark int) { b.r = mark }

// Since is how many bytes were consumed since a mark.
func (b *Buffer) Since(mark int) int { return b.r - mark }

// From returns the bytes that were consumed since a mark: good as those of Bytes.
func (b *Buffer) From(mark int) []byte { return b.b[mark:b.r] }

// Extend gives a held buffer that is full other memory of at least that size:
// what lies behind the mark moves there, and the mark becomes 0. What lies before
// it stays in the memory that is returned, for the caller to give to Return.
func (l *Loop) Extend(b *Buffer, mark, size int) []byte {
	var to Buffer
	l.get(&to, size)
	to.r, to.w, to.held = b.r-mark, copy(to.b, b.b[mark:b.w]), b.held
	old := b.b
	*b = to
	return old
}

// get makes sure there is memory, of at least that size.
func (l *Loop) get(b *Buffer, size int) {
	if len(b.b) >= size {
		return
	}
	list := &l.small
	if size > SmallBuffer {
		list = &l.large
	}
	var fresh []byte
	if size > LargeBuffer {
		fresh = make([]byte, size)
	} else {
		fresh = list.get()
	}
	l.lent++
	w := copy(fresh, b.b[:b.w])
	l.give(b.b)
	b.b, b.w = fresh, w
}

// put gives the memory back.
func (l *Loop) put(b *Buffer) {
	l.give(b.b)
	*b = Buffer{}
}

func (l *Loop) give(b []byte) {
	if cap(b) > 0 {
		l.lent--
	}
	switch cap(b) {
	case SmallBuffer:
		l.small.put(b)
	case LargeBuffer:
		l.large.put(b)
	default:
		return // none, or one made for an outsized need
	}
	if !l.trim.On() && len(l.small.free)+len(l.large.free) > 2*keptBuffers {
		l.trim.Set(trimEvery)
	}
}

// Lent is how many buffers are out: none when nothing is under way.
func (l *Loop) Lent() int { return l.lent }

// Lend gives out a buffer of SmallBuffer or LargeBuffer bytes, for what lives on
// the loop; Return takes it back.
func (l *Loop) Lend(size int) []byte {
	l.lent++
	if size <= SmallBuffer {
		return l.small.get()
	}
	return l.large.get()
}

// Return takes a buffer back that Lend gave out, or one that it became.
func (l *Loop) Return(b []byte) { l.give(b) }

// trimmer gives surplus memory back until there is none.
type trimmer struct{ l *Loop }

func (t trimmer) Expire(timer *Timer) {
	t.l.small.trim()
	t.l.large.trim()
	t.l.pipes.trim(t.l)
	if len(t.l.small.free)+len(t.l.large.free) > 2*keptBuffers || len(t.l.pipes.free) > 0 {
		timer.Set(trimEvery)
	}
}
