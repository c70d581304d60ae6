package guard

import (
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxLines bounds the lines that are written in a second: refusals, audits and
	// what new rules end, each.
	maxLines = 10
	// queued bounds the lines that wait for a slow log; what is over is counted.
	queued = 64
	// maxText bounds what is written of a value from outside, in bytes.
	maxText = 256
)

// Log writes what was refused. Its methods are safe for concurrent use and don't
// block.
type Log struct {
	log       *slog.Logger
	refused   window
	audited   window
	withdrawn window // what new rules ended
	lines     chan func()
	started   atomic.Bool
	running   sync.WaitGroup
	stop      chan struct{}
	ended     sync.Once
}

// NewLog makes a Log. Until Start lines are written by whoever has them.
func NewLog(l *slog.Logger) *Log {
	return &Log{log: l, lines: make(chan func(), queued), stop: make(chan struct{})}
}

// Start has lines written by a goroutine from now on, so that a log that is slow
// holds up no loop.
func (l *Log) Start() {
	if l.started.Swap(true) {
		return
	}
	l.running.Go(func() {
		for {
			select {
			case write := <-l.lines:
				write()
			case <-l.stop:
				return
			}
		}
	})
}

// Stop ends the goroutine; what waits isn't written. It may be called again.
func (l *Log) Stop() {
	l.ended.Do(func() { close(l.stop) })
	l.running.Wait()
}

func (l *Log) write(w *window, f func()) {
	if !l.started.Load() {
		f()
		return
	}
	select {
	case l.lines <- f:
	default:
		w.missed.Add(1)
	}
}

// window counts what happens in one second.
type window struct {
	second, n atomic.Int64
	missed    atomic.Uint64
}

// take reports whether one more may be in this second.
func (w *window) take(now time.Duration, limit int64) bool {
	s := int64(now / time.Second)
	if old := w.second.Load(); old != s && w.second.CompareAndSwap(old, s) {
		w.n.Store(0) // another loop may be a little late or early: a line more or less
	}
	if w.n.Add(1) <= limit {
		return true
	}
	w.missed.Add(1)
	return false
}

// plain makes a value from outside fit for a line: short, printable ASCII.
func plain(b []byte) string {
	cut := len(b) > maxText
	if cut {
		b = b[:maxText]
	}
	s := strconv.QuoteToASCII(string(b))
	s = s[1 : len(s)-1]
	if cut {
		s += "..."
	}
	return s
}

// Handshake writes that a peer was not believed who it is; err says why.
func (l *Log) Handshake(now time.Duration, service, address, reason string, err error) {
	if !l.refused.take(now, maxLines) {
		return
	}
	missed := l.refused.missed.Swap(0)
	l.write(&l.refused, func() {
		l.log.Warn("peer refused", "service", service, "address", address, "reason", reason, "error", plain([]byte(err.Error())), "unlogged", missed)
	})
}
