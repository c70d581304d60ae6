// Package tlshello reads the ClientHello that begins a TLS connection: which
// server name and which protocols the client asks for (RFC 8446, 4.1.2; RFC
// 6066, 3; RFC 7301, 3.1).
//
// In come the first bytes of a connection, as many as have arrived; out comes
// whether they are TLS, whether more are needed, and the two answers. A
// ClientHello of today is larger than a network packet (its key share is
// post-quantum) and may be split over several records as well. The package
// reads and never answers: it holds no socket, goroutine or clock and doesn't
// allocate. proxy/sniff calls it on each connection whose protocol isn't
// declared; the handshake itself is crypto/tls's.
package tlshello
