// Package http1 drives a running proxy over real sockets with the vectors of
// wire/h1 and more: requests from a client, answers from an origin, each with
// the RFC section it follows. The origin records exactly what it was sent, so a
// row says not only that a message is refused but that nothing of it got
// through, and not only that it is forwarded but how.
package http1
