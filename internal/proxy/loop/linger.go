package loop

import (
	"math"
	"time"

	"tulle.dev/tulle/internal/proxy/poll"
)

// Lingering: after our last byte we read what still comes, for this long and
// this much, so that the peer doesn't lose our answer to a reset (RFC 9112, 9.6).
const (
	lingerTime  = 2 * time.Second
	lingerBytes = 4 << 20
	// stallTime is how long the peer may take none of our last bytes.
	stallTime = 30 * time.Second
)

// Linger closes in good order: what is queued is written, our side is ended,
// and what the peer still sends is read and thrown away until it ends too or
// time is up. The handler hears nothing more.
func (c *Conn) Linger() {
	if !c.Open() {
		return
	}
	if c.err != nil || c.sendErr != nil {
		c.Close()
		return
	}
	c.isDone()
	c.in.held = false
	c.CloseWrite()
	l := &linger{conn: c, sent: math.MaxUint64}
	c.handler = l
	l.timer.Init(c.loop, l)
	l.timer.Set(lingerTime)
	c.readable = true
	c.loop.again(c)
}

// linger is the handler of a connection that is done but for the goodbye.
type linger struct {
	conn  *Conn
	timer Timer
	seen  int
	sent  uint64 // when the timer was set
}

// Ready throws away what comes.
func (l *linger) Ready() {
	c := l.conn
	c.in.r = c.in.w
	for c.Open() {
		n, err := c.Fill(SmallBuffer)
		c.in.r = c.in.w
		l.seen += n
		switch {
		case err == poll.ErrAgain:
			if c.Pending() > 0 {
				l.seen = 0
			}
			return
		case err != nil && c.err == nil && !c.shutDone:
			return // the peer has ended; our last bytes are still to go
		case err != nil || l.seen > lingerBytes:
			l.end()
		}
	}
}

// Expire gives up, unless our bytes are still being taken.
func (l *linger) Expire(*Timer) {
	if sent := l.conn.gone(); l.conn.Pending() > 0 && sent != l.sent {
		l.sent = sent
		l.timer.Set(stallTime)
		return
	}
	l.end()
}

func (l *linger) end() {
	l.timer.Stop()
	l.conn.Close()
}
