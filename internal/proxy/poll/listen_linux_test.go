package poll

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

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

// A listener that refuses still hands out who had connected before; who comes
// later is neither connected nor reset once connected.
func TestRefuse(t *testing.T) {
	for _, ip := range []string{"127.0.0.1", "::1"} {
		p, err := New()
		if err != nil {
			t.Fatal(err)
		}
		fd, addr, err := p.Listen(netip.AddrPortFrom(netip.MustParseAddr(ip), 0), false)
		if err != nil {
			t.Fatal(err)
		}
		early, err := net.Dial("tcp", addr.String())
		if err != nil {
			t.Fatal(err)
		}
		p.(*epoll).Refuse(fd)
		late := make(chan error)
		go func() {
			c, err := net.Dial("tcp", addr.String())
			if err == nil {
				c.Close()
			}
			late <- err
		}()
		select {
		case err := <-late:
			t.Errorf("a late client's Dial returned %v while the listener refuses", err)
		case <-time.After(100 * time.Millisecond):
		}
		accepted, _, err := p.Accept(fd)
		if err != nil {
			t.Fatalf("the early client: %v", err)
		}
		if _, _, err := p.Accept(fd); err != ErrAgain {
			t.Errorf("another client was let in: %v", err)
		}
		p.Close(fd)
		if err := <-late; !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("the late client: %v, want ECONNREFUSED", err)
		}
		if _, err := p.Write(accepted, []byte("x")); err != nil {
			t.Errorf("to the early client: %v", err)
		}
		if _, err := early.Read(make([]byte, 1)); err != nil {
			t.Errorf("the early client: %v", err)
		}
		early.Close()
		p.Close(accepted)
		p.Shut()
	}
}
