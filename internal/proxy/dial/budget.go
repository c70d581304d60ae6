package dial

import (
	"sync"
	"sync/atomic"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/meter"
)

// Window is the time of which a Budget counts the requests. It moves on in whole
// seconds, so that what is counted is between nine and ten seconds old at most.
const Window = 10 * time.Second

const (
	// slots is a power of two that holds the window and a second to spare.
	slots = 16
	// seconds is how many slots the window has.
	seconds = int64(Window / time.Second)
)

// Budget bounds the tries after the first, and copies, to one destination. All
// loops of a proxy share it: each request costs one atomic addition, and a
// further try one more with a look at the slots.
//
// Its error: each loop counts by its own clock, of which a turn may be some
// milliseconds late, so that a request near the turn of a second may count for
// the one beside it; and loops that begin a new second at the same moment may
// each forget what another has just counted there, one request for each loop and
// second. The number of further tries is exact: a try is counted before it is
// made, and taken back when it was one too many.
type Budget struct {
	slots [slots]slot
}

// slot counts one second: its number in the upper half of each word, so that an
// old count is told from a new one.
type slot struct{ requests, tries atomic.Uint64 }

const countBits = 32

// add counts n in a word for a second, and returns the second's count. What is
// left of an earlier second is forgotten.
func add(w *atomic.Uint64, second int64, n uint64) uint64 {
	stamp := uint64(uint32(second)) << countBits
	if w.Load()&^(1<<countBits-1) == stamp {
		return uint32Of(w.Add(n))
	}
	for {
		old := w.Load()
		if old&^(1<<countBits-1) == stamp {
			return uint32Of(w.Add(n))
		}
		if w.CompareAndSwap(old, stamp|n) {
			return n
		}
	}
}

func uint32Of(w uint64) uint64 { return w & (1<<countBits - 1) }

// count reads a word for a second.
func count(w *atomic.Uint64, second int64) uint64 {
	v := w.Load()
	if v>>countBits != uint64(uint32(second)) {
		return 0
	}
	return uint32Of(v)
}

func secondOf(now time.Duration) int64 { return int64(now/time.Second) + 1 }

// Request counts a request, at now as a loop counts.
func (b *Budget) Request(now time.Duration) {
	s := secondOf(now)
	add(&b.slots[s%slots].requests, s, 1)
}

// Try reports whether a further try may be made now, and counts it.
func (b *Budget) Try(now time.Duration, allowed policy.Budget) bool {
	s := secondOf(now)
	mine := &b.slots[s%slots].tries
	this := add(mine, s, 1)
	if this <= uint64(allowed.Min) {
		return true
	}
	var requests, tries uint64
	for i := s - seconds + 1; i <= s; i++ {
		if i > 0 {
			requests += count(&b.slots[i%slots].requests, i)
			tries += count(&b.slots[i%slots].tries, i)
		}
	}
	if tries*100 <= requests*uint64(allowed.Percent) {
		return true
	}
	b.Return(now)
	return false
}

// Return takes back a try that wasn't made.
func (b *Budget) Return(now time.Duration) {
	s := secondOf(now)
	w := &b.slots[s%slots].tries
	for {
		old := w.Load()
		if old>>countBits != uint64(uint32(s)) || uint32Of(old) == 0 || w.CompareAndSwap(old, old-1) {
			return
		}
	}
}

// spent is how much of the budget is used now: requests and further tries of the
// window.
func (b *Budget) spent(now time.Duration) (requests, tries uint64) {
	s := secondOf(now)
	for i := max(s-seconds+1, 1); i <= s; i++ {
		requests += count(&b.slots[i%slots].requests, i)
		tries += count(&b.slots[i%slots].tries, i)
	}
	return requests, tries
}

// Budgets are the budgets of a proxy's destinations. Any goroutine may use it;
// loops keep what it gives them.
type Budgets struct {
	mu   sync.Mutex
	list map[budgetKey]*Budget
}

type budgetKey struct {
	direction meter.Direction
	key       string
}

// Of returns the budget of a destination in one direction, always the same one.
func (b *Budgets) Of(d meter.Direction, key string) *Budget {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := budgetKey{d, key}
	if b.list == nil {
		b.list = make(map[budgetKey]*Budget)
	}
	if b.list[k] == nil {
		b.list[k] = &Budget{}
	}
	return b.list[k]
}
