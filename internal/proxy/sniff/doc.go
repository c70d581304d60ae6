// Package sniff tells from a connection's first bytes what is spoken on it. A
// Kind is decided as soon as it can be no other, and not before: a client may
// send three bytes first, and a ClientHello spans segments.
//
// Kinds are decided by pure functions: Detect by what a client sent, DetectServer
// by what a server said first. Look reads a client's connection for Detect, within
// a budget of bytes; the bytes stay in the connection for whoever takes it over.
// How long to wait is up to the caller: the assembly in proxy.
package sniff
