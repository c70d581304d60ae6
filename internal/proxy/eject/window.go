package eject

import "time"

// buckets is how many parts a window of time has.
const buckets = 10

// window counts what happened in the last Window, by tenths of it. The caller
// has the service's lock.
type window struct {
	list [buckets]bucket
	tick int64 // the newest bucket's number
}

type bucket struct {
	good, bad uint32
	latency   int64 // of the good ones, ns in all
}

// turn makes tick the newest bucket and forgets those that are too old.
func (w *window) turn(tick int64) {
	if tick <= w.tick {
		return
	}
	if tick-w.tick >= buckets {
		*w = window{tick: tick}
		return
	}
	for w.tick < tick {
		w.tick++
		w.list[w.tick%buckets] = bucket{}
	}
}

// add counts in the newest bucket.
func (w *window) add(good, bad uint32, latency int64) {
	b := &w.list[w.tick%buckets]
	b.good += good
	b.bad += bad
	b.latency += latency
}

// sum is all that is in the window.
func (w *window) sum() (b bucket) {
	for i := range w.list {
		b.good += w.list[i].good
		b.bad += w.list[i].bad
		b.latency += w.list[i].latency
	}
	return b
}

// take subtracts what another window, of the same time, holds.
func (w *window) take(other *window) {
	for i := range other.list {
		a, b := &w.list[i], &other.list[i]
		a.good -= min(a.good, b.good)
		a.bad -= min(a.bad, b.bad)
		a.latency -= min(a.latency, b.latency)
	}
}

func (b bucket) n() uint32 { return b.good + b.bad }

// rate is the percentage that went well.
func (b bucket) rate() float64 { return 100 * float64(b.good) / float64(b.n()) }

// average is the mean latency of what went well.
func (b bucket) average() time.Duration {
	if b.good == 0 {
		return 0
	}
	return time.Duration(b.latency / int64(b.good))
}
