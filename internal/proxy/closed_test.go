package proxy_test

import (
	"bytes"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/h2"
	"tulle.dev/tulle/internal/view"

	wire "tulle.dev/tulle/internal/wire/h2"
)

// Many connections, each with as many requests as it may have, whose clients never
// open a window: what waits for them all has a bound, they are the ones that end,
// and who reads has whole answers meanwhile.
func TestClosedWindows(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector needs memory of its own: make test runs this again without it")
	}
	const (
		conns, streams, size = 60, 100, 100_000
		most                 = h2.MaxHeld / 8 * 9 // what comes in a turn is over it for the while
	)
	answer := bytes.Repeat([]byte("x"), size)
	program := serve(t, func(c net.Conn) {
		e := newEnd(c, true)
		e.engine.Init(&e.env, &h2.Config{Server: true, Trusted: true, MaxStreams: 1000, StreamWindow: 64 << 10, ConnWindow: 1 << 20})
		e.run(func(ev h2.Event) bool {
			switch ev.Kind {
			case h2.Request:
				e.env.PutHead(ev.Head)
				e.engine.BeginResponse(ev.Stream, 200)
				e.engine.EndHead(ev.Stream, false)
				e.engine.Write(ev.Stream, answer, true)
				e.engine.Done(ev.Stream)
				e.flush() // before the next one: the program holds nothing itself
			case h2.Reset:
				e.engine.Done(ev.Stream)
			}
			return true
		})
	})
	p := start(t, policyView(policy.DefaultRequest, view.HTTP2, program), 2)

	var ended, answered atomic.Int32
	for range conns {
		c, err := net.DialTimeout("tcp", p.addr(t, "http"), wait)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		go func() {
			e := newEnd(c, false)
			e.engine.Init(&e.env, &h2.Config{MaxStreams: streams, StreamWindow: wire.InitialWindow, ConnWindow: wire.InitialWindow})
			opened := 0
			open := func() {
				for ; opened < streams && e.engine.CanOpen(); opened++ {
					s := e.engine.Open(b("GET"), b("http"), b("x"), b("/"), nil)
					e.engine.EndHead(s, true)
				}
			}
			open()
			e.run(func(ev h2.Event) bool { // what comes is never Consumed
				switch ev.Kind {
				case h2.Response:
					answered.Add(1)
				case h2.Reset:
					e.engine.Done(ev.Stream)
				}
				return true
			})
			ended.Add(1)
		}()
	}
	// An innocent client, all the while.
	innocent, err := net.DialTimeout("tcp", p.addr(t, "http"), wait)
	if err != nil {
		t.Fatal(err)
	}
	defer innocent.Close()
	peak, whole := 0, 0
	for end := time.Now().Add(2 * wait); int(answered.Load()) < conns*streams*9/10 && time.Now().Before(end) || whole < 20; whole++ {
		if whole > 0 {
			innocent.Close()
			if innocent, err = net.DialTimeout("tcp", p.addr(t, "http"), wait); err != nil {
				t.Fatal(err)
			}
		}
		e := newEnd(innocent, false)
		innocent.SetDeadline(time.Now().Add(wait))
		s := e.engine.Open(b("GET"), b("http"), b("x"), b("/"), nil)
		e.engine.EndHead(s, true)
		got := 0
		err := e.run(func(ev h2.Event) bool {
			got += len(ev.Data)
			e.engine.Consumed(s, len(ev.Data))
			return !ev.End && ev.Kind != h2.Reset
		})
		if got != size {
			t.Fatalf("who reads got %d of %d bytes: %v", got, size, err)
		}
		peak = max(peak, p.Kept()["bytes for peers that don't take them"])
	}
	t.Logf("%d requests answered, %d of %d connections ended, %d MB held at most", answered.Load(), ended.Load(), conns, peak>>20)
	if peak > most {
		t.Errorf("%d MB are held, want at most %d MB", peak>>20, most>>20)
	}
	if ended.Load() == 0 {
		t.Error("no connection has ended: they hold less than the bound, or there is none")
	}
}
