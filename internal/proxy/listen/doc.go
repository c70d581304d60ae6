// Package listen accepts connections for one loop and hands them on. Each loop
// listens on a socket of its own that shares the address with the others'
// (SO_REUSEPORT). Which of them a connection comes to is the kernel's choice:
// by hash, or always the same one; whoever serves it may be another loop.
//
// Who calls it: the assembly in proxy, which says what becomes of a connection.
package listen
