package run

import (
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"tulle.dev/tulle/internal/run/namespace"
)

// startProxy starts a proxy without capabilities (a gateway's keeps the right
// to low ports), in a process group of its own, and tells it to stop when this
// process dies. The channel yields once it has ended.
func startProxy(cmd *exec.Cmd, lowPorts bool) (<-chan error, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	return startOnThread(cmd, func() error {
		if lowPorts {
			return namespace.Confine(unix.CAP_NET_BIND_SERVICE)
		}
		return namespace.Confine()
	})
}

// startDirect starts a program with no namespace around it.
func startDirect(cmd *exec.Cmd, processGroup int) (<-chan error, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pgid: processGroup, Pdeathsig: syscall.SIGTERM}
	return startOnThread(cmd, func() error { return nil })
}

// startOnThread starts cmd from a thread of its own, which lives as long as the
// process: the parent's death signal follows the thread.
func startOnThread(cmd *exec.Cmd, prepare func() error) (<-chan error, error) {
	started := make(chan error)
	ended := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := prepare()
		if err == nil {
			err = cmd.Start()
		}
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	return ended, <-started
}
