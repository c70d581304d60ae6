package proxy_test

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/h2"
	"tulle.dev/tulle/internal/view"
)

// Thousands of requests whose bodies are kept for another try, and whose program
// takes them and never answers: what the proxy holds for them has a bound that
// isn't theirs, and all of it is given back when they end.
func TestStalledRetryBuffers(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector needs memory of its own: make test runs this again without it")
	}
	const (
		loops, size = 2, 60 << 10
		heldBodies  = 32 << 20 // of a loop
		each        = 24 << 10 // everything else about a request, its client included
	)
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	requests := min(10_000, (int(files.Cur)-500)/2) // two sockets each
	if requests < 1000 {
		t.Fatalf("%d files may be open: raise that (ulimit -n)", files.Cur)
	} else if requests < 10_000 {
		t.Logf("%d requests rather than 10000, for %d files may be open", requests, files.Cur)
	}
	var arrived atomic.Int32
	program := serve(t, swallows(&arrived, h2.Config{MaxStreams: 1000}))
	v := policyView(retrying(policy.ServerError), view.HTTP2, program)
	p := start(t, v, loops)
	before := inUse()
	request := append(fmt.Appendf(nil, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", size), bytes.Repeat([]byte("x"), size)...)
	open := make([]net.Conn, 0, requests)
	for range requests {
		c, err := net.DialTimeout("tcp", p.addr(t, "http"), wait)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(wait))
		if _, err := c.Write(request); err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	for end := time.Now().Add(2 * wait); int(arrived.Load()) < requests*95/100; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d of %d requests have come through", arrived.Load(), requests)
		}
	}
	held, most := inUse()-before, loops*heldBodies+requests*each
	t.Logf("%d MB for %d stalled requests of %d KB, %d bytes each", held>>20, requests, size>>10, held/requests)
	if held > most {
		t.Errorf("%d MB are held for %d requests, want at most %d MB", held>>20, requests, most>>20)
	}
	for _, c := range open {
		c.(*net.TCPConn).SetLinger(0) // an end in good order would still wait for the answer
		c.Close()
	}
	settled(t, p)
	happens(t, func() bool { return inUse()-before < most/4 })
}

// The same over HTTP/2, with bodies so short that each request's own would be kept.
func TestStalledRetryBuffersOfStreams(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector needs memory of its own: make test runs this again without it")
	}
	const (
		conns, streams, size = 40, 100, 15 << 10
		heldBodies           = 32 << 20 // of a loop
	)
	var arrived atomic.Int32
	var programs []netip.AddrPort // with room for all on a connection each
	for range 8 {
		programs = append(programs, serve(t, swallows(&arrived, h2.Config{Trusted: true, MaxStreams: 1000})))
	}
	p := start(t, policyView(retrying(policy.ServerError), view.HTTP2, programs...), 1)
	body := bytes.Repeat([]byte("x"), size)
	var open []net.Conn
	for i := range conns {
		c, err := net.DialTimeout("tcp", p.addr(t, "http"), wait)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		open = append(open, c)
		all := int32(i+1) * streams
		go func() {
			e := newEnd(c, false)
			sent := 0
			send := func() {
				for ; sent < streams && e.engine.CanOpen(); sent++ {
					s := e.engine.Open(b("PUT"), b("http"), b("x"), b("/"), nil)
					e.engine.EndHead(s, false)
					e.engine.Write(s, body, true)
				}
			}
			send()
			e.run(func(ev h2.Event) bool { send(); return true })
		}()
		// Not so many at once that some would have to wait for a connection.
		for end := time.Now().Add(wait); arrived.Load() < all; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%d of %d requests have come through", arrived.Load(), all)
			}
		}
	}
	const kept = "bytes of kept bodies"
	if n := p.Kept()[kept]; n > heldBodies || n < heldBodies-2*size {
		t.Errorf("%d bytes are kept for %d requests of %d bytes, want %d", n, conns*streams, size, heldBodies)
	}
	for _, c := range open {
		c.Close()
	}
	settled(t, p)
	happens(t, func() bool { return p.Kept()[kept] == 0 })
}

// swallows is a program that takes requests over HTTP/2, bodies and all, counts those
// that have come and answers none.
func swallows(arrived *atomic.Int32, cfg h2.Config) func(net.Conn) {
	cfg.Server, cfg.StreamWindow, cfg.ConnWindow = true, 64<<10, 1<<20
	return func(c net.Conn) {
		e := newEnd(c, true)
		e.engine.Init(&e.env, &cfg)
		e.run(func(ev h2.Event) bool {
			switch ev.Kind {
			case h2.Request:
				e.env.PutHead(ev.Head)
			case h2.Body:
				e.engine.Consumed(ev.Stream, len(ev.Data))
			case h2.Reset:
				e.engine.Done(ev.Stream)
			}
			if ev.End {
				arrived.Add(1)
			}
			return true
		})
	}
}

// inUse is what the heap holds.
func inUse() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
