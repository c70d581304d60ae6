package l7http

import (
	"bytes"
	"io"
	"net/netip"

	"tulle.dev/tulle/internal/proxy/l4"
	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/proxy/poll"
	"tulle.dev/tulle/internal/wire/h1"
)

// serverConn is a client's HTTP/1.1 connection: requests are read from it one
// after the other, and each is answered before the next is begun. While it is
// idle it holds neither buffer nor stream.
type serverConn struct {
	worker *Worker
	router Router
	conn   loop.Conn
	timer  loop.Timer
	stream *stream        // the request being read or answered
	series *meter.Traffic // where the connection is counted, from its first request on
	// What of the connection's bytes has been counted.
	received, sent uint64
	seen           uint64 // bytes that had moved when the timer was set

	busy  bool // advance is running
	ended bool // the client sends no more
	// forward: the client takes us for its proxy. No connection to an HTTP/1.0
	// client persists then (RFC 9112, C.2.2).
	forward bool
	done    bool // the connection is no longer ours
	last    bool // every answer is the last one
}

// stream is one request of a connection, as HTTP/1.1 frames it.
type stream struct {
	x    Exchange
	body h1.Body // of the request
	streamState
}

// streamState is what reset forgets.
type streamState struct {
	relay    loop.Relay // of the body
	mark     int        // where the body begins in the read buffer
	head     []byte     // the memory of the head, when the body lies elsewhere
	extra    int        // how much more memory the kept body has than others'
	framing  h1.Framing
	begun    bool // the head is complete
	waiting  bool // the head is not, and its time runs
	answered bool
	headSent bool
	lossy    bool // bytes of the request are gone: it can't be sent again
	way      way  // of the body
	closes   bool // no request follows this one
	cut      bool // the answer isn't whole
}

func (st *stream) reset() {
	st.x.reset()
	st.streamState = streamState{}
}

// Serve answers the requests of a client's connection, which was just accepted.
func (w *Worker) Serve(fd poll.FD, peer netip.AddrPort, r Router) {
	s := &serverConn{worker: w, router: r}
	s.conn.Init(w.Loop, fd, peer, s)
	s.begin()
}

// Adopt is Serve for a connection that already exists on the loop, as one does
// after TLS or protocol detection. Bytes that were read stay in it.
func (w *Worker) Adopt(c *loop.Conn, r Router, series *meter.Traffic) {
	s := &serverConn{worker: w, router: r}
	s.conn.Take(c, s)
	if series != nil {
		s.countOpened(series)
	}
	s.begin()
	s.advance()
}

func (s *serverConn) begin() {
	_, s.forward = s.router.(ForwardRouter)
	if s.worker.conns == nil {
		s.worker.conns = make(map[*serverConn]struct{})
	}
	s.worker.conns[s] = struct{}{}
	s.timer.Init(s.worker.Loop, s)
	s.timer.Set(s.worker.idle())
}

// Ready is called by the loop: there may be something to do.
func (s *serverConn) Ready() {
	s.advance()
	if st := s.stream; st != nil && st.headSent && !st.answered && st.x.up != nil {
		st.x.up.Pull() // the client may have taken some of the answer
	}
}

// advance does what can be done now.
func (s *serverConn) advance() {
	if s.busy || s.done {
		return
	}
	s.busy = true
	for !s.done && s.step() {
	}
	s.busy = false
}

// step takes the connection one step on, or reports that it has to wait.
func (s *serverConn) step() bool {
	if s.conn.SendErr() != nil {
		s.lost()
		return false
	}
	switch st := s.stream; {
	case st == nil:
		return s.awake()
	case !st.begun:
		return s.readHead()
	case st.answered:
		return s.next()
	case !st.body.Done():
		return s.readBody()
	default:
		return s.watch()
	}
}

// awake begins a request when there is something of one.
func (s *serverConn) awake() bool {
	if s.ended && s.conn.In().Len() == 0 {
		s.goodbye()
		return false
	}
	if s.conn.In().Len() == 0 {
		switch _, err := s.conn.Fill(s.maxHead()); err {
		case nil:
		case poll.ErrAgain:
			return false
		case io.EOF:
			s.goodbye()
			return false
		default:
			s.lost()
			return false
		}
	} else if s.conn.Room() == 0 {
		return false // the answers to what it asked before aren't taken
	}
	s.stream = s.worker.getStream()
	return true
}

func (s *serverConn) maxHead() int { return s.worker.Limits.Head.MaxHead }

func (s *serverConn) readHead() bool {
	st, in := s.stream, s.conn.In()
	if whole, part := preface(in.Bytes()); whole && s.conn.Sent == 0 {
		s.http2()
		return false
	} else if part {
		return s.fillHead()
	}
	n, e := st.x.Request.Parse(in.Bytes(), &s.worker.Limits.Head)
	switch {
	case e != nil:
		s.refuse(e)
		return true
	case n > 0:
		s.start(n)
		return true
	}
	return s.fillHead()
}

// fillHead reads more of a head.
func (s *serverConn) fillHead() bool {
	st := s.stream
	switch _, err := s.conn.Fill(s.maxHead() + 1); err {
	case nil:
		return true
	case poll.ErrAgain:
		if !st.waiting {
			st.waiting = true
			s.timer.Set(s.worker.Limits.HeadTimeout)
		}
	case io.EOF:
		if st.x.Request.Started() {
			s.router.Unrouted(headCut)
		}
		s.goodbye()
	default:
		s.lost()
	}
	return false
}

var headCut = &Failure{400, "head_cut", "The request's head ended too early.", true}

// refuse answers a request that makes no sense. Where the next one would begin
// is unknown, so the connection ends.
func (s *serverConn) refuse(e *h1.Error) {
	st := s.stream
	st.begun, st.closes = true, true
	st.x.worker, st.x.router, st.x.down = s.worker, s.router, s
	st.x.timer.Init(s.worker.Loop, &st.x)
	f := fromParse(e)
	f.Error = e.Reason
	s.router.Unrouted(f)
	if e.Reason == "version" && s.conn.Sent == 0 && !isHTTP1(s.conn.In().Bytes()) {
		// A client of HTTP/2 with another preface finds the connection closed
		// (RFC 9113, 3.4), and no answer that it can't read.
		s.goodbye()
		return
	}
	f.Error = "http_request_error"
	s.Reply(f)
}

// isHTTP1 says whether a request line that has no version of ours was meant for
// HTTP/1: it has a method of HTTP's own, a path or a version.
func isHTTP1(line []byte) bool {
	line, _, _ = bytes.Cut(bytes.TrimLeft(line, "\r\n"), []byte("\r"))
	method, target, _ := bytes.Cut(line, []byte(" "))
	return h1.MethodOf(method) != h1.MethodOther || bytes.HasPrefix(target, []byte("/")) ||
		bytes.Contains(target, []byte("HTTP/")) && string(method) != "PRI"
}

// start begins the exchange whose head is the next n bytes. They stay where
// they are, with as much of the body as fits behind them, until the request
// can't or needn't be sent again.
func (s *serverConn) start(n int) {
	st, in := s.stream, s.conn.In()
	in.Hold()
	in.Consume(n)
	st.mark = in.Mark()
	st.begun = true
	st.closes = !st.x.Request.KeepAlive || st.x.Request.Minor == 0 && s.forward
	st.body.InitRequest(&st.x.Request, &s.worker.Limits.Head)
	s.watchStall()
	st.x.start(s.worker, s.router, s)
}

// readBody moves the request's body on.
func (s *serverConn) readBody() bool {
	st, in := s.stream, s.conn.In()
	up := st.x.up
	if up == nil || !up.Room() {
		st.x.heldUp = true
		return false
	}
	if more, ok := s.splice(up); ok {
		return more
	}
	data, n, done, e := st.body.Next(in.Bytes())
	if e != nil {
		s.refuseBody(e)
		return true
	}
	in.Consume(n)
	if len(data) > 0 {
		s.watchStall()
		st.x.arrived += uint64(len(data))
		st.x.tee(data)
		up.Body(data)
	}
	if done {
		s.endBody(up)
		return true
	}
	if n > 0 {
		return true
	}
	switch _, err := s.conn.Fill(loop.LargeBuffer); err {
	case nil:
		return true
	case loop.ErrFull:
		if in.Held() {
			if !s.keepMore() {
				st.lossy = true
				if st.head == nil {
					st.x.keepHead()
				}
				in.Release()
			}
			return true
		}
		s.refuseBody(&h1.Error{Status: 400, Reason: "trailer_too_long", Text: "The trailer section is too long."})
		return true
	case poll.ErrAgain:
		return false
	case io.EOF:
		s.cut()
		return true
	default:
		s.lost()
		return false
	}
}

// endBody tells the endpoint that all of the request has come.
func (s *serverConn) endBody(up Upstream) {
	st := s.stream
	st.body.Trailers = st.x.withoutTold(withoutIdentity(st.body.Trailers))
	st.x.teeEnd(st.body.Trailers)
	up.End(st.body.Trailers)
}

// cut ends an exchange whose client ended its side before the body was whole.
func (s *serverConn) cut() {
	s.ended = true
	s.refuseBody(s.stream.body.EOF())
}

// refuseBody ends an exchange whose request turned out to be nonsense, or was
// cut.
func (s *serverConn) refuseBody(e *h1.Error) {
	st := s.stream
	f := fromParse(e)
	f.Error = e.Reason
	s.router.Unrouted(f)
	f.Error = "http_request_error"
	st.closes = true
	st.x.abandon()
	st.x.count(f.Status)
	if st.headSent {
		s.Cut()
		return
	}
	s.Reply(f)
}

// watch looks whether the client is still there, while the request is being
// answered. A client that has ended its side may still wait for the answer.
func (s *serverConn) watch() bool {
	if s.conn.In().Len() > 0 {
		return false
	}
	switch _, err := s.conn.Fill(loop.SmallBuffer); err {
	case nil, poll.ErrAgain, loop.ErrFull:
	case io.EOF:
		s.ended = true
	default:
		s.lost()
	}
	return false
}

// next puts the answered request away.
func (s *serverConn) next() bool {
	st := s.stream
	s.countBytes()
	if st.closes || !st.body.Done() {
		s.goodbye()
		return false
	}
	s.conn.In().Release()
	s.stream = nil
	s.worker.putStream(st)
	s.timer.Set(s.idle())
	return true
}

// countBytes adds what went over the connection to the series of its request.
func (s *serverConn) countBytes() {
	series := s.stream.x.Series
	if series == nil {
		return
	}
	if s.series == nil {
		s.countOpened(series)
	}
	series.Received(int(s.conn.Received - s.received))
	series.Sent(int(s.conn.Sent - s.sent))
	s.received, s.sent = s.conn.Received, s.conn.Sent
}

func (s *serverConn) countOpened(series *meter.Traffic) {
	s.series = series
	series.Opened(meter.HTTP1)
}

// goodbye ends the connection in good order.
func (s *serverConn) goodbye() {
	s.leave()
	s.conn.Linger()
}

// lost is called when the client is gone.
func (s *serverConn) lost() {
	if st := s.stream; st != nil && st.begun && !st.answered {
		st.x.cancel("client_gone")
	}
	s.leave()
	s.conn.Close()
}

// leave gives up all but the connection.
func (s *serverConn) leave() {
	s.done = true
	s.timer.Stop()
	delete(s.worker.conns, s)
	if st := s.stream; st != nil {
		s.countBytes()
		s.stream = nil
		s.worker.putStream(st)
	}
	if s.series != nil {
		s.series.Closed()
	}
	s.worker.Closed()
}

// Expire is called when the connection was silent for too long, or a head or an
// exchange took too long.
func (s *serverConn) Expire(*loop.Timer) {
	switch st := s.stream; {
	case st == nil:
		s.goodbye()
	case !st.begun:
		st.begun, st.closes = true, true
		s.router.Unrouted(requestTimeout)
		s.Reply(requestTimeout)
	case s.stillMoving():
	case !st.answered:
		if !st.body.Done() {
			st.closes = true
		}
		st.x.stalled(st.body.Done())
	default:
		s.goodbye()
	}
}

// Tunnel is what a connection becomes after a response said so.
func (s *serverConn) Tunnel(up *loop.Conn) {
	series, vet := s.stream.x.Series, s.stream.x.Vet
	var joined l4.Joined
	done := s.worker.Closed
	if ended := s.worker.tunnels(&s.stream.x, s.router, func() { joined.Reset() }); ended != nil {
		done = func() {
			ended()
			s.worker.Closed()
		}
	}
	s.countBytes()
	s.conn.In().Release()
	s.stream.x.timer.Stop()
	s.done = true
	s.timer.Stop()
	delete(s.worker.conns, s)
	s.worker.putStream(s.stream)
	s.stream = nil
	joined = l4.Join(&s.conn, up, l4.Options{Series: series, Idle: s.worker.Limits.StreamIdle, Opened: s.series != nil, Done: done, Vet: vet})
}
