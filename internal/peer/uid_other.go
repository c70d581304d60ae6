//go:build !linux && !darwin && !freebsd

package peer

import (
	"net"
	"os"
)

// UID says that it is our own user: where the system doesn't tell, the socket's
// mode has to do.
func UID(c net.Conn) (uid uint32, ok bool) {
	_, is := c.(*net.UnixConn)
	return uint32(os.Getuid()), is
}
