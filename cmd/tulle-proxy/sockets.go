package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tulle.dev/tulle/internal/run/sockets"
)

// namespaceSockets gets sockets of the program's network namespace from `tulle
// run`.
type namespaceSockets struct{ client *sockets.Client }

func newNamespaceSockets(fd int) (*namespaceSockets, error) {
	c, err := sockets.NewClient(fd)
	if err != nil {
		return nil, fmt.Errorf("--sockets %d: %w", fd, err)
	}
	return &namespaceSockets{c}, nil
}

func (s *namespaceSockets) close() { s.client.Close() }

// Capture returns a listening socket for redirected connections.
func (s *namespaceSockets) Capture(addr netip.AddrPort) (int, error) {
	fds, err := s.client.Sockets(sockets.Capture, family(addr.Addr().Is6()), 1)
	if err != nil {
		return -1, err
	}
	return fds[0], nil
}

// Dial returns a socket to reach the program with.
func (s *namespaceSockets) Dial(six bool) (int, bool) {
	return s.client.Dialer().TryTake(family(six))
}

// Names returns the sockets where the program's DNS queries arrive.
func (s *namespaceSockets) Names(at netip.AddrPort) (net.PacketConn, net.Listener, error) {
	six := family(at.Addr().Is6())
	fd, err := s.client.Sockets(sockets.NamesUDP, six, 1)
	if err != nil {
		return nil, nil, err
	}
	file := os.NewFile(uintptr(fd[0]), "names-udp")
	udp, err := net.FilePacketConn(file)
	file.Close() // it was duplicated
	if err != nil {
		return nil, nil, err
	}
	if fd, err = s.client.Sockets(sockets.NamesTCP, six, 1); err != nil {
		udp.Close()
		return nil, nil, err
	}
	file = os.NewFile(uintptr(fd[0]), "names-tcp")
	tcp, err := net.FileListener(file)
	file.Close()
	if err != nil {
		udp.Close()
		return nil, nil, err
	}
	return udp, tcp, nil
}

// Probe reports whether the program takes connections at an address of its
// namespace.
func (s *namespaceSockets) Probe(ctx context.Context, addr netip.AddrPort) error {
	fd, err := s.client.Dialer().Take(family(addr.Addr().Is6()))
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var to unix.Sockaddr
	if addr.Addr().Is4() {
		to = &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
	} else {
		to = &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()}
	}
	if err := unix.Connect(fd, to); !errors.Is(err, unix.EINPROGRESS) {
		return err
	}
	wait := time.Second
	if end, ok := ctx.Deadline(); ok {
		wait = max(time.Until(end), 0)
	}
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, int(wait.Milliseconds()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return context.DeadlineExceeded
		}
		break
	}
	if code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil {
		return err
	} else if code != 0 {
		return syscall.Errno(code)
	}
	return nil
}

func family(six bool) sockets.Family {
	if six {
		return sockets.IPv6
	}
	return sockets.IPv4
}
