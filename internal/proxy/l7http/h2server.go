package l7http

import (
	"errors"
	"strings"

	"tulle.dev/tulle/internal/proxy/h2"
	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/wire/h1"

	wire "tulle.dev/tulle/internal/wire/h2"
)

// h2Server is a client's HTTP/2 connection: the downstream of its streams'
// exchanges.
type h2Server struct {
	h2Conn
	router Router
	series *meter.Traffic // where the connection is counted
	peer   bool           // it is another proxy: its private fields are believed
	// What of the connection's bytes has been counted.
	received, sent uint64
}

// LocalRouter is the Router of clients that are the proxy's own program: it may
// stop reading for as long as it likes.
type LocalRouter interface {
	Router
	// Local does nothing; it tells the two apart.
	Local()
}

// AdoptPeer is Adopt for a connection of another proxy of the mesh that speaks
// HTTP/2 (MuxALPN) and has proved who it is.
func (w *Worker) AdoptPeer(c *loop.Conn, r Router, series *meter.Traffic) {
	w.adoptHTTP2(c, r, series, true, false)
}

// adoptHTTP2 begins HTTP/2. counted says that series has counted the
// connection already.
func (w *Worker) adoptHTTP2(c *loop.Conn, r Router, series *meter.Traffic, peer, counted bool) {
	s := &h2Server{router: r, peer: peer}
	s.init(w, s)
	s.conn.Take(c, s)
	if s.series = series; series != nil && !counted {
		series.Opened(meter.HTTP2)
	}
	if w.servers == nil {
		w.servers = make(map[*h2Server]struct{})
	}
	w.servers[s] = struct{}{}
	config := &w.http2().edge
	if _, local := r.(LocalRouter); local {
		config = &w.http2().local
	} else if peer {
		config = &w.http2().mesh
	}
	s.start(config)
	if w.Draining {
		s.now().Drain()
	}
	s.Ready()
}

// malformed is how a broken rule of HTTP/2 is counted.
func malformed(code wire.Code) *Failure {
	if int(code) >= len(malformedCodes) {
		code = wire.ProtocolError
	}
	return &Failure{Status: 400, Error: malformedCodes[code], Malformed: true}
}

var malformedCodes = func() (t [wire.HTTP11Required + 1]string) {
	for c := range t {
		t[c] = "http2_" + strings.ToLower(wire.Code(c).String())
	}
	return t
}()

// closed ends the socket too.
func (s *h2Server) closed(err error) {
	var broken wire.ConnectionError
	if errors.As(err, &broken) && broken.Code != wire.NoError {
		s.router.Unrouted(malformed(broken.Code))
	}
	delete(s.worker.servers, s)
	if s.series != nil {
		s.series.Closed()
	}
	s.conn.Linger()
	s.worker.Closed()
}

// event acts on what the engine tells.
func (s *h2Server) event(ev h2.Event) {
	switch ev.Kind {
	case h2.Request:
		s.request(ev)
		return
	case h2.Rejected:
		s.router.Unrouted(malformed(ev.Code))
		return
	}
	if ev.Fault {
		s.router.Unrouted(malformed(ev.Code))
	}
	if ev.Stream == nil {
		return
	}
	st, ok := ev.Stream.Owner.(*h2Stream)
	if !ok {
		s.toPipe(ev)
		return
	}
	switch ev.Kind {
	case h2.Body:
		st.data(ev.Data, ev.End)
	case h2.Trailers:
		st.trailing(ev.Head)
	case h2.Reset:
		st.lost()
	case h2.Writable:
		if up := st.x.up; up != nil && st.headSent {
			up.Pull()
		}
	}
}

// request begins an exchange.
func (s *h2Server) request(ev h2.Event) {
	st := s.worker.getH2Stream()
	st.server, st.stream, st.head = s, ev.Stream, ev.Head
	ev.Stream.Owner = st
	st.complete, st.bodiless = ev.End, ev.End
	st.timer.Init(s.worker.Loop, st)
	st.watchStall()
	r := &st.x.Request
	r.Reset()
	st.x.HTTP2 = true
	f := http2Request(r, ev.Head, ev.End)
	switch {
	case f != nil:
	case s.peer:
		st.fromPeer()
	case len(ev.Head.Protocol) > 0:
		st.fromConnect()
	}
	if f != nil {
		st.x.worker, st.x.router, st.x.down = s.worker, s.router, st
		st.x.timer.Init(s.worker.Loop, &st.x)
		s.router.Unrouted(f)
		st.Reply(&Failure{f.Status, "http_request_error", f.Text, true})
		return
	}
	st.x.start(s.worker, s.router, st)
}

// countBytes adds what went over the connection to a series.
func (s *h2Server) countBytes(series *meter.Traffic) {
	if series == nil {
		return
	}
	if s.series == nil {
		s.series = series
		series.Opened(meter.HTTP2)
	}
	series.Received(int(s.conn.Received - s.received))
	series.Sent(int(s.conn.Sent - s.sent))
	s.received, s.sent = s.conn.Received, s.conn.Sent
}

// maxKept is how much memory for a body stays with a free exchange; up to that a
// request's body is a short one (maxHeldBodies).
const maxKept = 16 << 10

// h2Stream is one request on an HTTP/2 connection.
type h2Stream struct {
	x      Exchange
	server *h2Server
	stream *h2.Stream
	head   *h2.Head // the request's fields lie in it
	timer  loop.Timer

	body     []byte // of the request: what hasn't gone on, and what is kept
	gone     int    // of body, to the upstream
	credited int    // of body, to the client's window
	tail     *h2.Head
	trailers []h1.Field
	names    []byte // field names in the case they had

	keyed    bool // names is a WebSocket key that we made
	bodiless bool // the request has no body
	complete bool // all of it has come
	ended    bool // and its end has gone on
	lent     bool // body is a buffer of the loop's
	extra    int  // how much of the loop's memory for bodies it holds
	lossy    bool // bytes of the request are gone: it can't be sent again
	headSent bool
	answered bool
	finished bool
	left     int64 // of the response's body, by its Content-Length; -1: unknown

	moved, seen uint64
}

func (w *Worker) getH2Stream() *h2Stream {
	if st := w.h2streams.Get(); st != nil {
		return st
	}
	return &h2Stream{}
}

func (w *Worker) putH2Stream(st *h2Stream) {
	st.x.reset()
	body, trailers, names := st.body[:0], st.trailers[:0], st.names[:0]
	if cap(body) > maxKept {
		body = nil
	}
	*st = h2Stream{x: st.x, body: body, trailers: trailers, names: names}
	w.h2streams.Put(st, maxStreams)
}

// finish gives the stream back once the exchange is over.
func (st *h2Stream) finish() {
	if st.finished {
		return
	}
	st.finished = true
	s := st.server
	s.countBytes(st.x.Series)
	st.timer.Stop()
	if st.stream.Owner == any(st) { // else it has become a tunnel's
		s.now().Done(st.stream)
	}
	s.worker.env.PutHead(st.head)
	s.worker.env.PutHead(st.tail)
	s.schedule()
	st.giveBody()
	s.worker.putH2Stream(st)
}

// data takes some of the request's body.
func (st *h2Stream) data(p []byte, end bool) {
	st.complete = st.complete || end
	st.moved += uint64(len(p))
	st.x.arrived += uint64(len(p))
	if st.lossy && st.gone == len(st.body) {
		if up := st.x.up; up != nil && up.Room() {
			if len(p) > 0 {
				st.x.tee(p)
				up.Body(p)
			}
			st.server.now().Consumed(st.stream, len(p))
			p = nil
		}
	}
	st.keep(p)
	st.push()
}

// trailing takes the request's trailers.
func (st *h2Stream) trailing(h *h2.Head) {
	st.tail, st.complete = h, true
	st.trailers = st.x.withoutTold(http2Trailers(st.trailers[:0], h))
	st.push()
}

// push moves the request's body on.
func (st *h2Stream) push() {
	up := st.x.up
	if up == nil || st.bodiless || st.ended || !up.Room() {
		st.x.heldUp = true
		return
	}
	if st.gone < len(st.body) {
		p := st.body[st.gone:]
		st.gone = len(st.body)
		st.x.tee(p)
		up.Body(p)
	}
	if n := st.gone - st.credited; n > 0 {
		st.credited = st.gone
		st.server.now().Consumed(st.stream, n)
		st.server.schedule()
	}
	if !st.lossy && st.tooMuch() {
		st.lossy = true
		if st.giveBody(); !st.headSent { // it has waited, and may go on to
			st.body = nil
		}
	}
	if st.lossy {
		st.giveBody()
		st.body, st.gone, st.credited = st.body[:0], 0, 0
	}
	if st.complete {
		st.ended = true
		st.x.teeEnd(st.trailers)
		up.End(st.trailers)
	}
}

// lost is called when the client has given the request up.
func (st *h2Stream) lost() {
	if !st.answered {
		st.x.cancel("client_gone")
	}
	st.finish()
}

// watchStall (re)starts the time in which something must move.
func (st *h2Stream) watchStall() {
	st.seen = st.movedAll()
	st.timer.Set(st.x.streamIdle(st.server.worker.Limits.StreamIdle))
}

func (st *h2Stream) movedAll() uint64 {
	n := st.moved
	if up, ok := st.x.up.(interface{ moved() uint64 }); ok {
		n += up.moved()
	}
	return n
}

// Expire is called when nothing may have moved for too long.
func (st *h2Stream) Expire(*loop.Timer) {
	if st.movedAll() != st.seen {
		st.watchStall()
		return
	}
	st.x.stalled(st.complete)
}
