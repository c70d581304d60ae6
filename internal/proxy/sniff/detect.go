package sniff

import "bytes"

// Kind is what is spoken on a connection.
type Kind uint8

const (
	// More: the bytes so far fit more than one kind.
	More Kind = iota
	// HTTP1 is HTTP/1.0 or 1.1.
	HTTP1
	// HTTP2 is HTTP/2's connection preface (RFC 9113, 3.4).
	HTTP2
	// TLS is a ClientHello (RFC 8446, 4.1.2).
	TLS
	// Opaque is anything else.
	Opaque
)

// String returns the kind's name.
func (k Kind) String() string {
	return [...]string{"more", "http1", "http2", "tls", "opaque"}[k]
}

// HTTP reports whether it is HTTP of any version.
func (k Kind) HTTP() bool { return k == HTTP1 || k == HTTP2 }

const (
	preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	// maxMethod is the longest method that is taken for one.
	maxMethod = 32
	// Budget is how many bytes are looked at. A request line that hasn't ended
	// by then is taken for one, for the HTTP codec to refuse.
	Budget = 4 << 10
)

// Detect tells what a stream is that begins with b. whole says that no more
// will come, so that More isn't an answer.
func Detect(b []byte, whole bool) Kind {
	for _, detect := range []func([]byte) Kind{detectTLS, detectHTTP2, detectHTTP1} {
		switch k := detect(b); {
		case k == More && !whole:
			return More
		case k != More && k != Opaque:
			return k
		}
	}
	return Opaque
}

// detectTLS wants a handshake record of version 3.x that begins with a
// ClientHello.
func detectTLS(b []byte) Kind {
	want := []struct{ at, value byte }{{0, 22}, {1, 3}, {5, 1}}
	for _, w := range want {
		if len(b) <= int(w.at) {
			return More
		}
		if b[w.at] != w.value {
			return Opaque
		}
	}
	return TLS
}

func detectHTTP2(b []byte) Kind {
	n := min(len(b), len(preface))
	switch {
	case string(b[:n]) != preface[:n]:
		return Opaque
	case n < len(preface):
		return More
	}
	return HTTP2
}

// detectHTTP1 wants "METHOD TARGET HTTP/1.x" on the first line. Other protocols
// have commands in capital letters too; none ends them so.
func detectHTTP1(b []byte) Kind {
	b = bytes.TrimLeft(b[:min(len(b), Budget)], "\r\n")
	method, rest, ended := bytes.Cut(b, []byte(" "))
	if len(method) > maxMethod {
		return Opaque
	}
	for i, c := range method {
		if (c < 'A' || c > 'Z') && (i == 0 || c != '-' && c != '_') {
			return Opaque
		}
	}
	switch {
	case !ended:
		return More
	case len(method) == 0:
		return Opaque
	}
	line, _, ended := bytes.Cut(rest, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	for _, c := range line {
		if c < ' ' || c == 0x7f {
			return Opaque
		}
	}
	if ended {
		if i := bytes.LastIndexByte(line, ' '); i > 0 && bytes.HasPrefix(line[i+1:], []byte("HTTP/1.")) {
			return HTTP1
		}
		return Opaque
	}
	if len(b) >= Budget && len(rest) > 0 && (rest[0] == '/' || rest[0] == 'h') {
		return HTTP1
	}
	if len(b) >= Budget {
		return Opaque
	}
	return More
}
