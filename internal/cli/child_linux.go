package cli

import "syscall"

// childAttributes put a child into a process group of its own, as the
// terminal's Ctrl-C is for `up`, which stops its children in order; and end it
// when `up` is killed. The death signal follows the thread that starts the
// child: the caller's goroutine must be locked to its thread until the child
// has ended.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
