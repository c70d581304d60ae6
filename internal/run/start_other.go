//go:build !linux

package run

import (
	"os/exec"
	"syscall"
)

// startProxy starts a proxy in a process group of its own. The channel yields
// once it has ended.
func startProxy(cmd *exec.Cmd, _ bool) (<-chan error, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return start(cmd)
}

// startDirect starts a program with no namespace around it.
func startDirect(cmd *exec.Cmd, processGroup int) (<-chan error, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pgid: processGroup}
	return start(cmd)
}

func start(cmd *exec.Cmd) (<-chan error, error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	return ended, nil
}
