package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const rate = 100 // requests a second

// The control plane dies and comes back: nobody notices.
func TestControlPlaneKilled(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	m := newMesh(t)
	m.server("one")
	m.server("two")
	m.ready("echo", 2)
	load := m.load(rate, 8*time.Second)
	time.Sleep(2 * time.Second)
	m.control.kill()
	time.Sleep(2 * time.Second)
	m.startControl()
	load.result(patience).noneFailed(t, 7*rate)
	m.ready("echo", 2)
}

// With the control plane gone, a proxy that dies comes back with what it knew,
// and a program that was registered before starts again.
func TestRestartsWithoutControlPlane(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	m := newMesh(t)
	one := m.server("one")
	m.ready("echo", 1)
	url := "http://echo:8080/"
	curl := need(t, "curl", "curl")
	if out := m.tulle("run", "-q", "--name", "client", "--", curl, "-sS", "-d", "hello", url); out != "hello" {
		t.Fatalf("asked for hello, got %q", out)
	}
	m.control.kill()
	syscall.Kill(m.proxyPID("one"), syscall.SIGKILL)
	if out := m.tulle("run", "-q", "--name", "client", "--", curl, "-sS", "--retry", "20", "--retry-all-errors", "--retry-delay", "1", "-d", "hello", url); !strings.HasSuffix(out, "hello") {
		t.Errorf("after the server's proxy was killed: %q", out)
	}
	one.stop()
	m.server("one").await("server listens")
	if out := m.tulle("run", "-q", "--name", "client", "--", curl, "-sS", "--retry", "20", "--retry-all-errors", "--retry-delay", "1", "-d", "hello", url); !strings.HasSuffix(out, "hello") {
		t.Errorf("after the server's restart: %q", out)
	}
}

// Certificates that live a minute are renewed under load.
func TestShortCertificates(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	m := newMesh(t, `
apiVersion: tulle.dev/v1alpha1
kind: Mesh
metadata: {name: mesh}
spec: {certificateTTL: 1m}
`)
	m.server("one")
	m.server("two")
	m.ready("echo", 2)
	first := m.tulle("diagnostics", "identity")
	if strings.Contains(first, "h left") {
		t.Errorf("the certificates live longer than a minute:\n%s", first)
	}
	load := m.load(rate, 75*time.Second)
	load.result(75*time.Second+patience).noneFailed(t, 70*rate)
	if now := m.tulle("diagnostics", "identity"); strings.Contains(now, "expired") {
		t.Errorf("after 75 seconds:\n%s", now)
	}
}

// An endpoint's machine dies: a few requests may be lost, the next ones aren't.
func TestEndpointKilled(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	m := newMesh(t)
	m.server("one")
	two := m.server("two")
	m.ready("echo", 2)
	load := m.load(rate, 6*time.Second)
	time.Sleep(2 * time.Second)
	proxy := m.proxyPID("two")
	two.kill() // its helper ends the program
	syscall.Kill(proxy, syscall.SIGKILL)
	r := load.result(patience)
	// What was under way on it is lost: at this rate one or two, a few more where all is slow, never a second's worth.
	const most = rate / 2
	if r.Failed > most {
		t.Errorf("%d requests failed, want at most %d:\n%s", r.Failed, most, strings.Join(r.Errors, "\n"))
	}
	if r.Servers["one"] < 3*rate { // of 6 s: one second of both, more than three of one alone
		t.Errorf("who answered: %v, want one to have answered what two no longer could", r.Servers)
	}
}

// Every instance of a service is replaced under load.
func TestRollingRestart(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	m := newMesh(t)
	old := map[string]*process{"one": m.server("one"), "two": m.server("two")}
	m.ready("echo", 2)
	load := m.load(rate, 10*time.Second)
	for _, name := range []string{"one", "two"} {
		m.server(name + "-next")
		m.ready("echo", 3)
		old[name].stop()
		if code := old[name].cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("%s ended with %d, want 0", name, code)
		}
		m.ready("echo", 2)
	}
	r := load.result(patience)
	r.noneFailed(t, 9*rate)
	if r.Servers["one-next"] == 0 || r.Servers["two-next"] == 0 {
		t.Errorf("who answered: %v, want the new ones too", r.Servers)
	}
}

// A proxy that is killed means refused, never plaintext, and then back again.
func TestProxyKilled(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	m := newMesh(t)
	// A server outside the mesh, which would be glad about plaintext.
	l, err := net.Listen("tcp", ownAddress(t)+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(c, "hello from outside")
			c.Close()
		}
	}()
	host, port, _ := net.SplitHostPort(l.Addr().String())
	dir := t.TempDir()
	script := `exec 2>&1
		while [ ! -e ` + dir + `/stop ]; do
			date +%s%N | tr '\n' ' '
			(exec 3<>/dev/tcp/` + host + `/` + port + ` && read -t 5 line <&3 && echo "$line" || echo refused) 2>/dev/null
			sleep 0.005
		done`
	client := m.serve("--name", "client", "--", need(t, "bash", "bash"), "-c", script)
	client.await("hello from outside")
	// While the proxy is stopped dead nothing may pass; SIGSTOP of tulle run
	// keeps it from starting another one.
	client.cmd.Process.Signal(syscall.SIGSTOP)
	proxy := m.proxyPID("client")
	syscall.Kill(proxy, syscall.SIGKILL)
	eventually(t, "the proxy has ended", func() bool { // its parent is stopped, and doesn't hear of it
		state, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(proxy), "stat"))
		return err != nil || strings.Contains(string(state), ") Z ")
	})
	killed := time.Now()
	time.Sleep(500 * time.Millisecond)
	at := len(client.out.String())
	eventually(t, "it goes on trying", func() bool { return strings.Count(client.out.String()[at:], "\n") > 10 })
	resumed := time.Now()
	client.cmd.Process.Signal(syscall.SIGCONT)
	before := len(client.out.String())
	for deadline := time.Now().Add(patience); !strings.Contains(client.out.String()[before:], "hello from outside"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it isn't back")
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "stop"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	client.wait(patience)
	refused := 0
	// An attempt is over when the next one begins.
	var began []time.Time
	var said []string
	for line := range strings.Lines(client.out.String()) {
		at, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseInt(at, 10, 64); err == nil {
			began, said = append(began, time.Unix(0, n)), append(said, text)
		}
	}
	for i := 0; i+1 < len(began); i++ {
		if began[i].Before(killed) || began[i+1].After(resumed) {
			continue
		}
		said := said[i]
		if said != "refused" {
			t.Errorf("with no proxy: %q, want refused", said)
		}
		refused++
	}
	if refused < 10 {
		t.Errorf("%d attempts while there was no proxy, want more:\n%s", refused, client.out)
	}
}

// Nothing goes in but through the proxy: the program's own port isn't reachable
// from outside of its namespace.
func TestInboundCantBeBypassed(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	m := newMesh(t)
	m.server("one").await("server listens")
	m.ready("echo", 1)
	if c, err := net.DialTimeout("tcp", "127.0.0.1:8080", time.Second); err == nil {
		c.Close()
		// Something else on this machine may have the port: is it the server?
		fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		if answer, _ := io.ReadAll(bufio.NewReader(c)); strings.Contains(string(answer), "X-Server: one") {
			t.Error("the program answers on the host's own loopback address")
		}
	}
}
