package poll

import (
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// Two proxies told the same address must not share its connections unseen; the
// loops of one proxy do share them.
func TestListenClaimsItsAddress(t *testing.T) {
	for _, ip := range []string{"127.0.0.1", "::1"} {
		mine, err := New()
		if err != nil {
			t.Fatal(err)
		}
		fd, addr, err := mine.Listen(netip.AddrPortFrom(netip.MustParseAddr(ip), 0), false)
		if err != nil {
			t.Fatal(err)
		}
		another, _, err := mine.Listen(addr, true)
		if err != nil {
			t.Fatalf("another loop of the same proxy: %v", err)
		}
		if _, _, err := mine.Listen(addr, false); !errors.Is(err, unix.EADDRINUSE) {
			t.Errorf("another proxy on %s: %v, want EADDRINUSE", addr, err)
		}
		mine.Close(fd)
		mine.Close(another)
		again, _, err := mine.Listen(addr, false)
		if err != nil {
			t.Errorf("once it is free: %v", err)
		}
		mine.Close(again)
		mine.Shut()
	}
}
