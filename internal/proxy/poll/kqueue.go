//go:build darwin || freebsd

package poll

import (
	"fmt"
	"io"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// kqueue is the Poller of macOS and FreeBSD: for laptops, so it waits in the
// ordinary way and splices nothing.
type kqueue struct {
	start time.Time
	fd    int
	woken atomic.Bool
	ready [MaxEvents]unix.Kevent_t
}

// New opens the poller of this operating system.
func New() (Poller, error) {
	fd, err := unix.Kqueue()
	if err != nil {
		return nil, fmt.Errorf("kqueue: %w", err)
	}
	unix.CloseOnExec(fd)
	p := &kqueue{start: time.Now(), fd: fd}
	var wake unix.Kevent_t
	unix.SetKevent(&wake, 0, unix.EVFILT_USER, unix.EV_ADD|unix.EV_CLEAR)
	if _, err := unix.Kevent(fd, []unix.Kevent_t{wake}, nil, nil); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("kevent: %w", err)
	}
	return p, nil
}

func (p *kqueue) Now() time.Duration { return time.Since(p.start) }
func (p *kqueue) Wall() time.Time    { return time.Now() }
func (p *kqueue) Shut()              { unix.Close(p.fd) }

func (p *kqueue) Wake() {
	if p.woken.CompareAndSwap(false, true) {
		var wake unix.Kevent_t
		unix.SetKevent(&wake, 0, unix.EVFILT_USER, 0)
		wake.Fflags = unix.NOTE_TRIGGER
		unix.Kevent(p.fd, []unix.Kevent_t{wake}, nil, nil)
	}
}

func (p *kqueue) Wait(events []Event, until time.Duration) int {
	var timeout *unix.Timespec
	if until != Forever {
		t := unix.NsecToTimespec(max(int64(until-p.Now()), 0))
		timeout = &t
	}
	n, err := unix.Kevent(p.fd, nil, p.ready[:], timeout)
	if err != nil {
		return 0
	}
	found := 0
	for i := range p.ready[:n] {
		e := &p.ready[i]
		if e.Filter == unix.EVFILT_USER {
			p.woken.Store(false)
			continue
		}
		ready := Readable
		if e.Filter == unix.EVFILT_WRITE {
			ready = Writable
		}
		if e.Flags&unix.EV_EOF != 0 {
			ready |= Hangup
		}
		events[found] = Event{FD: FD(e.Ident), Ready: ready}
		found++
	}
	return found
}

func (p *kqueue) Add(fd FD) error {
	var both [2]unix.Kevent_t
	unix.SetKevent(&both[0], int(fd), unix.EVFILT_READ, unix.EV_ADD|unix.EV_CLEAR)
	unix.SetKevent(&both[1], int(fd), unix.EVFILT_WRITE, unix.EV_ADD|unix.EV_CLEAR)
	if _, err := unix.Kevent(p.fd, both[:], nil, nil); err != nil {
		return fmt.Errorf("kevent: %w", err)
	}
	return nil
}

// Forget stops watching a socket that goes to another loop.
func (p *kqueue) Forget(fd FD) {
	var both [2]unix.Kevent_t
	unix.SetKevent(&both[0], int(fd), unix.EVFILT_READ, unix.EV_DELETE)
	unix.SetKevent(&both[1], int(fd), unix.EVFILT_WRITE, unix.EV_DELETE)
	unix.Kevent(p.fd, both[:], nil, nil)
}

func (p *kqueue) Listen(addr netip.AddrPort, _ bool) (FD, netip.AddrPort, error) {
	fd, bound, err := listenSocket(addr)
	if err != nil {
		return None, netip.AddrPort{}, err
	}
	if err := p.Add(fd); err != nil {
		unix.Close(int(fd))
		return None, netip.AddrPort{}, err
	}
	return fd, bound, nil
}

func (p *kqueue) Accept(listener FD) (FD, netip.AddrPort, error) {
	for {
		fd, sa, err := unix.Accept(int(listener))
		switch err {
		case nil:
		case unix.EINTR, unix.ECONNABORTED:
			continue
		case unix.EAGAIN:
			return None, netip.AddrPort{}, ErrAgain
		default:
			return None, netip.AddrPort{}, err
		}
		if err = prepare(fd); err == nil {
			err = p.Add(FD(fd))
		}
		if err != nil {
			unix.Close(fd)
			return None, netip.AddrPort{}, err
		}
		return FD(fd), addrPort(sa), nil
	}
}

func (p *kqueue) Original(fd FD) (netip.AddrPort, error) {
	local, err := unix.Getsockname(int(fd))
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("getsockname: %w", err)
	}
	return addrPort(local), nil
}

func (p *kqueue) Connect(addr netip.AddrPort) (FD, error) {
	family, sa := sockaddr(addr)
	fd, err := unix.Socket(family, unix.SOCK_STREAM, 0)
	if err != nil {
		return None, err
	}
	if err := prepare(fd); err != nil {
		unix.Close(fd)
		return None, err
	}
	if err := unix.Connect(fd, sa); err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		return None, err
	}
	if err := p.Add(FD(fd)); err != nil {
		unix.Close(fd)
		return None, err
	}
	return FD(fd), nil
}

func (p *kqueue) ConnectError(fd FD) error {
	code, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err
	}
	if code != 0 {
		return unix.Errno(code)
	}
	return nil
}

func (p *kqueue) Read(fd FD, b []byte) (int, error) {
	for {
		n, err := unix.Read(int(fd), b)
		switch err {
		case nil:
			if n == 0 && len(b) > 0 {
				return 0, io.EOF
			}
			return n, nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, ErrAgain
		default:
			return 0, err
		}
	}
}

func (p *kqueue) Write(fd FD, b []byte) (int, error) {
	for len(b) > 0 {
		n, err := unix.Write(int(fd), b)
		switch err {
		case nil:
			return n, nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, ErrAgain
		default:
			return 0, err
		}
	}
	return 0, nil
}

// Writev writes a, and b when all of a went.
func (p *kqueue) Writev(fd FD, a, b []byte) (int, error) {
	n, err := p.Write(fd, a)
	if err != nil || n < len(a) {
		return n, err
	}
	m, err := p.Write(fd, b)
	if n > 0 && err == ErrAgain {
		err = nil
	}
	return n + m, err
}

func (p *kqueue) Shutdown(fd FD) error { return unix.Shutdown(int(fd), unix.SHUT_WR) }
func (p *kqueue) Close(fd FD)          { unix.Close(int(fd)) }

func (p *kqueue) Reset(fd FD) {
	unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}

func (p *kqueue) Pipe(int) (Pipe, error) { return Pipe{None, None}, ErrUnsupported }

func (p *kqueue) Splice(from, to FD, most int) (int, error) { return 0, ErrUnsupported }

// listenSocket makes the only listener of its address: macOS doesn't deal
// connections out between several, so one loop accepts and hands them over.
func listenSocket(addr netip.AddrPort) (FD, netip.AddrPort, error) {
	family, sa := sockaddr(addr)
	fd, err := unix.Socket(family, unix.SOCK_STREAM, 0)
	if err != nil {
		return None, netip.AddrPort{}, fmt.Errorf("socket: %w", err)
	}
	fail := func(what string, err error) (FD, netip.AddrPort, error) {
		unix.Close(fd)
		return None, netip.AddrPort{}, fmt.Errorf("%s %s: %w", what, addr, err)
	}
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		return fail("set non-blocking", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return fail("setsockopt", err)
	}
	if family == unix.AF_INET6 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return fail("setsockopt", err)
		}
	}
	if err := unix.Bind(fd, sa); err != nil {
		return fail("bind", err)
	}
	if err := unix.Listen(fd, 1024); err != nil {
		return fail("listen", err)
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		return fail("getsockname", err)
	}
	return FD(fd), addrPort(bound), nil
}

// prepare makes a connection's socket fit for a loop.
func prepare(fd int) error {
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		return err
	}
	noSigpipe(fd)
	return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
}
