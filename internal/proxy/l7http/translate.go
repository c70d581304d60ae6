package l7http

import (
	"tulle.dev/tulle/internal/proxy/h2"
	"tulle.dev/tulle/internal/wire/h1"
)

// This file is heads between HTTP/2 and the form that exchanges have
// (RFC 9113, 8.3; RFC 9110). What the HTTP/2 engine gives out is valid by its
// rules, which are HTTP/1.1's too, but for the authority's inner form.

// http2Request puts a request's head into the exchange's form. The slices stay
// the head's. end says that no body follows.
func http2Request(r *h1.Request, h *h2.Head, end bool) *Failure {
	if len(h.Authority) > 0 && !h1.ValidAuthority(h.Authority) {
		return badAuthority
	}
	if len(h.Path) > 0 && h.Path[0] == '/' && !h1.ValidPath(h.Path) {
		return badPath
	}
	if len(h.Scheme) > 0 && schemeOf(h.Scheme) == "" {
		return badScheme
	}
	r.MethodName, r.Method = h.Method, h1.MethodOf(h.Method)
	r.Target, r.Path, r.Authority = h.Path, h.Path, h.Authority
	r.Minor, r.Two, r.KeepAlive = 1, true, true
	r.TETrailers = h.TETrailers
	r.MaxForwards = -1
	switch {
	case len(h.Protocol) > 0:
		// Extended CONNECT is GET with an offer to upgrade, in HTTP/1.1's words
		// (RFC 8441, 5).
		r.MethodName, r.Method = methodGET, h1.GET
		r.Form, r.Framing, r.Upgrade = h1.OriginForm, h1.NoBody, h.Protocol
	case r.Method == h1.CONNECT:
		r.Form, r.Framing = h1.AuthorityForm, h1.Tunnel
		r.Target = h.Authority
	case h.Path[0] == '*':
		r.Form = h1.AsteriskForm
	default:
		r.Form = h1.OriginForm
	}
	switch {
	case r.Method == h1.CONNECT || len(h.Protocol) > 0:
	case h.Length >= 0:
		r.Framing, r.Length = h1.Length, h.Length
	case end:
		r.Framing = h1.NoBody
	default:
		r.Framing = h1.Chunked
	}
	content := r.Framing == h1.Chunked || r.Length > 0
	if content && r.Method == h1.TRACE {
		return traceContent
	}
	for i := range h.Fields {
		f := h1.Field{Name: h.Fields[i].Name, Value: h.Fields[i].Value, Never: h.Fields[i].Never}
		f.ID = h1.NameOf(f.Name)
		switch f.ID {
		case h1.Expect:
			if h1.EqualFold(f.Value, "100-continue") {
				r.Expect100 = content
				f.Drop = !content
			}
		case h1.MaxForwards:
			if r.Method == h1.TRACE || r.Method == h1.OPTIONS {
				if !readMaxForwards(r, f.Value) {
					return badMaxForwards
				}
				f.Drop = true
			}
		case h1.HTTP2Settings:
			f.Drop = true
		case h1.Trailer:
			f.Drop = r.Framing != h1.Chunked
		case h1.OtherName:
			f.Drop = private(f.Name)
		}
		r.Fields = append(r.Fields, f)
	}
	return nil
}

var (
	badAuthority   = &Failure{400, "authority", "The authority is not a host and port.", true}
	badScheme      = &Failure{400, "scheme", "Only http and https URIs are served here.", true}
	badPath        = &Failure{400, "target", "The path holds a character that may not stand in it.", true}
	traceContent   = &Failure{400, "content", "TRACE has no content.", true}
	badMaxForwards = &Failure{400, "max_forwards", "Max-Forwards is not a number.", true}
)

// readMaxForwards reads the one Max-Forwards of a request that has it.
func readMaxForwards(r *h1.Request, value []byte) bool {
	n := 0
	for _, c := range value {
		if c < '0' || c > '9' {
			return false
		}
		n = min(n*10+int(c-'0'), 1<<30)
	}
	if len(value) == 0 || r.MaxForwards >= 0 {
		return false
	}
	r.MaxForwards = n
	return true
}

// http2Response puts a response's head into the exchange's form. end says that
// no body follows, method what was asked.
func http2Response(r *h1.Response, h *h2.Head, end bool, method h1.Method) {
	r.Status, r.Minor, r.Two, r.KeepAlive = h.Status, 1, true, true
	r.Reason = h1.Reason(h.Status)
	for i := range h.Fields {
		f := h1.Field{Name: h.Fields[i].Name, Value: h.Fields[i].Value, Never: h.Fields[i].Never}
		f.ID = h1.NameOf(f.Name)
		switch f.ID {
		case h1.HTTP2Settings, h1.Host:
			f.Drop = true
		case h1.OtherName:
			f.Drop = private(f.Name)
		}
		r.Fields = append(r.Fields, f)
	}
	switch {
	case h.Status < 200 || h.Status == 204:
		r.Framing = h1.NoBody
	case method == h1.CONNECT && h.Status < 300:
		r.Framing = h1.Tunnel
	case method == h1.HEAD || h.Status == 304:
		r.Framing = h1.NoBody
		if h.Length >= 0 {
			r.SetLength(h.Length)
		}
	case h.Length > 0 || h.Length == 0 && end:
		r.SetLength(h.Length)
		r.Framing = h1.Length
	case end:
		r.Framing = h1.Length
	default:
		r.Framing = h1.Chunked
	}
}

// http2Trailers adds a trailer section's fields that may be passed on.
func http2Trailers(list []h1.Field, h *h2.Head) []h1.Field {
	for i := range h.Fields {
		f := h1.Field{Name: h.Fields[i].Name, Value: h.Fields[i].Value, Never: h.Fields[i].Never}
		if f.ID = h1.NameOf(f.Name); h1.MayTrail(f.ID) && !private(f.Name) {
			list = append(list, f)
		}
	}
	return withoutIdentity(list)
}

// fieldsTo adds the fields that are passed on to the head that c has begun.
func fieldsTo(c *h2.Conn, fields []h1.Field) {
	for i := range fields {
		f := &fields[i]
		if f.Drop || private(f.Name) && !ownIdentity(f.Name) {
			continue
		}
		c.Field(f.Name, f.Value, f.Never)
	}
}

// viaTo adds our Via, and says with which version the message came.
func (w *Worker) viaTo(c *h2.Conn, two bool, minor uint8) {
	if w.Via == "" {
		return
	}
	w.scratch = append(append(append(w.scratch[:0], h1.ViaVersion(two, minor)...), ' '), w.Via...)
	c.Field(nameVia, w.scratch, false)
}

// lengthTo adds Content-Length.
func (w *Worker) lengthTo(c *h2.Conn, n int64) {
	w.scratch = appendInt(w.scratch[:0], n)
	c.Field(nameLength, w.scratch, false)
}

var (
	methodGET       = []byte("GET")
	nameVia         = []byte("via")
	nameLength      = []byte("content-length")
	nameDate        = []byte("date")
	nameTE          = []byte("te")
	nameType        = []byte("content-type")
	nameProxyStatus = []byte("proxy-status")
	nameAllow       = []byte("allow")
	valueTrailers   = []byte("trailers")
	valueText       = []byte("text/plain; charset=utf-8")
	valueAllow      = []byte(allowed)
)
