package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// A command that only asks the control plane answers at once.
func TestCommandsAreQuick(t *testing.T) {
	m := newMesh(t)
	const most, times = 150 * time.Millisecond, 9
	for _, command := range [][]string{{"get", "services"}, {"stat"}, {"check"}, {"diagnostics", "proxy"}} {
		var took []time.Duration
		for range times {
			began := time.Now()
			m.tulle(command...)
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		if median := took[times/2]; median > most {
			t.Errorf("tulle %s takes %v, want at most %v (all: %v)", strings.Join(command, " "), median, most, took)
		}
	}
}
