package l7http

import (
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"io"

	"tulle.dev/tulle/internal/proxy/balance"
	"tulle.dev/tulle/internal/proxy/h2"
	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/h1"

	wire "tulle.dev/tulle/internal/wire/h2"
)

// h2Pipe carries bytes between a stream of an HTTP/2 connection and a whole
// connection, after CONNECT or an upgrade.
type h2Pipe struct {
	h2     *h2Conn
	stream *h2.Stream
	conn   *loop.Conn
	timer  loop.Timer
	series *meter.Traffic
	down   bool // the stream is the client's side
	closed func()

	body   []byte // from the stream, what the connection hasn't taken
	upEnd  bool   // the stream has ended
	shut   bool   // and the connection's side with it
	ended  bool   // the connection has ended, and so the stream's side
	done   bool
	moved  uint64
	seenAt uint64
}

func (p *h2Pipe) start() {
	p.stream.Owner = p
	p.timer.Init(p.h2.worker.Loop, p)
	p.timer.Set(p.h2.worker.Limits.StreamIdle)
	p.conn.SetHandler(p)
	p.Ready()
}

// Ready moves what can be moved.
func (p *h2Pipe) Ready() {
	if p.done {
		return
	}
	p.fromStream()
	p.fromConn()
	switch {
	case p.conn.Err() != nil || p.conn.SendErr() != nil:
		p.h2.now().Reset(p.stream, wire.ConnectError)
		p.end(true)
	case p.shut && p.ended:
		p.end(false)
	}
	p.h2.schedule()
}

// fromStream writes what came on the stream.
func (p *h2Pipe) fromStream() {
	if n := min(len(p.body), p.conn.Room()); n > 0 {
		p.conn.Write(p.body[:n])
		p.body = append(p.body[:0], p.body[n:]...)
		p.h2.now().Consumed(p.stream, n)
		p.count(n, p.down)
	}
	if p.upEnd && len(p.body) == 0 && !p.shut {
		p.shut = true
		p.conn.CloseWrite()
	}
}

// fromConn sends on the stream what came from the connection.
func (p *h2Pipe) fromConn() {
	in := p.conn.In()
	for !p.ended {
		n := min(in.Len(), p.h2.now().Room(p.stream))
		if n > 0 {
			p.h2.now().Write(p.stream, in.Bytes()[:n], false)
			in.Consume(n)
			p.count(n, !p.down)
		}
		if in.Len() > 0 {
			if p.h2.now().Room(p.stream) > 0 {
				continue
			}
			return // and was told so: Writable follows
		}
		switch _, err := p.conn.Fill(loop.LargeBuffer); err {
		case nil:
		case io.EOF:
			p.ended = true
			p.h2.now().Write(p.stream, nil, true)
		default:
			return
		}
	}
}

func (p *h2Pipe) count(n int, received bool) {
	p.moved += uint64(n)
	switch {
	case p.series == nil:
	case received:
		p.series.Received(n)
	default:
		p.series.Sent(n)
	}
}

// event acts on what happened to the stream.
func (p *h2Pipe) event(ev h2.Event) {
	switch ev.Kind {
	case h2.Body:
		p.body = append(p.body, ev.Data...)
		p.upEnd = p.upEnd || ev.End
	case h2.Trailers:
		p.upEnd = true
		p.h2.worker.env.PutHead(ev.Head)
	case h2.Reset:
		p.end(true)
		return
	}
	p.Ready()
}

// Expire ends a tunnel in which nothing moves.
func (p *h2Pipe) Expire(*loop.Timer) {
	if p.moved != p.seenAt {
		p.seenAt = p.moved
		p.timer.Set(p.h2.worker.Limits.StreamIdle)
		return
	}
	p.h2.now().Reset(p.stream, wire.Cancel)
	p.end(true)
	p.h2.schedule()
}

// cut ends a tunnel that may not go on.
func (p *h2Pipe) cut() {
	if !p.done {
		p.h2.now().Reset(p.stream, wire.Cancel)
		p.end(true)
		p.h2.schedule()
	}
}

func (p *h2Pipe) end(reset bool) {
	if p.done {
		return
	}
	p.done = true
	p.timer.Stop()
	if reset {
		p.conn.Abort()
	} else {
		p.conn.Linger()
	}
	p.h2.now().Done(p.stream)
	if p.closed != nil {
		p.closed()
	}
}

// toPipe gives an event to a stream's tunnel, if it has become one.
func (c *h2Conn) toPipe(ev h2.Event) {
	if p, ok := ev.Stream.Owner.(*h2Pipe); ok {
		p.event(ev)
		return
	}
	c.worker.env.PutHead(ev.Head)
}

// joinStream makes a tunnel of a client's stream and the connection to the
// endpoint.
func joinStream(st *h2Stream, up *loop.Conn) {
	p := &h2Pipe{h2: &st.server.h2Conn, stream: st.stream, conn: up, series: st.x.Series, down: true}
	p.body = append(p.body, st.body[st.gone:]...)
	p.upEnd = st.complete
	st.answered = true
	p.closed = st.server.worker.tunnels(&st.x, st.server.router, p.cut)
	p.start()
	st.finish()
}

// tunnel is called for a response after which bytes flow.
func (c *h2Call) tunnel(h *h2.Head) {
	x := c.x
	cl := c.client
	_, ok := x.response(&c.resp)
	cl.worker.env.PutHead(h)
	if !ok {
		c.x = nil
		c.release()
		return
	}
	if down, isStream := x.client().(*h2Stream); isStream {
		// From stream to stream: bodies without an end that is known before, and
		// that no time bounds.
		x.deadline, x.tryEnd = 0, 0
		x.arm()
		c.unended = false
		down.bodiless = false
		down.push()
		c.push()
		return
	}
	c.x, x.up = nil, nil
	x.leave(balance.Good)
	x.count(x.status)
	p := &h2Pipe{h2: &cl.h2Conn, stream: c.stream, series: x.Series}
	p.body = append(p.body, c.body[c.gone:]...)
	p.upEnd = c.complete
	c.stream.Owner = p
	c.stream = nil
	c.release()
	x.client().(*serverConn).tunnelStream(p)
}

// tunnelStream is Tunnel for an upstream that is a stream.
func (s *serverConn) tunnelStream(p *h2Pipe) {
	ended := s.worker.tunnels(&s.stream.x, s.router, p.cut)
	s.countBytes()
	s.conn.In().Release()
	s.stream.x.timer.Stop()
	s.done = true
	s.timer.Stop()
	delete(s.worker.conns, s)
	s.worker.putStream(s.stream)
	s.stream = nil
	series := s.series
	p.conn = &s.conn
	p.closed = func() {
		if ended != nil {
			ended()
		}
		if series != nil {
			series.Closed()
		}
		s.worker.Closed()
	}
	p.start()
}

// fromConnect completes a request that came as extended CONNECT: HTTP/1.1's
// WebSocket handshake has a key (RFC 6455, 4.1).
func (st *h2Stream) fromConnect() {
	r := &st.x.Request
	st.bodiless = true
	if !h1.EqualFold(r.Upgrade, "websocket") || r.Lookup("sec-websocket-key") != nil {
		return
	}
	var nonce [16]byte
	rand.Read(nonce[:])
	st.names = base64.StdEncoding.AppendEncode(st.names[:0], nonce[:])
	r.Fields = append(r.Fields, h1.Field{Name: nameWebSocketKey, Value: st.names})
	st.keyed = true
}

// misunderstood reports whether a response can't be the one to extended CONNECT. A
// 2xx would tell the client that it has a tunnel, also where the endpoint has
// taken the request for a mere GET (RFC 8441, 5). What answers a key of ours must
// fit to it (RFC 6455, 4.1) and is none of the client's business.
func (x *Exchange) misunderstood(r *h1.Response) bool {
	st, ok := x.client().(*h2Stream)
	if !ok || len(st.head.Protocol) == 0 {
		return false
	}
	if r.Status != 101 {
		return r.Status/100 == 2
	}
	if !st.keyed {
		return false
	}
	f := r.Lookup("sec-websocket-accept")
	if f == nil {
		return true
	}
	var accept [28]byte
	if string(f.Value) != string(webSocketAccept(accept[:0], st.names)) {
		return true
	}
	f.Drop = true
	return false
}

// webSocketAccept appends what answers a key (RFC 6455, 4.2.2).
func webSocketAccept(dst, key []byte) []byte {
	sum := sha1.Sum(append(append([]byte(nil), key...), webSocketGUID...))
	return base64.StdEncoding.AppendEncode(dst, sum[:])
}

// fieldsToConnect adds the fields of a request that is sent as extended
// CONNECT, which has no key (RFC 8441, 5).
func (c *h2Call) fieldsToConnect(r *h1.Request) {
	for i := range r.Fields {
		f := &r.Fields[i]
		switch {
		case f.Drop || private(f.Name) && !ownIdentity(f.Name):
		case h1.EqualFold(f.Name, "sec-websocket-key"):
			c.accept = webSocketAccept(c.accept[:0], f.Value)
		default:
			c.client.now().Field(f.Name, f.Value, f.Never)
		}
	}
	c.upgrade = append(c.upgrade[:0], r.Upgrade...)
}

// acceptConnect turns the answer to extended CONNECT into HTTP/1.1's.
func (c *h2Call) acceptConnect() {
	r := &c.resp
	r.Status, r.Reason, r.Framing = 101, h1.Reason(101), h1.Tunnel
	r.Upgrade = c.upgrade
	if len(c.accept) > 0 {
		r.Fields = append(r.Fields, h1.Field{Name: nameWebSocketAccept, Value: c.accept})
	}
}

var (
	nameWebSocketKey    = []byte("Sec-WebSocket-Key")
	nameWebSocketAccept = []byte("Sec-WebSocket-Accept")
)

const webSocketGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// preface says whether b begins with HTTP/2's preface, or with part of it that
// is no other request.
func preface(b []byte) (whole, part bool) {
	n := min(len(b), len(wire.Preface))
	if n == 0 || b[0] != 'P' || string(b[:n]) != wire.Preface[:n] {
		return false, false
	}
	return n == len(wire.Preface), n < len(wire.Preface) && n > len("PRI ")
}

// http2 goes on with a connection whose client speaks HTTP/2.
func (s *serverConn) http2() {
	st := s.stream
	s.stream = nil
	s.done = true
	s.timer.Stop()
	delete(s.worker.conns, s)
	s.worker.putStream(st)
	s.worker.adoptHTTP2(&s.conn, s.router, s.series, false, s.series != nil)
}

// overHTTP2 says whether the endpoint is spoken to in HTTP/2: another proxy
// when exchanges are multiplexed or the client speaks it, unless it is one that
// can't, a program when its
// service says so or else the client speaks it, and whoever gets gRPC, which
// HTTP/1.1 can't carry.
func (x *Exchange) overHTTP2(e *balance.Endpoint) bool {
	if e.Identity != "" {
		return (x.worker.Multiplex || x.HTTP2) && (x.call || x.worker.muxOf(x.Cluster, e).multiplexes())
	}
	switch x.Cluster.Protocol {
	case view.HTTP2:
		return true
	case view.HTTP:
		return x.HTTP2 && x.grpc()
	}
	return x.HTTP2
}
