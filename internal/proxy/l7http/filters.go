package l7http

import (
	"bytes"
	"net/netip"

	"tulle.dev/tulle/internal/proxy/dial"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/wire/h1"
)

// Filters are the filters of a rule or of one of its backends, ready for use.
// They belong to one loop, because the clusters of mirrors do, and don't change.
type Filters struct {
	cors              *route.CrossOrigin
	redirect          *route.Redirect
	redirected        Failure
	request, response modifier
	rewrite           *route.Rewrite
	host              []byte // that the authority becomes
	mirrors           []mirror
}

// NewFilters gets filters ready; nil when there is nothing to do. cors is their
// CORS. to finds the cluster and the Router of a mirror's destination.
func NewFilters(f *route.Filters, cors *route.CrossOrigin, to func(destination string) (*dial.Cluster, Router)) *Filters {
	out := &Filters{
		cors: cors, redirect: f.Redirect, rewrite: f.Rewrite,
		request: newModifier(f.Request), response: newModifier(f.Response),
	}
	if f.Redirect != nil {
		out.redirected.Status = int(f.Redirect.Status)
		if out.redirected.Status == 0 {
			out.redirected.Status = 302
		}
	}
	if f.Rewrite != nil && h1.ValidAuthority([]byte(f.Rewrite.Host)) {
		out.host = []byte(f.Rewrite.Host)
	}
	for _, m := range f.Mirrors {
		if m.Destination != "" && m.Share > 0 {
			cluster, router := to(m.Destination)
			out.mirrors = append(out.mirrors, mirror{cluster: cluster, router: router, share: m.Share})
		}
	}
	if out.cors == nil && out.redirect == nil && out.rewrite == nil && len(out.mirrors) == 0 &&
		out.request.empty() && out.response.empty() {
		return nil
	}
	return out
}

// filtering is what filters leave of an exchange: reset forgets it.
type filtering struct {
	// Filters are the rule's, Picked the ones of the backend that was picked; nil
	// is none. The Router sets them.
	Filters, Picked *Filters
	// Prefix is the part of the path that the rule's match was about.
	Prefix string

	source      netip.Addr // the client's, when a proxy before this one says it
	frontScheme string     // what the client spoke, likewise; "" when nobody says

	origin []byte // the page that asks, where CORS wants to know; in memory
	copies copies
}

// Divert answers in the backend's place where a filter does: a redirect, or a
// preflight request. Else it returns nil. scheme is how the request came, port
// the listener's. The Router calls it for Filters, and for Picked.
func (x *Exchange) Divert(f *Filters, q *route.Request, scheme string, port uint16) *Failure {
	if f.cors != nil {
		if p, ok := route.IsPreflight(q); ok {
			x.cross(f.cors.AppendPreflight(x.worker.headers[:0], &p))
			return preflight
		}
		if origin := x.Request.Get(h1.Origin); origin != nil && !origin.Drop {
			x.origin = x.keep(origin.Value)
		}
	}
	if f.redirect == nil {
		return nil
	}
	if d := x.authorised(); d != nil {
		return d
	}
	begin := len(x.memory)
	x.memory = f.redirect.AppendLocation(x.memory, q, scheme, port, x.Prefix)
	x.Extra = append(x.Extra, h1.Field{Name: nameLocation, Value: x.memory[begin:len(x.memory):len(x.memory)], ID: h1.Location})
	return &f.redirected
}

// preflight is the answer to a preflight request; what it allows is in its
// fields.
var preflight = &Failure{Status: route.PreflightStatus}

// filter is the gate in which the request is changed and copied. Mirrors get what
// the filters beside them left of it.
func (x *Exchange) filter() *Failure {
	for _, f := range [...]*Filters{x.Filters, x.Picked} {
		if f != nil {
			x.change(f)
			x.copy(f)
		}
	}
	return nil
}

// change changes the request.
func (x *Exchange) change(f *Filters) {
	r := &x.Request
	r.Fields = f.request.apply(r.Fields)
	if f.rewrite == nil || r.Method == h1.CONNECT {
		return
	}
	if len(f.host) > 0 {
		r.Authority = f.host
	}
	if f.rewrite.Change != route.KeepPath {
		begin := len(x.memory)
		x.memory = f.rewrite.AppendPath(x.memory, r.Path, x.Prefix)
		if p := x.memory[begin:len(x.memory):len(x.memory)]; r.Form == h1.AsteriskForm || h1.ValidPath(p) {
			r.Path = p
		}
	}
}

// completed changes the response on its way to the client: what is nearest to
// the endpoint first, who may read it last.
func (x *Exchange) completed(fields []h1.Field) []h1.Field {
	for _, f := range [...]*Filters{x.Picked, x.Filters} {
		if f != nil {
			fields = f.response.apply(fields)
		}
	}
	for _, f := range [...]*Filters{x.Picked, x.Filters} {
		if f == nil || f.cors == nil {
			continue
		}
		names := f.cors.ExposeNames() && f.cors.Allow(x.origin)
		for i := range fields {
			if e := &fields[i]; isCORS(e.Name) {
				e.Drop = true
			}
		}
		fields = x.crossTo(fields, f.cors.AppendResponse(x.worker.headers[:0], x.origin))
		if names {
			fields = x.expose(fields)
		}
		break // the nearest to the endpoint speaks for it
	}
	return fields
}

// completeExtra does to an answer in the endpoint's place what is done to
// responses, but for the fields that such an answer has of its own.
func (x *Exchange) completeExtra() {
	kept := x.Extra[:0]
	for _, f := range x.completed(x.Extra) {
		switch {
		case f.Drop, f.ID == h1.Date, f.ID == h1.ContentType && !x.typed, f.ID == h1.ContentEncoding,
			sameName(f.Name, nameProxyStatus), sameName(f.Name, nameAllow):
		default:
			kept = append(kept, f)
		}
	}
	x.Extra = kept
}

// expose names all fields, for the page that asked to read.
func (x *Exchange) expose(fields []h1.Field) []h1.Field {
	begin := len(x.memory)
	for i := range fields {
		if f := &fields[i]; !f.Drop && !isCORS(f.Name) && f.ID != h1.SetCookie {
			if len(x.memory) > begin {
				x.memory = append(x.memory, ", "...)
			}
			x.memory = append(x.memory, f.Name...)
		}
	}
	if len(x.memory) == begin {
		return fields
	}
	return append(fields, h1.Field{Name: nameExpose, Value: x.memory[begin:len(x.memory):len(x.memory)]})
}

var (
	nameLocation = []byte("location")
	nameExpose   = []byte("access-control-expose-headers")
)

const prefixCORS = "access-control-"

func isCORS(name []byte) bool {
	return len(name) > len(prefixCORS) && name[0]|0x20 == 'a' && h1.EqualFold(name[:len(prefixCORS)], prefixCORS)
}

// cross adds fields to an answer in the endpoint's place.
func (x *Exchange) cross(list []route.Header) { x.Extra = x.crossTo(x.Extra, list) }

func (x *Exchange) crossTo(fields []h1.Field, list []route.Header) []h1.Field {
	x.worker.headers = list[:0] // its memory is kept
	for i := range list {
		h := &list[i]
		name := x.keepString(h.Name)
		fields = append(fields, h1.Field{Name: name, Value: h.Value, ID: h1.NameOf(name)})
	}
	return fields
}

// maxMemory bounds what an exchange keeps of its memory for the next one.
const maxMemory = 16 << 10

// keep copies bytes to where they stay for as long as the exchange.
func (x *Exchange) keep(b []byte) []byte {
	begin := len(x.memory)
	x.memory = append(x.memory, b...)
	return x.memory[begin:len(x.memory):len(x.memory)]
}

func (x *Exchange) keepString(s string) []byte {
	begin := len(x.memory)
	x.memory = append(x.memory, s...)
	return x.memory[begin:len(x.memory):len(x.memory)]
}

// Lookup looks fields of a request up by name, for routes and policies. It
// belongs to a loop, so that what is found lives in memory that is used again
// with the next request.
type Lookup struct {
	request *h1.Request
	memory  []byte
}

// Of lets it look fields of that request up.
func (l *Lookup) Of(r *h1.Request) *Lookup {
	l.request, l.memory = r, l.memory[:0]
	return l
}

// claims reports whether a field is a client's word about where a request comes
// from: dropped, it counts for nothing.
func claims(id h1.NameID) bool {
	switch id {
	case h1.Forwarded, h1.XForwardedFor, h1.XForwardedHost, h1.XForwardedProto, h1.XRealIP, h1.EarlyData:
		return true
	}
	return false
}

// Field joins the values of all fields of a name, when there are several. Host is
// the request's authority, wherever that was said. What isn't passed on isn't
// found, but for what the proxy itself decides by and writes anew.
func (l *Lookup) Field(name string) (value []byte, ok bool) {
	if len(name) == len("host") && h1.EqualFold([]byte(name), "host") {
		return l.request.Authority, len(l.request.Authority) > 0
	}
	begin := len(l.memory)
	for i := range l.request.Fields {
		f := &l.request.Fields[i]
		if len(f.Name) != len(name) || !bytes.EqualFold(f.Name, []byte(name)) ||
			f.Drop && (f.ID == h1.OtherName || claims(f.ID)) {
			continue
		}
		switch {
		case !ok:
			value, ok = f.Value, true
			continue
		case len(l.memory) == begin:
			l.memory = append(l.memory, value...)
		}
		l.memory = append(append(l.memory, ','), f.Value...)
		value = l.memory[begin:len(l.memory):len(l.memory)]
	}
	return value, ok
}
