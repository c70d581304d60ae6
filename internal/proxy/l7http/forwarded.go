package l7http

import (
	"net/netip"

	"tulle.dev/tulle/internal/wire/h1"
)

// Names of the fields that say from where a request came.
var (
	nameForwarded       = []byte("Forwarded")
	nameXRealIP         = []byte("X-Real-IP")
	prefixXForwarded    = []byte("X-Forwarded-")
	nameXForwardedFor   = []byte("X-Forwarded-For")
	nameXForwardedProto = []byte("X-Forwarded-Proto")
	nameXForwardedHost  = []byte("X-Forwarded-Host")

	schemeHTTPS = []byte("https")
)

// Introduce says in the request from where it came: X-Forwarded-For is the
// client's address, X-Forwarded-Proto what it spoke, X-Forwarded-Host what it
// asked for. Whatever the client said of that itself, also in Forwarded (RFC
// 7239) and X-Real-IP, is dropped: a Router calls this, once for an exchange,
// where anybody may be the client. front are the proxies that are believed, nil
// nobody.
func (x *Exchange) Introduce(https bool, front *Front) {
	r := &x.Request
	x.stranger = true
	peer := x.Peer().Addr().Unmap().WithZone("")
	scheme, host := schemeHTTP, r.Authority
	if https {
		scheme = schemeHTTPS
	}
	x.from = x.from[:0]
	if front.believes(peer, 1) {
		x.origins(front)
		switch x.frontScheme = schemeOf(lastOf(r.Fields, nameXForwardedProto)); x.frontScheme {
		case "https":
			scheme = schemeHTTPS
		case "http":
			scheme = schemeHTTP
		}
		if v := lastOf(r.Fields, nameXForwardedHost); h1.ValidAuthority(v) {
			host = v
		}
	}
	for i := range r.Fields {
		// Proxy-Authorization is for proxies that the client takes for its own
		// (RFC 9110, 11.7.2).
		if f := &r.Fields[i]; f.ID == h1.ProxyAuthorization || introduces(f.Name) {
			f.Drop = true
		}
	}
	x.from = peer.AppendTo(x.from)
	r.Fields = append(r.Fields,
		h1.Field{Name: nameXForwardedFor, Value: x.from, ID: h1.XForwardedFor},
		h1.Field{Name: nameXForwardedProto, Value: scheme})
	if len(host) > 0 {
		r.Fields = append(r.Fields, h1.Field{Name: nameXForwardedHost, Value: host})
	}
}

// introduces reports whether a field is one of those that Introduce replaces.
// Programs that take fields from their environment can't tell "_" from "-".
func introduces(name []byte) bool {
	switch {
	case len(name) == len(nameForwarded): // as long as X-Real-IP
		return alike(name, nameForwarded) || alike(name, nameXRealIP)
	case len(name) > len(prefixXForwarded):
		return alike(name[:len(prefixXForwarded)], prefixXForwarded)
	}
	return false
}

// alike compares names without regard to case, and to "_" or "-".
func alike(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	plain := func(c byte) byte {
		switch {
		case c == '_':
			return '-'
		case 'A' <= c && c <= 'Z':
			return c + 'a' - 'A'
		}
		return c
	}
	for i, c := range a {
		if plain(c) != plain(b[i]) {
			return false
		}
	}
	return true
}

// Peer is the address of the client's end of the connection, or what a believed
// proxy says that it is, with port 0.
func (x *Exchange) Peer() netip.AddrPort {
	if x.source.IsValid() {
		return netip.AddrPortFrom(x.source, 0)
	}
	switch d := x.client().(type) {
	case *serverConn:
		return d.conn.Peer()
	case *h2Stream:
		return d.server.conn.Peer()
	}
	return netip.AddrPort{}
}
