package cli

import (
	"os"
	"syscall"

	"golang.org/x/term"
)

// childAttributes put a child into a process group of its own: the terminal's
// Ctrl-C is for `up`, which stops its children in order.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
