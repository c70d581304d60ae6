package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// In explicit mode the environment says where services are.
func TestExplicitMode(t *testing.T) {
	t.Parallel()
	curl, bash := need(t, "curl", "curl"), need(t, "bash", "bash")
	m := newMesh(t)
	port := freePort(t)
	m.serve("--mode", "explicit", "--service", "echo", "--port", "8080:"+port, "--app-protocol", "http", "--",
		"env", "E2E_ROLE=server", "E2E_LISTEN=127.0.0.1:"+port, "E2E_NAME=one", self(t))
	m.ready("echo", 1)
	for name, script := range map[string]string{
		"variables":  curl + ` -sS --noproxy '*' -d hello http://$ECHO_SERVICE_HOST:$ECHO_SERVICE_PORT/`,
		"port by n":  curl + ` -sS --noproxy '*' -d hello http://$ECHO_PORT_8080_TCP_ADDR:$ECHO_PORT_8080_TCP_PORT/`,
		"http_proxy": curl + ` -sS -d hello http://echo:8080/`,
		"full name":  curl + ` -sS -d hello http://echo.default.svc.cluster.local:8080/`,
	} {
		if out := m.tulle("run", "-q", "--mode", "explicit", "--", bash, "-c", script); out != "hello" {
			t.Errorf("%s: %q, want hello", name, out)
		}
	}
	if out, _ := m.try("check"); !strings.Contains(out, "in explicit mode") {
		t.Errorf("check doesn't say that callers could go around a proxy:\n%s", out)
	}
}

// A command line elsewhere asks over TLS, with the token and the mesh's roots,
// and programs there join over TLS as well.
func TestRemoteControlPlane(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	m := newMesh(t)
	match := regexp.MustCompile(`proxies and CLIs: +(\S+)`).FindStringSubmatch(m.control.out.String())
	if match == nil {
		t.Fatalf("no address in:\n%s", m.control.out)
	}
	elsewhere, err := os.MkdirTemp("", "mesh")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(elsewhere) })
	roots, token := filepath.Join(elsewhere, "roots.pem"), filepath.Join(elsewhere, "token")
	write(t, roots, m.tulle("diagnostics", "identity", "-o", "pem"))
	data, err := os.ReadFile(filepath.Join(m.dir, "api-token"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, token, string(data))
	remote := []string{"--data-dir", elsewhere, "--control-plane", match[1], "--ca", roots, "--token-file", token}
	if out := m.tulle(append(remote, "get", "services")...); !strings.Contains(out, "no services") {
		t.Errorf("get services: %q", out)
	}
	p := m.start("remote server", filepath.Join(bin, "tulle"), append(append([]string{}, remote...), "run", "-q", "--service", "echo", "--port", "8080", "--",
		"env", "E2E_ROLE=server", "E2E_LISTEN=127.0.0.1:8080", "E2E_NAME=remote", self(t))...)
	p.await("server listens")
	m.ready("echo", 1)
	if out := m.tulle("run", "-q", "--", need(t, "curl", "curl"), "-sS", "-d", "hello", "http://echo:8080/"); out != "hello" {
		t.Errorf("asked the remote server for hello: %q", out)
	}

	write(t, token, "wrong\n")
	if out, err := m.try(append(remote, "get", "services")...); exitCode(err) != 2 || !strings.Contains(out, "token") {
		t.Errorf("with a wrong token: %v, %s; want exit code 2", err, out)
	}
	other := newMesh(t)
	write(t, roots, other.tulle("diagnostics", "identity", "-o", "pem"))
	if out, err := m.try(append(remote, "get", "services")...); exitCode(err) != 2 || !strings.Contains(out, "certificate") {
		t.Errorf("with another mesh's roots: %v, %s; want exit code 2", err, out)
	}
}

// Nobody needs to be root.
func TestUnprivileged(t *testing.T) {
	needNamespaces(t)
	if os.Geteuid() != 0 {
		t.Skip("not root, so every other test shows it: run as root to see it beside root's (sudo go test ./test/e2e)")
	}
	t.Parallel()
	server, cli := need(t, "redis-server", "redis-server"), need(t, "redis-cli", "redis-tools")
	user, chown := asUser(t, "nobody")
	if out, err := exec.Command(user[0], append(user[1:], "unshare", "-Un", "true")...).CombinedOutput(); err != nil {
		t.Skipf("this kernel lets no unprivileged user make a user namespace (%s): sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000", strings.TrimSpace(string(out)))
	}
	dir := publicDir(t)
	chown(dir)
	as := &mesh{t: t, dir: dir, env: append(os.Environ(), "TULLE_DATA_DIR="+dir, "HOME="+dir, "NO_COLOR=1")}
	t.Cleanup(as.stop)
	tulle := append(append([]string{}, user...), filepath.Join(bin, "tulle"))
	start := func(name string, args ...string) *process {
		return as.start(name, tulle[0], append(append([]string{}, tulle[1:]...), args...)...)
	}
	start(controlPlane, "control-plane", "--listen", "none", "--dashboard", "none").await("control plane ready")
	p := start("redis", "run", "--service", "cache", "--port", "6379", "--app-protocol", "tcp", "--", server, "--save", "", "--bind", "127.0.0.1", "--dir", dir)
	p.await("an unprivileged network namespace")
	p.await("eady to accept connections")
	client := start("client", "run", "-q", "--", need(t, "bash", "bash"), "-c", "for i in $(seq 100); do "+cli+" -h cache PING && break; sleep 0.1; done; grep CapEff /proc/self/status; id -u")
	client.wait(patience)
	for _, want := range []string{"PONG", "CapEff:\t0000000000000000", "65534"} {
		if !strings.Contains(client.out.String(), want) {
			t.Errorf("missing %q in:\n%s", want, client.out)
		}
	}
}

// Two of one mesh can't be: the second says so and changes nothing.
func TestTwoOfOneMesh(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	for _, command := range [][]string{{"control-plane"}, {"up"}} {
		out, err := m.try(append(command, "--listen", "127.0.0.1:0", "--dashboard", "127.0.0.1:0")...)
		if exitCode(err) <= 0 || !strings.Contains(out, m.dir) || !strings.Contains(out, "another") {
			t.Errorf("%s in the same directory: %v\n%s\nwant a message that another one runs in %s", command[0], err, out, m.dir)
		}
	}
	m.tulle("check")
}

// Several meshes live side by side and know nothing of each other.
func TestSideBySide(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	one, two := newMesh(t), newMesh(t)
	one.server("server")
	one.ready("echo", 1)
	curl := need(t, "curl", "curl")
	if out := one.tulle("run", "-q", "--", curl, "-sS", "-d", "hello", "http://echo:8080/"); out != "hello" {
		t.Errorf("in the mesh: %q, want hello", out)
	}
	if out, err := two.try("run", "-q", "--", curl, "-sS", "-m", "5", "-d", "hello", "http://echo:8080/"); err == nil {
		t.Errorf("in the other mesh: %q, want an error", out)
	}
}

func exitCode(err error) int {
	var e *exec.ExitError
	if errors.As(err, &e) {
		return e.ExitCode()
	}
	return -1
}
