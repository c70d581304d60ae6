package http2

import (
	"strings"

	"tulle.dev/tulle/internal/wire/h2"
)

// with is a request with another value for one of the pseudo-header fields, and
// without one that lacks it.
func with(field string, more ...string) string {
	name, _, _ := strings.Cut(field, ": ")
	var list []string
	for _, f := range plain {
		if strings.HasPrefix(f, name+": ") {
			f = field
		}
		list = append(list, f)
	}
	return asks(append(list, more...)...)
}

func without(name string, more ...string) string {
	var list []string
	for _, f := range plain {
		if !strings.HasPrefix(f, name+": ") {
			list = append(list, f)
		}
	}
	return asks(append(list, more...)...)
}

// messages are requests that are malformed, or are not (RFC 9113, 8).
var messages = []row{
	{"RFC 9113, 8.1: trailers", posted() + frame(h2.Data, none, 1, "hi") + frame(h2.Headers, whole|end, 1, block("x: y")), answered, "", ""},
	{"RFC 9113, 8.1: trailers without a field", posted() + frame(h2.Data, none, 1, "hi") + frame(h2.Headers, whole|end, 1), answered, "", ""},
	{"RFC 9113, 8.1: trailers that don't end the stream", posted() + frame(h2.Headers, whole, 1, block("x: y")), malformed, "", ""},
	{"RFC 9113, 8.1: a pseudo-header field in trailers", posted() + frame(h2.Headers, whole|end, 1, block(":path: /")), malformed, "", ""},
	{"RFC 9113, 8.1: DATA after trailers", posted() + frame(h2.Headers, whole|end, 1, block("x: y")) + frame(h2.Data, end, 1, "x"), "1: RST_STREAM STREAM_CLOSED | GOAWAY STREAM_CLOSED", "", ""},
	{"RFC 9113, 8.1.1: content-length above the body", posted("content-length: 5") + frame(h2.Data, end, 1, "abc"), malformed, "", ""},
	{"RFC 9113, 8.1.1: content-length below the body", posted("content-length: 2") + frame(h2.Data, end, 1, "abc"), malformed, "", ""},
	{"RFC 9113, 8.1.1: content-length and trailers", posted("content-length: 3") + frame(h2.Data, none, 1, "ab") + frame(h2.Headers, whole|end, 1, block("x: y")), malformed, "", ""},
	{"RFC 9113, 8.1.1: content-length without a body", get("content-length: 5"), malformed, "", ""},
	{"RFC 9113, 8.1.1: content-length of several frames", posted("content-length: 3") + frame(h2.Data, none, 1, "ab") + frame(h2.Data, end, 1, "c"), answered, "", ""},
	{"RFC 9113, 8.1.1: padding doesn't count", posted("content-length: 2") + frame(h2.Data, padded|end, 1, "\x03ab\x00\x00\x00"), answered, "", ""},
	{"RFC 9110, 8.6: content-length that is no number", get("content-length: x"), malformed, "", ""},
	{"RFC 9110, 8.6: two different ones", get("content-length: 0", "content-length: 1"), malformed, "", ""},

	{"RFC 9113, 8.2: upper case", get("X-Y: z"), malformed, "", ""},
	{"RFC 9113, 8.2: upper case in trailers", posted() + frame(h2.Headers, whole|end, 1, block("X: y")), malformed, "", ""},
	{"RFC 9113, 8.2.1: an empty name", get(": z"), malformed, "", ""},
	{"RFC 9113, 8.2.1: a SP in a name", get("x y: z"), malformed, "", ""},
	{"RFC 9113, 8.2.1: a NUL in a name", get("x\x00y: z"), malformed, "", ""},
	{"RFC 9113, 8.2.1: a DEL in a name", get("x\x7fy: z"), malformed, "", ""},
	{"RFC 9113, 8.2.1: a byte above 127 in a name", get("x\xe9: z"), malformed, "", ""},
	{"RFC 9113, 8.2.1: a colon in a name", get("x:y: z"), malformed, "", ""},
	{"RFC 9110, 5.6.2: a name that is no token", get("x(y: z"), malformed, "", ""},
	{"RFC 9113, 8.2.1: a NUL in a value", get("x: a\x00b"), malformed, "", ""},
	{"RFC 9113, 8.2.1: a CR in a value", get("x: a\rb"), malformed, "", ""},
	{"RFC 9113, 8.2.1: a LF in a value", get("x: a\nb"), malformed, "", ""},
	{"RFC 9113, 8.2.1: a SP before a value", get("x:  a"), malformed, "", ""},
	{"RFC 9113, 8.2.1: a SP after a value", get("x: a "), malformed, "", ""},
	{"RFC 9113, 8.2.1: a HTAB after a value", get("x: a\t"), malformed, "", ""},
	{"RFC 9110, 5.5: obs-text in a value", get("x: \xe9"), answered, "", ""},
	{"RFC 9110, 5.5: an empty value", get("x: "), answered, "", ""},
	{"RFC 9113, 8.2.2: connection", get("connection: close"), malformed, "", ""},
	{"RFC 9113, 8.2.2: keep-alive", get("keep-alive: 1"), malformed, "", ""},
	{"RFC 9113, 8.2.2: proxy-connection", get("proxy-connection: keep-alive"), malformed, "", ""},
	{"RFC 9113, 8.2.2: transfer-encoding", get("transfer-encoding: chunked"), malformed, "", ""},
	{"RFC 9113, 8.2.2: upgrade", get("upgrade: h2c"), malformed, "", ""},
	{"RFC 9113, 8.2.2: connection in trailers", posted() + frame(h2.Headers, whole|end, 1, block("connection: x")), malformed, "", ""},
	{"RFC 9113, 8.2.2: te: trailers", get("te: trailers"), answered, "", ""},
	{"RFC 9113, 8.2.2: another te", get("te: gzip"), malformed, "", ""},
	{"RFC 9113, 8.2.2: te: trailers among others", get("te: trailers, gzip"), malformed, "", ""},

	{"RFC 9113, 8.3: an unknown pseudo-header field", asks(append(plain[:4:4], ":x: y")...), malformed, "", ""},
	{"RFC 9113, 8.3: one of responses", asks(append(plain[:4:4], ":status: 200")...), malformed, "", ""},
	{"RFC 9113, 8.3: one after another field", asks(":method: GET", ":scheme: http", ":path: /", "x: y", ":authority: a.example"), malformed, "", ""},
	{"RFC 9113, 8.3.1: two methods", asks(append(plain[:4:4], ":method: GET")...), malformed, "", ""},
	{"RFC 9113, 8.3.1: two schemes", asks(append(plain[:4:4], ":scheme: http")...), malformed, "", ""},
	{"RFC 9113, 8.3.1: two paths", asks(append(plain[:4:4], ":path: /")...), malformed, "", ""},
	{"RFC 9113, 8.3.1: two authorities", asks(append(plain[:4:4], ":authority: a.example")...), malformed, "", ""},
	{"RFC 9113, 8.3.1: no method", without(":method"), malformed, "", ""},
	{"RFC 9113, 8.3.1: no scheme", without(":scheme"), malformed, "", ""},
	{"RFC 9113, 8.3.1: no path", without(":path"), malformed, "", ""},
	{"RFC 9113, 8.3.1: neither authority nor host", without(":authority"), malformed, "", ""},
	{"RFC 9113, 8.3.1: host alone", without(":authority", "host: a.example"), answered, "", ""},
	{"RFC 9113, 8.3.1: a host that differs", get("host: b.example"), malformed, "", ""},
	{"RFC 9113, 8.3.1: the same host in other case", get("host: A.example"), answered, "", ""},
	{"RFC 9113, 8.3.1: the same host with the scheme's port", get("host: a.example:80"), answered, "", ""},
	{"RFC 9113, 8.3.1: with another", get("host: a.example:81"), malformed, "", ""},
	{"RFC 9110, 7.2: two hosts in one", with(":authority: a.example,b.example"), malformed, "", ""},
	{"RFC 9113, 8.3.1: an empty authority", with(":authority: "), malformed, "", ""},
	{"RFC 9113, 8.3.1: userinfo", with(":authority: u@a.example"), malformed, "", ""},
	{"RFC 9113, 8.3.1: an empty path", with(":path: "), malformed, "", ""},
	{"RFC 9113, 8.3.1: a path without a slash", with(":path: x"), malformed, "", ""},
	{"RFC 9113, 8.3.1: * of OPTIONS", asks(":method: OPTIONS", ":scheme: http", ":path: *", ":authority: a.example"), answered, "", ""},
	{"RFC 9113, 8.3.1: * of GET", with(":path: *"), malformed, "", ""},
	{"RFC 9113, 8.3.1: an empty method", with(":method: "), malformed, "", ""},
	{"RFC 9110, 9.1: a method that is no token", with(":method: G T"), malformed, "", ""},
	{"RFC 9110, 9.1: an unknown method", with(":method: BREW"), answered, "", ""},
	{"RFC 9110, 4.2: a scheme that isn't HTTP's", with(":scheme: ftp"), malformed, "", ""},
	{"RFC 3986, 3.1: the scheme's case doesn't matter", with(":scheme: HTTP"), answered, "", ""},
	{"RFC 9113, 8.2.3: crumbs of a cookie", get("cookie: a=1", "cookie: b=2"), answered, "", ""},
	{"RFC 9110, 5.4: two hundred fields", get(many(200)...), answered, "", ""},
	{"RFC 6585, 5: a thousand fields", get(many(1000)...), "1: 431", "", ""},

	{"RFC 9113, 8.5: CONNECT at an edge", asks(":method: CONNECT", ":authority: a.example:80"), "1: 501", "", ""},
	{"RFC 9113, 8.5: CONNECT with a path", asks(":method: CONNECT", ":scheme: http", ":path: /", ":authority: a.example:80"), malformed, "", ""},
	{"RFC 9113, 8.5: CONNECT to nowhere", asks(":method: CONNECT"), malformed, "", ""},
	{"RFC 8441, 4: :protocol without CONNECT", asks(append(plain[:4:4], ":protocol: websocket")...), malformed, "", ""},
	{"RFC 8441, 4: extended CONNECT without a path", asks(":method: CONNECT", ":protocol: websocket", ":scheme: http", ":authority: a.example"), malformed, "", ""},
	{"RFC 8441, 4: extended CONNECT without a scheme", asks(":method: CONNECT", ":protocol: websocket", ":path: /", ":authority: a.example"), malformed, "", ""},
	{"RFC 8441, 5: the server doesn't switch", frame(h2.Headers, whole, 1, block(":method: CONNECT", ":protocol: websocket", ":scheme: http", ":path: /", ":authority: a.example")), "1: 502", "", ""},
	{"RFC 9110, 7.6.2: Max-Forwards of OPTIONS", asks(":method: OPTIONS", ":scheme: http", ":path: /", ":authority: a.example", "max-forwards: 0"), answered, "", ""},
	{"RFC 9110, 7.6.2: Max-Forwards of TRACE", asks(":method: TRACE", ":scheme: http", ":path: /", ":authority: a.example", "max-forwards: 0"), "1: 405", "", ""},
}

func many(n int) []string {
	var list []string
	for range n {
		list = append(list, "a: b")
	}
	return list
}
