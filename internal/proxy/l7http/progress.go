package l7http

// moved counts all bytes of the exchange that have come or gone, on either
// side. While it grows the exchange isn't stalled, be it that nothing is read
// because a slow receiver has still to take what was read before.
func (s *serverConn) moved() uint64 {
	n := s.conn.Received + s.conn.Sent - uint64(s.conn.Pending())
	if st := s.stream; st != nil {
		if up, ok := st.x.up.(interface{ moved() uint64 }); ok {
			n += up.moved()
		}
	}
	return n
}

func (c *clientConn) moved() uint64 {
	return c.conn.Received + c.conn.Sent - uint64(c.conn.Pending())
}

// watchStall (re)starts the time in which something must move.
func (s *serverConn) watchStall() {
	s.seen = s.moved()
	idle := s.worker.Limits.StreamIdle
	if st := s.stream; st != nil {
		idle = st.x.streamIdle(idle)
	}
	s.timer.Set(idle)
}

// stillMoving reports whether anything moved since then, and gives it more time.
func (s *serverConn) stillMoving() bool {
	if s.moved() == s.seen {
		return false
	}
	s.watchStall()
	return true
}
