package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// gatewayTo is a Gateway that listens at port of loopback, and its route to
// service echo.
func gatewayTo(name, port string) string {
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
  rules: [{name: all, backendRefs: [{name: echo, port: 8080}]}]
`, name, port)
}

// outsideEcho is service echo, served by a program of this test outside the mesh.
func outsideEcho(t *testing.T) (objects string) {
	t.Helper()
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Server", "outside")
		io.Copy(w, r.Body)
	}))
	t.Cleanup(origin.Close)
	_, port, _ := net.SplitHostPort(origin.Listener.Addr().String())
	return `---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  ports: [{name: http, port: 8080, appProtocol: http}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: echo, labels: {kubernetes.io/service-name: echo}}
addressType: IPv4
ports: [{name: http, port: ` + port + `}]
endpoints: [{addresses: [127.0.0.1]}]
`
}

// up runs `tulle up` with objects among which is a Gateway edge, and waits for it.
func up(t *testing.T, objects string) (m *mesh, p *process) {
	t.Helper()
	m = bare(t)
	return m, m.up(objects)
}

// up is up for a mesh that isn't started yet.
func (m *mesh) up(objects string) *process {
	m.t.Helper()
	p := m.start(controlPlane, filepath.Join(bin, "tulle"), "up", "-f", m.write(objects), "--listen", "127.0.0.1:0", "--dashboard", "127.0.0.1:0")
	m.control = p
	p.await("√ gateway edge")
	return p
}

// gatewayPIDs are the processes of a gateway's proxy, oldest first.
func (m *mesh) gatewayPIDs(name string) (list []int) {
	out, _ := exec.Command("pgrep", "-f", "tulle-proxy .*--data "+filepath.Join(m.dir, "gateways", "default_"+name)+" ").Output()
	for _, f := range strings.Fields(string(out)) {
		if pid, err := strconv.Atoi(f); err == nil {
			list = append(list, pid)
		}
	}
	return list
}

// serves waits until what listens at port answers.
func serves(t *testing.T, port string) {
	t.Helper()
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	eventually(t, "it answers on "+port, func() bool {
		_, err := ask(client, "http://127.0.0.1:"+port+"/", 1)
		return err == nil
	})
}

// Two users of a machine upgrade the same proxy at the same time, also while the
// root is changed: each is answered, and no request fails.
func TestUpgradesMeet(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	m, _ := up(t, gatewayTo("edge", port)+outsideEcho(t))
	serves(t, port)
	load := ask8("127.0.0.1:" + port)
	both := func() {
		var all sync.WaitGroup
		for range 2 {
			all.Go(func() {
				if out, err := m.try("upgrade", "edge"); err != nil || !strings.Contains(out, "√ edge") {
					t.Errorf("upgrade: %v\n%s", err, out)
				}
			})
		}
		all.Wait()
	}
	both()
	load.more(t, 200)
	m.tulle("trust", "rotate")
	for range 3 {
		both()
		load.more(t, 100)
	}
	eventually(t, "the root has changed", func() bool {
		out, err := m.try("trust", "-o", "json")
		return err == nil && strings.Contains(out, `"steady"`)
	})
	both()
	load.more(t, 200)
	load.stop(t)
	eventually(t, "one process is left", func() bool { return len(m.gatewayPIDs("edge")) == 1 })
	if out := m.tulle("check", "--wait", "30s"); !strings.Contains(out, "Status check results are √") {
		t.Errorf("check:\n%s", out)
	}
}

// One of the two processes of an upgrade is killed in the middle of it, at many
// moments: there is one proxy afterwards, and it serves. Where the one that came is
// killed nobody is refused unless it had taken over; where the one that went is,
// what it had under way is lost at most, if the other one had its sockets.
func TestUpgradeKilled(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	m, _ := up(t, gatewayTo("edge", port)+outsideEcho(t))
	serves(t, port)
	// How long an upgrade takes here, so that the moments are within it.
	began := time.Now()
	m.tulle("upgrade", "edge")
	length := time.Since(began)
	const moments = 8
	for _, who := range []string{"successor", "predecessor"} {
		for i := range moments {
			old := m.gatewayPID(t, "edge")
			upgrade := m.start("upgrade", filepath.Join(bin, "tulle"), "upgrade", "edge")
			time.Sleep(length * time.Duration(i+1) / moments)
			for _, pid := range m.gatewayPIDs("edge") {
				if (pid == old) == (who == "predecessor") {
					syscall.Kill(pid, syscall.SIGKILL)
				}
			}
			upgrade.wait(2 * patience)
			t.Logf("%s %d: %s", who, i, strings.TrimSpace(upgrade.out.String()))
			serves(t, port)
		}
	}
	load := ask8("127.0.0.1:" + port)
	m.tulle("upgrade", "edge")
	load.more(t, 200)
	load.stop(t)
	m.gatewayPID(t, "edge")
	if out := m.tulle("check", "--wait", "30s"); !strings.Contains(out, "Status check results are √") {
		t.Errorf("check:\n%s", out)
	}
}

// gatewayPID waits until a gateway's proxy is one process.
func (m *mesh) gatewayPID(t *testing.T, name string) (pid int) {
	t.Helper()
	eventually(t, "one process is left", func() bool {
		list := m.gatewayPIDs(name)
		if len(list) == 1 {
			pid = list[0]
		}
		return len(list) == 1
	})
	return pid
}
