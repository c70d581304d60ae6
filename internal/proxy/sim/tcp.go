package sim

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"tulle.dev/tulle/internal/proxy/poll"
)

// socket is one end of a connection, or a listening socket.
type socket struct {
	world  *World
	owner  *Poller
	fd     poll.FD // None once closed
	serial int     // of the connection, for the record

	local, remote, original netip.AddrPort

	listening bool
	refuses   bool // takes no new connections
	backlog   []*socket

	connecting bool
	peer       *socket

	rx       []byte // arrived and not read
	coming   int    // bytes on their way here
	rxFin    bool   // the peer's end has arrived
	snd      []byte // written and not on its way
	fin      bool   // our side has ended
	finSent  bool
	dead     bool  // reset, by either side
	err      error // pending, reported once
	abort    bool  // Close resets
	last     time.Duration
	dirty    bool
	stalled  bool // a write found no room
	accepted bool
	hastened bool // see Poller.Hasten
}

// path is where the two ends of a stream are, for partitions.
type path struct{ a, b string }

// partition holds back what is sent between two hosts.
type partition struct {
	path
	until time.Duration
}

// Partition cuts the network between two hosts for a while: what is sent
// arrives when it is over.
func (w *World) Partition(a, b string, d time.Duration) {
	w.note("partition %s %s for %s", a, b, d)
	for _, p := range w.pollers {
		for _, other := range []path{{a, b}, {b, a}} {
			if p.Host == other.a {
				p.cut = append(p.cut, partition{other, w.now + d})
			}
		}
	}
}

// arrival is when something sent now by s gets to its peer's host, never before
// what was sent earlier.
func (s *socket) arrival(to *Poller) time.Duration {
	w := s.world
	at := w.now + w.Weather.Latency
	if w.Weather.Jitter > 0 {
		at += time.Duration(w.Rand.Int64N(int64(w.Weather.Jitter)))
	}
	for _, c := range s.owner.cut {
		if c.b == to.Host && c.until > w.now {
			at = max(at, c.until+time.Duration(w.Rand.Int64N(int64(200*time.Millisecond))))
		}
	}
	s.last = max(at, s.last)
	return s.last
}

func (w *World) connect(owner *Poller, to netip.AddrPort) *socket {
	s := owner.socket()
	s.local = netip.AddrPortFrom(owner.Addr, uint16(32768+w.Rand.IntN(28000)))
	s.remote, s.original = to, to
	s.connecting = true
	w.streams = append(w.streams, s)
	s.serial = len(w.streams)
	w.note("%s #%d connects to %s", owner.Host, s.serial, to)
	s.syn()
	return s
}

// syn sends the first segment of a connection.
func (s *socket) syn() {
	w := s.world
	to := s.remote
	if moved, ok := s.owner.Redirect[to]; ok {
		to = moved
	}
	listeners := w.listeners[to]
	if len(listeners) == 0 {
		// The host is there and nobody listens, or it isn't: then nothing comes.
		if w.hostOf(to) == nil {
			return
		}
		w.At(s.arrival(w.hostOf(to)), func() { w.At(s.arrival(s.owner), s.refused) })
		return
	}
	l := listeners[w.Rand.IntN(len(listeners))]
	w.At(s.arrival(l.owner), func() { s.reach(l) })
}

func (w *World) hostOf(addr netip.AddrPort) *Poller {
	for _, p := range w.pollers {
		if p.Addr == addr.Addr() {
			return p
		}
	}
	return nil
}

func (s *socket) refused() {
	if s.fd == poll.None || s.owner.vanished {
		return
	}
	s.world.note("%s #%d refused", s.owner.Host, s.serial)
	s.connecting, s.dead, s.err = false, true, unix.ECONNREFUSED
	s.changed()
}

// reach is the first segment's arrival at a listening socket.
func (s *socket) reach(l *socket) {
	w := s.world
	switch {
	case s.dead || s.lost() || l.owner.vanished:
		return // closed before it got anywhere, or it never does
	case l.fd == poll.None:
		w.At(s.arrival(s.owner), s.refused)
		return
	case l.refuses || len(l.backlog) >= w.Weather.Backlog:
		w.note("%s #%d isn't let in", s.owner.Host, s.serial)
		w.After(time.Second, func() {
			if s.connecting && s.fd != poll.None {
				s.syn()
			}
		})
		return
	}
	p := &socket{world: w, owner: l.owner, fd: poll.None, serial: s.serial, local: l.local, remote: s.local, original: s.original}
	p.peer, s.peer = s, p
	l.backlog = append(l.backlog, p)
	l.changed()
	w.At(p.arrival(s.owner), func() {
		if s.dead || s.lost() {
			return
		}
		s.connecting = false
		s.changed()
		if s.fin {
			s.pump()
		}
	})
}

// room is how much may be written.
func (s *socket) room() int { return s.world.Weather.Buffer - len(s.snd) }

// pump sends what the peer's window takes.
func (s *socket) pump() {
	w, p := s.world, s.peer
	if s.dead || p == nil || s.connecting {
		return
	}
	for len(s.snd) > 0 {
		window := w.Weather.Window - len(p.rx) - p.coming
		if window <= 0 {
			break
		}
		n := min(len(s.snd), window, 1+w.Rand.IntN(w.Weather.Segment))
		piece := append([]byte(nil), s.snd[:n]...)
		s.snd = s.snd[n:]
		p.coming += n
		w.At(s.arrival(p.owner), func() { p.arrive(piece) })
	}
	if s.stalled && s.room() > 0 {
		s.stalled = false
		s.changed()
	}
	if s.fin && !s.finSent && len(s.snd) == 0 {
		s.finSent = true
		w.At(s.arrival(p.owner), p.arriveFin)
	}
}

func (s *socket) arrive(piece []byte) {
	s.coming -= len(piece)
	switch {
	case s.dead || s.lost():
	case s.fd == poll.None && s.accepted:
		// Nobody is there any more: the sender is told.
		s.die(nil)
		s.world.At(s.arrival(s.peer.owner), s.peer.arriveReset)
	default:
		s.rx = append(s.rx, piece...)
		s.world.note("%s #%d gets %d", s.owner.Host, s.serial, len(piece))
		s.changed()
	}
}

func (s *socket) arriveFin() {
	if s.dead || s.lost() {
		return
	}
	s.world.note("%s #%d gets the end", s.owner.Host, s.serial)
	s.rxFin = true
	s.changed()
}

func (s *socket) arriveReset() {
	if s.dead || s.lost() {
		return
	}
	s.world.note("%s #%d gets a reset", s.owner.Host, s.serial)
	if s.world.Weather.Lossy && !s.rxFin {
		s.rx = nil
	}
	if s.rxFin {
		s.die(unix.EPIPE) // what came was the whole
	} else {
		s.die(unix.ECONNRESET)
	}
	s.changed()
}

// die ends a connection at this end.
func (s *socket) die(err error) {
	s.dead, s.err, s.snd, s.connecting = true, err, nil, false
}

// Break resets a connection on both ends, as a device between them may do.
func (s *socket) breakOff() {
	if s.peer == nil || s.dead {
		return
	}
	s.world.note("#%d is cut", s.serial)
	s.arriveReset()
	s.peer.arriveReset()
}

func (s *socket) read(b []byte) (int, error, bool) {
	switch {
	case len(s.rx) > 0:
		n := copy(b, s.rx)
		s.rx = s.rx[n:]
		if p := s.peer; p != nil && len(p.snd) > 0 {
			s.world.After(s.world.Weather.Latency, p.pump)
		}
		return n, nil, true
	case s.rxFin:
		return 0, nil, true // the end
	case s.err != nil:
		err := s.err
		s.err = nil
		return 0, err, true // once, as the kernel does
	case s.dead:
		return 0, nil, true
	}
	return 0, nil, false
}

func (s *socket) write(b []byte) (int, error) {
	switch {
	case s.connecting:
		return 0, poll.ErrAgain
	case s.err != nil:
		err := s.err
		s.err = nil
		return 0, err
	case s.dead || s.fin:
		return 0, unix.EPIPE
	}
	n := min(len(b), s.room())
	if n < len(b) {
		s.stalled = true
	}
	if n <= 0 {
		return 0, poll.ErrAgain
	}
	s.snd = append(s.snd, b[:n]...)
	s.pump()
	return n, nil
}

// end is Shutdown of the writing side.
func (s *socket) end() {
	if !s.fin {
		s.fin = true
		s.pump()
	}
}

// close is Close: in good order, unless bytes were not read or Reset was asked for.
func (s *socket) close() {
	w := s.world
	s.fd = poll.None
	s.accepted = true
	if s.listening {
		w.unlisten(s)
		for _, c := range s.backlog {
			c.reset()
		}
		s.backlog = nil
		return
	}
	switch {
	case s.dead:
	case s.connecting && s.peer == nil:
		s.dead = true
	case s.abort || len(s.rx) > 0:
		s.reset()
	default:
		s.end()
	}
}

// reset tells the peer that the connection is broken.
func (s *socket) reset() {
	p := s.peer
	s.die(nil)
	s.rx = nil
	s.world.At(s.arrival(p.owner), p.arriveReset)
}

func (w *World) unlisten(s *socket) {
	list := w.listeners[s.local]
	for i, l := range list {
		if l == s {
			w.listeners[s.local] = append(list[:i:i], list[i+1:]...)
		}
	}
}

// readiness is what a poller would say of the socket now.
func (s *socket) readiness() (r poll.Ready) {
	if s.listening {
		if len(s.backlog) > 0 {
			r = poll.Readable
		}
		return r
	}
	if s.connecting {
		return 0
	}
	if len(s.rx) > 0 {
		r |= poll.Readable
	}
	if s.room() > 0 {
		r |= poll.Writable
	}
	if s.rxFin {
		r |= poll.Readable | poll.Hangup
	}
	if s.dead {
		r |= poll.Readable | poll.Writable | poll.Hangup
	}
	return r
}

// changed makes the socket's owner look at it.
func (s *socket) changed() {
	if s.fd != poll.None && !s.dirty {
		s.dirty = true
		s.owner.dirty = append(s.owner.dirty, s)
		s.owner.wakeUp()
	}
}

// patience is how long a peer may be silent to what it should acknowledge, or to
// a keep-alive, before the connection is given up; haste is that after Hasten.
const (
	patience = 30 * time.Second
	haste    = 10 * time.Second
)

// Vanish takes a host off the network without a word, as a power failure does.
// Who is connected to it finds out by its silence.
func (w *World) Vanish(host string) {
	w.note("%s vanishes", host)
	for _, p := range w.pollers {
		if p.Host == host {
			p.vanished = true
		}
	}
	for _, s := range w.streams {
		for _, end := range []*socket{s, s.peer} {
			if end == nil || end.owner.vanished || end.peer == nil || !end.peer.owner.vanished {
				continue
			}
			after := patience
			if end.hastened {
				after = haste
			}
			w.After(after, func() {
				if !end.dead {
					w.note("%s #%d is given up", end.owner.Host, end.serial)
					end.die(unix.ETIMEDOUT)
					end.changed()
				}
			})
		}
	}
}

// lost reports whether nothing arrives any more, as one of the hosts is gone.
func (s *socket) lost() bool {
	return s.owner.vanished || s.peer != nil && s.peer.owner.vanished
}

// BreakOne resets one of the connections that are open, if there are any.
func (w *World) BreakOne() {
	var open []*socket
	for _, s := range w.streams {
		if !s.dead && s.peer != nil && s.fd != poll.None {
			open = append(open, s)
		}
	}
	if len(open) > 0 {
		open[w.Rand.IntN(len(open))].breakOff()
	}
}
