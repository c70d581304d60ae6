package sim_test

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"tulle.dev/tulle/internal/proxy/poll"
)

// backend is a server behind the proxies. It does with each request what its
// plan says, and checks what arrives.
type backend struct {
	run *run
	*program
	conns  int
	mirror bool // it gets copies of requests
}

// impatience is how long an impatient backend waits for a connection's first
// request. It is longer than anything delays a request that is on its way.
const impatience = 6 * time.Second

// session is one connection of a backend.
type session struct {
	b     *backend
	pipe  *pipe
	in    *message
	r     *request // being read or answered
	busy  bool     // the answer isn't complete
	heard bool     // something has come
	stop  bool
}

func (b *backend) accept(fd poll.FD) {
	s := &session{b: b, pipe: b.open(fd), in: &message{}}
	b.conns++
	s.pipe.onData = s.data
	s.pipe.onEnd = s.end
	s.pipe.onRoom = func() {}
	if b.run.impatient {
		b.world.After(impatience, func() {
			if !s.stop && !s.heard {
				s.pipe.write([]byte("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
				s.close(false)
			}
		})
	}
	if b.world.Rand.IntN(6) == 0 {
		s.pipe.pace = 300 + b.world.Rand.IntN(4<<10)
	}
}

func (s *session) data(p []byte) {
	s.heard = true
	if s.stop {
		return
	}
	if err := s.in.add(p); err != nil {
		s.b.run.violate("the backend was sent nonsense: %v", err)
		s.close(true)
		return
	}
	s.look()
}

// look does what the state of the message asks for.
func (s *session) look() {
	if s.stop || !s.in.head {
		return
	}
	if s.r == nil && !s.begin() {
		return
	}
	if s.in.done && s.r != nil && !bytes.Equal(s.in.body, s.r.body) {
		s.b.run.violate("request %d arrived with another body: %d bytes for %d", s.r.id, len(s.in.body), len(s.r.body))
	}
	if s.in.done && s.r != nil && !s.busy {
		s.busy = true
		s.later()
	}
}

// begin takes a request's head.
func (s *session) begin() bool {
	switch {
	case strings.HasPrefix(s.in.start, "GET "+healthPath+" "):
		answer := "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
		if s.b.world.Rand.IntN(5) == 0 {
			answer = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3\r\n\r\nill"
		}
		if s.in.fields["host"] != "check.example" {
			s.b.run.violate("a health check has fields %v", s.in.fields)
		}
		s.pipe.write([]byte(answer))
		s.next()
		return false
	case s.b.mirror && strings.Contains(s.in.start, " /s/"): // the copy of a stream's request
		s.close(false)
		return false
	}
	id, err := strconv.Atoi(s.in.fields["x-id"])
	if err != nil || id >= len(s.b.run.requests) {
		s.b.run.violate("a request without an id: %q %v", s.in.start, s.in.fields)
		s.close(true)
		return false
	}
	r := s.b.run.requests[id]
	if s.b.mirror {
		c := *r
		c.busy = 0
		r = &c
	}
	s.r = r
	r.delivered++
	if want := r.method + fmt.Sprintf(" /r/%d?q=1 HTTP/1.1", id); s.in.start != want {
		s.b.run.violate("request %d arrived as %q", id, s.in.start)
	}
	if s.in.fields["host"] != "shop.example" || s.in.fields["x-case"] != "A b,C" || s.in.fields["x-hop"] != "" {
		s.b.run.violate("request %d arrived with other fields: %v", id, s.in.fields)
	}
	switch r.fault {
	case resetsEarly:
		s.close(true)
		return false
	case closesEarly:
		s.close(false)
		return false
	case silent:
		s.stop = true
		return false
	}
	if r.expect && s.in.fields["expect"] != "" && !r.early {
		s.pipe.write([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
	}
	if r.early {
		s.busy = true
		s.later()
	}
	return true
}

// later answers after the planned delay.
func (s *session) later() {
	s.b.world.After(s.r.delay+time.Microsecond, func() {
		if !s.stop {
			s.answer()
		}
	})
}

func (s *session) answer() {
	r := s.r
	if r.refused < r.busy {
		r.refused++
		s.pipe.write(fmt.Appendf(nil, "HTTP/1.1 503 Service Unavailable\r\nX-Id: %d\r\nX-Case: A b,C\r\nContent-Length: 4\r\n\r\nbusy", r.id))
		s.busy = false
		if s.in.done {
			s.next()
			return
		}
		s.busy = true
		s.drain()
		return
	}
	if r.fault == garbage {
		s.pipe.write([]byte("HTTP/1.1 2000 WHAT\r\nnonsense\r\n\r\n"))
		s.close(false)
		return
	}
	var out []byte
	for range r.interims {
		out = append(out, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"...)
	}
	status := "200 OK"
	if r.answered == none {
		status = "204 No Content"
	}
	out = fmt.Appendf(out, "HTTP/1.1 %s\r\nX-Id: %d\r\nX-Case: A b,C\r\nKeep-Alive: timeout=5\r\n", status, r.id)
	switch r.answered {
	case length:
		out = fmt.Appendf(out, "Content-Length: %d\r\n", len(r.answer))
	case chunks:
		out = append(out, "Transfer-Encoding: chunked\r\n"...)
	}
	last := r.closes || r.answered == untilClose || !s.in.done && !s.in.head
	if r.closes {
		out = append(out, "Connection: close\r\n"...)
	}
	out = append(out, "\r\n"...)
	if r.method != "HEAD" {
		body := encode(s.b.world.Rand, r.answer, r.answered)
		if r.answered == chunks {
			if r.trailers {
				body = append(body, "X-Sum: 1\r\n"...)
			}
			body = append(body, "\r\n"...)
		}
		if cut := r.fault == resetsInBody || r.fault == cutsBody; cut {
			n := 0
			if len(body) > 0 {
				n = s.b.world.Rand.IntN(len(body))
			}
			if r.answered == untilClose || r.answered == none {
				n = len(body) // a cut can't be told from the end
			}
			s.pipe.write(append(out, body[:n]...))
			reset := r.fault == resetsInBody
			s.stop = true
			s.b.world.After(time.Duration(s.b.world.Rand.IntN(3))*time.Millisecond, func() { s.close(reset) })
			return
		}
		out = append(out, body...)
	} else if r.fault == resetsInBody || r.fault == cutsBody {
		r.fault = noFault
	}
	s.pipe.write(out)
	s.busy = false
	switch {
	case last || r.hangsUp:
		s.stop = true
		s.goodbye()
	case !s.in.done:
		// An early answer: the rest of the body is read and thrown away.
		s.busy = true
		s.drain()
	default:
		s.next()
	}
}

// drain waits for the rest of a request that was answered already.
func (s *session) drain() {
	s.pipe.onData = func(p []byte) {
		if s.stop {
			return
		}
		if err := s.in.add(p); err != nil {
			s.b.run.violate("the backend was sent nonsense: %v", err)
		}
		if s.in.done {
			s.busy = false
			s.pipe.onData = s.data
			s.next()
		}
	}
}

// next goes on to the request that follows.
func (s *session) next() {
	rest := s.in.in
	s.in, s.r = &message{}, nil
	if len(rest) > 0 {
		s.data(rest)
	}
}

// goodbye ends in good order: our side first, then when the peer has ended or
// after a while.
func (s *session) goodbye() {
	s.pipe.onData = func([]byte) {}
	s.pipe.onEnd = func(error) { s.pipe.close(false) }
	if s.pipe.ended || s.pipe.failed != nil {
		s.pipe.close(false)
		return
	}
	s.pipe.end()
	s.b.world.After(5*time.Minute, func() { s.pipe.close(false) })
}

func (s *session) end(err error) {
	if err == nil && s.in.head && s.in.done && s.busy {
		return // half-closed: the answer is on its way
	}
	if !s.stop && s.pipe.gone {
		return
	}
	s.close(false)
}

func (s *session) close(reset bool) {
	s.stop = true
	if reset {
		s.pipe.close(true)
		return
	}
	if s.pipe.ended || s.pipe.failed != nil || s.pipe.gone {
		s.pipe.close(false)
		return
	}
	s.goodbye()
}

var _ = strings.Cut
