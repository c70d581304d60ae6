package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A service that turns strict while somebody calls it without TLS is turned back, by
// itself; without such a caller it stays strict, and what may call whom is said,
// written from what was seen, and kept to.
func TestAdopt(t *testing.T) {
	t.Parallel()
	curl := need(t, "curl", "curl")
	m := newMesh(t)
	port := freePort(t)
	m.serve("--mode", "explicit", "--service", "echo", "--port", "8080:"+port, "--app-protocol", "http", "--",
		"env", "E2E_ROLE=server", "E2E_LISTEN=127.0.0.1:"+port, "E2E_NAME=one", self(t))
	m.ready("echo", 1)
	meshed := func() string {
		out, err := m.try("run", "-q", "--mode", "explicit", "--name", "client", "--", curl, "-sS", "-d", "hello", "http://echo:8080/one/two")
		if err != nil {
			return err.Error() + out
		}
		return out
	}
	if out := meshed(); out != "hello" {
		t.Fatalf("a caller in the mesh: %q, want hello", out)
	}
	var at struct {
		Ports []struct {
			Endpoints []struct{ Address string }
		}
	}
	if err := json.Unmarshal([]byte(m.tulle("diagnostics", "endpoints", "echo", "-o", "json")), &at); err != nil {
		t.Fatal(err)
	}
	outside := "http://" + at.Ports[0].Endpoints[0].Address + "/"
	plain := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	call := func() bool {
		resp, err := plain.Post(outside, "text/plain", strings.NewReader("hello"))
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode == 200 && string(body) == "hello"
	}
	if !call() {
		t.Fatal("a caller without TLS isn't served, though plaintext is permitted")
	}

	// Somebody goes on calling without TLS: it is put back.
	var stop atomic.Bool
	var calls sync.WaitGroup
	calls.Go(func() {
		for !stop.Load() {
			call()
			time.Sleep(100 * time.Millisecond)
		}
	})
	out, err := m.try("adopt", "strict", "echo", "--watch", "20s")
	stop.Store(true)
	calls.Wait()
	if exitCode(err) != 1 || !strings.Contains(out, "rolled back") || !strings.Contains(out, "without TLS") {
		t.Fatalf("adopt strict with a caller without TLS: %v, want exit code 1 and a way back\n%s", err, out)
	}
	eventually(t, "the caller without TLS is served again", call)
	if out := m.tulle("get", "authenticationpolicies", "-A", "-o", "name"); strings.Contains(out, "adopt-echo") {
		t.Errorf("the policy is still there:\n%s", out)
	}
	if out := m.tulle("adopt", "status", "echo", "-o", "json"); !strings.Contains(out, `"would_break"`) || strings.Contains(out, `"would_break": 0,`) {
		t.Errorf("adopt status doesn't say that somebody would break:\n%s", out)
	}

	// Nobody does: it stays.
	time.Sleep(6 * time.Second) // what was refused is out of the shortest window
	if out, err := m.try("adopt", "strict", "echo", "--watch", "4s"); err != nil {
		t.Fatalf("adopt strict with nobody to cut off: %v\n%s", err, out)
	}
	eventually(t, "a caller without TLS is refused", func() bool { return !call() })
	if out := meshed(); out != "hello" {
		t.Errorf("a caller in the mesh, strict: %q, want hello", out)
	}

	// The least policy lets in what was seen, and nobody else.
	policy := m.tulle("auth", "generate", "--for", "echo")
	if !strings.Contains(policy, "/one/two") {
		t.Errorf("the generated policy doesn't name the path that was asked for:\n%s", policy)
	}
	m.apply(policy)
	if out := meshed(); out != "hello" {
		t.Errorf("a caller that was seen: %q, want hello\n%s", out, policy)
	}
	if out, err := m.try("auth", "can-i", "--from", "stranger", "--to", "echo", "POST", "/one/two"); exitCode(err) != 1 || !strings.Contains(out, "service account") {
		t.Errorf("can-i of a stranger: %v\n%s", err, out)
	}
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatalf("not in %s: %s", patience, what)
}
