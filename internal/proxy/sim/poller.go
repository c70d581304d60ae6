package sim

import (
	"io"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"tulle.dev/tulle/internal/proxy/poll"
)

// Poller is the poller of one loop or program, on a host of the world.
type Poller struct {
	world *World
	// Host is the machine's name, Addr its address; several pollers may share
	// them.
	Host string
	Addr netip.Addr
	// Redirect is where connections made here really go, by where they were
	// meant to go: what nftables does to a program behind a sidecar.
	Redirect map[netip.AddrPort]netip.AddrPort
	// Turn is called when there is something to wait for no longer; Next, which
	// may be nil, says until when it wants to sleep then.
	Turn func()
	Next func() time.Duration
	// Lag is the most it takes until a turn begins that could.
	Lag time.Duration
	// Spliced is how many bytes have come through pipes.
	Spliced int

	sockets  []*socket // by descriptor
	dirty    []*socket
	cut      []partition
	pipes    map[poll.FD]*[]byte
	vanished bool
	planned  bool          // a turn is on the agenda
	alarm    time.Duration // and this one for a timer
	woken    bool
}

var _ poll.Poller = (*Poller)(nil)

// Poller makes a poller. Set Turn before anything happens.
func (w *World) Poller(host string, addr netip.Addr) *Poller {
	p := &Poller{world: w, Host: host, Addr: addr, alarm: poll.Forever, Redirect: map[netip.AddrPort]netip.AddrPort{}, pipes: map[poll.FD]*[]byte{}}
	w.pollers = append(w.pollers, p)
	return p
}

// wakeUp plans a turn.
func (p *Poller) wakeUp() {
	if p.planned {
		return
	}
	p.planned = true
	var lag time.Duration
	if p.Lag > 0 {
		lag = time.Duration(p.world.Rand.Int64N(int64(p.Lag)))
	}
	p.world.After(lag, p.turn)
}

func (p *Poller) turn() {
	p.planned = false
	if p.vanished {
		return
	}
	p.Turn()
	p.Sleep()
}

// Sleep plans the turn that a timer asks for. It is called after each turn; a
// proxy that was started from outside of one needs it called once.
func (p *Poller) Sleep() {
	if p.Next == nil {
		return
	}
	at := p.Next()
	if at <= p.world.now {
		p.wakeUp()
		return
	}
	if at == poll.Forever || at >= p.alarm && p.alarm > p.world.now {
		return
	}
	p.alarm = at
	p.world.At(at, func() {
		if p.alarm == p.world.now {
			p.alarm = poll.Forever
		}
		if !p.planned && !p.vanished {
			p.turn()
		}
	})
}

// socket makes an open socket.
func (p *Poller) socket() *socket {
	s := &socket{world: p.world, owner: p, accepted: true}
	p.adopt(s)
	return s
}

// adopt gives a socket the lowest free descriptor, as the kernel does.
func (p *Poller) adopt(s *socket) {
	for fd, other := range p.sockets {
		if other == nil && p.pipes[poll.FD(fd)] == nil && fd >= 3 {
			p.sockets[fd] = s
			s.fd = poll.FD(fd)
			return
		}
	}
	for len(p.sockets) < 3 {
		p.sockets = append(p.sockets, nil)
	}
	p.sockets = append(p.sockets, s)
	s.fd = poll.FD(len(p.sockets) - 1)
}

// Vanished reports whether the host is gone.
func (p *Poller) Vanished() bool { return p.vanished }

// Open is the number of open descriptors.
func (p *Poller) Open() int {
	n := len(p.pipes)
	for _, s := range p.sockets {
		if s != nil {
			n++
		}
	}
	return n
}

func (p *Poller) get(fd poll.FD) *socket {
	if fd < 0 || int(fd) >= len(p.sockets) || p.sockets[fd] == nil {
		panic("sim: use of a descriptor that isn't open")
	}
	return p.sockets[fd]
}

// Now is the world's time.
func (p *Poller) Now() time.Duration { return p.world.now }

// Wall is the world's calendar.
func (p *Poller) Wall() time.Time { return p.world.Wall() }

// Wait returns what has changed; it never waits, as its turn has come.
func (p *Poller) Wait(events []poll.Event, _ time.Duration) int {
	p.woken = false
	w := p.world
	if len(p.sockets) > 3 && w.chance(w.Weather.Spurious) {
		if s := p.sockets[3+w.Rand.IntN(len(p.sockets)-3)]; s != nil {
			s.changed()
		}
	}
	list := p.dirty
	p.dirty = nil
	w.Rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	n := 0
	for _, s := range list {
		if n == poll.MaxEvents {
			p.dirty = append(p.dirty, s)
			continue
		}
		s.dirty = false
		if r := s.readiness(); s.fd != poll.None && r != 0 {
			events[n] = poll.Event{FD: s.fd, Ready: r}
			n++
		}
	}
	if len(p.dirty) > 0 {
		p.wakeUp()
	}
	return n
}

// Wake plans a turn.
func (p *Poller) Wake() {
	p.woken = true
	p.wakeUp()
}

// Listen opens a listening socket.
func (p *Poller) Listen(addr netip.AddrPort, _ bool) (poll.FD, netip.AddrPort, error) {
	s := p.socket()
	s.listening, s.local = true, addr
	p.world.listeners[addr] = append(p.world.listeners[addr], s)
	p.world.note("%s listens on %s", p.Host, addr)
	return s.fd, addr, nil
}

// Refuse lets no new connections in; who asks for one tries again in a second.
func (p *Poller) Refuse(listener poll.FD) { p.get(listener).refuses = true }

// Add does nothing: every socket here is watched.
func (p *Poller) Add(poll.FD) error { return nil }

// Accept returns the next connection.
func (p *Poller) Accept(listener poll.FD) (poll.FD, netip.AddrPort, error) {
	l := p.get(listener)
	for len(l.backlog) > 0 {
		s := l.backlog[0]
		l.backlog = l.backlog[1:]
		p.adopt(s)
		s.accepted = true
		s.changed()
		p.world.note("%s #%d accepted as %d", p.Host, s.serial, s.fd)
		return s.fd, s.remote, nil
	}
	return poll.None, netip.AddrPort{}, poll.ErrAgain
}

// Original is where the connecting side wanted to go.
func (p *Poller) Original(fd poll.FD) (netip.AddrPort, error) { return p.get(fd).original, nil }

// Connect begins a connection.
func (p *Poller) Connect(addr netip.AddrPort) (poll.FD, error) {
	return p.world.connect(p, addr).fd, nil
}

// ConnectError is the pending error, once.
func (p *Poller) ConnectError(fd poll.FD) error {
	s := p.get(fd)
	err := s.err
	s.err = nil
	return err
}

// Hasten makes the host notice soon that the connection's peer is gone.
func (p *Poller) Hasten(fd poll.FD, _ netip.AddrPort) { p.get(fd).hastened = true }

func (p *Poller) Read(fd poll.FD, b []byte) (int, error) {
	s := p.get(fd)
	n, err, ok := s.read(b)
	switch {
	case !ok:
		return 0, poll.ErrAgain
	case err != nil:
		p.world.note("%s #%d reads %v", p.Host, s.serial, err)
		return 0, err
	case n == 0 && len(b) > 0:
		return 0, io.EOF
	}
	return n, nil
}

func (p *Poller) Write(fd poll.FD, b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	s := p.get(fd)
	n, err := s.write(b)
	if err != poll.ErrAgain {
		p.world.note("%s #%d writes %d of %d, %v", p.Host, s.serial, n, len(b), err)
	}
	return n, err
}

// Writev writes a, then b.
func (p *Poller) Writev(fd poll.FD, a, b []byte) (int, error) {
	return p.Write(fd, append(append(make([]byte, 0, len(a)+len(b)), a...), b...))
}

// Shutdown ends the writing side.
func (p *Poller) Shutdown(fd poll.FD) error {
	s := p.get(fd)
	p.world.note("%s #%d ends its side", p.Host, s.serial)
	if s.dead || s.connecting {
		return unix.ENOTCONN
	}
	s.end()
	return nil
}

// Reset makes Close reset.
func (p *Poller) Reset(fd poll.FD) { p.get(fd).abort = true }

// Close closes a socket, or an end of a pipe.
func (p *Poller) Close(fd poll.FD) {
	if p.pipes[fd] != nil {
		delete(p.pipes, fd)
		return
	}
	s := p.get(fd)
	p.world.note("%s #%d closed", p.Host, s.serial)
	p.sockets[fd] = nil
	s.close()
}

// pipeRoom is what a pipe holds, whoever asks for how much.
const pipeRoom = 16 << 10

// Pipe makes a pipe; its two descriptors are far above those of sockets.
func (p *Poller) Pipe(int) (poll.Pipe, error) {
	fd := poll.FD(1 << 16)
	for p.pipes[fd] != nil || p.pipes[fd+1] != nil {
		fd += 2
	}
	data := new([]byte)
	p.pipes[fd], p.pipes[fd+1] = data, data
	return poll.Pipe{R: fd, W: fd + 1}, nil
}

// Splice moves bytes between a socket and a pipe.
func (p *Poller) Splice(from, to poll.FD, most int) (int, error) {
	if data := p.pipes[to]; data != nil {
		b := make([]byte, min(most, pipeRoom-len(*data)))
		if len(b) == 0 {
			return 0, poll.ErrAgain
		}
		n, err := p.Read(from, b)
		*data = append(*data, b[:n]...)
		return n, err
	}
	data := p.pipes[from]
	if len(*data) == 0 {
		return 0, poll.ErrAgain
	}
	n, err := p.Write(to, (*data)[:min(most, len(*data))])
	p.Spliced += n
	*data = (*data)[n:]
	return n, err
}

// Shut closes the poller.
func (p *Poller) Shut() {}
