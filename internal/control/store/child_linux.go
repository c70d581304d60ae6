package store

import "syscall"

// childAttributes make the child end with its parent, however that ends, and
// keep a terminal's Ctrl-C from it: the parent stops it in order.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
}
