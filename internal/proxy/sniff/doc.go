// Package sniff tells from a connection's first bytes what is spoken on it. A
// Kind is decided as soon as it can be no other, and not before: a client may
// send three bytes first, and a ClientHello spans segments.
//
// Kinds are decided by a pure function (Detect); Start reads a connection until
// it knows, within a budget of bytes and time. The bytes stay in the connection
// for whoever takes it over. Who calls it: the assembly in proxy.
package sniff
