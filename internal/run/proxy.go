package run

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"tulle.dev/tulle/internal/run/namespace"
)

// Times of a proxy's life.
const (
	pollReady    = 5 * time.Millisecond
	firstRestart = 50 * time.Millisecond
	lastRestart  = 2 * time.Second
	steadyAfter  = 10 * time.Second // alive this long: the next restart is a first one
	// drainTimeout bounds how long other proxies may take to learn that this
	// workload is going, stopTimeout the proxy's end after SIGTERM.
	drainTimeout = 16 * time.Second
	stopTimeout  = 60 * time.Second
)

// Proxy is a tulle-proxy that runs until it is stopped, and is started again
// when it ends before. Its methods may be called from any goroutine.
type Proxy struct {
	config    ProxyConfig
	namespace *namespace.Namespace // nil without one

	mu       sync.Mutex // guards what follows
	process  *os.Process
	ready    bool // it was, once: from then on it is started again
	stopping bool
	previous []*os.Process // whose place another has taken; they drain
	heir     *os.Process   // is about to take the process's place; else nil

	upgrading sync.Mutex          // held by Upgrade
	heirs     chan (<-chan error) // the end of the one that took over last; whoever holds upgrading sends

	first chan error    // how the first start went
	done  chan struct{} // the last process has ended
}

// ProxyConfig is one proxy to run.
type ProxyConfig struct {
	Name, Namespace string
	// Binary is tulle-proxy, Dir its private data directory.
	Binary, Dir  string
	ControlPlane string
	// Admin is the address of its admin listener (port 0: a free one).
	Admin string
	// TokenFile holds its join token; empty when it has an identity already.
	TokenFile string
	LogLevel  string
	// Lock, when not nil, is held by the proxy as well: while it lives nobody
	// else has its directory.
	Lock *os.File
	// Gateway says that it is a gateway's: it keeps the right to listen on ports
	// under 1024.
	Gateway bool
	// Patience is how long it may take until it is ready; default 30 s.
	Patience time.Duration
	// Say is told when the proxy is started again; may be nil.
	Say func(format string, a ...any)
}

// StartProxy starts a proxy and waits until it is ready.
func StartProxy(ctx context.Context, c ProxyConfig, n *namespace.Namespace) (*Proxy, error) {
	if c.Say == nil {
		c.Say = func(string, ...any) {}
	}
	p := &Proxy{config: c, namespace: n, heirs: make(chan (<-chan error), 1), first: make(chan error, 1), done: make(chan struct{})}
	// The log of this run only; an earlier one's socket would look ready.
	_ = os.Remove(p.log())
	_ = os.Remove(p.admin())
	go p.supervise()
	if err := <-p.first; err != nil {
		<-p.done
		return nil, err
	}
	if err := p.awaitReady(ctx); err != nil {
		p.Kill()
		return nil, err
	}
	if err := p.serveUpgrades(); err != nil {
		p.Kill()
		return nil, err
	}
	return p, nil
}

func (p *Proxy) log() string   { return filepath.Join(p.config.Dir, "proxy.log") }
func (p *Proxy) admin() string { return filepath.Join(p.config.Dir, "admin.sock") }

// supervise starts the proxy, again and again until it is stopped. What it
// listened on is closed while it is away: connections are refused.
func (p *Proxy) supervise() {
	defer close(p.done)
	wait := firstRestart
	for first := true; ; first = false {
		began := time.Now()
		ended, err := p.start()
		if first {
			p.first <- err
			if err != nil {
				return
			}
		}
		if err == nil {
			err = p.await(ended)
		}
		p.mu.Lock()
		p.process = nil
		stopping := p.stopping || !p.ready
		p.mu.Unlock()
		if stopping {
			return
		}
		if time.Since(began) > steadyAfter {
			wait = firstRestart
		}
		p.config.Say("the proxy of %s ended (%s); starting it again", p.config.Name, reason(err))
		time.Sleep(wait)
		wait = min(2*wait, lastRestart)
		p.mu.Lock()
		stopping = p.stopping
		p.mu.Unlock()
		if stopping {
			return
		}
	}
}

func reason(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}

func (p *Proxy) start() (<-chan error, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	process, ended, err := p.launch()
	if err == nil {
		p.process = process
	}
	return ended, err
}

// launch starts a process of the proxy, with some arguments more. p.mu is held.
func (p *Proxy) launch(more ...string) (*os.Process, <-chan error, error) {
	if p.stopping {
		return nil, nil, context.Canceled
	}
	c := p.config
	args := []string{filepath.Base(c.Binary), "--control-plane", c.ControlPlane, "--data", c.Dir, "--name", c.Name, "--namespace", c.Namespace, "--admin", c.Admin,
		"--access-log", filepath.Join(c.Dir, "access.log")}
	if c.TokenFile != "" {
		if _, err := os.Stat(c.TokenFile); err == nil { // used up once the proxy has an identity
			args = append(args, "--join-token-file", c.TokenFile)
		}
	}
	if c.Gateway {
		args = append(args, "--role", "gateway")
	}
	if c.LogLevel != "" {
		args = append(args, "--log-level", c.LogLevel)
	}
	cmd := &exec.Cmd{Path: c.Binary, Args: append(args, more...), Env: os.Environ()}
	if c.Lock != nil {
		cmd.ExtraFiles = []*os.File{c.Lock}
	}
	if p.namespace != nil {
		end, err := p.namespace.ProxySocket()
		if err != nil {
			return nil, nil, err
		}
		defer end.Close()
		const firstExtra = 3 // exec.Cmd: entry i of ExtraFiles is descriptor 3+i
		cmd.Args = append(cmd.Args, "--sockets", strconv.Itoa(firstExtra+len(cmd.ExtraFiles)))
		cmd.ExtraFiles = append(cmd.ExtraFiles, end)
	}
	log, err := os.OpenFile(p.log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, fail("", "the proxy's log: %w", err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	ended, err := startProxy(cmd, c.Gateway)
	if err != nil {
		return nil, nil, fail("build it beside tulle (make build), put it in PATH, or name it with --proxy-binary", "start %s: %w", c.Binary, err)
	}
	return cmd.Process, ended, nil
}

// awaitReady asks the proxy's admin socket until it says that it is ready. A
// proxy that has ended meanwhile is an error with what it said.
func (p *Proxy) awaitReady(ctx context.Context) error {
	patience := p.config.Patience
	if patience == 0 {
		patience = readyTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	said := ""
	tick := time.NewTicker(pollReady)
	defer tick.Stop()
	for {
		p.mu.Lock()
		alive := p.process != nil
		p.mu.Unlock()
		if !alive {
			return fail("its log is "+p.log(), "the proxy ended before it was ready:\n%s", p.tail())
		}
		status, text, err := p.ask(ctx, http.MethodGet, "/ready")
		if err == nil && status == http.StatusOK {
			p.mu.Lock()
			p.ready = true
			p.mu.Unlock()
			return nil
		}
		if err == nil {
			said = strings.TrimSpace(text)
		}
		select {
		case <-ctx.Done():
			if said == "" {
				said = p.tail()
			}
			return fail("its log is "+p.log(), "the proxy isn't ready after %v: %s", patience, strings.TrimPrefix(said, "not ready: "))
		case <-tick.C:
		}
	}
}

// ask sends a request to the proxy's own admin socket.
func (p *Proxy) ask(ctx context.Context, method, path string) (status int, text string, err error) {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", p.admin())
	}}
	r, err := http.NewRequestWithContext(ctx, method, "http://admin"+path, nil)
	if err != nil {
		return 0, "", err
	}
	answer, err := transport.RoundTrip(r)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	const most = 4096
	body, err := io.ReadAll(io.LimitReader(answer.Body, most))
	return answer.StatusCode, string(body), err
}

// tail is the end of the proxy's log.
func (p *Proxy) tail() string {
	const lines, most = 10, 8192
	data, err := os.ReadFile(p.log())
	if err != nil || len(bytes.TrimSpace(data)) == 0 {
		return "  (it said nothing)"
	}
	data = bytes.TrimSpace(data[max(0, len(data)-most):])
	all := strings.Split(string(data), "\n")
	return "  " + strings.Join(all[max(0, len(all)-lines):], "\n  ")
}

// Drain asks the proxy to tell the mesh that its program is going, and waits
// until nobody sends anything new to it, at most 16 seconds. What the program
// sends goes on.
func (p *Proxy) Drain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	status, text, err := p.ask(ctx, http.MethodPost, "/drain")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("the proxy answered %d: %s", status, strings.TrimSpace(text))
	}
	return err
}

// PID is the proxy's process, 0 while it is away.
func (p *Proxy) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.process == nil {
		return 0
	}
	return p.process.Pid
}

// Stop lets the proxy drain and waits for its end; when ctx ends first, or
// after a minute, it is killed.
func (p *Proxy) Stop(ctx context.Context) {
	p.signal(syscall.SIGTERM)
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-ctx.Done():
		p.Kill()
	case <-timer.C:
		p.Kill()
	}
	p.endPrevious()
}

// Kill ends the proxy at once.
func (p *Proxy) Kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
	p.endPrevious()
}

func (p *Proxy) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopping = true
	for _, process := range []*os.Process{p.process, p.heir} { // whichever of them is the proxy in the end
		if process == nil {
			continue
		}
		if err := process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
			p.config.Say("signal the proxy: %v", err)
		}
	}
}
