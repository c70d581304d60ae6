package poll

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// backlog is how many connections may wait to be accepted.
	backlog = 4096
)

// patience is how long a peer may be silent that has vanished without a word.
type patience struct {
	// unacknowledged is how long sent bytes may stay so before the kernel gives
	// the connection up.
	unacknowledged time.Duration
	// A silent connection is asked after idle, and then every interval, whether
	// its peer is still there: it may carry a tunnel that never ends, or requests
	// that wait for their answers.
	idle, every time.Duration
}

var (
	// A client may be on a bad line, and there may be very many.
	withStrangers = patience{30 * time.Second, 60 * time.Second, 15 * time.Second}
	// Of an endpoint's host that has died requests should go elsewhere soon.
	withEndpoints = patience{10 * time.Second, 5 * time.Second, 2 * time.Second}
)

// Listening sockets share their port between loops: the kernel deals
// connections out.
func listenSocket(addr netip.AddrPort) (FD, netip.AddrPort, error) {
	family, sa := sockaddr(addr)
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return None, netip.AddrPort{}, fmt.Errorf("socket: %w", err)
	}
	fail := func(what string, err error) (FD, netip.AddrPort, error) {
		unix.Close(fd)
		return None, netip.AddrPort{}, fmt.Errorf("%s %s: %w", what, addr, err)
	}
	for _, option := range []int{unix.SO_REUSEADDR, unix.SO_REUSEPORT} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, 1); err != nil {
			return fail("setsockopt", err)
		}
	}
	if family == unix.AF_INET6 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return fail("setsockopt", err)
		}
	}
	if err := unix.Bind(fd, sa); err != nil {
		return fail("bind", err)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return fail("listen", err)
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		return fail("getsockname", err)
	}
	return FD(fd), addrPort(bound), nil
}

// claim reports an error when somebody listens on addr. SO_REUSEPORT would let
// any program of the same user in, which would then get a share of the
// connections; a socket without it is refused.
func claim(addr netip.AddrPort) error {
	if addr.Port() == 0 {
		return nil
	}
	family, sa := sockaddr(addr)
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)
	// Connections of an earlier listener may be left: they don't count.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return fmt.Errorf("setsockopt %s: %w", addr, err)
	}
	if family == unix.AF_INET6 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return fmt.Errorf("setsockopt %s: %w", addr, err)
		}
	}
	if err := unix.Bind(fd, sa); err != nil {
		return fmt.Errorf("bind %s: %w", addr, err)
	}
	return nil
}

// Refuse lets a listening socket take no new connections; handshakes that are
// under way end, and Accept returns theirs. Closing the socket would reset them,
// and any that came between the last Accept and the close.
//
// A filter drops the segments that ask for a connection (SYN without ACK). Who
// sent one repeats it after a second, and is told then that nobody listens.
func (p *epoll) Refuse(listener FD) {
	const flags, syn, ack = 13, 0x02, 0x10 // RFC 9293, section 3.1: byte and bits of the header
	filter := [...]unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: flags},
		{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: syn | ack},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: syn},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
		{Code: unix.BPF_RET | unix.BPF_K, K: math.MaxUint32},
	}
	// Where the kernel doesn't take it, the last few may be reset.
	unix.SetsockoptSockFprog(int(listener), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
}

// tune makes a connection's socket fit for a proxy: what is written leaves at
// once, and a peer that vanished is noticed.
//
// A peer on this machine can't vanish without a word, and between two programs
// of one machine there is no network whose congestion one could control: the
// simplest algorithm, which every kernel has and allows, costs least (against
// BBR some 4 % of a request's CPU).
func tune(fd FD, peer netip.AddrPort) {
	set := func(level, option, value int) { unix.SetsockoptInt(int(fd), level, option, value) }
	set(unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if peer.Addr().IsLoopback() {
		unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, "reno")
		return
	}
	wait(fd, peer, &withStrangers)
}

// wait says how patient the kernel is with a peer; on this machine nobody
// vanishes.
func wait(fd FD, peer netip.AddrPort, p *patience) {
	if peer.Addr().IsLoopback() {
		return
	}
	set := func(level, option, value int) { unix.SetsockoptInt(int(fd), level, option, value) }
	set(unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(p.unacknowledged.Milliseconds()))
	set(unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	set(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(p.idle.Seconds()))
	set(unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(p.every.Seconds()))
}

// rawSockaddr is room for an address as accept4 writes it.
type rawSockaddr [unix.SizeofSockaddrInet6]byte

func (r *rawSockaddr) addrPort() netip.AddrPort {
	port := binary.BigEndian.Uint16(r[2:])
	switch binary.NativeEndian.Uint16(r[:]) {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(r[4:8])), port)
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(r[8:24])).Unmap(), port)
	}
	return netip.AddrPort{}
}

// The name of the option that holds a redirected connection's first
// destination (linux/netfilter_ipv4.h, linux/netfilter_ipv6/ip6_tables.h).
const soOriginalDst = 80

func (p *epoll) Original(fd FD) (netip.AddrPort, error) {
	local, err := unix.Getsockname(int(fd))
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("getsockname: %w", err)
	}
	levels := []uintptr{unix.IPPROTO_IP}
	if _, six := local.(*unix.SockaddrInet6); six {
		levels = []uintptr{unix.IPPROTO_IPV6, unix.IPPROTO_IP}
	}
	for _, level := range levels {
		var name rawSockaddr
		size := uint32(len(name))
		_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), level, soOriginalDst,
			uintptr(unsafe.Pointer(&name)), uintptr(unsafe.Pointer(&size)), 0)
		if errno == 0 {
			return name.addrPort(), nil
		}
	}
	return addrPort(local), nil
}
