// Package signer lets a CA's private keys be in another process, or behind one in
// a hardware token: Serve answers there, and a Client here makes crypto.Signers of
// what it has. Only public keys, digests and signatures travel.
//
// The protocol is a line of JSON each way over a Unix socket, one request at a time
// on each connection. Who connects must be of one user; how many connections,
// how long a line and how many signatures a second are bounded; each signature is
// logged. cmd/tulle-signer is the server, internal/control the client.
package signer
