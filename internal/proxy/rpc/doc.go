// Package rpc is a small blocking gRPC client over HTTP/2 (RFC 9113), for the
// proxy's conversation with the control plane: unary calls and bidirectional
// streams of opaque messages on one connection.
//
// In goes a connection (TLS with ALPN "h2") and messages, out come messages and
// gRPC statuses. A goroutine reads the connection; everything is bounded: what
// waits to be received by the flow-control windows, what waits to be sent by
// the peer's. Who calls it: proxy/live. It never retries and never dials.
//
// Why not grpc-go: it alone takes 5 MB of resident memory.
//
// Source: the gRPC over HTTP/2 protocol description; RFC 9113.
package rpc
