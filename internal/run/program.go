package run

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"

	"tulle.dev/tulle/internal/run/namespace"
)

// program is what runs behind the proxy, in a namespace or not.
type program interface {
	Signal(syscall.Signal) error
	// Exited yields how it ended, or is closed when that can't be known.
	Exited() <-chan namespace.Exit
}

// start runs the program.
func (c *Config) start(n *namespace.Namespace, env []string) (program, error) {
	p := namespace.Program{Path: c.Path, Args: c.Args, Env: env, Dir: c.Dir}
	if hasTerminal() {
		p.ProcessGroup = unix.Getpgrp() // the terminal's signals and reads are the program's too
	}
	if n != nil {
		_, err := n.Run(p)
		return n, err
	}
	cmd := &exec.Cmd{Path: p.Path, Args: p.Args, Env: p.Env, Dir: p.Dir, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	ended, err := startDirect(cmd, p.ProcessGroup)
	if err != nil {
		return nil, &namespace.StartError{Err: err.Error(), NotFound: errors.Is(err, fs.ErrNotExist), Denied: errors.Is(err, fs.ErrPermission)}
	}
	d := &direct{cmd: cmd, exited: make(chan namespace.Exit, 1)}
	go func() {
		<-ended
		exit := namespace.Exit{Code: cmd.ProcessState.ExitCode()}
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			exit.Signal = int(status.Signal())
		}
		d.exited <- exit
	}()
	return d, nil
}

// direct is a program with no namespace around it.
type direct struct {
	cmd    *exec.Cmd
	exited chan namespace.Exit
}

func (d *direct) Signal(s syscall.Signal) error {
	err := d.cmd.Process.Signal(s)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

func (d *direct) Exited() <-chan namespace.Exit { return d.exited }

// hasTerminal reports whether this process has a controlling terminal.
func hasTerminal() bool {
	f, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	f.Close()
	return true
}

// inForeground reports whether the terminal sends its signals to this process's
// group: then the program has got them already.
func inForeground() bool {
	f, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	group, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// exitCode is the program's, as a shell would say it.
func exitCode(e namespace.Exit) int {
	const signalled = 128
	if e.Signal != 0 {
		return signalled + e.Signal
	}
	return e.Code
}
