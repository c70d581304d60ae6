package e2e

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// hundred is a hundred services, all of which have that label.
func hundred(label int) string {
	var b strings.Builder
	for i := range 100 {
		fmt.Fprintf(&b, `---
apiVersion: v1
kind: Service
metadata: {name: many-%d, labels: {round: "%d"}}
spec:
  ports: [{port: 8080, appProtocol: http}]
`, i, label)
	}
	return b.String()
}

// rounds are how many of the services of hundred have which label.
func (m *mesh) rounds(t *testing.T) map[string]int {
	t.Helper()
	var list struct {
		Items []struct {
			Metadata struct {
				Name   string
				Labels map[string]string
			}
		}
	}
	out := m.tulle("get", "services", "-o", "json")
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	count := map[string]int{}
	for _, s := range list.Items {
		if strings.HasPrefix(s.Metadata.Name, "many-") {
			count[s.Metadata.Labels["round"]]++
		}
	}
	return count
}

// The control plane is killed under load while a hundred objects are applied, and
// while programs come and their certificates are issued, which live a minute. When
// it is back each object is the old one or the new one, the same can be applied
// again, the programs start, and no request has failed.
func TestControlPlaneKilledAtWork(t *testing.T) {
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
	began := time.Now()
	m.apply(hundred(0))
	length := time.Since(began)
	load := m.load(rate/2, 10*time.Minute)
	const rounds = 4
	for i := 1; i <= rounds; i++ {
		objects := m.write(hundred(i))
		apply := m.start("apply", filepath.Join(bin, "tulle"), "apply", "-f", objects)
		time.Sleep(length * time.Duration(i) / (rounds + 1))
		m.control.kill()
		apply.wait(patience)
		m.startControl()
		now := m.rounds(t)
		t.Logf("killed after %d of %d parts of an apply: %v", i, rounds+1, now)
		if now[strconv.Itoa(i)]+now[strconv.Itoa(i-1)] != 100 {
			t.Errorf("round %d: services by round: %v, want a hundred of %d and %d", i, now, i-1, i)
		}
		m.tulle("apply", "-f", objects)
		if now := m.rounds(t); now[strconv.Itoa(i)] != 100 {
			t.Errorf("round %d: services by round when it was applied again: %v", i, now)
		}
	}
	began = time.Now()
	m.tulle("run", "-q", "--name", "comes", "--", "true")
	length = time.Since(began)
	for i := 1; i <= rounds; i++ {
		name := fmt.Sprint("comes-", i)
		program := m.serve("--name", name, "--", "true")
		time.Sleep(length * time.Duration(i) / (rounds + 1))
		m.control.kill()
		m.startControl()
		program.wait(2 * patience) // it says what is wrong, or runs
		m.tulle("run", "-q", "--name", name, "--", "true")
	}
	m.tulle("get", "workloads")
	load.stop()
	load.result(patience).noneFailed(t, rate)
	m.ready("echo", 2)
	if out := m.tulle("check", "--wait", "30s"); !strings.Contains(out, "Status check results are √") {
		t.Errorf("check:\n%s", out)
	}
}

// The embedded etcd is killed under load, again and again, objects being applied:
// what was said to be applied is there, and no request fails.
func TestEtcdKilled(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	m := newMesh(t)
	m.server("one")
	m.server("two")
	m.ready("echo", 2)
	etcd := func() int {
		out, _ := exec.Command("pgrep", "-f", "tulle etcd --dir "+filepath.Join(m.dir, "etcd")).Output()
		pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
		if err != nil {
			return 0
		}
		return pid
	}
	load := m.load(rate/2, 10*time.Minute)
	m.apply(hundred(0))
	for i := 1; i <= 3; i++ {
		objects := m.write(hundred(i))
		apply := m.start("apply", filepath.Join(bin, "tulle"), "apply", "-f", objects)
		eventually(t, "etcd runs", func() bool { return etcd() > 0 })
		syscall.Kill(etcd(), syscall.SIGKILL)
		apply.wait(2 * patience)
		t.Logf("apply: %v", apply.cmd.ProcessState)
		eventually(t, "the same is applied", func() bool {
			_, err := m.try("apply", "-f", objects)
			return err == nil
		})
		if now := m.rounds(t); now[strconv.Itoa(i)] != 100 {
			t.Errorf("round %d: services by round: %v", i, now)
		}
	}
	load.stop()
	load.result(patience).noneFailed(t, rate/2)
	m.ready("echo", 2)
	if out := m.tulle("check", "--wait", "30s"); !strings.Contains(out, "Status check results are √") {
		t.Errorf("check:\n%s", out)
	}
}
