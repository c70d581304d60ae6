// Package mtls puts TLS on connections of a loop, through crypto/tls.
//
// A handshake computes for a millisecond and would block, so it runs off the
// loop: a coroutine that is stepped by a worker goroutine whenever the loop has
// read bytes for it; all reading and writing stays on the loop. Afterwards the
// connection is an ordinary one of the loop with a Session as its layer: a
// tls.Conn over a net.Conn whose Read answers "nothing now" instead of
// blocking, and whose Write goes to a buffer with room.
//
// It knows nothing of identities: the tls.Config given carries the checks. Who
// calls it: dial for connections to endpoints, listen for those of clients.
package mtls
