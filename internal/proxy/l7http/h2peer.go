package l7http

import (
	"strconv"

	"tulle.dev/tulle/internal/proxy/h2"
	"tulle.dev/tulle/internal/wire/h1"
)

// This file is what two proxies of the mesh tell each other beside a message,
// so that nothing of HTTP/1.1 is lost on the way through HTTP/2. The fields are
// believed only when they come over mutual TLS from another proxy, and dropped
// from whatever anybody else sends.
//
//	tulle-version   "1.0" or "2": what the client spoke; else it was HTTP/1.1
//	tulle-case      "t": field names are to be written Like-This; else the names
//	                that have capitals, as they were, separated by commas
//	tulle-upgrade   of a request: what it offers to switch to; of a response:
//	                what was switched to (the status was 101)
//	tulle-timeout   how many milliseconds the caller still waits (deadline.go)
//	tulle-unsent    of a response: "1", the program has not seen the request
//	tulle-reason    the reason phrase, when it isn't the registered one
const privatePrefix = "tulle-"

var (
	nameVersion = []byte("tulle-version")
	nameCase    = []byte("tulle-case")
	nameUpgrade = []byte("tulle-upgrade")
	nameReason  = []byte("tulle-reason")
	nameUnseen  = []byte("tulle-unsent")
	valueUnseen = []byte("1")
	value10     = []byte("1.0")
	value2      = []byte("2")
	valueTitle  = []byte("t")
)

// private says whether a field name, in any case, is one of these. A response's
// tulle-id is for clients too (story.go).
func private(name []byte) bool {
	return len(name) > len(privatePrefix) && name[0]|0x20 == 't' && h1.EqualFold(name[:len(privatePrefix)], privatePrefix) && !isTulleID(name)
}

// toPeer adds to the request's head what HTTP/2 can't say.
func (c *h2Call) toPeer(x *Exchange) {
	e, r := c.client.now(), &x.Request
	switch {
	case x.HTTP2:
		e.Field(nameVersion, value2, false)
	case r.Minor == 0:
		e.Field(nameVersion, value10, false)
	}
	if !x.HTTP2 {
		c.client.worker.caseTo(e, r.Fields)
	}
	if len(r.Upgrade) > 0 {
		e.Field(nameUpgrade, r.Upgrade, false)
		c.unended = true
	}
}

// toPeer adds to the response's head what HTTP/2 can't say.
func (st *h2Stream) toPeer(r *h1.Response) {
	e := st.engine()
	if !r.Two {
		st.server.worker.caseTo(e, r.Fields)
	}
	if string(r.Reason) != string(h1.Reason(r.Status)) {
		e.Field(nameReason, r.Reason, false)
	}
	if r.Status == 101 || r.Status == 426 {
		e.Field(nameUpgrade, r.Upgrade, false)
	}
}

// caseTo says how the names of fields are written.
func (w *Worker) caseTo(e *h2.Conn, fields []h1.Field) {
	title, lower := true, true
	for i := range fields {
		if f := &fields[i]; !f.Drop {
			t, l := nameCase2(f.Name)
			title, lower = title && t, lower && l
		}
	}
	switch {
	case lower:
		return
	case title:
		e.Field(nameCase, valueTitle, false)
		return
	}
	w.scratch = w.scratch[:0]
	for i := range fields {
		if _, l := nameCase2(fields[i].Name); l || fields[i].Drop {
			continue
		}
		if len(w.scratch) > 0 {
			w.scratch = append(w.scratch, ',')
		}
		w.scratch = append(w.scratch, fields[i].Name...)
	}
	e.Field(nameCase, w.scratch, false)
}

// nameCase2 says whether a name is written Like-This, and whether like-this.
func nameCase2(name []byte) (title, lower bool) {
	title, lower = true, true
	start := true
	for _, c := range name {
		up := 'A' <= c && c <= 'Z'
		low := 'a' <= c && c <= 'z'
		lower = lower && !up
		if start && low || !start && up {
			title = false
		}
		start = c == '-'
	}
	return title, lower
}

// fromPeer takes what the other proxy says beside a request.
func (st *h2Stream) fromPeer() {
	r, w := &st.x.Request, st.server.worker
	v, _ := st.head.Get("tulle-version")
	st.x.HTTP2 = string(v) == "2"
	if string(v) == "1.0" {
		r.Minor = 0
	}
	if v, ok := st.head.Get("tulle-case"); ok {
		st.names = w.recase(st.names[:0], r.Fields, v)
	}
	if v, ok := st.head.Get("tulle-upgrade"); ok && !st.complete {
		r.Upgrade = v
		r.Framing = h1.NoBody
		st.bodiless = true
	}
}

// fromPeer takes what the other proxy says beside a response.
func (c *h2Call) fromPeer(h *h2.Head) {
	r := &c.resp
	if v, ok := h.Get("tulle-case"); ok {
		c.names = c.client.worker.recase(c.names[:0], r.Fields, v)
	}
	if v, ok := h.Get("tulle-upgrade"); ok {
		r.Upgrade = v
		if r.Status == 200 && c.unended {
			r.Status, r.Framing, r.Reason = 101, h1.Tunnel, h1.Reason(101)
		}
	}
	if _, ok := h.Get("tulle-unsent"); ok {
		c.x.unsent = true
	}
	if v, ok := h.Get("tulle-reason"); ok {
		r.Reason = v
	}
}

// recase writes names as a tulle-case says, into memory that it returns.
func (w *Worker) recase(mem []byte, fields []h1.Field, how []byte) []byte {
	for i := range fields {
		f := &fields[i]
		if f.Drop {
			continue
		}
		at := len(mem)
		if string(how) == "t" {
			mem = append(mem, f.Name...)
			start := true
			for j := at; j < len(mem); j++ {
				if c := mem[j]; start && 'a' <= c && c <= 'z' {
					mem[j] = c - 0x20
				}
				start = mem[j] == '-'
			}
			f.Name = mem[at:len(mem):len(mem)]
			continue
		}
		if name := listed(how, f.Name); name != nil {
			f.Name = name
		}
	}
	return mem
}

// listed finds a name in a list of names in another case.
func listed(list, lower []byte) []byte {
	for len(list) > 0 {
		n := 0
		for n < len(list) && list[n] != ',' {
			n++
		}
		if n == len(lower) && foldsTo(list[:n], lower) {
			return list[:n:n]
		}
		list = list[min(n+1, len(list)):]
	}
	return nil
}

func foldsTo(name, lower []byte) bool {
	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

func appendInt(dst []byte, n int64) []byte { return strconv.AppendInt(dst, n, 10) }
