package l7http

import (
	"time"

	"tulle.dev/tulle/internal/proxy/dial"
)

// This file is how HTTP/2 connections share a limit of connections with those of
// other loops, and to other endpoints. One that carries requests all the time would
// never rest: when others wait longer than a loop's turn, it takes no more for a
// while, and ends when the requests that it carries have.

const (
	// yieldTime is for how long a connection takes no more requests at most. One
	// that still carries some then goes on, for they may take long, and isn't asked
	// again within yieldPause.
	yieldTime  = 100 * time.Millisecond
	yieldPause = time.Second
	// yieldTurn is how long a connection serves its own loop first.
	yieldTurn = 20 * time.Millisecond
)

// waitable returns a connection that an exchange can wait for: one that is being
// made, rather than one that is full and may stay so.
func (m *mux) waitable() (*h2Client, error) {
	var best, making *h2Client // with the fewest that wait
	ready := false
	for _, c := range m.conns {
		if c.attempt.InLine() { // a further one would only wait behind it
			if len(c.waiting) >= maxMuxWaiting {
				return nil, dial.ErrLimit
			}
			return c, nil
		}
		if best == nil || len(c.waiting) < len(best.waiting) {
			best = c
		}
		if ready = ready || c.ready; !c.ready && (making == nil || len(c.waiting) < len(making.waiting)) {
			making = c
		}
	}
	switch {
	case making != nil && (!ready || len(making.waiting) < usualStreams):
		best = making
	case len(m.conns) < maxMuxConns:
		best = m.another()
	}
	if len(best.waiting) >= maxMuxWaiting {
		return nil, errMuxBusy
	}
	return best, nil
}

// usualStreams is how many streams a server usually takes on a connection, at least
// (RFC 9113, 6.5.2).
const usualStreams = 100

// another begins to make one more connection.
func (m *mux) another() *h2Client {
	c := &h2Client{mux: m}
	c.init(m.worker, c)
	m.conns = append(m.conns, c)
	c.connect()
	return c
}

// spread lets exchanges that wait go on by whichever connection has room, and has
// one more made when none has and none is being made.
func (m *mux) spread() {
	wait, making := false, false
	for i := 0; i < len(m.conns); i++ {
		c := m.conns[i]
		if len(c.waiting) > 0 {
			c.joinOthers()
		}
		making = making || !c.ready
		wait = wait || c.ready && len(c.waiting) > 0 && !c.now().CanOpen()
	}
	if wait && !making && len(m.conns) < maxMuxConns {
		m.another()
	}
}

// opens reports whether the connection takes one more request.
func (c *h2Client) opens() bool {
	if !c.ready {
		return false
	}
	if c.yieldEnd != 0 && c.worker.Loop.Now() >= c.yieldEnd {
		c.yieldEnd = 0
	}
	return c.yieldEnd == 0 && c.now().CanOpen()
}

// Yield lets go of a connection once what it carries is over; false when there is
// none.
func (m *mux) Yield() bool {
	now := m.worker.Loop.Now()
	for _, c := range m.conns {
		if c.ready && c.yieldEnd == 0 && now >= max(c.yieldAt, c.made+yieldTurn) {
			c.yieldEnd, c.yieldAt = now+yieldTime, now+yieldTime+yieldPause
			c.yielded()
			return true
		}
	}
	return false
}

// yielded ends the connection when it is to be let go of and carries nothing.
func (c *h2Client) yielded() {
	if c.done || c.yieldEnd == 0 || c.worker.Loop.Now() >= c.yieldEnd || c.engine.Streams() > 0 || len(c.waiting) > 0 {
		return
	}
	c.mux.remove(c)
	c.now().Drain()
	c.schedule()
}

// Waits says how long the exchanges wait for the connection's turn to be made.
// Those that have waited for too long are refused.
func (c *h2Client) Waits(now time.Duration) (again time.Duration, rival, ok bool) {
	c.joinOthers()
	most := c.mux.cluster.PendingTime()
	for len(c.waiting) > 0 && now-c.waiting[0].since >= most {
		c.refuse(dial.ErrLimit)
	}
	rival = true
	for _, other := range c.mux.conns {
		rival = rival && !other.ready
	}
	return now + lineTick, rival, len(c.waiting) > 0
}

// joinOthers lets exchanges that wait for the connection go on by others to the
// endpoint that have room.
func (c *h2Client) joinOthers() {
	for i := 0; i < len(c.mux.conns); i++ {
		other := c.mux.conns[i]
		for other != c && len(c.waiting) > 0 && len(other.waiting) == 0 && other.opens() && other.knows(c.waiting[0].x) {
			call := c.waiting[0]
			c.waiting = c.waiting[1:]
			call.client = other
			call.x.reused = true
			call.x.Connected(nil)
		}
	}
}

// refuse ends the wait of the exchange that has waited longest.
func (c *h2Client) refuse(err error) {
	call := c.waiting[0]
	c.waiting = c.waiting[1:]
	x := call.x
	call.x, x.up = nil, nil
	c.worker.putH2Call(call)
	x.Connected(err)
}

func (c *h2Call) inLine() bool { return c.stream == nil && c.client.attempt.InLine() }

// inLine reports whether the try waits for its turn to make a connection: that it
// takes long is not its endpoint's doing.
func (x *Exchange) inLine() bool {
	l, ok := x.up.(interface{ inLine() bool })
	return ok && l.inLine()
}
