package h2

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	wire "tulle.dev/tulle/internal/wire/h2"
)

// Two engines whose owners do whatever an owner may, at any moment: write,
// consume or not, reset, let go, answer early, go away. Nothing breaks a rule
// in the other's eyes, and nothing is left over.
func TestChaos(t *testing.T) {
	seeds := uint64(300)
	if testing.Short() {
		seeds = 30
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { chaos(t, rand.New(rand.NewPCG(seed, 2))) })
	}
}

func chaos(t *testing.T, rnd *rand.Rand) {
	env := new(Env)
	env.Now = time.Hour
	client, server := newSide(env, false, rnd), newSide(env, true, rnd)
	owned := map[*Conn][]*Stream{}
	drop := func(c *Conn, i int) {
		s := owned[c][i]
		owned[c] = append(owned[c][:i], owned[c][i+1:]...)
		c.Done(s)
	}
	index := func(c *Conn, s *Stream) int {
		for i, x := range owned[c] {
			if x == s {
				return i
			}
		}
		t.Fatalf("an event for stream %d, which was given back", s.ID)
		return -1
	}
	handle := func(d *side, ev *Event) {
		c, s := d.c, ev.Stream
		switch ev.Kind {
		case Request:
			env.PutHead(ev.Head)
			owned[c] = append(owned[c], s)
		case Response:
			env.PutHead(ev.Head)
		case Body:
			if rnd.IntN(2) == 0 {
				c.Consumed(s, len(ev.Data))
			}
		case Trailers:
			env.PutHead(ev.Head)
		case Reset:
			if ev.Fault {
				t.Fatalf("stream %d broke a rule: %v", s.ID, ev.Code)
			}
			drop(c, index(c, s))
		case Rejected:
			// What was under way when a stream was reset; a refusal; nothing else.
			if ev.Code != wire.RefusedStream && ev.Code != wire.StreamClosed {
				t.Fatalf("rejected: %v", ev.Code)
			}
		case Closed:
			if err := c.Err(); err != nil && err != errTest("end") {
				if ce, ok := err.(wire.ConnectionError); !ok || ce.Code != wire.EnhanceYourCalm {
					t.Fatalf("closed: %v", err)
				}
			}
		}
	}
	act := func(c *Conn) {
		if c == client.c && rnd.IntN(3) == 0 && c.CanOpen() {
			s := c.Open([]byte("POST"), []byte("http"), []byte("a"), []byte("/"), nil)
			c.EndHead(s, rnd.IntN(4) == 0)
			owned[c] = append(owned[c], s)
		}
		for i := 0; i < len(owned[c]); i++ {
			s := owned[c][i]
			switch rnd.IntN(20) {
			case 0, 1, 2, 3, 4:
				if c == server.c && !s.answered {
					c.BeginResponse(s, 200)
					c.EndHead(s, rnd.IntN(6) == 0)
				}
			case 5, 6, 7, 8:
				if c == client.c || s.answered {
					c.Write(s, make([]byte, rnd.IntN(1+c.Room(s))), rnd.IntN(3) == 0)
				}
			case 9:
				if c == client.c || s.answered {
					c.BeginTrailers(s)
					c.Field([]byte("a"), []byte("b"), false)
					c.EndHead(s, true)
				}
			case 10, 11, 12:
				c.Consumed(s, rnd.IntN(1+s.Held()))
			case 13:
				c.Reset(s, wire.Cancel)
			case 14:
				drop(c, i)
				i--
			case 15:
				c.Watch(s)
			}
		}
		if rnd.IntN(300) == 0 {
			c.Drain()
		}
	}
	for range 400 {
		env.Now += time.Duration(rnd.IntN(20)) * time.Millisecond
		for _, d := range []*side{client, server} {
			act(d.c)
			k := min(len(d.in), rnd.IntN(20000))
			had := d.in[:k:k]
			for {
				n, ev := d.c.Feed(had)
				had, d.in = had[n:], d.in[n:]
				handle(d, ev)
				if n == 0 && ev.Kind == None {
					break
				}
			}
			for ev := d.c.Poll(); ev.Kind != None; ev = d.c.Poll() {
				handle(d, ev)
			}
			other := client
			if d == client {
				other = server
			}
			other.in = append(other.in, d.c.Flush(rnd.IntN(MaxOutput))...)
			d.c.Flushed()
			d.c.Unsent(0)
			d.c.Tick()
			if d.c.Err() == nil {
				check(t, d.c)
			}
		}
	}
	for _, d := range []*side{client, server} {
		d.c.Fail(errTest("end"))
		for ev := d.c.Poll(); ev.Kind != None; ev = d.c.Poll() {
			handle(d, ev)
		}
		for len(owned[d.c]) > 0 {
			drop(d.c, 0)
		}
		for ev := d.c.Poll(); ev.Kind != None; ev = d.c.Poll() {
		}
		if d.c.Streams() != 0 || d.c.heldHeads != 0 || d.c.waiting != 0 {
			t.Fatalf("%d streams left over, %d waiting, %d bytes of heads", d.c.Streams(), d.c.waiting, d.c.heldHeads)
		}
	}
	if n := client.c.env.Held() + server.c.env.Held(); n != 0 {
		t.Fatalf("%d bytes are held for nobody", n)
	}
}
