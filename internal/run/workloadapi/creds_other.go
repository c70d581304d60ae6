//go:build !linux

package workloadapi

import "net"

// sameUser relies on the socket's mode, 0600.
func sameUser(c net.Conn) bool {
	_, ok := c.(*net.UnixConn)
	return ok
}
