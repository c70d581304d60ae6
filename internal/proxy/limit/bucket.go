package limit

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// bucket is a token bucket in one word: the theoretical arrival time of the
// generic cell rate algorithm, which is when the bucket will be full again. It
// never gives more than it has, however many loops take from it at once. A loop
// whose clock is behind another's, by a turn of a millisecond or so, may have to
// wait that long for a token that is there; the next request gets it.
type bucket struct{ full atomic.Int64 }

// tick is the unit of a bucket's time: 1/64 of a nanosecond, so that the time of
// one request is rounded by less than one part in 10,000 up to ten million
// requests a second. It wraps around after four years, which differences don't
// mind.
const tickBits = 6

func ticks(d time.Duration) int64 { return int64(d) << tickBits }

// rate is how fast a bucket fills and how much it holds.
type rate struct {
	interval int64 // ticks for one request; 0: nothing is ever allowed
	depth    int64 // ticks for all that the bucket holds
}

// maxDepth bounds the time in which a bucket fills, so that sums don't overflow.
const maxDepth = int64(365*24*time.Hour) << tickBits

// rateOf is requests per time, and burst at once, times a share in millionths. At
// least one request is held.
func rateOf(requests uint32, per time.Duration, burst uint32, share uint64) rate {
	if requests == 0 || share == 0 || per <= 0 {
		return rate{}
	}
	// per / (requests · share), in 128 bits.
	hi, lo := bits.Mul64(uint64(per), 1_000_000<<tickBits)
	interval := maxDepth
	if n := uint64(requests) * share; hi < n {
		q, _ := bits.Div64(hi, lo, n)
		interval = int64(min(max(q, 1), uint64(maxDepth)))
	}
	tokens := max(uint64(burst)*share/1_000_000, 1)
	depth := maxDepth
	if hi, lo := bits.Mul64(tokens, uint64(interval)); hi == 0 && lo < uint64(maxDepth) {
		depth = int64(lo)
	}
	return rate{interval, depth}
}

// take takes a token, or says how long it takes until there is one.
func (b *bucket) take(r rate, now time.Duration) (wait time.Duration, ok bool) {
	at := ticks(now)
	for {
		old := b.full.Load()
		full := old
		if full-at < 0 {
			full = at
		}
		full += r.interval
		if late := full - at - r.depth; late > 0 || r.interval == 0 {
			// Another loop's clock may be ahead by a little.
			return time.Duration(min(late, r.interval) >> tickBits), false
		}
		if b.full.CompareAndSwap(old, full) {
			return 0, true
		}
	}
}

// give puts a token back.
func (b *bucket) give(r rate) { b.full.Add(-r.interval) }

// left is how many tokens there are, and until when the bucket is full.
func (b *bucket) left(r rate, now time.Duration) (tokens int64, full time.Duration) {
	used := max(b.full.Load()-ticks(now), 0)
	if r.interval == 0 {
		return 0, 0
	}
	return max(r.depth-used, 0) / r.interval, time.Duration(used >> tickBits)
}

// idle reports whether the bucket is full: forgetting it forgets nothing.
func (b *bucket) idle(now time.Duration) bool { return b.full.Load()-ticks(now) <= 0 }
