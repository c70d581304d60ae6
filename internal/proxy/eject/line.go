package eject

import (
	"sync"
	"sync/atomic"
)

// maxLine bounds those that wait for a connection to one service port.
const maxLine = 16 << 10

// line is who waits for a connection because as many as may be are there: who came
// first is served first, whichever loop it is on.
type line struct {
	n           atomic.Int32
	mu          sync.Mutex
	first, last *Place
	yielders    []func()
	turn        int
	asked       int64 // when somebody was last asked to make room
}

// Place is a place in the line for connections. It is ready for use when Wake is
// set, and may be used again.
type Place struct {
	// Wake is called, from any goroutine, when there is a connection to be made; it
	// must not block.
	Wake func()

	// Under the line's mu.
	in, granted bool
	since       int64
	hold        Hold
	prev, next  *Place
}

// Join takes a place in the line. When granted, a connection may be made at once.
// Neither is true when the line is too long.
func (s *Service) Join(p *Place, now int64) (granted, waits bool) {
	l := &s.line
	l.mu.Lock()
	defer l.mu.Unlock()
	// It is counted before the limit is looked at: whoever gives something back
	// after that finds it here.
	if l.n.Add(1) > maxLine {
		l.n.Add(-1)
		return false, false
	}
	if l.first == nil {
		if h, ok := s.Connections.Take(s.Policy().Limits.Connections); ok {
			l.n.Add(-1)
			p.hold, p.granted = h, true
			return true, true
		}
	}
	p.in, p.since, p.prev, p.next = true, now, l.last, nil
	if l.last == nil {
		l.first = p
	} else {
		l.last.next = p
	}
	l.last = p
	return false, true
}

// out takes a place out. The caller has the lock.
func (l *line) out(p *Place) {
	if p.prev == nil {
		l.first = p.next
	} else {
		p.prev.next = p.next
	}
	if p.next == nil {
		l.last = p.prev
	} else {
		p.next.prev = p.prev
	}
	p.in, p.prev, p.next = false, nil, nil
	l.n.Add(-1)
}

// Quit gives a place up. It reports false when it was no longer in the line: then
// what was granted is Granted's.
func (s *Service) Quit(p *Place) bool {
	s.line.mu.Lock()
	defer s.line.mu.Unlock()
	if !p.in {
		return false
	}
	s.line.out(p)
	return true
}

// Granted is what a place got, once.
func (s *Service) Granted(p *Place) (Hold, bool) {
	s.line.mu.Lock()
	defer s.line.mu.Unlock()
	if !p.granted {
		return Hold{}, false
	}
	h := p.hold
	p.hold, p.granted = Hold{}, false
	return h, true
}

// Queued reports whether anybody waits for a connection.
func (s *Service) Queued() bool { return s.line.n.Load() > 0 }

// First is how long the first in the line has waited, and whether that is p.
func (s *Service) First(p *Place, now int64) (waited int64, own bool) {
	s.line.mu.Lock()
	defer s.line.mu.Unlock()
	f := s.line.first
	if f == nil {
		return 0, false
	}
	return now - f.since, f == p
}

// Serve lets those in the line have what the limit allows now. It is called when a
// connection has ended.
func (s *Service) Serve() {
	if !s.Queued() {
		return
	}
	l := &s.line
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.first != nil {
		h, ok := s.Connections.Take(s.Policy().Limits.Connections)
		if !ok {
			return
		}
		p := l.first
		l.out(p)
		p.hold, p.granted = h, true
		p.Wake()
	}
}

// Yields adds a loop that can be asked to let go of a connection that carries
// requests, as soon as they are over: f is called from any goroutine and must not
// block.
func (s *Service) Yields(f func()) {
	s.line.mu.Lock()
	s.line.yielders = append(s.line.yielders, f)
	s.line.mu.Unlock()
}

// AskYield asks one loop after the other, each time the next, not more often than
// pause, in nanoseconds.
func (s *Service) AskYield(now, pause int64) {
	l := &s.line
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.yielders) == 0 || l.asked != 0 && now < l.asked+pause {
		return
	}
	l.asked = now
	l.turn = (l.turn + 1) % len(l.yielders)
	l.yielders[l.turn]()
}
