package h2

import (
	"sync"
	"sync/atomic"
	"time"

	wire "tulle.dev/tulle/internal/wire/h2"
)

// Stock bounds what all HTTP/2 connections of a proxy hold for peers that don't
// take it: closed windows hold it up at no cost to the peer, on any number of
// streams. Any loop may use it; the zero value is ready.
type Stock struct {
	// Limit is how many bytes may be held; 0 is MaxHeld.
	Limit   int64
	total   atomic.Int64
	mu      sync.Mutex // of changes of members
	members atomic.Pointer[[]*member]
}

// member is one loop's part in a Stock.
type member struct {
	load  atomic.Int64
	asked atomic.Bool
	wake  func()
}

const (
	// MaxHeld is a Stock's Limit: above it whoever holds most for longest loses it.
	// CVE-2019-9517, CVE-2026-49975, on many connections.
	MaxHeld = 256 << 20
	// scarceBuffer is SendBuffer while more than half of that is held.
	scarceBuffer = 16 << 10
	// behind is what whoever writes to a stream is taken to hold when that has no
	// room: a buffer of the loop.
	behind = 64 << 10
	// lot is how much a loop's part may change before the others are told.
	lot = 64 << 10
)

// Join makes the loop's connections count. wake is called from any goroutine when
// the loop is to call Relieve.
func (e *Env) Join(s *Stock, wake func()) {
	e.stock, e.share = s, &member{wake: wake}
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*member
	if old := s.members.Load(); old != nil {
		list = append(list, *old...)
	}
	list = append(list, e.share)
	s.members.Store(&list)
}

// Held is how many bytes the loop's connections hold for their peers.
func (e *Env) Held() int { return e.load }

// Settle tells the other loops what this one's connections hold, and reports
// whether all together hold too much: then Relieve is to be called. It is called
// whenever a connection has been flushed.
func (e *Env) Settle() bool {
	s := e.stock
	if s == nil {
		return false
	}
	if d := e.load - e.told; d >= lot || d <= -lot || d != 0 && e.load == 0 {
		e.publish()
	}
	total, limit := s.total.Load(), s.limit()
	e.scarce = total > limit/2
	return total > limit
}

func (s *Stock) limit() int64 {
	if s.Limit > 0 {
		return s.Limit
	}
	return MaxHeld
}

func (e *Env) publish() {
	e.stock.total.Add(int64(e.load - e.told))
	e.share.load.Store(int64(e.load))
	e.told = e.load
}

// Relieve ends what holds most for longest, if the loop is the one that holds
// most, and wakes that one otherwise. It returns the connection, whose owner has
// events to Poll; call it until it returns nil.
func (e *Env) Relieve() *Conn {
	e.publish()
	e.share.asked.Store(false)
	if e.stock.total.Load() <= e.stock.limit() {
		return nil
	}
	most := e.share
	for _, m := range *e.stock.members.Load() {
		if m.load.Load() > most.load.Load() {
			most = m
		}
	}
	if most != e.share {
		if !most.asked.Swap(true) {
			most.wake()
		}
		return nil
	}
	var worst *Conn
	for c, top := e.laden, int64(-1); c != nil; c = c.nextLaden {
		if n := burden(c.queued, e.Now-c.times.moved); n > top {
			worst, top = c, n
		}
	}
	if worst != nil {
		worst.relieve()
	}
	return worst
}

// burden is what is held times how long nothing has moved, and a second more:
// that something moves a little doesn't excuse who holds much.
func burden(bytes int, since time.Duration) int64 {
	return int64(bytes) * int64((since+time.Second)/time.Millisecond)
}

// relieve ends a client's connection; of one that many clients share, the worst
// of its streams.
func (c *Conn) relieve() {
	if !c.cfg.Shared {
		c.fatal(wire.ConnectionError{Code: wire.EnhanceYourCalm, Reason: "too much waits to be taken"})
		return
	}
	var worst *Stream
	for s, top := c.firstOpen, int64(-1); s != nil; s = s.nextOpen {
		if n := burden(s.queued, c.env.Now-s.stall.since); s.queued > 0 && n > top {
			worst, top = s, n
		}
	}
	if worst != nil {
		c.giveUp(worst)
	}
}

// giveUp resets a stream that its peer doesn't let move.
func (c *Conn) giveUp(s *Stream) {
	c.sendReset(s.ID, wire.Cancel)
	if !s.done {
		s.code = wire.Cancel
		c.note(s, noteReset)
	}
	c.close(s)
}

// waits and waited count the streams that have something to send.
func (c *Conn) waits() {
	if c.waiting++; c.waiting == 1 {
		e := c.env
		if c.nextLaden = e.laden; e.laden != nil {
			e.laden.prevLaden = c
		}
		e.laden = c
	}
}

func (c *Conn) waited() {
	if c.waiting--; c.waiting > 0 {
		return
	}
	if c.prevLaden == nil {
		c.env.laden = c.nextLaden
	} else {
		c.prevLaden.nextLaden = c.nextLaden
	}
	if c.nextLaden != nil {
		c.nextLaden.prevLaden = c.prevLaden
	}
	c.nextLaden, c.prevLaden = nil, nil
}

// watch has the owner told when bytes of the stream leave; unwatch ends that.
func (c *Conn) watch(s *Stream) {
	if !s.watched && !s.closed {
		s.watched = true
		c.env.load += behind
	}
}

func (c *Conn) unwatch(s *Stream) {
	if s.watched {
		s.watched = false
		c.env.load -= behind
	}
}
