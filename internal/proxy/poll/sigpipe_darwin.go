package poll

import "golang.org/x/sys/unix"

// noSigpipe makes a write to a broken connection an error, not a signal.
func noSigpipe(fd int) { unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_NOSIGPIPE, 1) }
