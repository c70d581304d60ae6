package l7http

import (
	"fmt"
	"testing"

	"tulle.dev/tulle/internal/proxy/h2"
	"tulle.dev/tulle/internal/wire/h1"
	wire "tulle.dev/tulle/internal/wire/h2"
	"tulle.dev/tulle/internal/wire/hpack"
)

// valid1 says whether wire/h1 takes a request.
func valid1(method, path, authority, name, value string) bool {
	var r h1.Request
	r.Reset()
	text := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\n%s: %s\r\n\r\n", method, path, authority, name, value)
	n, err := r.Parse([]byte(text), &h1.Limits{})
	return err == nil && n == len(text) && len(r.Fields) == 2
}

// valid2 says whether the HTTP/2 engine and the translation take it.
func valid2(t *testing.T, peer bool, method, path, authority, name, value string) bool {
	t.Helper()
	env, c := new(h2.Env), new(h2.Conn)
	c.Init(env, &h2.Config{Server: true, MaxStreams: 1, StreamWindow: wire.InitialWindow, ConnWindow: wire.InitialWindow, Peer: peer})
	in := wire.AppendSettings([]byte(wire.Preface))
	var e hpack.Encoder
	b := e.Begin(nil)
	for _, f := range [][2]string{{":method", method}, {":scheme", "http"}, {":path", path}, {":authority", authority}, {name, value}} {
		b = e.Append(b, []byte(f[0]), []byte(f[1]), false)
	}
	in = wire.AppendHeaders(in, 1, true, b, wire.MinMaxFrameSize)
	for len(in) > 0 {
		n, ev := c.Feed(in)
		if ev.Kind == h2.Request {
			var r h1.Request
			r.Reset()
			return http2Request(&r, ev.Head, true) == nil
		}
		if n == 0 {
			break
		}
		in = in[n:]
	}
	return false
}

// Whatever HTTP/1.1 requests the proxy takes, its peer takes over HTTP/2, and
// the other way round: a request doesn't fail, or become another, for the
// version it is carried in.
func TestVersionsAgree(t *testing.T) {
	for b := range 256 {
		for _, c := range []struct{ what, method, path, authority, name, value string }{
			{"method", "GE", "/", "a", "x", "y"},
			{"path", "GET", "/a%cb", "a", "x", "y"},
			{"query", "GET", "/a?%cb", "a", "x", "y"},
			{"authority", "GET", "/", "a%cb", "x", "y"},
			{"name", "GET", "/", "a", "x%cb", "y"},
			{"value", "GET", "/", "a", "x", "y%cb"},
		} {
			put := func(s string) string {
				for i := 0; i+1 < len(s); i++ {
					if s[i:i+2] == "%c" {
						return s[:i] + string([]byte{byte(b)}) + s[i+2:]
					}
				}
				return s
			}
			if c.what == "method" {
				c.method = "GE" + string([]byte{byte(b)})
			}
			m, p, a, n, v := c.method, put(c.path), put(c.authority), put(c.name), put(c.value)
			if c.what == "name" && ('A' <= b && b <= 'Z' || b == ':') {
				continue // written in lower case; and the end of a name in HTTP/1.1
			}
			if one, two := valid1(m, p, a, n, v), valid2(t, true, m, p, a, n, v); one != two {
				t.Errorf("%s with byte %#x: HTTP/1.1 %t, HTTP/2 %t", c.what, b, one, two)
			}
		}
	}
}
