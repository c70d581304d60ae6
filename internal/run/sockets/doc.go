// Package sockets hands sockets that belong to a program's network namespace to
// the program's proxy, which lives outside of it.
//
// A process inside the namespace (the helper of `tulle run`) calls Serve on one
// end of a SOCK_SEQPACKET socket pair; tulle-proxy inherits the other end
// (`--sockets FD`) and wraps it with NewClient. A socket keeps the namespace it
// was made in, so the proxy can accept what the program sends (Capture, Names)
// and dial the program (Dialer) without ever entering the namespace and without
// a capability.
//
// The helper keeps no copy of what it hands over: when the proxy dies its
// listeners close with it and new connections are refused until the next proxy
// has asked again. Each proxy process gets a pair of its own.
//
// # Protocol
//
// One request and one answer at a time, each one packet, integers big-endian:
//
//	request   version(1)=1 kind(1) family(1) count(1) id(4)
//	answer    version(1)=1 status(1) count(1) families(1) id(4) text(0..512)
//
// An answer with status 0 carries count descriptors as SCM_RIGHTS; any other
// status carries none, and text says why. families is a bit set: 1 for IPv4, 2
// for IPv6.
//
// The client half is linked into tulle-proxy: this package imports only the
// standard library and golang.org/x/sys.
package sockets
