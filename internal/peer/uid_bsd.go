//go:build darwin || freebsd

package peer

import (
	"net"

	"golang.org/x/sys/unix"
)

// UID returns the user of the process at the other end; ok is false for what is
// no Unix socket.
func UID(c net.Conn) (uid uint32, ok bool) {
	u, is := c.(*net.UnixConn)
	if !is {
		return 0, false
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0, false
	}
	var cred *unix.Xucred
	if cerr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptXucred(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERCRED) }); cerr != nil || err != nil {
		return 0, false
	}
	return cred.Uid, true
}
