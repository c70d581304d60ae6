//go:build linux

package main

import (
	"fmt"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// relayCommand makes this program a peer that is no proxy: it reads what is
// there, writes it to the other side and looks at nothing. It makes the system
// calls that any proxy of one connection in, one connection out has to make, so
// its CPU is the kernel's share, and a floor: a proxy that did its own work in no
// time at all would cost as much.
const relayCommand = "relay"

// relayMain is `bench relay LISTEN ORIGIN`: one thread, one epoll.
func relayMain(args []string) int {
	if err := joinAll(args[0], args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "relay:", err)
		return 1
	}
	return 0
}

func joinAll(listen, origin string) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	defer l.Close()
	lf, err := l.(*net.TCPListener).File()
	if err != nil {
		return err
	}
	defer lf.Close()
	listener := int(lf.Fd())
	to, err := net.ResolveTCPAddr("tcp4", origin)
	if err != nil {
		return err
	}
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	watch := func(fd int, how uint32) error {
		return unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: how, Fd: int32(fd)})
	}
	if err := watch(listener, unix.EPOLLIN); err != nil {
		return err
	}
	var other [1 << 16]int32 // the connection that a connection is joined to
	var events [256]unix.EpollEvent
	var buffer [16 << 10]byte
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(poll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), ^uintptr(0), 0, 0)
		if errno != 0 {
			continue // a signal
		}
		for _, e := range events[:n] {
			if int(e.Fd) == listener {
				in, out, err := joinNext(listener, to)
				if err != nil {
					return err
				}
				other[in], other[out] = int32(out), int32(in)
				if err := watch(in, unix.EPOLLIN|unix.EPOLLET&0xffffffff); err != nil {
					return err
				}
				if err := watch(out, unix.EPOLLIN|unix.EPOLLET&0xffffffff); err != nil {
					return err
				}
				continue
			}
			k, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(e.Fd), uintptr(unsafe.Pointer(&buffer[0])), uintptr(len(buffer)), 0, 0, 0)
			if errno == unix.EAGAIN {
				continue
			}
			if errno != 0 || k == 0 {
				unix.Close(int(e.Fd))
				unix.Close(int(other[e.Fd]))
				continue
			}
			syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(other[e.Fd]), uintptr(unsafe.Pointer(&buffer[0])), k, unix.MSG_NOSIGNAL, 0, 0)
		}
	}
}

// joinNext accepts a connection and opens one to the origin.
func joinNext(listener int, origin *net.TCPAddr) (in, out int, err error) {
	if in, _, err = unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC); err != nil {
		return 0, 0, fmt.Errorf("accept: %w", err)
	}
	if out, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return 0, 0, fmt.Errorf("socket: %w", err)
	}
	if err = unix.Connect(out, &unix.SockaddrInet4{Addr: [4]byte(origin.IP.To4()), Port: origin.Port}); err != nil {
		return 0, 0, fmt.Errorf("connect: %w", err)
	}
	for _, fd := range []int{in, out} {
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, "reno") // as Tulle does on loopback
	}
	return in, out, unix.SetNonblock(out, true)
}
