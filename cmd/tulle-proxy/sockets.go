package main

import (
	"fmt"
	"net/netip"

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

func family(six bool) sockets.Family {
	if six {
		return sockets.IPv6
	}
	return sockets.IPv4
}
