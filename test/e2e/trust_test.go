package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// The root is changed, and changed back half-way, while requests go on: none
// fails, and afterwards nobody has anything of the old one.
func TestTrustRotation(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	m := newMesh(t)
	m.server("one")
	m.server("two")
	m.ready("echo", 2)
	root := func(workload string) string {
		t.Helper()
		var id struct {
			Bundle []struct {
				Roots []struct{ SHA256 string }
			}
		}
		if out := m.tulle("identity", workload, "-o", "json"); json.Unmarshal([]byte(out), &id) != nil || len(id.Bundle) != 1 {
			t.Fatalf("identity of %s: %s", workload, out)
		}
		var all []string
		for _, r := range id.Bundle[0].Roots {
			all = append(all, r.SHA256)
		}
		return strings.Join(all, " ")
	}
	before := root("one")
	load := m.load(rate, 45*time.Second)
	if out := m.tulle("trust", "rotate", "--watch", "--timeout", "30s"); !strings.Contains(out, "steady") {
		t.Errorf("rotate: %s", out)
	}
	after := root("one")
	if after == before || strings.Contains(after, " ") || root("two") != after {
		t.Errorf("roots %s and %s after the change, want one, and another than %s", after, root("two"), before)
	}
	if out := m.tulle("trust", "rotate"); !strings.Contains(out, "will sign") {
		t.Errorf("rotate: %s", out)
	}
	if out := m.tulle("trust", "rotate", "--back", "--watch"); !strings.Contains(out, "steady") {
		t.Errorf("rotate --back: %s", out)
	}
	if got := root("one"); got != after {
		t.Errorf("root %s after going back, want %s", got, after)
	}
	// Who joins afterwards is one of them.
	m.server("three")
	m.ready("echo", 3)
	load.result(time.Minute).noneFailed(t, 40*rate)
	if out, err := m.try("check", "-o", "short"); err != nil {
		t.Errorf("check: %v\n%s", err, out)
	}
}
