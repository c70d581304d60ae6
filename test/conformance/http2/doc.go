// Package http2 holds the proxy to HTTP/2 (RFC 9113) from outside: requests
// that must not reach a server in HTTP/1.1, or must reach it exactly so, and
// programs that other people wrote as clients. `make h2spec` runs the
// conformance suite beside it.
package http2
