package sim

import (
	"container/heap"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net/netip"
	"time"
)

// Epoch is the calendar time at which every world begins.
var Epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// World is one simulation: the clock, the randomness, the network and what is
// to happen next. It belongs to one goroutine.
type World struct {
	Weather Weather
	Rand    *rand.Rand

	now       time.Duration
	serial    uint64
	agenda    agenda
	pollers   []*Poller
	listeners map[netip.AddrPort][]*socket
	streams   []*socket // the connecting side of each connection, for faults
	steps     int
	digest    uint64
	log       io.Writer
}

// Weather says how the network behaves.
type Weather struct {
	// Latency is one way, plus up to Jitter.
	Latency, Jitter time.Duration
	// Segment is the most bytes that travel in one piece.
	Segment int
	// Window is what a receiver holds unread; Buffer what a sender holds unsent.
	Window, Buffer int
	// Lossy receivers forget what they haven't read when a reset comes.
	Lossy bool
	// Spurious is how often in 100 turns a socket reports for no reason.
	Spurious int
	// Backlog is how many connections wait to be accepted.
	Backlog int
}

// New makes a world. log may be nil; it gets a line for each thing that happens.
func New(seed uint64, weather Weather, log io.Writer) *World {
	return &World{
		Weather:   weather,
		Rand:      rand.New(rand.NewPCG(seed, 0x7475_6c6c_65)),
		listeners: make(map[netip.AddrPort][]*socket),
		log:       log,
	}
}

// Now is the virtual time.
func (w *World) Now() time.Duration { return w.now }

// Wall is the virtual calendar.
func (w *World) Wall() time.Time { return Epoch.Add(w.now) }

// Digest is a hash of all that has happened: the same for the same run.
func (w *World) Digest() uint64 { return w.digest }

// Steps is how many things have happened.
func (w *World) Steps() int { return w.steps }

// note writes down that something happened.
func (w *World) note(format string, args ...any) {
	line := fmt.Appendf(nil, "%12s ", w.now)
	line = fmt.Appendf(line, format, args...)
	h := fnv.New64a()
	var before [8]byte
	for i := range before {
		before[i] = byte(w.digest >> (8 * i))
	}
	h.Write(before[:])
	h.Write(line)
	w.digest = h.Sum64()
	if w.log != nil {
		w.log.Write(append(line, '\n'))
	}
}

// Note writes a line of a program's own into the record.
func (w *World) Note(format string, args ...any) { w.note(format, args...) }

// event is something that will happen.
type event struct {
	at     time.Duration
	serial uint64
	do     func()
}

// agenda is a heap of events by time, then by when they were planned.
type agenda []event

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	if a[i].at != a[j].at {
		return a[i].at < a[j].at
	}
	return a[i].serial < a[j].serial
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(e any)   { *a = append(*a, e.(event)) }
func (a *agenda) Pop() any {
	last := len(*a) - 1
	e := (*a)[last]
	(*a)[last] = event{}
	*a = (*a)[:last]
	return e
}

// At makes something happen at a time, or now if that has passed.
func (w *World) At(at time.Duration, do func()) {
	w.serial++
	heap.Push(&w.agenda, event{max(at, w.now), w.serial, do})
}

// After is At, that much later.
func (w *World) After(d time.Duration, do func()) { w.At(w.now+d, do) }

// Run lets things happen until that time, or until nothing is planned, or until
// done (which may be nil) says so. It reports false when there were so many
// that somebody must be going round in circles.
func (w *World) Run(until time.Duration, maxSteps int, done func() bool) bool {
	for n := 0; len(w.agenda) > 0 && w.agenda[0].at <= until; n++ {
		if n > maxSteps {
			return false
		}
		if done != nil && done() {
			return true
		}
		e := heap.Pop(&w.agenda).(event)
		w.now = e.at
		w.steps++
		e.do()
	}
	if done == nil {
		w.now = max(w.now, until)
	}
	return true
}

// chance is true in percent of 100 cases.
func (w *World) chance(percent int) bool { return percent > 0 && w.Rand.IntN(100) < percent }

// Steps of TLS handshakes: the mtls.Runner of proxies in this world. Each
// computation takes its time on another processor and is run whole, one at a
// time, between two turns of loops.

// Run plans a computation.
func (w *World) runLater(compute func()) {
	w.After(time.Duration(w.Rand.Int64N(int64(2*time.Millisecond))), compute)
}

// Steps is the mtls.Runner of a world.
type Steps struct{ World *World }

// Run runs the computation a little later.
func (s Steps) Run(compute func()) { s.World.runLater(compute) }
