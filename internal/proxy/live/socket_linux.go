package live

import (
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// unackedLimit is how long sent bytes may stay unacknowledged before the
// connection counts as lost, in milliseconds.
const unackedLimit = 20_000

// controlSocket sets what net.Dialer has no field for.
func controlSocket(network, _ string, c syscall.RawConn) error {
	if !strings.HasPrefix(network, "tcp") {
		return nil
	}
	var err error
	if e := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, unackedLimit)
	}); e != nil {
		return e
	}
	return err
}
