package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait for something that should happen soon.
const patience = time.Minute

// bin holds the built programs: TULLE_BIN, else built for this run.
var bin string

func TestMain(m *testing.M) {
	switch os.Getenv("E2E_ROLE") {
	case "load":
		os.Exit(loadMain())
	case "server":
		os.Exit(serverMain())
	case "identity":
		os.Exit(identityMain())
	case "bearer":
		os.Exit(bearerMain())
	case "greet":
		os.Exit(greetMain())
	case "pieces":
		os.Exit(piecesMain())
	case "asks":
		os.Exit(asksMain())
	case "odd":
		os.Exit(oddMain())
	}
	if bin = os.Getenv("TULLE_BIN"); bin != "" { // programs that are built already
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "tulle-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // other users run them as well
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	bin = dir
	build := exec.Command("go", "build", "-o", dir+string(filepath.Separator), "tulle.dev/tulle/cmd/tulle", "tulle.dev/tulle/cmd/tulle-proxy")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the programs: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// mesh is one running mesh.
type mesh struct {
	t   *testing.T
	dir string
	env []string
	// flags are more flags of the control plane.
	flags []string
	// control is the control plane's process.
	control *process
	// started is every process, in the order of their start.
	started []*process
}

// newMesh starts a control plane, and nothing else.
func newMesh(t *testing.T, objects ...string) *mesh {
	t.Helper()
	return newMeshWith(t, nil, objects...)
}

// newMeshWith is newMesh with more flags for the control plane.
func newMeshWith(t *testing.T, flags []string, objects ...string) *mesh {
	t.Helper()
	m := bare(t, flags...)
	m.startControl()
	for _, o := range objects {
		m.apply(o)
	}
	return m
}

// bare is a mesh whose control plane isn't started yet.
func bare(t *testing.T, flags ...string) *mesh {
	t.Helper()
	dir, err := os.MkdirTemp("", "mesh") // short: Unix sockets are in it
	if err != nil {
		t.Fatal(err)
	}
	m := &mesh{t: t, dir: dir, flags: flags, env: append(os.Environ(), "TULLE_DATA_DIR="+dir, "NO_COLOR=1")}
	t.Cleanup(func() {
		m.stop()
		if t.Failed() {
			m.logs()
		}
		os.RemoveAll(dir)
	})
	return m
}

// apply applies objects.
func (m *mesh) apply(objects string) {
	m.t.Helper()
	m.tulle("apply", "-f", m.write(objects))
}

// write makes a file of objects.
func (m *mesh) write(objects string) string {
	m.t.Helper()
	file := filepath.Join(m.t.TempDir(), "objects.yaml")
	if err := os.WriteFile(file, []byte(objects), 0o600); err != nil {
		m.t.Fatal(err)
	}
	return file
}

func (m *mesh) startControl() {
	m.t.Helper()
	m.control = m.start(controlPlane, filepath.Join(bin, "tulle"), append([]string{"control-plane", "--listen", "127.0.0.1:0", "--dashboard", "127.0.0.1:0"}, m.flags...)...)
	m.control.await("control plane ready")
}

// stop ends everything: programs first, side by side, then the control plane.
func (m *mesh) stop() {
	var all sync.WaitGroup
	for _, p := range m.started {
		if p.name != controlPlane {
			all.Go(p.stop)
		}
	}
	all.Wait()
	for _, p := range m.started {
		p.stop()
		if m.t.Failed() {
			m.t.Logf("%s (%v):\n%s", p.name, p.cmd.ProcessState, p.out)
		}
	}
}

// controlPlane is the name of the control plane's process.
const controlPlane = "control plane"

// logs shows what the proxies said.
func (m *mesh) logs() {
	files, _ := filepath.Glob(filepath.Join(m.dir, "workloads", "*", "proxy.log"))
	for _, f := range files {
		if data, err := os.ReadFile(f); err == nil {
			m.t.Logf("%s:\n%s", filepath.Base(filepath.Dir(f)), data)
		}
	}
}

// tulle runs one command to its end and returns what it printed; it must succeed.
func (m *mesh) tulle(args ...string) string {
	m.t.Helper()
	out, err := m.try(args...)
	if err != nil {
		m.t.Fatalf("tulle %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (m *mesh) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "tulle"), args...)
	cmd.Env = m.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// serve runs a program in the background: args are those of `tulle run`.
func (m *mesh) serve(args ...string) *process {
	m.t.Helper()
	return m.start("tulle run "+strings.Join(args, " "), filepath.Join(bin, "tulle"), append([]string{"run", "-q"}, args...)...)
}

// ready waits until a service has so many endpoints that may be called.
func (m *mesh) ready(service string, want int) {
	m.t.Helper()
	last := ""
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		out, err := m.try("diagnostics", "endpoints", service, "-o", "json")
		last = out
		if err != nil {
			continue
		}
		var answer struct {
			Ports []struct {
				Endpoints []struct{ Health string }
			}
		}
		if json.Unmarshal([]byte(out), &answer) != nil {
			continue
		}
		healthy := 0
		for _, p := range answer.Ports {
			for _, e := range p.Endpoints {
				if e.Health == "healthy" {
					healthy++
				}
			}
		}
		if healthy == want {
			return
		}
	}
	m.t.Fatalf("service %s hasn't %d endpoints that may be called:\n%s", service, want, last)
}

// pid is the process id of a workload's proxy.
func (m *mesh) proxyPID(workload string) int {
	m.t.Helper()
	out, err := exec.Command("pgrep", "-f", "tulle-proxy .*--data "+filepath.Join(m.dir, "workloads", workload)+" ").Output()
	pid, convErr := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil || convErr != nil {
		m.t.Fatalf("find the proxy of %s: %v, %q", workload, err, out)
	}
	return pid
}

// process is one started program.
type process struct {
	t    *testing.T
	name string
	cmd  *exec.Cmd
	out  *buffer
	done chan struct{}
}

// start runs a program in the background; the test's end stops it. It belongs
// to the test's goroutine, as all of mesh does.
func (m *mesh) start(name, path string, args ...string) *process {
	m.t.Helper()
	p := &process{t: m.t, name: name, cmd: exec.Command(path, args...), out: new(buffer), done: make(chan struct{})}
	p.cmd.Env = m.env
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.WaitDelay = time.Second
	if err := p.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	m.started = append(m.started, p)
	return p
}

// await waits until the program has printed a text.
func (p *process) await(text string) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if strings.Contains(p.out.String(), text) {
			return
		}
		select {
		case <-p.done:
			if !strings.Contains(p.out.String(), text) {
				p.t.Fatalf("%s ended (%v) without saying %q:\n%s", p.name, p.cmd.ProcessState, text, p.out)
			}
		default:
		}
	}
	p.t.Fatalf("%s didn't say %q:\n%s", p.name, text, p.out)
}

// stop ends the program with SIGTERM, and without patience when it won't.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Errorf("%s didn't end after SIGTERM", p.name)
		p.kill()
	}
}

// kill ends the program with SIGKILL.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// wait waits for the program's own end.
func (p *process) wait(limit time.Duration) {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(limit):
		p.t.Fatalf("%s still runs after %v:\n%s", p.name, limit, p.out)
	}
}

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// need skips a test whose counterpart isn't installed, and returns its path.
func need(t *testing.T, program, debianPackage string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		if path, err = exec.LookPath(filepath.Join("/usr/sbin", program)); err != nil {
			t.Skipf("no %s: apt-get install %s", program, debianPackage)
		}
	}
	return path
}

// needNamespaces skips a test where programs can't be intercepted.
func needNamespaces(t *testing.T) {
	t.Helper()
	if err := namespaces(); err != nil {
		t.Skipf("no network namespaces here (%v): run as root, or allow unprivileged user namespaces "+
			"(sysctl kernel.unprivileged_userns_clone=1; on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0)", err)
	}
}

var namespaces = sync.OnceValue(func() error {
	flags := uintptr(syscall.CLONE_NEWNET | syscall.CLONE_NEWNS)
	cmd := exec.Command("/bin/true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
	}
	return cmd.Run()
})

// asUser runs a program as another user when the test is root (servers that
// refuse to be root), else as it is.
func asUser(t *testing.T, name string) (prefix []string, chown func(dir string)) {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil, func(string) {}
	}
	setpriv := need(t, "setpriv", "util-linux")
	account, err := user.Lookup(name)
	if err != nil {
		t.Skipf("no user %s: useradd --system %s (%v)", name, name, err)
	}
	return []string{setpriv, "--reuid", account.Uid, "--regid", account.Gid, "--clear-groups", "--"}, func(dir string) {
		if out, err := exec.Command("chown", "-R", account.Uid+":"+account.Gid, dir).CombinedOutput(); err != nil {
			t.Fatalf("chown %s: %v: %s", dir, err, out)
		}
	}
}

// publicDir is a directory that other users may enter.
func publicDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "e2e")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// ownAddress is an address of this machine that isn't loopback.
func ownAddress(t *testing.T) string {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	t.Skip("this machine has no address but loopback: connect it to a network")
	return ""
}

// lastPort is the last one that freePort gave out.
var lastPort atomic.Int32

// freePort is a TCP port of the loopback address that nothing listens on. The
// kernel gives none of these to whoever asks for any port, so that it stays free
// until it is used.
func freePort(t *testing.T) string {
	t.Helper()
	for range 4000 {
		port := strconv.Itoa(20000 + (os.Getpid()*100+int(lastPort.Add(1)))%10000)
		if l, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no free port from 20000 to 30000")
	return ""
}

// usual is how long a command that asks nobody takes where the figures of these
// tests come from.
const usual = 30 * time.Millisecond

// slowness is how many times slower than there this machine is now; 1 at least.
func (m *mesh) slowness() float64 {
	m.t.Helper()
	var took []time.Duration
	for range 7 {
		began := time.Now()
		m.tulle("version", "--client")
		took = append(took, time.Since(began))
	}
	return max(1, float64(median(took))/float64(usual))
}
