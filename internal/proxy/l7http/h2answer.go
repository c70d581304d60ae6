package l7http

import (
	"tulle.dev/tulle/internal/proxy/h2"
	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/wire/h1"

	wire "tulle.dev/tulle/internal/wire/h2"
)

// This file is h2Stream as the Downstream of its exchange: how answers are
// written in HTTP/2.

func (st *h2Stream) engine() *h2.Conn { return st.server.now() }

// Interim sends a 1xx on.
func (st *h2Stream) Interim(r *h1.Response) {
	e := st.engine()
	e.BeginResponse(st.stream, r.Status)
	fieldsTo(e, r.Fields)
	st.server.worker.viaTo(e, r.Two, r.Minor)
	e.EndHead(st.stream, false)
	st.server.schedule()
}

// Response sends the head of the answer.
func (st *h2Stream) Response(r *h1.Response) {
	e, w := st.engine(), st.server.worker
	st.headSent = true
	status := r.Status
	if status == 101 {
		status = 200 // RFC 8441, 5: the answer to extended CONNECT
	}
	e.BeginResponse(st.stream, status)
	if st.server.peer {
		st.toPeer(r)
	}
	fieldsTo(e, r.Fields)
	if !r.Sends(h1.Date) {
		e.Field(nameDate, w.dateNow(), false)
	}
	st.left = -1
	end := false
	switch r.Framing {
	case h1.Length:
		if end = r.Length == 0; !r.Two { // else trailers may follow
			st.left = r.Length
		}
		if !r.Two || r.HasLength() { // an end says it as well
			w.lengthTo(e, r.Length)
		}
	case h1.NoBody:
		end = true
		if r.HasLength() {
			w.lengthTo(e, r.Length)
		}
	}
	w.viaTo(e, r.Two, r.Minor)
	e.EndHead(st.stream, end)
	st.moved++
	st.watchStall()
	st.server.schedule()
}

func h1Get(fields []h1.Field, id h1.NameID) *h1.Field {
	for i := range fields {
		if fields[i].ID == id {
			return &fields[i]
		}
	}
	return nil
}

// Room reports whether the client takes more.
func (st *h2Stream) Room() bool { return st.engine().Room(st.stream) > 0 }

// Body sends some of the answer's body.
func (st *h2Stream) Body(p []byte) {
	st.moved += uint64(len(p))
	end := false
	if st.left >= 0 {
		st.left -= int64(len(p))
		end = st.left == 0
	}
	st.engine().Write(st.stream, p, end)
	st.server.schedule()
}

// End ends the answer.
func (st *h2Stream) End(trailers []h1.Field) {
	st.answered = true
	e := st.engine()
	if len(trailers) > 0 && st.left != 0 {
		e.BeginTrailers(st.stream)
		for i := range trailers {
			e.Field(trailers[i].Name, trailers[i].Value, trailers[i].Never)
		}
		e.EndHead(st.stream, true)
	} else {
		e.Write(st.stream, nil, true)
	}
	st.finish()
}

// Reply answers in the endpoint's place.
func (st *h2Stream) Reply(f *Failure) {
	st.answered = true
	if st.x.call {
		st.replyGRPC(f)
		st.finish()
		return
	}
	e, w := st.engine(), st.server.worker
	head := st.x.Request.Method == h1.HEAD
	e.BeginResponse(st.stream, f.Status)
	e.Field(nameDate, w.dateNow(), false)
	st.proxyStatusTo(f)
	fieldsTo(e, st.x.Extra)
	if f.Status == 405 || f == options {
		e.Field(nameAllow, valueAllow, false)
	}
	if f.Text != "" {
		length := len(f.Text)
		if h1Get(st.x.Extra, h1.ContentType) == nil { // our own words
			e.Field(nameType, valueText, false)
			length++
		}
		w.lengthTo(e, int64(length))
	}
	e.EndHead(st.stream, f.Text == "" || head)
	if f.Text != "" && !head {
		w.scratch = append(w.scratch[:0], f.Text...)
		if h1Get(st.x.Extra, h1.ContentType) == nil {
			w.scratch = append(w.scratch, '\n')
		}
		e.Write(st.stream, w.scratch, true)
	}
	st.finish()
}

// proxyStatusTo says what went wrong (RFC 9209).
func (st *h2Stream) proxyStatusTo(f *Failure) {
	if st.server.peer && st.x.Serving && st.x.unsent {
		st.engine().Field(nameUnseen, valueUnseen, false)
	}
	if w := st.server.worker; f.Error != "" {
		w.scratch = appendStatus(w.scratch[:0], f, st.x.detail)
		st.engine().Field(nameProxyStatus, w.scratch, false)
	}
}

// ownAnswer completes the head of an answer that the engine makes: 431.
func (w *Worker) ownAnswer(e *h2.Conn) {
	e.Field(nameDate, w.dateNow(), false)
	w.scratch = appendStatus(w.scratch[:0], tooLarge, "")
	e.Field(nameProxyStatus, w.scratch, false)
}

// reset passes on that the endpoint has reset the stream.
func (st *h2Stream) reset(code wire.Code) {
	st.answered = true
	st.engine().Reset(st.stream, code)
	st.finish()
}

// Cut ends an answer that is not complete.
func (st *h2Stream) Cut() {
	st.answered = true
	st.engine().Reset(st.stream, wire.InternalError)
	st.finish()
}

// Pull says that the upstream takes more of the request.
func (st *h2Stream) Pull() { st.push() }

// Rewind brings the request's body back.
func (st *h2Stream) Rewind() bool {
	if st.lossy || st.headSent {
		return false
	}
	st.x.teeAgain()
	st.gone, st.ended = 0, false
	return true
}

// Tunnel carries bytes between the stream and a connection.
func (st *h2Stream) Tunnel(up *loop.Conn) { joinStream(st, up) }
