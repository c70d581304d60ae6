package loop

import "tulle.dev/tulle/internal/proxy/poll"

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
