// Package peer says whose process is at the other end of a Unix socket, as the
// kernel knows it. In comes a connection, out a user id; servers that are for some
// users only ask it before they read anything.
package peer
