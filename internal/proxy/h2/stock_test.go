package h2

import (
	"testing"
	"time"

	wire "tulle.dev/tulle/internal/wire/h2"
)

// laden makes a connection of that loop whose peer takes nothing of n answers, of
// size bytes each, that have waited since then.
func laden(t *testing.T, e *Env, since time.Duration, shared bool, n, size int) *rig {
	cfg := testConfig(true)
	cfg.Shared = shared
	r := &rig{t: t, env: e, c: new(Conn), streams: map[uint32]*Stream{}}
	e.Now = since
	r.c.Init(e, cfg)
	r.in = append(r.in, wire.Preface...)
	r.in = wire.AppendSettings(r.in, wire.Setting{ID: wire.InitialWindowSize})
	r.in = wire.AppendSettingsAck(r.in)
	for i := range n {
		r.get(uint32(2*i + 1))
	}
	r.turn()
	for _, s := range r.streams {
		r.c.BeginResponse(s, 200)
		r.c.EndHead(s, false)
		r.c.Write(s, make([]byte, size), false)
		if size >= SendBuffer && r.c.Room(s) > 0 {
			t.Fatal("there is room in a full stream")
		}
	}
	r.rest()
	return r
}

// What all connections of all loops hold has a bound. Whoever holds most for
// longest ends first, on whichever loop; one that holds little goes on.
func TestStock(t *testing.T) {
	var stock Stock
	stock.Limit = 8 << 20
	woken := make([]int, 2)
	envs := [2]*Env{{}, {}}
	for i, e := range envs {
		e.Join(&stock, func() { woken[i]++ })
	}
	const each = 10 * (SendBuffer + behind) // of a connection
	var all []*rig
	held := func() int { return envs[0].Held() + envs[1].Held() }
	// The first loop's are older, and more.
	for i := range 10 {
		e := envs[i/8]
		all = append(all, laden(t, e, time.Hour+time.Duration(i)*time.Second, false, 10, SendBuffer))
		over := e.Settle()
		if want := held() > int(stock.Limit); over != want {
			t.Fatalf("%d connections hold %d, over: %t", len(all), held(), over)
		}
		for over {
			c := e.Relieve()
			if c == nil && woken[0] > 0 {
				woken[0] = 0
				c = envs[0].Relieve()
			}
			if c == nil {
				break
			}
		}
		if held() > int(stock.Limit)+2*lot {
			t.Fatalf("%d connections hold %d", len(all), held())
		}
	}
	ended := 0
	for i, r := range all {
		if r.c.Err() != nil {
			if ended++; i >= 8 {
				t.Errorf("connection %d has ended, which holds as much for a shorter time", i)
			}
		}
	}
	if want := 10 - int(stock.Limit)/each; ended != want || all[0].c.Err() == nil {
		t.Errorf("%d connections have ended, want %d, the oldest among them", ended, want)
	}
	// Everything is given back.
	for _, r := range all {
		r.c.Fail(errTest("end"))
		for _, s := range r.streams {
			r.c.Done(s)
		}
		r.rest()
	}
	if envs[0].Settle() || envs[1].Settle() || held() != 0 || stock.total.Load() != 0 {
		t.Errorf("%d bytes are held at the end, %d counted", held(), stock.total.Load())
	}
}

// Of a connection that many clients share only streams end, the worst ones, and
// streams get less room long before.
func TestStockShared(t *testing.T) {
	var stock Stock
	var e Env
	e.Join(&stock, func() { t.Error("woken") })
	little := laden(t, &e, time.Hour, false, 1, 100)
	r := laden(t, &e, time.Hour+time.Second, true, 10, SendBuffer)
	s := little.streams[1]
	for _, row := range []struct{ limit, room int }{{2 * e.Held(), SendBuffer}, {2*e.Held() - 2, scarceBuffer}} {
		stock.Limit = int64(row.limit)
		if e.Settle() {
			t.Fatal("too much at half of the limit")
		}
		if room := little.c.Room(s); room != row.room-100 {
			t.Errorf("%d bytes of %d are held: there is room for %d more of a stream with 100, want %d", e.Held(), row.limit, room, row.room-100)
		}
	}
	stock.Limit = int64(e.Held()) - 1
	e.Now += time.Second
	if c := e.Relieve(); c != r.c || c.Err() != nil {
		t.Fatal("the shared connection isn't the one that is relieved")
	}
	if c := e.Relieve(); c != nil {
		t.Error("more than enough is ended")
	}
	r.rest()
	open := 0
	for s := r.c.firstOpen; s != nil; s = s.nextOpen {
		open++
	}
	if open != 9 {
		t.Errorf("%d of 10 streams are left, want 9: %q", open, r.log)
	}
}
