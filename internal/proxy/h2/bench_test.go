package h2

import (
	"fmt"
	"strconv"
	"testing"
	"time"
)

// bench is a client and a server whose bytes go straight to each other.
type bench struct {
	env            *Env
	client, server *Conn
	body           []byte
	path, id       []byte
	n              int
	open           int
}

func newBench(body int) *bench {
	b := &bench{env: new(Env), client: new(Conn), server: new(Conn), body: make([]byte, body), path: []byte("/shop.Cart/Add")}
	b.env.Now = time.Hour
	cfg := Config{MaxStreams: 1000, StreamWindow: 1 << 18, ConnWindow: 1 << 20}
	scfg := cfg
	scfg.Server = true
	b.client.Init(b.env, &cfg)
	b.server.Init(b.env, &scfg)
	b.exchange()
	return b
}

var (
	bPost, bHTTP, bHost = []byte("POST"), []byte("http"), []byte("cart.default:8080")
	bFields             = [][2][]byte{{[]byte("content-type"), []byte("application/grpc")}, {[]byte("user-agent"), []byte("grpc-go/1.85.0")}}
	bID, bStatus, bZero = []byte("x-request-id"), []byte("grpc-status"), []byte("0")
)

// request opens one stream with a body.
func (b *bench) request() {
	s := b.client.Open(bPost, bHTTP, bHost, b.path, nil)
	for _, f := range bFields {
		b.client.Field(f[0], f[1], false)
	}
	b.n++
	b.id = strconv.AppendInt(b.id[:0], int64(b.n)+1e15, 16)
	b.client.Field(bID, b.id, false)
	b.client.EndHead(s, false)
	b.client.Write(s, b.body, true)
	b.open++
}

// exchange carries bytes until nobody has any more.
func (b *bench) exchange() {
	for b.carry(b.client, b.server) || b.carry(b.server, b.client) {
	}
}

func (b *bench) carry(from, to *Conn) bool {
	for ev := from.Poll(); ev.Kind != None; ev = from.Poll() {
	}
	out := from.Flush(MaxOutput)
	any := len(out) > 0
	for len(out) > 0 {
		n, ev := to.Feed(out)
		out = out[n:]
		b.handle(to, ev)
	}
	from.Flushed()
	from.Unsent(0)
	return any
}

func (b *bench) handle(c *Conn, ev *Event) {
	s := ev.Stream
	switch ev.Kind {
	case Request, Response, Trailers:
		b.env.PutHead(ev.Head)
	case Body:
		c.Consumed(s, len(ev.Data))
	case Reset, Closed:
		panic(fmt.Sprint(ev.Kind, ev.Code, c.Err()))
	}
	if !ev.End {
		return
	}
	if c == b.server {
		c.BeginResponse(s, 200)
		for _, f := range bFields {
			c.Field(f[0], f[1], false)
		}
		c.EndHead(s, false)
		c.Write(s, b.body, false)
		c.BeginTrailers(s)
		c.Field(bStatus, bZero, false)
		c.EndHead(s, true)
	} else {
		b.open--
	}
	c.Done(s)
}

// A unary gRPC call through a client and a server engine, ten at a time: the
// cost of the client's half plus the server's half, which is also what a proxy
// between two HTTP/2 connections pays.
func BenchmarkUnary(b *testing.B) {
	for _, size := range []int{100, 10000} {
		b.Run(fmt.Sprintf("body=%d", size), func(b *testing.B) {
			x := newBench(size)
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N / 10 {
				for range 10 {
					x.request()
				}
				x.exchange()
			}
			if x.open != 0 {
				b.Fatal(x.open)
			}
		})
	}
}

func TestNoAllocations(t *testing.T) {
	for _, size := range []int{100, 20_000} { // ten of the large ones wait for windows
		x := newBench(size)
		turn := func() {
			for range 10 {
				x.request()
			}
			x.exchange()
		}
		for range 100 {
			turn()
		}
		if n := testing.AllocsPerRun(100, turn); n != 0 {
			t.Errorf("body of %d: %v allocations for ten requests", size, n)
		}
		if x.open != 0 {
			t.Errorf("%d requests unanswered", x.open)
		}
	}
}

// What an idle connection holds.
func TestIdleMemory(t *testing.T) {
	x := newBench(100)
	x.request()
	x.exchange()
	held := x.server.decoder.Held() + x.server.encoder.Held() + cap(x.server.out) + cap(x.server.block.bytes)
	if held > 4<<10 {
		t.Errorf("idle server holds %d bytes", held)
	}
}
