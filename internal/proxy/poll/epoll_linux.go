package poll

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// epoll is the Poller of Linux. Descriptors are non-blocking, so calls on them
// are raw: the Go scheduler isn't told, which would cost more than the call.
type epoll struct {
	start time.Time
	fd    int
	wake  int // eventfd
	woken atomic.Bool
	wait  waiter
	ready [MaxEvents]unix.EpollEvent
}

// New opens the poller of this operating system.
func New() (Poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	p := &epoll{start: time.Now(), fd: fd, wake: wake}
	if err := p.Add(FD(wake)); err != nil {
		unix.Close(fd)
		unix.Close(wake)
		return nil, err
	}
	return p, nil
}

func (p *epoll) Now() time.Duration { return time.Since(p.start) }
func (p *epoll) Wall() time.Time    { return time.Now() }

func (p *epoll) Shut() {
	p.wait.shut()
	unix.Close(p.wake)
	unix.Close(p.fd)
}

func (p *epoll) Wake() {
	if p.woken.CompareAndSwap(false, true) {
		var one [8]byte
		binary.NativeEndian.PutUint64(one[:], 1)
		unix.Write(p.wake, one[:])
	}
}

// Yield lets other threads run that wait for this processor.
func (p *epoll) Yield() { unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }

func (p *epoll) Wait(events []Event, until time.Duration) int {
	n := p.wait.wait(p, until)
	found := 0 // events has room for MaxEvents
	for _, e := range p.ready[:max(n, 0)] {
		if int(e.Fd) == p.wake {
			var count [8]byte
			unix.RawSyscall(unix.SYS_READ, uintptr(p.wake), uintptr(unsafe.Pointer(&count[0])), uintptr(len(count)))
			p.woken.Store(false)
			continue
		}
		events[found] = Event{FD: FD(e.Fd), Ready: readiness(e.Events)}
		found++
	}
	return found
}

func readiness(bits uint32) (r Ready) {
	if bits&unix.EPOLLIN != 0 {
		r |= Readable
	}
	if bits&unix.EPOLLOUT != 0 {
		r |= Writable
	}
	if bits&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		r |= Readable | Writable | Hangup
	}
	return r
}

func (p *epoll) Add(fd FD) error {
	e := unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET&0xffffffff,
		Fd:     int32(fd),
	}
	if err := unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, int(fd), &e); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// Forget stops watching a socket that goes to another loop.
func (p *epoll) Forget(fd FD) { unix.EpollCtl(p.fd, unix.EPOLL_CTL_DEL, int(fd), nil) }

func (p *epoll) Listen(addr netip.AddrPort, shared bool) (FD, netip.AddrPort, error) {
	if !shared {
		if err := claim(addr); err != nil {
			return None, netip.AddrPort{}, err
		}
	}
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

func (p *epoll) Accept(listener FD) (FD, netip.AddrPort, error) {
	var name rawSockaddr
	size := uint32(len(name))
	for {
		fd, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(listener),
			uintptr(unsafe.Pointer(&name)), uintptr(unsafe.Pointer(&size)),
			unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		switch errno {
		case 0:
		case unix.EINTR, unix.ECONNABORTED:
			continue
		case unix.EAGAIN:
			return None, netip.AddrPort{}, ErrAgain
		default:
			return None, netip.AddrPort{}, errno
		}
		peer := name.addrPort()
		tune(FD(fd), peer)
		if err := p.Add(FD(fd)); err != nil {
			p.Close(FD(fd))
			return None, netip.AddrPort{}, err
		}
		return FD(fd), peer, nil
	}
}

func (p *epoll) Connect(addr netip.AddrPort) (FD, error) {
	family, _ := sockaddr(addr)
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return None, err
	}
	if err := p.ConnectSocket(FD(fd), addr); err != nil {
		unix.Close(fd)
		return None, err
	}
	return FD(fd), nil
}

// Hasten has the kernel notice soon that a connection's peer is gone.
func (p *epoll) Hasten(fd FD, peer netip.AddrPort) { wait(fd, peer, &withEndpoints) }

// ConnectSocket is Connect on a socket made elsewhere (in the network namespace
// of the program behind the proxy, say). On an error the socket is still the caller's.
func (p *epoll) ConnectSocket(fd FD, addr netip.AddrPort) error {
	tune(fd, addr)
	_, sa := sockaddr(addr)
	if err := unix.Connect(int(fd), sa); err != nil && err != unix.EINPROGRESS {
		return err
	}
	return p.Add(fd)
}

func (p *epoll) ConnectError(fd FD) error {
	code, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err
	}
	if code != 0 {
		return unix.Errno(code)
	}
	return nil
}

func (p *epoll) Read(fd FD, b []byte) (int, error) {
	for {
		n, errno := rawReceive(int(fd), b)
		switch errno {
		case 0:
			if n == 0 && len(b) > 0 {
				return 0, io.EOF
			}
			return n, nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, ErrAgain
		default:
			return 0, errno
		}
	}
}

func (p *epoll) Write(fd FD, b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for {
		// MSG_NOSIGNAL: a broken connection is an error, not a signal.
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])),
			uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, ErrAgain
		default:
			return 0, errno
		}
	}
}

func (p *epoll) Writev(fd FD, a, b []byte) (int, error) {
	if len(a) == 0 {
		return p.Write(fd, b)
	}
	if len(b) == 0 {
		return p.Write(fd, a)
	}
	parts := [2]unix.Iovec{{Base: &a[0]}, {Base: &b[0]}}
	parts[0].SetLen(len(a))
	parts[1].SetLen(len(b))
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&parts[0])), 2)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, ErrAgain
		default:
			return 0, errno
		}
	}
}

func (p *epoll) Shutdown(fd FD) error { return unix.Shutdown(int(fd), unix.SHUT_WR) }

func (p *epoll) Reset(fd FD) {
	unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}

func (p *epoll) Close(fd FD) { unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// leastPipe is a pipe that is worth it. To a user who has very many the kernel
// gives pipes of two pages.
const leastPipe = 64 << 10

func (p *epoll) Pipe(size int) (Pipe, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		return Pipe{None, None}, err
	}
	got, err := unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, size)
	if err != nil {
		got, err = unix.FcntlInt(uintptr(fds[1]), unix.F_GETPIPE_SZ, 0)
	}
	if err != nil || got < leastPipe {
		unix.Close(fds[0])
		unix.Close(fds[1])
		return Pipe{None, None}, ErrUnsupported
	}
	return Pipe{FD(fds[0]), FD(fds[1])}, nil
}

func (p *epoll) Splice(from, to FD, most int) (int, error) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0,
			uintptr(most), unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		switch errno {
		case 0:
			if n == 0 {
				return 0, io.EOF
			}
			return int(n), nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, ErrAgain
		default:
			return 0, errno
		}
	}
}

// rawReceive is read for a socket: the kernel's shorter way to it.
func rawReceive(fd int, b []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0, 0, 0)
	return int(n), errno
}
