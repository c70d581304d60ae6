package l7http

import "tulle.dev/tulle/internal/wire/h1"

// This file is serverConn as the Downstream of its exchanges: how answers are
// written in HTTP/1.1.

// headRoom is what a head takes, mostly; more is found when needed.
const headRoom = 1 << 10

// Interim sends a 1xx on, to a client that knows such things.
func (s *serverConn) Interim(r *h1.Response) {
	if s.stream.x.Request.Minor == 0 {
		return
	}
	s.writeHead(r, false)
}

// Response sends the head of the answer. A request that isn't all read yet will
// not be, once the answer is complete: the client is told.
func (s *serverConn) Response(r *h1.Response) {
	st := s.stream
	st.headSent = true
	if s.worker.Draining || s.last || !st.body.Done() {
		st.closes = true
	}
	st.framing = s.writeHead(r, st.closes)
	if st.framing == h1.UntilClose {
		st.closes = true
	}
	s.watchStall()
}

func (s *serverConn) writeHead(r *h1.Response, closes bool) h1.Framing {
	x := &s.stream.x
	options := h1.ResponseOptions{
		Via:         s.worker.Via,
		Date:        s.worker.dateNow(),
		ClientMinor: x.Request.Minor,
		Close:       closes,
		Trailers:    x.Request.TETrailers,
	}
	b, framing := h1.AppendResponse(s.conn.Append(headRoom), r, &options)
	s.conn.Wrote(b)
	return framing
}

// Room reports whether the client takes more.
func (s *serverConn) Room() bool {
	if s.conn.Room() > 0 {
		return true
	}
	s.stream.x.watchReader()
	return false
}

// Body sends some of the answer's body.
func (s *serverConn) Body(p []byte) {
	s.watchStall()
	if s.stream.framing != h1.Chunked {
		if _, framed := s.stream.x.up.(*h2Call); framed {
			s.conn.Collect(p)
			return
		}
		s.conn.Write(p)
		return
	}
	s.conn.Wrote(h1.AppendChunkHeader(s.conn.Append(chunkRoom), len(p)))
	s.conn.Write(p)
	s.conn.Wrote(append(s.conn.Append(chunkRoom), h1.ChunkEnd...))
}

// chunkRoom is what the lines around a chunk take.
const chunkRoom = 32

// End ends the answer.
func (s *serverConn) End(trailers []h1.Field) {
	st := s.stream
	if st.framing == h1.Chunked {
		if !st.x.Request.TETrailers {
			trailers = nil
		}
		s.conn.Wrote(h1.AppendLastChunk(s.conn.Append(headRoom), trailers))
	}
	st.answered = true
	s.advance()
}

// Reply answers in the endpoint's place.
func (s *serverConn) Reply(f *Failure) {
	st := s.stream
	if s.worker.Draining || s.last || !st.body.Done() {
		st.closes = true
	}
	b := s.conn.Append(headRoom)
	s.conn.Wrote(appendReply(b, f, st.x.detail, st.x.Extra, &st.x.Request, s.worker.dateNow(), st.closes))
	st.answered = true
	s.advance()
}

// Cut ends an answer that is not complete: without the last chunk or the bytes
// that were promised the client can tell, and where the end of the connection
// would be the end of the body it is reset (RFC 9112, 8).
func (s *serverConn) Cut() {
	framing := s.stream.framing
	s.leave()
	if framing == h1.UntilClose {
		s.conn.Abort()
		return
	}
	s.conn.Linger()
}

// Pull says that the upstream takes more of the request.
func (s *serverConn) Pull() { s.advance() }

// Rewind brings the request back to the end of its head.
func (s *serverConn) Rewind() bool {
	st, in := s.stream, s.conn.In()
	if st.lossy || st.headSent || in.Since(st.mark) > st.x.keeps() {
		return false
	}
	st.x.teeAgain()
	in.Rewind(st.mark)
	st.body.InitRequest(&st.x.Request, &s.worker.Limits.Head)
	return true
}
