package limit

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// MaxKeys bounds the combinations of one limit that have a bucket of their own.
	// More than that at once share one.
	MaxKeys = 10_000
	// heads is a power of two.
	heads = 2048
	// sweep is how many heads a newcomer looks through for room.
	sweep = 64
)

// key is a combination: a hash of 128 bits with seeds that nobody outside knows,
// so that no two are ever the same.
type key struct{ a, b uint64 }

var seedA, seedB = maphash.MakeSeed(), maphash.MakeSeed()

func keyOf(b []byte) key { return key{maphash.Bytes(seedA, b), maphash.Bytes(seedB, b)} }

// keyed is the bucket of one combination, in a chain.
type keyed struct {
	bucket
	key  key
	next atomic.Pointer[keyed]
}

// table holds the buckets of a limit's combinations. Looking up takes no lock; a
// combination that comes for the first time does.
type table struct {
	heads [heads]atomic.Pointer[keyed]
	rest  bucket // for those that found no room
	// over counts the requests that met rest.
	over atomic.Uint64

	mu   sync.Mutex
	n    int
	hand int // where the next sweep begins
}

// get returns a combination's bucket.
func (t *table) get(k key, now time.Duration) *bucket {
	head := &t.heads[k.a%heads]
	for e := head.Load(); e != nil; e = e.next.Load() {
		if e.key == k {
			return &e.bucket
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for e := head.Load(); e != nil; e = e.next.Load() {
		if e.key == k {
			return &e.bucket
		}
	}
	if t.n >= MaxKeys {
		t.sweep(now)
	}
	if t.n >= MaxKeys {
		t.over.Add(1)
		return &t.rest
	}
	e := &keyed{key: k}
	e.next.Store(head.Load())
	head.Store(e)
	t.n++
	return &e.bucket
}

// sweep takes out some buckets that are full: a new one would be as full. Whoever
// has just found one may still take from it, a request that isn't counted.
func (t *table) sweep(now time.Duration) {
	for range sweep {
		t.hand = (t.hand + 1) % heads
		at := &t.heads[t.hand]
		for e := at.Load(); e != nil; e = at.Load() {
			if e.idle(now) {
				at.Store(e.next.Load())
				t.n--
				continue
			}
			at = &e.next
		}
	}
}
