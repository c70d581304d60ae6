package sniff

import "strings"

// statusLine begins every answer of HTTP/1 (RFC 9112, 4).
const statusLine = "HTTP/"

// ServerBudget is how many of a server's first bytes are needed to decide: the
// head of an HTTP/2 frame.
const ServerBudget = 9

// DetectServer tells what a server speaks that sent b before its client sent
// anything. whole says that no more will come, so that More isn't an answer.
//
// HTTP servers do speak first at times: HTTP/1 servers say that the client was
// too slow (408), HTTP/2 servers send their settings at once (RFC 9113, 3.4).
// Neither makes a connection opaque.
func DetectServer(b []byte, whole bool) Kind {
	n := min(len(b), len(statusLine))
	switch {
	case string(b[:n]) != statusLine[:n]:
		return detectSettings(b, whole)
	case n == len(statusLine):
		return HTTP1
	case whole:
		return Opaque
	}
	return More
}

// detectSettings wants the head of an HTTP/2 frame of type SETTINGS, on stream
// 0, without ACK, of whole parameters (RFC 9113, 6.5).
func detectSettings(b []byte, whole bool) Kind {
	const maxSettings = 0x1000 // far more than there are settings
	head := b[:min(len(b), ServerBudget)]
	for i, c := range head {
		switch i {
		case 0:
			if c != 0 {
				return Opaque
			}
		case 2:
			if length := int(head[1])<<8 | int(c); length > maxSettings || length%6 != 0 {
				return Opaque
			}
		case 3:
			if c != 4 {
				return Opaque
			}
		case 4, 5, 6, 7, 8:
			if c != 0 {
				return Opaque
			}
		}
	}
	switch {
	case len(head) == ServerBudget:
		return HTTP2
	case whole:
		return Opaque
	}
	return More
}

// How is by what it was decided what a connection is.
type How uint8

const (
	// Undecided: it isn't.
	Undecided How = iota
	// Declared: the service port or the listener says so.
	Declared
	// Passed: the address is no service's, so nobody looks.
	Passed
	// Told: the proxy at the other end has decided, and said so in ALPN.
	Told
	// Client: by the client's first bytes, or by its end.
	Client
	// Server: the client was silent, and the server spoke first.
	Server
	// Learnt is Server where that was known before, and not waited for.
	Learnt
	// Timeout: what came didn't decide it in time.
	Timeout
)

var hows = strings.Split("undecided declared passed told client server learnt timeout", " ")

// String returns how, as metrics and the diagnostics show it.
func (h How) String() string { return hows[h] }
