package dial

import (
	"testing"
	"time"
)

// server is one that closes connections after a rest of idle; 0 never does.
type server struct {
	idle time.Duration
	pool Pool
	now  time.Duration
	open []*kept
}

const poolIdle = 3500 * time.Millisecond

// kept is a connection to it.
type kept struct {
	s      *server
	since  time.Duration
	expire time.Duration
	closed bool // by the server
	gone   bool
	rests  bool
}

func (k *kept) Rested() (time.Duration, bool) { return k.s.now - k.since, !k.closed }
func (k *kept) Retire()                       { k.gone = true }

// run lets time pass, to the millisecond: what expires and what is closed, as
// clientConn tells the pool.
func (s *server) run(until time.Duration) {
	for ; s.now < until; s.now += time.Millisecond {
		for _, k := range s.open {
			rested := s.now - k.since
			switch {
			case !k.rests || k.gone:
			case s.idle > 0 && rested >= s.idle:
				k.closed = true
				s.pool.Closed(k, rested)
				k.Retire()
			case s.now >= k.expire:
				if s.pool.Over(k, rested, poolIdle, s.now) {
					k.expire = k.since + poolIdle
				} else {
					k.Retire()
				}
			}
		}
	}
}

// request sends one; it reports whether it was sent at the moment at which the
// server closes the connection.
func (s *server) request(careful bool) (lost, fresh bool) {
	k, ok := s.pool.Get(poolIdle, careful).(*kept)
	if !ok {
		k = &kept{s: s}
		s.open = append(s.open, k)
	}
	rested := s.now - k.since
	k.since, k.rests = s.now, true
	k.expire = s.now + s.pool.Keep(poolIdle)
	s.pool.Put(k)
	const latency = 5 * time.Millisecond
	return ok && s.idle > 0 && rested > s.idle-latency, !ok
}

// A request that can't be repeated isn't lost to a server's closing an idle
// connection, whatever the server's time is and however often requests come; and
// once that time is known to be long, connections are used again.
func TestKeep(t *testing.T) {
	for _, idle := range []time.Duration{0, 100 * time.Millisecond, time.Second, 2 * time.Second, 3 * time.Second, 5 * time.Second} {
		for _, every := range []time.Duration{
			20 * time.Millisecond, 95 * time.Millisecond, 400 * time.Millisecond, time.Second, 1999 * time.Millisecond, 3 * time.Second,
		} {
			if idle == 100*time.Millisecond && every < assumedIdle {
				continue // that short a time is learnt by a loss
			}
			s := &server{idle: idle}
			fresh := 0
			const requests = 60
			for i := range requests {
				lost, f := s.request(true)
				if lost {
					t.Errorf("server closes after %s, a request each %s: number %d is lost", idle, every, i)
				}
				if f {
					fresh++
				}
				s.run(s.now + every)
			}
			if longer := idle == 0 || idle > every*10/8; longer && every < 3*time.Second && fresh > requests/2 {
				t.Errorf("server closes after %s, a request each %s: %d of %d on fresh connections", idle, every, fresh, requests)
			}
			if n := s.pool.Len(); n > 8 {
				t.Errorf("server closes after %s, a request each %s: %d rest", idle, every, n)
			}
		}
	}
}

// What was learnt holds only for as long as it is seen: a server that ends closes
// all its connections, however long they had rested.
func TestKeepRecovers(t *testing.T) {
	s := &server{idle: 5 * time.Second}
	for range 10 {
		s.request(false)
		s.run(s.now + 300*time.Millisecond)
	}
	s.idle = time.Millisecond // it ends
	s.run(s.now + 5*time.Millisecond)
	s.idle = 5 * time.Second // and is there again
	if keep := s.pool.Keep(poolIdle); keep >= time.Second {
		t.Fatalf("closes aren't learnt from: connections rest for %s", keep)
	}
	for range 4 {
		s.request(false)
		s.run(s.now + 2*time.Second)
	}
	if keep := s.pool.Keep(poolIdle); keep != poolIdle {
		t.Errorf("connections rest for %s long after the server came back, want %s", keep, poolIdle)
	}
	// The endpoint leaves while one rests beyond what was learnt.
	s.pool.Closed(&kept{}, 100*time.Millisecond)
	s.pool.probeAt = 0
	s.request(false)
	s.run(s.now + time.Second)
	probe, ok := s.pool.probe.(*kept)
	if !ok {
		t.Fatal("nothing is left to rest to see whether what was learnt holds")
	}
	s.pool.Drop()
	if !probe.gone {
		t.Error("a connection is left over")
	}
}
