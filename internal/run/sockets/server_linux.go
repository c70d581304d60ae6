package sockets

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Serve answers one proxy's requests on its end of a pair until the proxy ends,
// which returns nil, or ctx does. It makes the sockets in the calling process's
// network namespace and keeps none of them. It closes end.
func Serve(ctx context.Context, end *os.File) error {
	defer end.Close()
	fd := int(end.Fd()) // makes it blocking
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(woken)
		unix.Shutdown(fd, unix.SHUT_RDWR)
	})
	defer func() {
		if !stop() {
			<-woken
		}
	}()
	families := available()
	for {
		var buf [requestSize + 1]byte
		n, _, _, _, err := unix.Recvmsg(fd, buf[:], nil, 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ECONNRESET), err == nil && n == 0:
			return ctx.Err()
		case err != nil:
			return fmt.Errorf("sockets: receive a request: %w", err)
		}
		r, err := parseRequest(buf[:n])
		if err != nil {
			a := answer{status: statusFailed, families: families, text: err.Error()}
			if n >= requestSize {
				a.id = binary.BigEndian.Uint32(buf[4:])
			}
			err = unix.Sendmsg(fd, a.append(nil), nil, nil, unix.MSG_NOSIGNAL)
		} else {
			err = reply(fd, r, families)
		}
		if err != nil {
			if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
				return ctx.Err()
			}
			return fmt.Errorf("sockets: answer a request: %w", err)
		}
	}
}

// NewPair returns the two ends of a socket pair: one for Serve, one for a
// proxy to inherit. Both are close-on-exec.
func NewPair() (server, client *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("sockets: socket pair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "sockets-server"), os.NewFile(uintptr(fds[1]), "sockets-client"), nil
}

func reply(fd int, r request, families uint8) error {
	a := answer{families: families, id: r.id}
	var fds []int
	if r.kind != Families {
		for range r.count {
			s, err := open(r.kind, r.family)
			if err != nil {
				closeAll(fds)
				fds, a.status, a.text = nil, statusFailed, err.Error()
				break
			}
			fds = append(fds, s)
		}
		defer func() { closeAll(fds) }()
	}
	a.count = len(fds)
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	return unix.Sendmsg(fd, a.append(nil), oob, nil, unix.MSG_NOSIGNAL)
}

// available tells which families have a loopback address here.
func available() (bits uint8) {
	loopback := map[uint8]unix.Sockaddr{
		bitIPv4: &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}},
		bitIPv6: &unix.SockaddrInet6{Addr: [16]byte{15: 1}},
	}
	for bit, address := range loopback {
		domain := unix.AF_INET
		if bit == bitIPv6 {
			domain = unix.AF_INET6
		}
		fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			continue
		}
		if unix.Bind(fd, address) == nil {
			bits |= bit
		}
		unix.Close(fd)
	}
	return bits
}

func open(kind Kind, family Family) (fd int, err error) {
	domain := unix.AF_INET
	if family == IPv6 {
		domain = unix.AF_INET6
	}
	typ := unix.SOCK_STREAM
	if kind == NamesUDP {
		typ = unix.SOCK_DGRAM
	}
	fd, err = unix.Socket(domain, typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	if kind == Dial {
		return fd, nil
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
			fd = -1
		}
	}()
	if family == IPv6 {
		if err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return fd, fmt.Errorf("IPV6_V6ONLY: %w", err)
		}
	}
	if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return fd, fmt.Errorf("SO_REUSEADDR: %w", err)
	}
	if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return fd, fmt.Errorf("SO_REUSEPORT: %w", err)
	}
	at := kind.Address(family)
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: int(at.Port()), Addr: [4]byte{127, 0, 0, 1}}
	if family == IPv6 {
		sa = &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
	}
	if err = unix.Bind(fd, sa); err != nil {
		return fd, fmt.Errorf("bind %s: %w", at, err)
	}
	if typ == unix.SOCK_STREAM {
		if err = unix.Listen(fd, Backlog); err != nil {
			return fd, fmt.Errorf("listen on %s: %w", at, err)
		}
	}
	return fd, nil
}
