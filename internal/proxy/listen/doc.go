// Package listen accepts connections for one loop and hands them on. Each loop
// listens on a socket of its own that shares the address with the others'
// (SO_REUSEPORT), or, where the system has no such thing, one loop accepts and
// deals the connections out.
//
// Who calls it: the assembly in proxy, which says what becomes of a connection.
package listen
