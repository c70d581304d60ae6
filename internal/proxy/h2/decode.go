package h2

import (
	wire "tulle.dev/tulle/internal/wire/h2"
	"tulle.dev/tulle/internal/wire/hpack"
)

// section says what a field block is, which decides the rules for it.
type section uint8

const (
	request section = iota
	response
	trailers
)

// fault is what is wrong with a field block that could be decoded.
type fault struct {
	malformed string // RFC 9113, 8.1.1: why; the stream is reset
	tooLarge  bool   // beyond the limits: 431
}

func (f *fault) bad(reason string) {
	if f.malformed == "" {
		f.malformed = reason
	}
}

// decoding is the state of one field block's decoding.
type decoding struct {
	env     *Env
	cfg     *Config
	h       *Head
	kind    section
	fault   fault
	regular bool // a field that isn't a pseudo-header has come
	pseudo  uint8
	host    mark
	hasHost bool
	fields  int
	list    int // as RFC 9113, 6.5.2 counts
	cookie  int // bytes of the joined cookie
}

// Bits of decoding.pseudo.
const (
	sawMethod = 1 << iota
	sawScheme
	sawAuthority
	sawPath
	sawProtocol
	sawStatus
)

// decode reads a whole field block. The block is always read to its end, since
// it changes the connection's compression state; an error of that is the
// connection's. The head is nil when the fault isn't empty.
func (c *Conn) decode(block []byte, kind section) (*Head, fault, error) {
	e := c.env
	e.marks, e.crumbs = e.marks[:0], e.crumbs[:0]
	d := decoding{env: e, cfg: c.cfg, h: e.GetHead(), kind: kind}
	d.h.Length = -1
	e.reader.Reset(&c.decoder, block)
	var f hpack.Field
	for {
		ok, err := e.reader.Next(&f)
		if err != nil {
			e.PutHead(d.h)
			return nil, fault{}, wire.ConnectionError{Code: wire.CompressionError, Reason: err.Error()}
		}
		if !ok {
			break
		}
		if d.fault.malformed == "" && !d.fault.tooLarge {
			d.field(&f)
		}
	}
	d.finish()
	if d.fault != (fault{}) {
		e.PutHead(d.h)
		return nil, d.fault, nil
	}
	d.h.conn, d.h.held = c, cap(d.h.arena)
	c.heldHeads += d.h.held
	return d.h, fault{}, nil
}

// field takes one field.
func (d *decoding) field(f *hpack.Field) {
	d.list += len(f.Name) + len(f.Value) + 32
	if d.list > d.cfg.maxList() {
		d.fault.tooLarge = true
		return
	}
	if len(f.Name) == 0 {
		d.fault.bad("empty field name")
		return
	}
	if f.Name[0] == ':' {
		d.pseudoField(f)
		return
	}
	d.regular = true
	if f.Static == 0 && !validName(f.Name) {
		d.fault.bad("field name is not a token in lower case")
		return
	}
	if !validValue(f.Value) {
		d.fault.bad("field value with a control character, or space around it")
		return
	}
	if d.special(f) {
		return
	}
	if d.fields++; d.fields > d.cfg.maxFields() {
		d.fault.tooLarge = true
		return
	}
	d.keep(f)
}

// special takes the fields that the engine itself must know; it reports
// whether the field isn't to be kept as it is.
func (d *decoding) special(f *hpack.Field) bool {
	switch string(f.Name) {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		d.fault.bad("connection-specific field") // RFC 9113, 8.2.2
	case "te":
		if d.kind == request && equalFold(f.Value, "trailers") {
			d.h.TETrailers = true
		} else {
			d.fault.bad("te other than trailers")
		}
	case "content-length":
		if d.kind == trailers {
			d.fault.bad("content-length in trailers")
		} else if n, ok := parseLength(f.Value); !ok {
			d.fault.bad("content-length is not a number")
		} else if d.h.Length >= 0 {
			d.fault.bad("content-length twice")
		} else {
			d.h.Length = n
		}
	case "host":
		switch {
		case d.kind == trailers:
			d.fault.bad("host in trailers")
		case d.kind == response:
			return false
		case d.hasHost:
			d.fault.bad("host twice")
		case !validAuthority(f.Value):
			d.fault.bad("host is not an authority")
		default:
			d.hasHost, d.host = true, d.copy(f.Value)
		}
	case "cookie":
		if d.kind != request {
			return false
		}
		if len(d.env.crumbs) == 0 {
			d.fields++
			d.env.marks = append(d.env.marks, mark{name: hpack.StaticName(hpack.IndexCookie), cookie: true})
		}
		d.cookie += len(f.Value) + 2
		if len(d.env.crumbs) == MaxCrumbs || d.cookie-2 > d.cfg.maxCookie() {
			d.fault.tooLarge = true
			return true
		}
		m := d.copy(f.Value)
		m.never = f.Never
		d.env.crumbs = append(d.env.crumbs, m)
	default:
		return false
	}
	return true
}

// pseudoField takes a field whose name begins with a colon (RFC 9113, 8.3).
func (d *decoding) pseudoField(f *hpack.Field) {
	if d.kind == trailers {
		d.fault.bad("pseudo-header field in trailers")
		return
	}
	if d.regular {
		d.fault.bad("pseudo-header field after another field")
		return
	}
	var bit uint8
	valid := false
	if d.kind == response {
		if string(f.Name) == ":status" {
			bit = sawStatus
			d.h.Status, valid = parseStatus(f.Value)
		}
	} else {
		switch string(f.Name) {
		case ":method":
			bit, valid = sawMethod, validToken(f.Value)
			d.h.Method = f.Value
		case ":scheme":
			bit, valid = sawScheme, validScheme(f.Value)
			d.h.Scheme = f.Value
		case ":authority":
			bit, valid = sawAuthority, validAuthority(f.Value)
			d.h.Authority = f.Value
		case ":path":
			bit, valid = sawPath, validPath(f.Value)
			d.h.Path = f.Value
		case ":protocol":
			bit, valid = sawProtocol, validToken(f.Value)
			d.h.Protocol = f.Value
		}
	}
	switch {
	case bit == 0:
		d.fault.bad("unknown pseudo-header field")
	case d.pseudo&bit != 0:
		d.fault.bad("pseudo-header field twice")
	case !valid:
		d.fault.bad("invalid value of a pseudo-header field")
	}
	d.pseudo |= bit
	if d.kind == request {
		m := d.copy(f.Value)
		m.pseudo = bit
		d.env.marks = append(d.env.marks, m)
	}
}

// copy puts a value into the arena.
func (d *decoding) copy(value []byte) mark {
	m := mark{at: len(d.h.arena), valueLen: len(value)}
	d.h.arena = append(d.h.arena, value...)
	return m
}

// keep puts a field into the arena.
func (d *decoding) keep(f *hpack.Field) {
	m := mark{at: len(d.h.arena), valueLen: len(f.Value), never: f.Never}
	if f.Static != 0 {
		m.name = hpack.StaticName(f.Static)
	} else {
		m.nameLen = len(f.Name)
		d.h.arena = append(d.h.arena, f.Name...)
	}
	d.h.arena = append(d.h.arena, f.Value...)
	d.env.marks = append(d.env.marks, m)
}

// finish joins the cookie, checks what can only be checked now, and points the
// head's slices into the arena.
func (d *decoding) finish() {
	if d.fault != (fault{}) {
		return
	}
	h := d.h
	var cookie mark
	if crumbs := d.env.crumbs; len(crumbs) == 1 {
		cookie = crumbs[0]
	} else if len(crumbs) > 1 {
		cookie.at = len(h.arena)
		for i, m := range crumbs {
			if i > 0 {
				h.arena = append(h.arena, "; "...)
			}
			h.arena = append(h.arena, h.arena[m.at:m.at+m.valueLen]...)
			cookie.never = cookie.never || m.never
		}
		cookie.valueLen = len(h.arena) - cookie.at
	}
	a := h.arena
	for i := range d.env.marks {
		m := &d.env.marks[i]
		if m.pseudo != 0 {
			v := a[m.at : m.at+m.valueLen : m.at+m.valueLen]
			switch m.pseudo {
			case sawMethod:
				h.Method = v
			case sawScheme:
				h.Scheme = v
			case sawAuthority:
				h.Authority = v
			case sawPath:
				h.Path = v
			case sawProtocol:
				h.Protocol = v
			}
			continue
		}
		name, at := m.name, m.at
		if m.cookie {
			m, at = &cookie, cookie.at
		} else if name == nil {
			name = a[at : at+m.nameLen : at+m.nameLen]
			at += m.nameLen
		}
		h.Fields = append(h.Fields, Field{name, a[at : at+m.valueLen : at+m.valueLen], m.never})
	}
	switch d.kind {
	case response:
		d.finishResponse()
	case request:
		d.finishRequest()
	}
}

// finishRequest checks RFC 9113, 8.3.1 and 8.5, RFC 8441, 4.
func (d *decoding) finishRequest() {
	cfg := d.cfg
	h := d.h
	connect := string(h.Method) == "CONNECT"
	if d.hasHost {
		host := h.arena[d.host.at : d.host.at+d.host.valueLen : d.host.at+d.host.valueLen]
		if d.pseudo&sawAuthority == 0 {
			if connect {
				d.fault.bad("CONNECT without :authority")
				return
			}
			h.Authority = host
		} else if !sameAuthority(h.Authority, host, h.Scheme) {
			d.fault.bad("host differs from :authority")
			return
		}
	}
	switch {
	case d.pseudo&sawMethod == 0:
		d.fault.bad("no :method")
	case d.pseudo&sawProtocol != 0 && !connect:
		d.fault.bad(":protocol without CONNECT")
	case d.pseudo&sawProtocol != 0 && !cfg.ConnectProtocol:
		d.fault.bad(":protocol without SETTINGS_ENABLE_CONNECT_PROTOCOL")
	case connect && d.pseudo&sawProtocol == 0:
		if d.pseudo&(sawScheme|sawPath) != 0 {
			d.fault.bad("CONNECT with :scheme or :path")
		} else if d.pseudo&sawAuthority == 0 || len(h.Authority) == 0 {
			d.fault.bad("CONNECT without :authority")
		} else if h.Length >= 0 {
			d.fault.bad("CONNECT with content-length")
		}
	case d.pseudo&sawScheme == 0:
		d.fault.bad("no :scheme")
	case d.pseudo&sawPath == 0:
		d.fault.bad("no :path")
	case h.Path[0] == '*' && string(h.Method) != "OPTIONS":
		d.fault.bad("path * of another method than OPTIONS")
	case connect && h.Length >= 0:
		d.fault.bad("CONNECT with content-length")
	case len(h.Authority) == 0 && !cfg.Peer && (string(h.Scheme) == "http" || string(h.Scheme) == "https"):
		d.fault.bad("no authority")
	}
}

// finishResponse checks RFC 9113, 8.3.2.
func (d *decoding) finishResponse() {
	switch {
	case d.pseudo&sawStatus == 0:
		d.fault.bad("no :status")
	case d.h.Status == 101:
		d.fault.bad("status 101") // RFC 9113, 8.6
	case d.h.Status < 200 && d.h.Length >= 0:
		d.fault.bad("interim response with content-length")
	}
}
