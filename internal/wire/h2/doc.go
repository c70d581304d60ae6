// Package h2 is the frame codec of HTTP/2 (RFC 9113): bytes in, frames out,
// and frames in, bytes out, for both roles.
//
// It is pure: no sockets, clocks, goroutines or state between calls. Parsing
// happens in place: a Frame's payload, and every slice a Parse function
// returns, points into the caller's read buffer and is valid as long as that
// buffer is. Appending writes to the end of the caller's slice. Neither
// allocates, save for the error of a peer that broke the rules.
//
// Each Parse function checks what can be checked about one frame alone (its
// size, its flags, its stream identifier, the range of its values) and says
// by the kind of its error whether the stream or the whole connection is
// over, and with which code: [ConnectionError], [StreamError]. What needs
// memory (states of streams, windows, which frame may follow which) belongs
// to the engine in internal/proxy/h2. Field blocks are opaque here; package
// internal/wire/hpack reads and writes them.
//
// Callers: internal/proxy/h2, and the proxy's control client.
package h2
