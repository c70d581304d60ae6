package l7http

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/balance"
	"tulle.dev/tulle/internal/wire/h1"
)

// This file is what a request asks of the endpoint that it goes to: a hash of it
// decides, or it is to stay where its session began.

// want is what the balancer is asked for.
func (x *Exchange) want() balance.Want {
	if x.tries > 0 { // some of the request may be gone
		return x.wanted
	}
	p := x.Cluster.Policy()
	if a := p.Balance.Algorithm; a == policy.RingHash || a == policy.Maglev {
		x.wanted.Hash, x.wanted.Hashed = x.hash(p.Balance.On)
	}
	if s := x.session(); s.Kind != policy.NoSession {
		x.wanted.Session = x.SessionToken(s)
	}
	return x.wanted
}

// hash is of the first part that the request has.
func (x *Exchange) hash(on []policy.HashPart) (hash uint64, ok bool) {
	for i := range on {
		var v []byte
		switch p := &on[i]; p.Kind {
		case policy.HashHeader:
			v, ok = header(&x.Request, p.Name)
		case policy.HashCookie:
			v, ok = cookie(&x.Request, p.Name)
		case policy.HashQuery:
			v, ok = parameter(x.Request.Path, p.Name)
		case policy.HashSource:
			if from := x.Peer().Addr(); from.IsValid() {
				return balance.HashAddr(from), true
			}
		}
		if ok {
			return balance.Hash(v), true
		}
	}
	return 0, false
}

// header is the first value of a field.
func header(r *h1.Request, name string) ([]byte, bool) {
	for i := range r.Fields {
		if f := &r.Fields[i]; !f.Drop && folds(f.Name, name) {
			return f.Value, true
		}
	}
	return nil, false
}

// folds compares without regard to the case of letters.
func folds(b []byte, name string) bool {
	if len(b) != len(name) {
		return false
	}
	for i, c := range b {
		d := name[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if 'A' <= d && d <= 'Z' {
			d |= 0x20
		}
		if c != d {
			return false
		}
	}
	return true
}

// cookie is the first cookie of a name (RFC 6265, 5.4), without the quotes.
func cookie(r *h1.Request, name string) ([]byte, bool) {
	for i := range r.Fields {
		f := &r.Fields[i]
		if f.ID != h1.Cookie {
			continue
		}
		for rest := f.Value; len(rest) > 0; {
			var pair []byte
			pair, rest, _ = bytes.Cut(rest, semicolon)
			n, v, ok := bytes.Cut(bytes.TrimSpace(pair), equals)
			if !ok || string(n) != name {
				continue
			}
			if len(v) > 1 && v[0] == '"' && v[len(v)-1] == '"' {
				v = v[1 : len(v)-1]
			}
			return v, true
		}
	}
	return nil, false
}

var (
	semicolon = []byte(";")
	ampersand = []byte("&")
	equals    = []byte("=")
	question  = []byte("?")
)

// parameter is the first parameter of a name in a path's query, as it is written.
func parameter(path []byte, name string) ([]byte, bool) {
	_, rest, _ := bytes.Cut(path, question)
	for len(rest) > 0 {
		var pair []byte
		pair, rest, _ = bytes.Cut(rest, ampersand)
		if n, v, _ := bytes.Cut(pair, equals); string(n) == name {
			return v, true
		}
	}
	return nil, false
}

// session is the one that holds: the rule's, else the destination's.
func (x *Exchange) session() *policy.Session {
	if x.Rule != nil && x.Rule.Session.Kind != policy.NoSession {
		return &x.Rule.Session
	}
	return &x.Cluster.Policy().Session
}

// A session's value is the endpoint's token, eight bytes, and where sessions end
// after a time, when it began, in six bytes of milliseconds: all in base64url. It
// isn't signed. Who writes himself another beginning gets no more than anybody who
// begins a new session at that endpoint; one that is still to come counts for
// nothing, but for the proxies' clocks.
const (
	tokenLength = 8
	begunLength = 6
	maxSkew     = time.Minute
)

// SessionToken is the endpoint that the request's session is at; 0 when it has
// none, one that makes no sense, or one that is over.
func (x *Exchange) SessionToken(s *policy.Session) uint64 {
	return sessionToken(&x.Request, s, x.worker.Loop.Wall())
}

func sessionToken(r *h1.Request, s *policy.Session, now time.Time) uint64 {
	var v []byte
	switch s.Kind {
	case policy.SessionCookie:
		v, _ = cookie(r, s.Name)
	case policy.SessionHeader:
		v, _ = header(r, s.Name)
	}
	want := tokenLength
	if s.Lifetime > 0 {
		want += begunLength
	}
	var b [tokenLength + begunLength + 2]byte
	if len(v) != base64.RawURLEncoding.EncodedLen(want) {
		return 0
	}
	if n, err := base64.RawURLEncoding.Decode(b[:], v); err != nil || n != want {
		return 0
	}
	if s.Lifetime > 0 {
		begun := int64(binary.BigEndian.Uint64(b[tokenLength-2:]) & (1<<48 - 1))
		if age := now.UnixMilli() - begun; age >= s.Lifetime.Milliseconds() || age < -maxSkew.Milliseconds() {
			return 0
		}
	}
	return binary.BigEndian.Uint64(b[:])
}

var (
	nameSetCookie = []byte("Set-Cookie")
	cookieForAll  = "; Path=/; HttpOnly"
)

// keepSession names the endpoint in the response, when the client doesn't know it
// yet: the session is new, or its endpoint was gone or not well.
func (x *Exchange) keepSession(fields []h1.Field) []h1.Field {
	if x.endpoint == nil || x.Cluster == nil || x.status >= 500 {
		return fields
	}
	s := x.session()
	if s.Kind == policy.NoSession {
		return fields
	}
	token := x.endpoint.Token(x.Cluster.Key)
	if token == x.wanted.Session {
		return fields
	}
	v := make([]byte, 0, 128)
	if s.Kind == policy.SessionHeader {
		return append(fields, h1.Field{Name: []byte(s.Name), Value: appendToken(v, token, s, x.worker.Loop.Wall())})
	}
	v = append(append(v, s.Name...), '=')
	v = append(appendToken(v, token, s, x.worker.Loop.Wall()), cookieForAll...)
	if s.Lifetime > 0 && !s.Tracked {
		v = append(v, "; Max-Age="...)
		v = strconv.AppendInt(v, max(int64(s.Lifetime/time.Second), 1), 10)
	}
	if x.overTLS() {
		v = append(v, "; Secure"...)
	}
	return append(fields, h1.Field{Name: nameSetCookie, Value: v, ID: h1.SetCookie})
}

// appendToken writes a session's value.
func appendToken(v []byte, token uint64, s *policy.Session, now time.Time) []byte {
	var b [tokenLength + begunLength]byte
	if s.Lifetime == 0 {
		binary.BigEndian.PutUint64(b[:], token)
		return base64.RawURLEncoding.AppendEncode(v, b[:tokenLength])
	}
	binary.BigEndian.PutUint64(b[tokenLength-2:], uint64(now.UnixMilli()))
	binary.BigEndian.PutUint64(b[:], token)
	return base64.RawURLEncoding.AppendEncode(v, b[:])
}

// overTLS reports whether the client's connection is protected.
func (x *Exchange) overTLS() bool {
	switch d := x.client().(type) {
	case *serverConn:
		return d.conn.Layer() != nil
	case *h2Stream:
		return d.server.conn.Layer() != nil
	}
	return false
}

// room is the gate of the destination's limit of requests.
func (x *Exchange) room() *Failure {
	var ok bool
	if x.held, ok = x.Cluster.Enter(); !ok {
		return overLimit
	}
	return nil
}

// wait lets the try wait for a connection, or fails the exchange when too many
// do.
func (x *Exchange) wait() bool {
	var ok bool
	if x.waiting, ok = x.Cluster.Wait(); !ok {
		x.Fail(overLimit)
	}
	return ok
}
