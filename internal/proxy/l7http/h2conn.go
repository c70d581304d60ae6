package l7http

import (
	"io"
	"time"

	"tulle.dev/tulle/internal/proxy/h2"
	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/proxy/poll"
	"tulle.dev/tulle/internal/wire/h1"
)

// h2Conn is what both ends of HTTP/2 share: an engine on a connection of the
// loop. Bytes are read and turned into events when there are some; everything
// that was written to the engine in one turn of the loop, by whichever
// connection's doing, leaves in one write.
type h2Conn struct {
	worker *Worker
	conn   loop.Conn
	engine h2.Conn
	timer  loop.Timer
	owner  h2Owner

	busy      bool // reading or giving out events
	again     bool // was called meanwhile
	gathering bool // the loop will call Gather
	done      bool
	begun     bool // HTTP/2 is spoken: the connection exists
}

// h2Owner is one of the two ends.
type h2Owner interface {
	// event acts on an event of the engine, other than Closed.
	event(h2.Event)
	// closed is called once, when the connection is over and all its streams
	// have been reset. The socket is the owner's to close.
	closed(err error)
}

func (c *h2Conn) init(w *Worker, o h2Owner) {
	c.worker, c.owner = w, o
	c.timer.Init(w.Loop, c)
}

// start begins HTTP/2 on a connection that exists.
func (c *h2Conn) start(config *h2.Config) {
	if w := c.worker; w.env.Own == nil {
		w.env.Own = w.ownAnswer
		if w.Stock != nil {
			w.env.Join(w.Stock, func() { w.Loop.Post(w.relieve) })
		}
	}
	c.worker.env.Now = c.worker.Loop.Now()
	c.engine.Init(&c.worker.env, config)
	c.engine.Owner = c
	c.begun = true
	if p, ok := c.worker.Loop.Poller.(interface{ Shallow(poll.FD) }); ok && config.Shared {
		p.Shallow(c.conn.FD()) // a small answer goes before most of a large one
	}
	c.schedule()
}

// now returns the engine, with the time of the turn: other connections' doing
// calls it too.
func (c *h2Conn) now() *h2.Conn {
	c.worker.env.Now = c.worker.Loop.Now()
	return &c.engine
}

// Ready is called by the loop: there may be something to read, or room to
// write.
func (c *h2Conn) Ready() {
	if c.done {
		return
	}
	c.pump()
	c.schedule()
}

// pump reads what there is and gives out what happened.
func (c *h2Conn) pump() {
	if c.busy {
		c.again = true
		return
	}
	c.busy = true
	c.worker.env.Now = c.worker.Loop.Now()
	c.engine.Unsent(c.conn.Pending())
	if c.conn.SendErr() != nil {
		c.engine.Fail(c.conn.SendErr())
	}
	for {
		c.again = false
		c.read()
		c.poll()
		if !c.again || c.done {
			break
		}
	}
	c.busy = false
}

// read feeds the engine.
func (c *h2Conn) read() {
	in := c.conn.In()
	for !c.done {
		for in.Len() > 0 {
			n, ev := c.engine.Feed(in.Bytes())
			if kind := ev.Kind; kind != h2.None {
				c.owner.event(*ev)
			} else if n == 0 {
				break
			}
			if c.done {
				return
			}
			in.Consume(n)
		}
		if c.engine.Blocked() {
			return // what it has asked for must be taken first
		}
		switch _, err := c.conn.Fill(loop.LargeBuffer); err {
		case nil:
		case poll.ErrAgain:
			return
		case io.EOF:
			c.engine.Fail(io.ErrUnexpectedEOF)
			return
		default:
			c.engine.Fail(err)
			return
		}
	}
}

// poll gives out what happened otherwise than by reading.
func (c *h2Conn) poll() {
	for !c.done {
		ev := c.engine.Poll()
		switch ev.Kind {
		case h2.None:
			return
		case h2.Closed:
			c.close()
			return
		}
		c.owner.event(*ev)
	}
}

// close ends the connection; what the engine has to say last is still sent.
func (c *h2Conn) close() {
	c.done = true
	c.timer.Stop()
	if b := c.engine.Flush(0); len(b) > 0 {
		c.conn.Write(b)
	}
	c.engine.Flushed()
	c.owner.closed(c.engine.Err())
}

// schedule has what was gathered written when the turn ends.
func (c *h2Conn) schedule() {
	if c.begun && !c.gathering && !c.done {
		c.gathering = true
		c.worker.Loop.Gather(c)
	}
}

// Gather writes what was gathered.
func (c *h2Conn) Gather() {
	c.gathering = false
	if c.done {
		return
	}
	now := c.worker.Loop.Now()
	c.worker.env.Now = now
	c.engine.Unsent(c.conn.Pending())
	for c.engine.Pending() {
		room := c.conn.Room()
		if room == 0 {
			break // Ready follows
		}
		b := c.engine.Flush(room)
		if len(b) == 0 {
			break
		}
		c.conn.Write(b)
		c.engine.Flushed()
	}
	if c.engine.Blocked() {
		c.conn.Drained()
	}
	if w := c.worker; w.env.Settle() && !w.relieving {
		w.relieving = true
		w.Loop.Post(w.relieve)
	}
	c.worker.trimLater()
	c.pollAfterFlush()
	if c.done {
		return
	}
	if d := c.engine.Deadline(); d != h2.Never {
		c.timer.Set(d - now)
	} else {
		c.timer.Clear()
	}
}

// relieve ends what holds most for peers that don't take it, until all hold less
// than they may together.
func (w *Worker) relieve() {
	w.relieving = false
	w.env.Now = w.Loop.Now()
	for c := w.env.Relieve(); c != nil; c = w.env.Relieve() {
		o := c.Owner.(*h2Conn)
		o.pump()
		o.schedule()
	}
}

// pollAfterFlush tells streams that their bytes have left.
func (c *h2Conn) pollAfterFlush() {
	if c.busy {
		return
	}
	c.busy = true
	c.poll()
	c.busy = false
	if c.again {
		c.again = false
		c.pump()
	}
	if !c.done && c.engine.Pending() && c.conn.Room() > 0 {
		c.schedule()
	}
}

// Expire is called when the engine wants to look at the time.
func (c *h2Conn) Expire(*loop.Timer) {
	if c.done {
		return
	}
	c.worker.env.Now = c.worker.Loop.Now()
	c.engine.Tick()
	c.pump()
	c.schedule()
}

// HTTP/2's own limits between this proxy and others.
const (
	// edgeStreams and meshStreams are how many streams a client, and another
	// proxy of the mesh, may have open at once on one connection; the latter
	// also how many we open on one to a program.
	edgeStreams = 100
	meshStreams = 1000
	// Windows: how much of a body is on its way or buffered. A client's streams
	// share its connection's window; on connections that clients share only the
	// streams' windows hold anything back.
	edgeStreamWindow = 64 << 10
	edgeConnWindow   = 1 << 20
	meshStreamWindow = 256 << 10
	meshConnWindow   = 16 << 20

	// meshHeldHeads is h2.MaxHeldHeads for many clients' requests.
	meshHeldHeads = 64 << 20
	// ownFields and ownBytes is how much a proxy adds to a head.
	ownFields = 16
	ownBytes  = 8 << 10

	// A silent connection with open streams is asked whether it lives. gRPC
	// servers end one that asks more often than every five minutes.
	pingAfter        = time.Minute
	pingProgramAfter = 6 * time.Minute
	pingTime         = 20 * time.Second
)

func or(v, otherwise int) int {
	if v > 0 {
		return v
	}
	return otherwise
}

// h2Configs are the engine's settings of a worker's connections.
type h2Configs struct {
	limits Limits // that they were made from
	// Clients from outside, the proxy's own program, other proxies; programs as
	// servers, other proxies as servers.
	edge, local, mesh, up, peer h2.Config
}

func newH2Configs(l *Limits) *h2Configs {
	base := h2.Config{
		MaxStreams: edgeStreams, StreamWindow: edgeStreamWindow, ConnWindow: edgeConnWindow,
		StallTime: h2.StallTime, StallBytes: h2.StallBytes,
		ConnectProtocol: true, PingAfter: pingAfter, PingTime: pingTime, IdleTime: l.IdleTimeout,
	}
	c := &h2Configs{limits: *l, edge: base, local: base, mesh: base, up: base, peer: base}
	c.edge.Server, c.local.Server, c.mesh.Server = true, true, true
	c.local.StallTime, c.local.StallBytes, c.local.MaxStreams = l.StreamIdle, 1, meshStreams
	c.local.Trusted, c.mesh.Trusted = true, true
	for _, m := range []*h2.Config{&c.mesh, &c.peer, &c.up} {
		m.MaxStreams, m.StreamWindow, m.ConnWindow, m.Shared = meshStreams, meshStreamWindow, meshConnWindow, true
	}
	for _, m := range []*h2.Config{&c.mesh, &c.peer} {
		m.Peer, m.MaxHeldHeads = true, meshHeldHeads
	}
	c.up.PingAfter = pingProgramAfter
	// A program, and a client behind another proxy, may take their time, and
	// send whatever HTTP/1.1 may have, with what we add.
	head, fields := or(l.Head.MaxHead, h1.DefaultMaxHead), or(l.Head.MaxFields, h1.DefaultMaxFields)
	for _, t := range []*h2.Config{&c.mesh, &c.peer, &c.up} {
		t.StallTime, t.StallBytes = l.StreamIdle, 1
		t.MaxFields, t.MaxCookie, t.MaxList = fields+ownFields, head, head+32*(fields+ownFields)+ownBytes
	}
	return c
}
