package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tulle up runs what files describe: the objects, and a proxy for each gateway,
// later ones too. Ctrl-C takes all of it down.
func TestUp(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	dir, err := os.MkdirTemp("", "mesh")
	if err != nil {
		t.Fatal(err)
	}
	m := &mesh{t: t, dir: dir, env: append(os.Environ(), "TULLE_DATA_DIR="+dir, "NO_COLOR=1")}
	t.Cleanup(func() {
		m.stop()
		if t.Failed() {
			m.logs()
		}
		os.RemoveAll(dir)
	})
	port := freePort(t)
	gateway := func(name, port string) string {
		return fmt.Sprintf(`
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: %[1]s}
spec:
  gatewayClassName: tulle
  addresses: [{type: IPAddress, value: 127.0.0.1}]
  listeners: [{name: http, port: %[2]s, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %[1]s}
spec:
  parentRefs: [{name: %[1]s}]
  rules: [{backendRefs: [{name: echo, port: 8080}]}]
`, name, port)
	}
	objects := filepath.Join(t.TempDir(), "mesh.yaml")
	write(t, objects, gateway("edge", port)+`---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  ports: [{port: 8080, appProtocol: http}]
`)
	up := m.start(controlPlane, filepath.Join(bin, "tulle"), "up", "-f", objects, "--listen", "127.0.0.1:0", "--dashboard", "127.0.0.1:0")
	up.await("√ gateway edge")
	up.await("√ dashboard")
	server := m.server("one")
	m.ready("echo", 1)
	ask := func(port string) {
		t.Helper()
		for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
			who, err := ask(http.DefaultClient, "http://127.0.0.1:"+port+"/", 1)
			if err == nil && who == "one" {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("through the gateway on %s: %q, %v", port, who, err)
			}
		}
	}
	ask(port)
	if out := m.tulle("check", "--wait", "20s"); !strings.Contains(out, "Status check results are √") {
		t.Errorf("check:\n%s", out)
	}
	// A gateway that is applied later gets a proxy as well; one that goes loses it.
	second := freePort(t)
	later := filepath.Join(t.TempDir(), "later.yaml")
	write(t, later, gateway("side", second))
	m.tulle("apply", "-f", later)
	up.await("√ gateway side")
	ask(second)
	m.tulle("delete", "-f", later)
	up.await("gateway side.default is gone")

	// One whose port is taken is said, and nothing else suffers.
	write(t, later, gateway("late", port))
	m.tulle("apply", "-f", later)
	up.await("address already in use")
	ask(port)

	server.stop()
	_ = up.cmd.Process.Signal(syscall.SIGINT)
	up.wait(patience)
	if code := up.cmd.ProcessState.ExitCode(); code != 0 || !strings.Contains(up.out.String(), "the mesh is down") {
		t.Errorf("Ctrl-C: exit code %d", code)
	}
	if out, err := exec.Command("pgrep", "-f", dir).Output(); err == nil {
		t.Errorf("still running: %s", out)
	}
}
