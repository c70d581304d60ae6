// Package h1 is the HTTP/1.1 codec of a strict intermediary: heads, bodies and
// trailers in, decisions out, and heads written anew (RFC 9112, RFC 9110).
//
// In come the bytes of a connection's read buffer. Request.Parse and
// Response.Parse read a head in place and stop where it stops; they remember
// how far they came, so that a head arriving one byte at a time costs what it
// costs at once. What an intermediary must know is decided with it: how the
// body is framed, whether the connection persists, which fields belong to the
// hop and are not forwarded. Body.Next then hands out the body as slices of
// the buffer. Out go heads made of the parsed form, never copies of the head
// that came: AppendRequest, AppendResponse, AppendChunkHeader, AppendLastChunk.
//
// What the grammar doesn't allow is refused, with an *Error that carries the
// status to answer, a reason from a fixed set for the metrics and a sentence
// for people. Nothing ambiguous is repaired and sent on; testdata/*.txt lists
// the decisions with the section each follows.
//
// The package holds no socket, goroutine or clock and allocates nothing once
// its field slices have grown. A Request, Response or Body belongs to one
// loop. Callers: proxy/l7http, proxy/sniff, proxy/admin, proxy/sim.
package h1
