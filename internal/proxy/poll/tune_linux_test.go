package poll

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// A host that dies is noticed by the kernel: within ten seconds where requests
// wait for an endpoint, later where a client may just be on a bad line. On this
// machine nobody can vanish.
func TestVanishedPeers(t *testing.T) {
	for _, test := range []struct {
		name, peer               string
		p                        *patience
		milliseconds, idle, keep int
	}{
		{"an endpoint", "192.0.2.1:80", &withEndpoints, 10_000, 5, 1},
		{"an endpoint of IPv6", "[2001:db8::1]:80", &withEndpoints, 10_000, 5, 1},
		{"a client", "192.0.2.1:80", &withStrangers, 30_000, 60, 1},
		{"a program beside the proxy", "127.0.0.1:80", &withEndpoints, 0, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			to := netip.MustParseAddrPort(test.peer)
			family, _ := sockaddr(to)
			fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			tune(FD(fd), to)
			if test.p == &withEndpoints {
				new(epoll).Hasten(FD(fd), to)
			}
			get := func(level, option int) int {
				v, err := unix.GetsockoptInt(fd, level, option)
				if err != nil {
					t.Fatal(err)
				}
				return v
			}
			if v := get(unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT); v != test.milliseconds {
				t.Errorf("bytes may be unacknowledged for %d ms, want %d", v, test.milliseconds)
			}
			if v := get(unix.SOL_SOCKET, unix.SO_KEEPALIVE); v != test.keep {
				t.Errorf("keep-alive probes: %d, want %d", v, test.keep)
			}
			if v := get(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE); test.keep == 1 && v != test.idle {
				t.Errorf("the first probe after %d s, want %d", v, test.idle)
			}
		})
	}
}
