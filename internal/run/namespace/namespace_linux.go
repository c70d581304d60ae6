package namespace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"tulle.dev/tulle/internal/run/sockets"
)

// setUpTimeout bounds making a namespace.
const setUpTimeout = 10 * time.Second

// Namespace is one running helper. Its methods may be called from any goroutine.
type Namespace struct {
	// Report is what the helper could do.
	Report Report
	// User says that it is a user namespace, made without privileges.
	User bool

	cmd     *exec.Cmd
	helper  *channel
	started chan startResult
	exited  chan Exit // one value, or closed when the helper ends first
	gone    chan struct{}
	closing sync.Once
}

type startResult struct {
	pid int
	err error
}

// StartError says that the program, not the namespace, is at fault.
type StartError struct {
	Err              string
	NotFound, Denied bool
}

// Error is the kernel's error.
func (e *StartError) Error() string { return e.Err }

// Start makes a namespace. The error is an *UnavailableError when this machine
// or this user can't have one.
func Start(ctx context.Context, c Config) (*Namespace, error) {
	attempts := []bool{true}
	if os.Geteuid() == 0 {
		attempts = []bool{false, true} // in a container root may lack the right
	}
	var first error
	for _, user := range attempts {
		n, err := start(ctx, c, user)
		if err == nil {
			return n, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

func start(ctx context.Context, c Config, user bool) (*Namespace, error) {
	own, other, err := newChannel()
	if err != nil {
		return nil, &UnavailableError{Step: "talk to the helper", Err: err}
	}
	defer other.Close()
	cmd := &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{helperName},
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		ExtraFiles: []*os.File{other},
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Setpgid: true}
	if user {
		cmd.Args[0] = helperUser
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
		cmd.SysProcAttr.AmbientCaps = helperCapabilities
	}
	if err := cmd.Start(); err != nil {
		own.close()
		return nil, unavailable(user, err)
	}
	n := &Namespace{User: user, cmd: cmd, helper: own,
		started: make(chan startResult, 1), exited: make(chan Exit, 1), gone: make(chan struct{})}
	if err := n.setUp(ctx, c); err != nil {
		n.Close()
		return nil, err
	}
	go n.receive()
	return n, nil
}

func unavailable(user bool, err error) error {
	if !user {
		return &UnavailableError{Step: "make a network namespace", Err: err, Hint: "this root has no right to (CAP_SYS_ADMIN)"}
	}
	hint := ""
	switch {
	case errors.Is(err, syscall.ENOSPC):
		hint = "allow user namespaces: sysctl -w user.max_user_namespaces=10000"
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		hint = "allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1; on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0), or run as root"
	case errors.Is(err, syscall.EINVAL):
		hint = "the kernel has no user namespaces; run as root"
	}
	return &UnavailableError{Step: "make a user namespace", Err: err, Hint: hint}
}

// setUp waits for the helper's report.
func (n *Namespace) setUp(ctx context.Context, c Config) error {
	deadline := time.Now().Add(setUpTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	_ = n.helper.conn.SetDeadline(deadline)
	defer n.helper.conn.SetDeadline(time.Time{})
	stop := context.AfterFunc(ctx, func() { _ = n.helper.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := n.helper.send(&message{Setup: &c}, nil); err != nil {
		return &UnavailableError{Step: "talk to the helper", Err: err}
	}
	m, _, err := n.helper.receive()
	if errors.Is(err, io.EOF) {
		err = errEnded
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return &UnavailableError{Step: "set the namespace up", Err: err}
	case m.Failed != nil:
		u := &UnavailableError{Step: m.Failed.Step, Err: errors.New(m.Failed.Error), Hint: m.Failed.Hint}
		if u.Hint == "" && n.User {
			u.Hint = "does the system restrict what user namespaces may do? (on Ubuntu: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0) Root needs none"
		}
		return u
	case m.Ready == nil:
		return &UnavailableError{Step: "set the namespace up", Err: errors.New("the helper said something else")}
	}
	n.Report = *m.Ready
	return nil
}

// receive takes the helper's messages until it ends.
func (n *Namespace) receive() {
	defer close(n.gone)
	defer close(n.exited)
	for {
		m, _, err := n.helper.receive()
		if err != nil {
			return
		}
		switch {
		case m.Started != nil:
			n.started <- startResult{pid: m.Started.PID}
		case m.Failed != nil && m.Failed.Start:
			n.started <- startResult{err: &StartError{Err: m.Failed.Error, NotFound: m.Failed.NotFound, Denied: m.Failed.Denied}}
		case m.Exited != nil:
			select {
			case n.exited <- *m.Exited:
			default:
			}
		}
	}
}

// PID is the helper's process: /proc/PID/ns names the namespaces.
func (n *Namespace) PID() int { return n.cmd.Process.Pid }

// ProxySocket returns the end of a new pair for a proxy to inherit (`--sockets
// FD`); the helper serves the other. The caller closes it once the proxy has it.
func (n *Namespace) ProxySocket() (*os.File, error) {
	server, client, err := sockets.NewPair()
	if err != nil {
		return nil, err
	}
	defer server.Close()
	if err := n.helper.send(&message{Proxy: true}, server); err != nil {
		client.Close()
		return nil, fmt.Errorf("hand the helper its end: %w", err)
	}
	return client, nil
}

// Run starts the program, once. The error is a *StartError when the program
// can't be executed.
func (n *Namespace) Run(p Program) (pid int, err error) {
	if err := n.helper.send(&message{Start: &p}, nil); err != nil {
		return 0, err
	}
	select {
	case r := <-n.started:
		return r.pid, r.err
	case <-n.gone:
		return 0, errEnded
	}
}

// Exited yields how the program ended; it is closed without a value when the
// helper ends first.
func (n *Namespace) Exited() <-chan Exit { return n.exited }

// Signal sends the program a signal.
func (n *Namespace) Signal(s syscall.Signal) error {
	return n.helper.send(&message{Signal: int(s)}, nil)
}

// Close ends the helper, and with it the program, and waits for both.
func (n *Namespace) Close() error {
	n.closing.Do(func() {
		n.helper.close()
		_ = n.cmd.Wait()
	})
	return nil
}
