package namespace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"tulle.dev/tulle/internal/run/sockets"
)

// helperName is argv[0] of the helper; helperUser the same when it has a user
// namespace of its own.
const (
	helperName = "tulle-namespace"
	helperUser = "tulle-namespace-user"
)

// killAfter is how long a program may take to end once its parent is gone.
const killAfter = 10 * time.Second

// IsChild reports whether this process was started to be a helper.
func IsChild(args []string) bool {
	return len(args) == 1 && (args[0] == helperName || args[0] == helperUser)
}

// Child is the helper's main: it serves its parent on descriptor 3 until the
// parent is gone, and returns the exit code.
func Child() int {
	// The terminal's signals are the program's business. They are taken and
	// dropped, not ignored: the program would inherit that. What was ignored
	// from the start (nohup) it inherits.
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGHUP, syscall.SIGPIPE} {
		if !signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
	f := os.NewFile(3, "parent")
	if f == nil {
		fmt.Fprintln(os.Stderr, "tulle: this is the helper of `tulle run`, it is not to be started by hand")
		return 2
	}
	parent, err := openChannel(f)
	if err != nil {
		fmt.Fprintln(os.Stderr, "tulle: this is the helper of `tulle run`, it is not to be started by hand:", err)
		return 2
	}
	h := &helper{parent: parent, ownUser: os.Args[0] == helperUser}
	err = h.serve()
	h.end()
	if err != nil {
		fmt.Fprintln(os.Stderr, "tulle: helper:", err)
		return 1
	}
	return 0
}

// helper is the process inside the namespace. Its own goroutine reads the
// parent's messages; the program and each proxy's sockets have one of their own.
type helper struct {
	parent  *channel
	ownUser bool
	rules   *netlink.Conn // owns the redirection

	mu      sync.Mutex // guards process
	process *os.Process
	exited  chan struct{} // closed when the program has ended; nil before it starts
	serving sync.WaitGroup
}

func (h *helper) serve() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer h.serving.Wait()
	defer cancel()
	for {
		m, descriptor, err := h.parent.receive()
		if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case m.Setup != nil:
			report, err := h.setUp(m.Setup)
			if err != nil {
				return quiet(h.parent.send(&message{Failed: describe(err)}, nil))
			}
			err = quiet(h.parent.send(&message{Ready: report}, nil))
			if err != nil {
				return err
			}
		case m.Proxy && descriptor != nil:
			h.serving.Go(func() {
				if err := sockets.Serve(ctx, descriptor); err != nil && ctx.Err() == nil {
					fmt.Fprintln(os.Stderr, "tulle: helper:", err)
				}
			})
		case m.Start != nil:
			h.start(m.Start)
		case m.Signal != 0:
			h.signal(syscall.Signal(m.Signal))
		}
	}
}

// setUp makes the namespace what the package says it is.
func (h *helper) setUp(c *Config) (*Report, error) {
	hasIPv6, err := bringUp(c.IPv6)
	if err != nil {
		return nil, err
	}
	tune()
	report := &Report{Families: []string{"IPv4"}}
	if hasIPv6 {
		report.Families = append(report.Families, "IPv6")
	}
	resolvers := c.Resolvers
	if c.Resolv != "" {
		if err := namesThroughDNS(c.Resolv); err != nil {
			report.Notes = append(report.Notes, "resolv.conf stays as it is: "+err.Error())
		} else {
			report.Resolv, resolvers = true, nil
		}
	}
	h.rules, err = redirect(hasIPv6, resolvers)
	if err != nil {
		return nil, err
	}
	return report, nil
}

// start runs the program on a thread that has given its rights away, and tells
// the parent when it has started and when it has ended.
func (h *helper) start(p *Program) {
	if h.exited != nil {
		return
	}
	h.exited = make(chan struct{})
	started := make(chan struct{})
	go func() {
		defer close(h.exited)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		cmd, err := h.launch(p)
		if err != nil {
			close(started)
			_ = h.parent.send(&message{Failed: &failed{Step: "start " + p.Path, Error: err.Error(), Start: true,
				NotFound: errors.Is(err, fs.ErrNotExist), Denied: errors.Is(err, fs.ErrPermission)}}, nil)
			return
		}
		h.mu.Lock()
		h.process = cmd.Process
		h.mu.Unlock()
		_ = h.parent.send(&message{Started: &startedProgram{PID: cmd.Process.Pid}}, nil)
		close(started)
		_ = cmd.Wait()
		exit := Exit{Code: cmd.ProcessState.ExitCode()}
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			exit.Signal = int(status.Signal())
		}
		_ = h.parent.send(&message{Exited: &exit}, nil)
	}()
	<-started
}

func (h *helper) launch(p *Program) (*exec.Cmd, error) {
	if err := withholdCapabilities(h.ownUser); err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{Path: p.Path, Args: p.Args, Env: p.Env, Dir: p.Dir, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	// The death signal follows the thread, which waits below until the end.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pgid: p.ProcessGroup, Pdeathsig: syscall.SIGTERM}
	err := cmd.Start()
	if err != nil && p.ProcessGroup != 0 && errors.Is(err, unix.EPERM) {
		// The group is of another session or gone: a group of its own then.
		cmd = &exec.Cmd{Path: p.Path, Args: p.Args, Env: p.Env, Dir: p.Dir, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
		err = cmd.Start()
	}
	return cmd, err
}

func (h *helper) signal(s syscall.Signal) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.process != nil {
		_ = h.process.Signal(s)
	}
}

// end stops a program whose parent is gone.
func (h *helper) end() {
	if h.exited != nil {
		h.signal(syscall.SIGTERM)
		h.signal(syscall.SIGCONT)
		select {
		case <-h.exited:
		case <-time.After(killAfter):
			h.signal(syscall.SIGKILL)
			<-h.exited
		}
	}
	if h.rules != nil { // the namespace is our own
		endRest()
		h.rules.Close()
	}
	h.parent.close()
}

// quiet drops the error of a parent that is gone: the next receive says so.
func quiet(err error) error {
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	return err
}
