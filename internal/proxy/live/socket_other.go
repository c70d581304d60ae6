//go:build !linux

package live

import "syscall"

// controlSocket has nothing to set: only Linux has TCP_USER_TIMEOUT.
func controlSocket(string, string, syscall.RawConn) error { return nil }
