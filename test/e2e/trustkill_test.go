package e2e

import (
	"strings"
	"testing"
	"time"
)

// The control plane is killed in the middle of a change of the root, at each stage:
// when it is back the change is completed, and no request fails.
func TestTrustRotationKilled(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	m := newMesh(t)
	m.server("one")
	m.server("two")
	m.ready("echo", 2)
	reaches := func(stage string) {
		t.Helper()
		for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
			out, err := m.try("trust", "-o", "json")
			if err == nil && strings.Contains(out, `"`+stage+`"`) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("it doesn't come to %s: %v\n%s", stage, err, out)
			}
		}
	}
	load := m.load(rate, 50*time.Second)
	m.tulle("trust", "rotate")
	m.control.kill() // both roots are trusted, the old one signs
	time.Sleep(4 * time.Second)
	m.startControl()
	reaches("switched")
	m.control.kill() // the new one does
	time.Sleep(4 * time.Second)
	m.startControl()
	reaches("steady")
	load.result(time.Minute).noneFailed(t, 45*rate)
	m.ready("echo", 2)
}
