package sim_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"tulle.dev/tulle/internal/proxy/poll"
)

// stream is one opaque connection: bytes each way, each side ending its own
// when it has sent them.
type stream struct {
	run      *run
	id       int
	up, down []byte
	asks     string // the request that opens it: an upgrade, or CONNECT; or none
	greeted  bool
	answer   []byte // the head of the answer to that
	refused  string // its status line, when it isn't the one hoped for
	waits    bool   // the server sends all it has only when the client has ended
	breaks   int    // the client resets after so many bytes came; -1 never

	client, server   *pipe
	gotUp, gotDown   []byte
	upEnd, downEnd   bool
	upBroke, dnBroke error
	done             bool
	connects         int
}

// tag is how a stream's first bytes name it to the server.
const tag = 8

func (r *run) planStream(id int) *stream {
	s := &stream{run: r, id: id, breaks: -1}
	s.up = append(fmt.Appendf(nil, "%08d", id), content(id, size(r.plan), 3)...)
	s.down = content(id, size(r.plan), 4)
	if r.plan.IntN(6) == 0 && r.world.Weather.Segment > 1000 && r.world.Weather.Window > 4<<10 {
		s.down = content(id, 500<<10+r.plan.IntN(500<<10), 4) // enough to be spliced
	}
	s.waits = r.plan.IntN(3) == 0
	if r.faulty && r.plan.IntN(4) == 0 {
		s.breaks = r.plan.IntN(len(s.down) + 1)
	}
	return s
}

func (s *stream) start(p *program, to netip.AddrPort) {
	s.client = p.open(must(p.Connect(to)))
	if s.run.plan.IntN(3) == 0 {
		s.client.pace = 300 + s.run.plan.IntN(8<<10)
	}
	s.client.onData = func(b []byte) {
		if b = s.opened(b); len(b) == 0 {
			return
		}
		if s.run.greets && !s.greeted {
			s.answer = append(s.answer, b...)
			if len(s.answer) < len(greeting) {
				return
			}
			if string(s.answer[:len(greeting)]) != greeting {
				s.run.violate("stream %d is greeted with %q", s.id, s.answer)
			}
			s.greeted = true
			b = s.answer[len(greeting):]
			s.client.write(s.up)
			s.client.end()
		}
		s.gotDown = append(s.gotDown, b...)
		if !bytes.HasPrefix(s.down, s.gotDown) {
			s.run.violate("stream %d: the client got other bytes", s.id)
		}
		if s.breaks >= 0 && len(s.gotDown) >= s.breaks {
			s.finish(true)
		}
	}
	s.client.onEnd = func(err error) {
		s.dnBroke, s.downEnd = err, err == nil
		s.settle()
	}
	if s.asks != "" {
		s.client.write([]byte(s.asks))
		return
	}
	if s.run.greets {
		return // the server speaks first
	}
	s.client.write(s.up)
	s.client.end()
}

// greeting is what a server says that speaks first.
const greeting = "220 hi\r\n"

// opened takes the answer to the opening request off what the client reads; then
// the stream begins.
func (s *stream) opened(b []byte) []byte {
	if s.asks == "" || s.refused != "" {
		return b
	}
	s.answer = append(s.answer, b...)
	head, rest, whole := bytes.Cut(s.answer, []byte("\r\n\r\n"))
	if !whole {
		return nil
	}
	s.asks = ""
	line, _, _ := bytes.Cut(head, []byte("\r\n"))
	if status := string(line[:min(len(line), 12)]); status != "HTTP/1.1 101" && status != "HTTP/1.1 200" {
		s.refused = string(line)
		s.finish(false)
		return nil
	}
	s.client.write(s.up)
	s.client.end()
	return rest
}

// asking is the request that opens a stream.
func asking(method string, id int) string {
	if method == "CONNECT" {
		return "CONNECT shop.example:80 HTTP/1.1\r\nHost: shop.example:80\r\n\r\n"
	}
	return fmt.Sprintf("GET /s/%d HTTP/1.1\r\nHost: shop.example\r\nConnection: Upgrade\r\nUpgrade: sim\r\n\r\n", id)
}

// serveStreams is the server's part.
func (r *run) serveStreams(p *program, at netip.AddrPort) {
	p.serve(at, func(fd poll.FD) {
		c := p.open(fd)
		if r.greets {
			c.write([]byte(greeting))
		}
		if r.plan.IntN(3) == 0 {
			c.pace = 300 + r.plan.IntN(8<<10)
		}
		var s *stream
		var in []byte
		upgrade := r.upgrades
		send := func() {
			c.write(s.down)
			c.end()
		}
		c.onData = func(b []byte) {
			in = append(in, b...)
			if upgrade {
				head, rest, whole := bytes.Cut(in, []byte("\r\n\r\n"))
				if !whole {
					return
				}
				if !bytes.Contains(head, []byte("\r\nUpgrade: sim")) {
					r.violate("no upgrade in %q", head)
				}
				upgrade = false
				in = bytes.Clone(rest)
				c.write([]byte("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: sim\r\n\r\n"))
			}
			if s == nil {
				if len(in) < tag {
					return
				}
				id, err := strconv.Atoi(string(in[:tag]))
				if err != nil || id >= len(r.streams) {
					if !r.nuisances { // what they say is carried like anything
						r.violate("a stream begins with %q", in[:tag])
					}
					c.close(true)
					return
				}
				s = r.streams[id]
				s.server = c
				if s.connects++; s.connects > 1 {
					r.violate("stream %d reached a server twice", id)
				}
				if !s.waits {
					send()
				}
			}
			s.gotUp = in
			if !bytes.HasPrefix(s.up, in) {
				r.violate("stream %d: the server got other bytes", s.id)
			}
		}
		c.onEnd = func(err error) {
			if s == nil {
				c.close(false)
				return
			}
			s.upBroke, s.upEnd = err, err == nil
			if err != nil {
				c.close(false)
				s.settle()
				return
			}
			if s.waits {
				send()
			}
			s.settle()
		}
	})
}

// settle ends a stream whose both directions have ended.
func (s *stream) settle() {
	if s.dnBroke != nil || s.downEnd && (s.upEnd || s.upBroke != nil || s.run.vanishes) {
		s.finish(false)
	}
}

func (s *stream) finish(reset bool) {
	if s.done {
		return
	}
	s.done = true
	s.run.active--
	s.client.close(reset || len(s.client.out) > 0)
	if c := s.server; c != nil {
		// The server closes when it has heard of the end.
		s.run.world.After(5*time.Second, func() { c.close(false) })
	}
}

// judge looks at what came of it.
func (s *stream) judge() {
	r := s.run
	switch {
	case !s.done:
		r.violate("stream %d has no end: %d of %d up, %d of %d down", s.id, len(s.gotUp), len(s.up), len(s.gotDown), len(s.down))
	case s.downEnd && len(s.gotDown) < len(s.down):
		r.violate("stream %d was cut silently: %d of %d down", s.id, len(s.gotDown), len(s.down))
	case s.upEnd && len(s.gotUp) < len(s.up):
		r.violate("stream %d was cut silently: %d of %d up", s.id, len(s.gotUp), len(s.up))
	case r.stormy || r.timeout > 0 || s.breaks >= 0 || r.stack != nil:
	case r.innerDrain() && s.server == nil:
	case s.refused != "" && r.spares():
	case s.refused != "":
		r.violate("stream %d was refused: %s", s.id, s.refused)
	case r.drains && s.server == nil && s.dnBroke == unix.ECONNREFUSED:
	case !s.downEnd || !s.upEnd:
		r.violate("stream %d broke for no reason: %v %v", s.id, s.upBroke, s.dnBroke)
	}
}
