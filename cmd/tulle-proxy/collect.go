package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"time"
)

const (
	// collectAt has garbage collected when the heap has grown by that many percent,
	// at least to half of the 4 MB that it otherwise does: a request leaves none or
	// little behind, so that memory costs more than the time. GOGC says otherwise.
	collectAt = 50
	// collectBusy is the same while garbage comes fast: a TLS handshake leaves 45 KB
	// behind, and a storm of them would be collected after every twentieth, for a
	// tenth of its CPU. The heap grows to 8 MB then.
	collectBusy = 200
	// busyCycles collections within busyWindow mean that it comes fast.
	busyCycles = 32
	busyWindow = time.Second
	// calmWindow is how long there must be few collections, less than one a second,
	// until it comes slowly again. Then memory is given back.
	calmWindow = 5 * time.Second
)

// collector has garbage collected sooner or later, as fast as it comes.
type collector struct {
	set func(percent int) // and give back, when it is collectAt

	mu     sync.Mutex
	cycles int // collections in the current window
	since  time.Time
	busy   bool
}

// collect begins to care for collections, unless the environment does.
func collect() {
	if os.Getenv("GOGC") != "" {
		return
	}
	debug.SetGCPercent(collectAt)
	c := &collector{set: func(percent int) {
		debug.SetGCPercent(percent)
		if percent == collectAt {
			debug.FreeOSMemory()
		}
	}}
	c.watch(&cycle{c})
}

// cycle is garbage: each collection finds it, which is how it is heard of.
type cycle struct{ c *collector }

func (c *collector) watch(g *cycle) {
	runtime.SetFinalizer(g, func(g *cycle) {
		c.collected(time.Now())
		c.watch(g)
	})
}

// collected is called after each collection.
func (c *collector) collected(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy {
		c.cycles++
		return
	}
	if now.Sub(c.since) > busyWindow {
		c.since, c.cycles = now, 0
	}
	if c.cycles++; c.cycles >= busyCycles {
		c.busy, c.cycles = true, 0
		c.set(collectBusy)
		time.AfterFunc(calmWindow, c.look)
	}
}

// look sees whether it is calm again.
func (c *collector) look() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cycles >= int(calmWindow/time.Second) {
		c.cycles = 0
		time.AfterFunc(calmWindow, c.look)
		return
	}
	c.busy, c.cycles = false, 0
	c.set(collectAt)
}
