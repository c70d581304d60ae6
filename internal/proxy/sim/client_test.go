package sim_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// client is one connection of a program that calls: it sends its requests, some
// before the answers to those before, and judges the answers.
type client struct {
	run      *run
	program  *program
	to       netip.AddrPort
	requests []*request
	pipeline int           // how many may be under way
	dribbles bool          // writes a few bytes at a time
	leaves   int           // resets after so many answers; -1 never
	late     time.Duration // says nothing for so long

	pipe    *pipe
	next    int // to send
	waiting int // for the answer of
	in      *message
	held    []byte // the body that waits for 100 (Continue)
	pending []byte // dribbling
	closing bool
	broken  bool
}

func (c *client) start() {
	fd, err := c.program.Connect(c.to)
	if err != nil {
		panic(err)
	}
	c.pipe = c.program.open(fd)
	c.pipe.onData = c.data
	c.pipe.onEnd = c.end
	if c.program.world.Rand.IntN(5) == 0 {
		c.pipe.pace = 300 + c.program.world.Rand.IntN(8<<10)
	}
	c.expectAnswer()
	if c.late == 0 {
		c.send()
		return
	}
	c.program.world.After(c.late, c.send)
}

// expectAnswer gets ready for the answer to the next request.
func (c *client) expectAnswer() {
	c.in = &message{noBody: func(m *message) bool {
		s := m.status()
		return s < 200 || s == 204 || s == 304 || c.waiting < len(c.requests) && c.requests[c.waiting].method == "HEAD"
	}}
}

// send sends what may be sent.
func (c *client) send() {
	for !c.closing && c.held == nil && c.next < len(c.requests) && c.next-c.waiting < c.pipeline {
		r := c.requests[c.next]
		c.next++
		head := fmt.Appendf(nil, "%s /r/%d?q=1 HTTP/1.1\r\nHost: shop.example\r\nX-Id: %d\r\nX-Case: A b,C\r\nConnection: x-hop\r\nX-Hop: 1\r\n", r.method, r.id, r.id)
		if r.trailers {
			head = append(head, "TE: trailers\r\n"...)
		}
		if r.expect {
			head = append(head, "Expect: 100-continue\r\n"...)
		}
		body := encode(c.program.world.Rand, r.body, r.framed)
		switch r.framed {
		case length:
			head = fmt.Appendf(head, "Content-Length: %d\r\n", len(r.body))
		case chunks:
			head = append(head, "Transfer-Encoding: chunked\r\n"...)
			body = append(body, "\r\n"...)
		}
		head = append(head, "\r\n"...)
		r.sent = true
		if r.expect {
			c.held = body
			c.write(head)
			// A client may get tired of waiting (RFC 9110, 10.1.1).
			c.program.world.After(time.Second, func() { c.release(r) })
			return
		}
		c.write(append(head, body...))
	}
}

// release sends the body that was held back.
func (c *client) release(r *request) {
	if c.held == nil || c.pipe.gone || r.done {
		return
	}
	body := c.held
	c.held = nil
	c.write(body)
	c.send()
}

// write writes, at once or in small pieces.
func (c *client) write(b []byte) {
	if !c.dribbles || len(b) > 4<<10 {
		if len(c.pending) > 0 {
			c.pending = append(c.pending, b...)
			return
		}
		c.pipe.write(b)
		return
	}
	first := len(c.pending) == 0
	c.pending = append(c.pending, b...)
	if first {
		c.dribble()
	}
}

func (c *client) dribble() {
	if len(c.pending) == 0 || c.pipe.gone {
		return
	}
	n := min(len(c.pending), 1+c.program.world.Rand.IntN(40))
	if len(c.pending) > 4<<10 {
		n = len(c.pending)
	}
	c.pipe.write(c.pending[:n])
	c.pending = c.pending[n:]
	c.program.world.After(time.Duration(c.program.world.Rand.IntN(1500))*time.Microsecond, c.dribble)
}

func (c *client) data(p []byte) {
	if c.closing {
		return
	}
	if err := c.in.add(p); err != nil {
		c.run.violate("the client was sent nonsense: %v", err)
		c.finish("nonsense")
		return
	}
	c.answers()
}

// answers takes the answers that are complete.
func (c *client) answers() {
	for !c.closing && c.in.done {
		if c.waiting >= c.next {
			if c.in.status() == 408 && c.in.fields["proxy-status"] != "" {
				c.finish("timed out")
				return
			}
			c.run.violate("an answer nobody asked for: %q", c.in.start)
			c.finish("unasked")
			return
		}
		r := c.requests[c.waiting]
		rest := c.in.in
		if s := c.in.status(); s < 200 {
			if s == 100 {
				c.release(r)
			}
		} else {
			c.judge(r, c.in)
			c.waiting++
			last := strings.Contains(c.in.fields["connection"], "close")
			if r.expect && c.held != nil {
				// Answered without the body: it need not be sent, but then the
				// connection can't go on (RFC 9110, 10.1.1).
				last = true
			}
			if last {
				c.finish("")
				return
			}
			if c.waiting == c.leaves {
				c.leave()
				return
			}
		}
		c.expectAnswer()
		c.in.in = rest
		if c.waiting == len(c.requests) {
			if len(rest) > 0 {
				c.run.violate("%d bytes after the last answer", len(rest))
			}
			c.finish("")
			return
		}
		c.send()
		if err := c.in.step(); err != nil {
			c.run.violate("the client was sent nonsense: %v", err)
			c.finish("nonsense")
		}
	}
}

// judge compares an answer with what was planned.
func (c *client) judge(r *request, m *message) {
	if r.done {
		c.run.violate("request %d was answered twice", r.id)
	}
	r.done, r.status = true, m.status()
	if p := m.fields["proxy-status"]; p != "" {
		r.byProxy = true
		return
	}
	if m.fields["x-id"] != strconv.Itoa(r.id) {
		c.run.violate("request %d was answered with %q %v", r.id, m.start, m.fields)
		return
	}
	if m.fields["x-case"] != "A b,C" || m.fields["keep-alive"] != "" || m.fields["date"] == "" {
		c.run.violate("the answer to %d came with other fields: %v", r.id, m.fields)
	}
	want := r.answer
	if r.status == 503 && r.busy > 0 {
		want = []byte("busy")
	}
	if r.method == "HEAD" {
		want = nil
	}
	if !bytes.Equal(m.body, want) {
		c.run.violate("the answer to %d has another body: %d bytes for %d", r.id, len(m.body), len(want))
	}
	if r.trailers && r.method != "HEAD" && m.framing == chunks && m.trailers["x-sum"] != "1" {
		c.run.violate("the answer to %d lost its trailer", r.id)
	}
}

// end is the end of the connection from the other side.
func (c *client) end(err error) {
	if c.closing {
		c.pipe.close(false)
		return
	}
	why := "closed"
	if err != nil {
		why = err.Error()
	} else if c.in.head && c.waiting < c.next {
		if err := c.in.end(); err == nil {
			c.judge(c.requests[c.waiting], c.in)
			c.waiting++
		} else {
			why = err.Error()
		}
	}
	c.finish(why)
}

// leave goes away without a word, whatever is under way.
func (c *client) leave() {
	c.run.world.Note("client leaves")
	c.finish("left")
}

// finish ends the connection; requests that were not answered are failed, those
// not sent are forgotten.
func (c *client) finish(why string) {
	if c.closing {
		return
	}
	c.closing = true
	for i := c.waiting; i < c.next; i++ {
		r := c.requests[i]
		if !r.done {
			r.done, r.failed = true, why
			if why == "" {
				r.failed = "not answered before the connection ended"
			}
		}
	}
	for i := c.next; i < len(c.requests); i++ {
		c.requests[i].done = true
	}
	c.held = nil
	c.pipe.close(why == "left")
	c.run.active--
}
