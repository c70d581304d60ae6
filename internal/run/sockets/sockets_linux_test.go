package sockets

import (
	"context"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

func pair(t *testing.T) *Client {
	t.Helper()
	server, client, err := NewPair()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background()) // t.Context ends before Cleanup
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, server) }()
	fd, err := unix.Dup(int(client.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	client.Close()
	c, err := NewClient(fd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		cancel()
	})
	return c
}

func TestDialer(t *testing.T) {
	c := pair(t)
	if !c.Has(IPv4) {
		t.Fatal("no IPv4")
	}
	seen := map[int]bool{}
	for range 3 * poolSize {
		fd, err := c.Dialer().Take(IPv4)
		if err != nil {
			t.Fatal(err)
		}
		if seen[fd] {
			t.Fatalf("descriptor %d handed out twice", fd)
		}
		seen[fd] = true
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		if err != nil || flags&unix.O_NONBLOCK == 0 {
			t.Errorf("descriptor %d: flags %#x, %v: want O_NONBLOCK", fd, flags, err)
		}
	}
	for fd := range seen {
		unix.Close(fd)
	}
}

func TestServeEndsWithContext(t *testing.T) {
	server, client, err := NewPair()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, server) }()
	cancel()
	if err := <-served; !errors.Is(err, context.Canceled) {
		t.Errorf("Serve: %v, want context.Canceled", err)
	}
}

func TestAnswerAboutFailure(t *testing.T) {
	c := pair(t)
	if _, err := c.Sockets(Dial, 5, 1); err == nil {
		t.Error("family 5: want an error")
	}
}
