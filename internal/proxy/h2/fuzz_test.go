package h2

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	wire "tulle.dev/tulle/internal/wire/h2"
)

// check holds a connection to what must always be true.
func check(t testing.TB, c *Conn) {
	t.Helper()
	open, waiting, queued := 0, 0, 0
	ready := map[*Stream]bool{}
	for s := c.ready.first; s != nil; s = s.nextReady {
		ready[s] = true
	}
	var held int64
	for s := c.firstOpen; s != nil; s = s.nextOpen {
		open++
		if c.streams[s.ID] != s || s.closed {
			t.Fatalf("stream %d is listed and not open", s.ID)
		}
		if s.queued > 0 {
			waiting++
		}
		n := 0
		for k := s.first; k != nil; k = k.next {
			n += k.w - k.r
		}
		if n != s.queued {
			t.Fatalf("stream %d: %d bytes queued, counted %d", s.ID, n, s.queued)
		}
		if want := s.queued > 0 && s.sendWindow > 0; ready[s] != want || s.inReady != want {
			t.Fatalf("stream %d: ready %t, %d queued, window %d", s.ID, ready[s], s.queued, s.sendWindow)
		}
		if s.recvWindow < 0 || s.held < 0 || s.recvWindow+s.held+s.owed > int64(c.cfg.StreamWindow) {
			t.Fatalf("stream %d: window %d, held %d, owed %d", s.ID, s.recvWindow, s.held, s.owed)
		}
		held += s.held
		queued += s.queued
	}
	if open != len(c.streams) || open > c.slots {
		t.Fatalf("%d streams listed, %d in the map, %d slots", open, len(c.streams), c.slots)
	}
	if waiting != c.waiting || queued != c.queued {
		t.Fatalf("%d streams wait with %d bytes, counted %d with %d", waiting, queued, c.waiting, c.queued)
	}
	laden := false
	for l := c.env.laden; l != nil; l = l.nextLaden {
		laden = laden || l == c
	}
	if laden != (waiting > 0) {
		t.Fatalf("%d streams wait, laden: %t", waiting, laden)
	}
	if c.cfg.Server && c.taken > int(c.cfg.MaxStreams) || c.taken > c.slots || c.taken < open {
		t.Fatalf("%d slots taken, %d streams given out, %d open", c.taken, c.slots, open)
	}
	if c.recvWindow < 0 || !c.cfg.Shared && c.recvWindow+c.owed+held != int64(c.cfg.ConnWindow) && c.err == nil ||
		c.cfg.Shared && c.recvWindow+c.owed != int64(c.cfg.ConnWindow) && c.err == nil {
		t.Fatalf("connection's window %d, owed %d, held %d", c.recvWindow, c.owed, held)
	}
	if c.sendWindow < 0 || c.sendWindow > wire.MaxWindow && c.err == nil {
		t.Fatalf("connection may send %d", c.sendWindow)
	}
	if len(c.out) > 2*MaxOutput+MaxList {
		t.Fatalf("%d bytes of output in one turn", len(c.out))
	}
}

// FuzzServer throws any frames at a server whose owner answers each request in
// a way that depends on the input, and checks the invariants after every step.
func FuzzServer(f *testing.F) {
	seed := func(build func(r *rig)) {
		r := newRig(f, true)
		build(r)
		f.Add(r.in, uint8(0))
		f.Add(r.in, uint8(7))
	}
	seed(func(r *rig) { r.get(1); r.post(3, "content-length: 3"); r.data(3, true, "abc") })
	seed(func(r *rig) {
		r.post(1)
		r.data(1, false, "abc")
		r.headers(1, true, "x: y")
		r.frame(wire.Ping, 0, 0, "12345678")
	})
	seed(func(r *rig) { r.get(1); r.in = wire.AppendRSTStream(r.in, 1, wire.Cancel); r.get(5); r.get(3) })
	seed(func(r *rig) {
		r.in = wire.AppendSettings(r.in, wire.Setting{ID: wire.InitialWindowSize, Value: 3})
		r.get(1)
		r.in = wire.AppendWindowUpdate(r.in, 1, 100)
		r.in = wire.AppendGoAway(r.in, 0, 0, "")
	})
	seed(func(r *rig) {
		r.frame(wire.Headers, 0, 1, string(r.block(":method: GET", ":scheme: http")))
		r.frame(wire.Continuation, 4, 1, string(r.block(":path: /", ":authority: a", "cookie: a", "cookie: b")))
		r.frame(wire.Data, wire.FlagPadded, 1, "\x02abc\x00\x00")
	})
	for typ := range 256 {
		f.Add(wire.AppendHeader(nil, wire.Header{Length: 0, Type: wire.Type(typ), Flags: wire.Flags(typ), Stream: 1}), uint8(typ))
	}
	f.Fuzz(func(t *testing.T, in []byte, mode uint8) {
		r := newRig(t, true)
		var owned []*Stream
		for len(in) > 0 {
			k := min(len(in), 1+int(mode)*13)
			r.in = append(r.in, in[:k]...)
			in = in[k:]
			for {
				n, ev := r.c.Feed(r.in)
				r.in = r.in[n:]
				if n == 0 && ev.Kind == None {
					break
				}
				owned = play(r, ev, owned, mode)
				check(t, r.c)
			}
			owned = pollAll(r, owned, mode)
			if mode%4 != 1 { // else the peer takes nothing
				r.c.Flush(int(mode) * 1000)
				check(t, r.c)
				r.c.Flushed()
				r.c.Unsent(0)
			}
			r.env.Now += time.Duration(mode) * time.Millisecond
			r.c.Tick()
			check(t, r.c)
			if len(r.in) > wire.MinMaxFrameSize+wire.HeaderLen {
				if !r.c.Blocked() {
					t.Fatalf("%d bytes are not taken", len(r.in))
				}
				r.c.Flushed()
				r.c.Unsent(0)
			}
		}
		r.c.Fail(errTest("end"))
		owned = pollAll(r, owned, mode)
		for _, s := range owned {
			r.c.Done(s)
		}
		for ev := r.c.Poll(); ev.Kind != None; ev = r.c.Poll() {
			if ev.Kind != Closed {
				t.Fatalf("event %d after the end", ev.Kind)
			}
		}
		if r.c.Streams() != 0 || len(r.c.streams) != 0 || r.c.heldHeads != 0 {
			t.Fatalf("%d streams left over, %d bytes of heads", r.c.Streams(), r.c.heldHeads)
		}
	})
}

// FuzzClient throws any frames at a client with requests under way: a proxy is
// the client of servers that may be hostile.
func FuzzClient(f *testing.F) {
	seed := func(build func(r *rig)) {
		r := newRig(f, false)
		build(r)
		f.Add(r.in, uint8(3))
	}
	seed(func(r *rig) { r.headers(1, false, ":status: 200", "content-length: 3"); r.data(1, true, "abc") })
	seed(func(r *rig) {
		r.headers(1, false, ":status: 103")
		r.headers(1, false, ":status: 200")
		r.headers(1, true, "grpc-status: 0")
	})
	seed(func(r *rig) {
		r.in = wire.AppendRSTStream(r.in, 3, wire.RefusedStream)
		r.in = wire.AppendGoAway(r.in, 1, 0, "bye")
	})
	seed(func(r *rig) {
		r.in = wire.AppendSettings(r.in, wire.Setting{ID: wire.InitialWindowSize, Value: 0}, wire.Setting{ID: wire.MaxFrameSize, Value: 0})
		r.in = wire.AppendWindowUpdate(r.in, 1, wire.MaxWindow)
	})
	f.Fuzz(func(t *testing.T, in []byte, mode uint8) {
		r := newRig(t, false)
		var owned []*Stream
		for i := range 4 {
			s := r.open([]string{"GET", "HEAD", "POST", "CONNECT"}[i], i < 2)
			if i == 2 {
				r.c.Write(s, make([]byte, 70000), mode%2 == 0)
			}
			owned = append(owned, s)
		}
		end := func(s *Stream) {
			for i, x := range owned {
				if x == s {
					owned = append(owned[:i], owned[i+1:]...)
					r.c.Done(s)
					return
				}
			}
			t.Fatalf("an event for stream %d, which isn't owned", s.ID)
		}
		act := func(ev *Event) {
			r.env.PutHead(ev.Head)
			switch {
			case ev.Kind == Body && mode%3 > 0:
				r.c.Consumed(ev.Stream, len(ev.Data))
			case ev.Kind == Reset:
				end(ev.Stream)
				return
			}
			if ev.End && mode%5 > 0 {
				end(ev.Stream)
			}
		}
		for len(in) > 0 {
			k := min(len(in), 1+int(mode)*13)
			r.in = append(r.in, in[:k]...)
			in = in[k:]
			for {
				n, ev := r.c.Feed(r.in)
				r.in = r.in[n:]
				if n == 0 && ev.Kind == None {
					break
				}
				act(ev)
				check(t, r.c)
			}
			for ev := r.c.Poll(); ev.Kind != None; ev = r.c.Poll() {
				act(ev)
			}
			r.c.Flush(int(mode) * 1000)
			r.c.Flushed()
			r.c.Unsent(0)
			r.env.Now += time.Duration(mode) * time.Millisecond
			r.c.Tick()
			check(t, r.c)
		}
		r.c.Fail(errTest("end"))
		for ev := r.c.Poll(); ev.Kind != None; ev = r.c.Poll() {
			act(ev)
		}
		for len(owned) > 0 {
			end(owned[0])
		}
		for ev := r.c.Poll(); ev.Kind != None; ev = r.c.Poll() {
		}
		if r.c.Streams() != 0 || r.c.heldHeads != 0 {
			t.Fatalf("%d streams left over, %d bytes of heads", r.c.Streams(), r.c.heldHeads)
		}
	})
}

func pollAll(r *rig, owned []*Stream, mode uint8) []*Stream {
	for ev := r.c.Poll(); ev.Kind != None; ev = r.c.Poll() {
		owned = play(r, ev, owned, mode)
		check(r.t, r.c)
	}
	return owned
}

// play is an owner.
func play(r *rig, ev *Event, owned []*Stream, mode uint8) []*Stream {
	c, s := r.c, ev.Stream
	drop := func() {
		for i, x := range owned {
			if x == s {
				owned = append(owned[:i], owned[i+1:]...)
				c.Done(s)
				return
			}
		}
		r.t.Fatalf("event %d for a stream that isn't owned", ev.Kind)
	}
	switch ev.Kind {
	case Request:
		owned = append(owned, s)
		r.env.PutHead(ev.Head)
		switch mode % 5 {
		case 0: // answer at once
			c.BeginResponse(s, 200)
			c.EndHead(s, false)
			c.Write(s, bytes.Repeat([]byte("x"), int(mode)*500), true)
		case 1: // answer in two, let go at once
			c.BeginResponse(s, 200)
			c.EndHead(s, false)
			c.Write(s, make([]byte, 70000), false)
			c.BeginTrailers(s)
			c.Field([]byte("T"), []byte("v"), false)
			c.EndHead(s, true)
			drop()
		case 2:
			c.Reset(s, wire.InternalError)
		case 3: // wait
		case 4:
			drop()
		}
	case Body:
		if mode%3 != 0 {
			c.Consumed(s, len(ev.Data))
		}
		c.Watch(s)
		if ev.End && mode%2 == 0 {
			drop()
		}
	case Trailers:
		r.env.PutHead(ev.Head)
		drop()
	case Reset:
		drop()
	}
	return owned
}

// Two engines, random requests, random pieces of network: every byte arrives
// once and in order, every stream ends, nothing is left over.
func TestPair(t *testing.T) {
	seeds := uint64(200)
	if testing.Short() {
		seeds = 20
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { pair(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

// side is one engine of a pair, and the bytes on their way to it.
type side struct {
	c   *Conn
	in  []byte
	got map[uint32]int // bytes of bodies
	end map[uint32]bool
}

func pair(t *testing.T, rnd *rand.Rand) {
	env := new(Env)
	env.Now = time.Hour
	const requests = 30
	client, server := newSide(env, false, rnd), newSide(env, true, rnd)
	sizes := map[uint32]int{} // both ways
	sent := map[*Stream]int{}
	answered := 0
	opened := 0
	var live []*Stream // of the client
	var serving []*Stream
	finish := func(s *Stream) { delete(sent, s); s.conn.Done(s); answered++ }
	write := func(s *Stream) {
		n := min(s.conn.Room(s), 1+rnd.IntN(20000), sizes[s.ID]-sent[s])
		if n < 0 || s.pendingEnd() || s.closed {
			return
		}
		p := make([]byte, n)
		for i := range p {
			p[i] = byte(int(s.ID) + sent[s] + i)
		}
		sent[s] += n
		last := sent[s] == sizes[s.ID]
		if last && rnd.IntN(2) == 0 {
			s.conn.Write(s, p, false)
			s.conn.BeginTrailers(s)
			s.conn.Field([]byte("sum"), []byte("x"), false)
			s.conn.EndHead(s, true)
			return
		}
		s.conn.Write(s, p, last)
	}
	handle := func(d *side, ev *Event) {
		s := ev.Stream
		switch ev.Kind {
		case Request:
			env.PutHead(ev.Head)
			d.end[s.ID] = ev.End
			serving = append(serving, s)
			s.conn.BeginResponse(s, 200)
			s.conn.Field([]byte("x-id"), []byte(fmt.Sprint(s.ID)), false)
			s.conn.EndHead(s, false)
		case Response:
			if v, _ := ev.Head.Get("x-id"); string(v) != fmt.Sprint(s.ID) {
				t.Fatalf("response %s on stream %d", v, s.ID)
			}
			env.PutHead(ev.Head)
		case Body:
			for i, b := range ev.Data {
				if b != byte(int(s.ID)+d.got[s.ID]+i) {
					t.Fatalf("stream %d: byte %d is wrong", s.ID, d.got[s.ID]+i)
				}
			}
			d.got[s.ID] += len(ev.Data)
		case Trailers:
			env.PutHead(ev.Head)
		case Reset:
			t.Fatalf("stream %d reset: %v", s.ID, ev.Code)
		case Closed:
			t.Fatalf("closed: %v", d.c.Err())
		}
		if ev.End {
			d.end[s.ID] = true
		}
	}
	// The client knows the server's settings before it asks: until then it may
	// open more streams than the server takes, and rightly sees some refused.
	settings := bytes.Clone(server.c.Flush(MaxOutput))
	server.c.Flushed()
	server.c.Unsent(0)
	for len(settings) > 0 {
		n, ev := client.c.Feed(settings)
		settings = settings[n:]
		handle(client, ev)
	}
	for turn := 0; answered < 2*requests; turn++ {
		if turn > 30000 {
			t.Fatalf("no end: %d of %d", answered, 2*requests)
		}
		env.Now += time.Duration(rnd.IntN(100)) * time.Microsecond
		for opened < requests && client.c.CanOpen() && rnd.IntN(3) == 0 {
			size := rnd.IntN(200)
			if rnd.IntN(4) == 0 {
				size = rnd.IntN(300000)
			}
			s := client.c.Open([]byte("POST"), []byte("http"), []byte("a"), []byte("/x"), nil)
			client.c.EndHead(s, false)
			sizes[s.ID] = size
			live = append(live, s)
			opened++
		}
		for _, s := range live {
			write(s)
		}
		for _, s := range serving {
			write(s)
		}
		for _, d := range []*side{client, server} {
			k := min(len(d.in), rnd.IntN(30000))
			had := d.in[:k:k]
			for {
				n, ev := d.c.Feed(had)
				had, d.in = had[n:], d.in[n:]
				handle(d, ev)
				if n == 0 && ev.Kind == None {
					break
				}
			}
			if len(d.in) > 0 && k == len(d.in) && rnd.IntN(2) == 0 {
				continue
			}
			for ev := d.c.Poll(); ev.Kind != None; ev = d.c.Poll() {
				handle(d, ev)
			}
			for _, list := range [][]*Stream{live, serving} {
				for _, s := range list {
					if s.conn == d.c && rnd.IntN(2) == 0 {
						d.c.Consumed(s, rnd.IntN(1+s.Held()))
					} else if s.conn == d.c {
						d.c.Consumed(s, s.Held())
					}
				}
			}
			other := client
			if d == client {
				other = server
			}
			out := d.c.Flush(rnd.IntN(MaxOutput))
			other.in = append(other.in, out...)
			d.c.Flushed()
			d.c.Unsent(0)
			check(t, d.c)
		}
		live = sweep(client, live, finish)
		serving = sweep(server, serving, finish)
	}
	for _, d := range []*side{client, server} {
		for ev := d.c.Poll(); ev.Kind != None; ev = d.c.Poll() {
			if ev.Kind != Capacity && ev.Kind != Writable {
				t.Fatalf("event %v", ev.Kind)
			}
		}
		if d.c.Streams() != 0 {
			t.Errorf("%d streams left", d.c.Streams())
		}
		for id, n := range sizes {
			if d.got[id] != n {
				t.Errorf("stream %d: %d of %d bytes", id, d.got[id], n)
			}
		}
	}
}

func newSide(env *Env, server bool, rnd *rand.Rand) *side {
	d := &side{c: new(Conn), got: map[uint32]int{}, end: map[uint32]bool{}}
	cfg := testConfig(server)
	cfg.StreamWindow += int32(rnd.IntN(100000))
	cfg.ConnWindow += int32(rnd.IntN(100000))
	cfg.Shared = rnd.IntN(2) == 0
	cfg.MaxStreams = uint32(1 + rnd.IntN(20))
	d.c.Init(env, cfg)
	return d
}

// sweep gives back the streams that are through.
func sweep(d *side, list []*Stream, finish func(*Stream)) []*Stream {
	kept := list[:0]
	for _, s := range list {
		if s.closed && d.end[s.ID] {
			finish(s)
		} else {
			kept = append(kept, s)
		}
	}
	return kept
}
