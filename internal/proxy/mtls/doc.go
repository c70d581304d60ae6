// Package mtls puts TLS on connections of a loop, through crypto/tls.
//
// A handshake computes for some 100 µs at a time and would block in between, so it
// is a coroutine, which is stepped when the loop has read bytes for it: by a worker
// goroutine, or where no processor is spare by the loop itself, between its turns.
// There it is interrupted between the peer's messages too, and where a certificate's
// callback says so (wire.Pause), while other clients could wait for the loop.
// All reading and writing stays on the loop. Afterwards the connection is an ordinary one of the loop with a Session as its layer: a
// tls.Conn over a net.Conn whose Read answers "nothing now" instead of
// blocking, and whose Write goes to a buffer with room.
//
// It knows nothing of identities: the tls.Config given carries the checks. Who
// calls it: dial for connections to endpoints, listen for those of clients.
package mtls
