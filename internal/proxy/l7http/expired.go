package l7http

import (
	"time"

	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/proxy/mtls"
)

// This file is what becomes of connections whose peer's certificate has ended.

const (
	// ExpiredGrace is how long after that what is still under way may go on, where
	// it is to end at all: as much as clocks may differ.
	ExpiredGrace = time.Minute
	// PeerExpired is how what is ended then is counted.
	PeerExpired = "peer_expired"
)

var outlived = &Failure{503, "connection_terminated", "The certificate that the connection was made with has ended.", false}

// Retire lets connections end in good order, once what is under way on them has,
// whose peer's certificate has ended; with EndExpired what has not ended within
// ExpiredGrace is cut off. It returns when to look again; 0 is never.
func (w *Worker) Retire() (next time.Duration) {
	now := w.Loop.Now()
	due := func(at time.Duration) bool {
		if at > 0 && at <= now {
			return true
		}
		next = first(next, at)
		return false
	}
	ends := func(r Router) time.Duration {
		if g, ok := r.(GuardedRouter); ok {
			return g.Caller().Expires()
		}
		return 0
	}
	over := func(at time.Duration) bool { return w.EndExpired && due(at+ExpiredGrace) }
	for s := range w.conns {
		at := ends(s.router)
		if !due(at) {
			continue
		}
		if !s.last {
			s.last = true
			if s.stream == nil {
				s.timer.Set(s.idle()) // as when draining
			}
		}
		if over(at) {
			s.forbid(outlived)
		}
	}
	for s := range w.servers {
		at := ends(s.router)
		if s.done || !due(at) {
			continue
		}
		if !s.engine.Draining() {
			s.now().Drain()
			s.schedule()
		}
		if over(at) {
			s.outlive()
		}
	}
	if w.EndExpired {
		for p := range w.passages {
			if at := p.caller.Expires(); at > 0 && due(at+ExpiredGrace) {
				p.fail(PeerExpired)
				p.end()
			}
		}
	}
	return next
}

// outlive ends a connection with all that is under way on it.
func (s *h2Server) outlive() {
	s.forbid(outlived, func(*Exchange) bool { return true })
	if !s.done {
		s.now().Abort(0, "certificate ended")
		s.pump()
	}
	s.schedule()
}

// expiry is when the certificate of a connection's other end is over, as the loop
// counts; 0 is never.
func (w *Worker) expiry(c *loop.Conn) time.Duration {
	s, ok := c.Layer().(*mtls.Session)
	if !ok {
		return 0
	}
	certificates := s.State().PeerCertificates
	if len(certificates) == 0 {
		return 0
	}
	return Expiry(w.Loop, certificates[0].NotAfter)
}

// Expiry is a moment of the calendar as the loop counts, never 0.
func Expiry(l *loop.Loop, t time.Time) time.Duration {
	return max(l.Now()+t.Sub(l.Wall()), 1)
}

// idle is how long the connection may be without a request.
func (s *serverConn) idle() time.Duration {
	if s.last {
		return min(s.worker.idle(), s.worker.Limits.PoolIdle)
	}
	return s.worker.idle()
}
