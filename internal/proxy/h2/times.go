package h2

import (
	"math"
	"time"

	wire "tulle.dev/tulle/internal/wire/h2"
)

// Never is the Deadline of a connection that waits for nothing.
const Never time.Duration = math.MaxInt64

// times is what the connection's deadlines follow from.
type times struct {
	began     time.Duration
	lastHeard time.Duration // the peer's last byte
	lastWork  time.Duration // a stream was opened or given back
	block     time.Duration // the field block that hasn't ended began
	check     time.Duration // stalls are to be looked for, while something waits
	pinged    time.Duration // a PING is unanswered since; 0: none is
	moved     time.Duration // bytes of a body were sent, or began to wait
}

// stall is when a stream began to wait, and how many bytes have left since.
type stall struct {
	since time.Duration
	moved int
}

func (t *times) init(now time.Duration) { t.began, t.lastHeard, t.lastWork = now, now, now }

func (t *times) heard(now time.Duration) { t.lastHeard = now }

func (t *times) active(now time.Duration) { t.lastWork = now }

func (t *times) blockBegins(now time.Duration) { t.block = now }

// silent is since when the peer has had something to say and hasn't.
func (t *times) silent() time.Duration { return max(t.lastHeard, t.lastWork) }

// stallBegins notes that a stream has something to send that has to wait.
func (t *times) stallBegins(c *Conn, s *Stream) {
	s.stall = stall{since: c.env.Now}
	if c.waiting == 1 { // the first
		t.check = c.env.Now + c.cfg.StallTime
		t.moved = c.env.Now
	}
}

// Deadline is when Tick wants to be called if nothing happens until then.
func (c *Conn) Deadline() time.Duration {
	t := &c.times
	d := Never
	if c.err != nil || c.closed {
		return d
	}
	if !c.peerSettings || c.settingsUnread {
		d = min(d, t.began+SettingsTime)
	}
	if c.block.open {
		d = min(d, t.block+MaxHeadTime)
	}
	if c.waiting > 0 && c.cfg.StallTime > 0 {
		d = min(d, t.check)
	}
	if c.drain.at != 0 {
		d = min(d, c.drain.at)
	}
	if c.cfg.PingAfter > 0 && c.slots > 0 {
		if t.pinged != 0 {
			d = min(d, t.pinged+c.cfg.PingTime)
		} else {
			d = min(d, t.silent()+c.cfg.PingAfter)
		}
	}
	if c.cfg.IdleTime > 0 && c.slots == 0 && !c.drain.begun {
		d = min(d, t.lastWork+c.cfg.IdleTime)
	}
	return d
}

// Tick does what the time that has passed asks for.
func (c *Conn) Tick() {
	now, t := c.env.Now, &c.times
	if c.err != nil || c.closed {
		return
	}
	switch {
	case (!c.peerSettings || c.settingsUnread) && now >= t.began+SettingsTime:
		c.fatal(wire.ConnectionError{Code: wire.SettingsTimeout, Reason: "no SETTINGS, or no acknowledgement of ours"})
		return
	case c.block.open && now >= t.block+MaxHeadTime:
		c.fatal(wire.ConnectionError{Code: wire.EnhanceYourCalm, Reason: "field block takes too long"})
		return
	}
	c.tickDrain(now)
	c.tickPing(now)
	if c.err == nil && c.cfg.IdleTime > 0 && c.slots == 0 && !c.drain.begun && now >= t.lastWork+c.cfg.IdleTime {
		c.Drain()
	}
	if c.waiting > 0 && c.err == nil && c.cfg.StallTime > 0 && now >= t.check {
		c.checkStalls(now)
	}
}

// tickPing asks a silent peer with open streams whether it lives.
func (c *Conn) tickPing(now time.Duration) {
	t := &c.times
	if c.cfg.PingAfter <= 0 || c.slots == 0 {
		t.pinged = 0
		return
	}
	if t.pinged != 0 {
		if t.lastHeard > t.pinged {
			t.pinged = 0
		} else if now >= t.pinged+c.cfg.PingTime {
			c.fatal(wire.ConnectionError{Code: wire.NoError, Reason: "PING is not answered"})
			return
		}
	}
	if t.pinged == 0 && now >= t.silent()+c.cfg.PingAfter {
		t.pinged = now
		c.grow()
		c.out = wire.AppendPing(c.out, false, pingAlive)
	}
}

// The payloads of our PINGs.
var (
	pingAlive = [8]byte{'a', 'l', 'i', 'v', 'e'}
	pingDrain = [8]byte{'d', 'r', 'a', 'i', 'n'}
)

// pong takes the answer to a PING.
func (c *Conn) pong(data [8]byte) {
	switch data {
	case pingAlive:
		c.times.pinged = 0
	case pingDrain:
		c.finishDrain()
	}
}

// checkStalls resets the streams that the peer doesn't let move, and ends a
// connection on which nothing moves.
func (c *Conn) checkStalls(now time.Duration) {
	t := &c.times
	if blocked := c.sendWindow <= 0 || c.ready.first != nil; blocked && now-t.moved >= c.cfg.StallTime {
		c.fatal(wire.ConnectionError{Code: wire.EnhanceYourCalm, Reason: "nothing can be sent"})
		return
	}
	t.check = now + c.cfg.StallTime/3
	for s, next := c.firstOpen, (*Stream)(nil); s != nil; s = next {
		next = s.nextOpen
		if s.queued == 0 || now-s.stall.since < c.cfg.StallTime {
			continue
		}
		if s.stall.moved > 0 && s.stall.moved >= c.cfg.StallBytes {
			s.stall = stall{since: now}
			continue
		}
		c.giveUp(s)
	}
}
