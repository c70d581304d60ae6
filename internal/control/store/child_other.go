//go:build !linux

package store

import "syscall"

// childAttributes keep a terminal's Ctrl-C from the child: the parent stops it
// in order. It ends with its parent because its stdin does.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
