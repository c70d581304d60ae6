package record

import "sync/atomic"

// ringSize is how many bytes of lines of one loop may wait to be written: some
// hundred lines. It is taken when the loop writes its first line.
const ringSize = 256 << 10

// ring is lines on their way from one loop, which alone calls put, to the writer,
// which alone calls waiting's slices and took.
type ring struct {
	memory atomic.Pointer[[ringSize]byte]
	in     atomic.Uint64 // bytes put in so far
	out    atomic.Uint64 // bytes taken out so far
}

// put adds a line, or reports false when there is no room for all of it.
func (r *ring) put(line []byte) bool {
	m := r.memory.Load()
	if m == nil {
		m = new([ringSize]byte)
		r.memory.Store(m)
	}
	at := r.in.Load()
	if uint64(len(line)) > ringSize-(at-r.out.Load()) {
		return false
	}
	n := copy(m[at%ringSize:], line)
	copy(m[:], line[n:])
	r.in.Store(at + uint64(len(line)))
	return true
}

// used is how many bytes wait.
func (r *ring) used() int { return int(r.in.Load() - r.out.Load()) }

// waiting returns what waits, always whole lines, in two pieces; they are good
// until took.
func (r *ring) waiting() (a, b []byte) {
	n := r.used()
	if n == 0 {
		return nil, nil
	}
	m, at := r.memory.Load(), int(r.out.Load()%ringSize)
	a = m[at:min(at+n, ringSize)]
	return a, m[:n-len(a)]
}

// took makes room again.
func (r *ring) took(n int) { r.out.Add(uint64(n)) }
