//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a program that this run started.
type process struct {
	name string
	cmd  *exec.Cmd
	said *tail
	done chan struct{}
	// began is when it was started.
	began time.Time
}

// tail keeps the end of what a program prints.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.b = append(t.b, p...); len(t.b) > 8192 {
		t.b = t.b[len(t.b)-8192:]
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.b))
}

// proxyCPU is where the measured proxies run; everything else is elsewhere.
const proxyCPU = 0

func pinned(cpus ...int) *unix.CPUSet {
	var s unix.CPUSet
	for _, c := range cpus {
		s.Set(c)
	}
	return &s
}

// otherCPUs is every CPU but the proxies'; on a machine with one, that one.
func otherCPUs() *unix.CPUSet {
	var all unix.CPUSet
	if unix.SchedGetaffinity(os.Getpid(), &all) != nil || all.Count() < 2 {
		return pinned(0)
	}
	all.Clear(proxyCPU)
	return &all
}

// spawn starts a program on the given CPUs. It ends when this process does.
func spawn(name string, cpus *unix.CPUSet, env []string, args ...string) (*process, error) {
	p := &process{name: name, said: &tail{}, done: make(chan struct{})}
	p.cmd = exec.Command(args[0], args[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = p.said, p.said
	p.cmd.Env = append(os.Environ(), env...)
	started := make(chan error)
	go func() {
		// A child has the affinity of the thread that starts it, and dies with
		// it (Pdeathsig): so this thread is kept until the child has ended.
		runtime.LockOSThread()
		if err := unix.SchedSetaffinity(0, cpus); err != nil {
			started <- err
			return
		}
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		p.began = time.Now()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stopTime is how long a program gets to end by itself.
const stopTime = 20 * time.Second

func (p *process) stop() {
	if p == nil {
		return
	}
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(stopTime):
		p.cmd.Process.Kill()
		<-p.done
	}
}

// wait returns when something accepts connections at address.
func (p *process) wait(ctx context.Context, address string) error {
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			return c.Close()
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended at once: %s", p.name, p.said)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
	return fmt.Errorf("%s doesn't listen on %s: %s", p.name, address, p.said)
}

// usage is what a process has used since it began.
type usage struct {
	cpu      time.Duration
	switches int64 // context switches, of all threads
	// user and system are the parts of cpu, in ticks of the kernel.
	user, system int64
}

// used reads a process's own CPU clock and its threads' context switches.
func (p *process) used() (usage, error) {
	var u usage
	// The kernel's clock of another process: clock_getcpuclockid(3).
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^p.pid()<<3|2), &ts); err != nil {
		return u, fmt.Errorf("%s: its CPU clock: %w", p.name, err)
	}
	u.cpu = time.Duration(ts.Nano())
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid())); err == nil {
		// After the name, which may hold anything but ")": proc_pid_stat(5).
		if f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])); len(f) > 12 {
			u.user, _ = strconv.ParseInt(f[11], 10, 64)
			u.system, _ = strconv.ParseInt(f[12], 10, 64)
		}
	}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", p.pid()))
	if err != nil || len(tasks) == 0 {
		return u, fmt.Errorf("%s has ended: %s", p.name, p.said)
	}
	for _, t := range tasks {
		b, err := os.ReadFile(t)
		if err != nil {
			continue // a thread that ended meanwhile
		}
		u.switches += field(b, "voluntary_ctxt_switches") + field(b, "nonvoluntary_ctxt_switches")
	}
	return u, nil
}

// memory is a process's resident memory in bytes.
type memory struct{ total, anonymous int64 }

func (p *process) memory() (memory, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid()))
	if err != nil {
		return memory{}, fmt.Errorf("%s has ended: %s", p.name, p.said)
	}
	return memory{field(b, "VmRSS") << 10, field(b, "RssAnon") << 10}, nil
}

// field reads "NAME:  NUMBER" from a status file of /proc.
func field(b []byte, name string) int64 {
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			n, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return n
		}
	}
	return 0
}

// systemCalls counts a process's system calls by name while f runs, with
// strace, which slows it down: the counts are right, times would not be. Empty
// without strace.
func (p *process) systemCalls(f func() error) (map[string]int64, error) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		return nil, f()
	}
	cmd := exec.Command(strace, "-f", "-c", "-U", "calls,name", "-p", strconv.Itoa(p.pid()))
	var out bytes.Buffer
	cmd.Stderr = &out
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	time.Sleep(200 * time.Millisecond) // until it is attached
	err = f()
	cmd.Process.Signal(syscall.SIGINT)
	cmd.Wait()
	calls := map[string]int64{}
	for line := range strings.Lines(out.String()) {
		if f := strings.Fields(line); len(f) == 2 && f[1] != "total" {
			if n, err := strconv.ParseInt(f[0], 10, 64); err == nil {
				calls[f[1]] = n
			}
		}
	}
	return calls, err
}

// Ports for servers are from below those that the kernel gives to clients
// (net.ipv4.ip_local_port_range begins at 32768), so that nobody's outgoing
// connection takes one before its server listens.
const firstPort, portCount = 20_000, 12_000

// freePorts reserves n loopback ports for a moment and returns them.
func freePorts(n int) ([]int, error) {
	var ports []int
	for range 1000 {
		if len(ports) == n {
			return ports, nil
		}
		port := firstPort + rand.IntN(portCount)
		if ln, err := net.Listen("tcp", local(port)); err == nil {
			defer ln.Close()
			ports = append(ports, port)
		}
	}
	return nil, errors.New("no free ports")
}
