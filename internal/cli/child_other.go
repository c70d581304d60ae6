//go:build !linux

package cli

import "syscall"

// childAttributes put a child into a process group of its own: the terminal's
// Ctrl-C is for `up`, which stops its children in order.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
