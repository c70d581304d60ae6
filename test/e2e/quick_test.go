package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A command that only asks the control plane answers at once.
func TestCommandsAreQuick(t *testing.T) {
	m := newMesh(t)
	const promised, times = 150 * time.Millisecond, 9
	for _, command := range [][]string{{"get", "services"}, {"stat"}, {"check"}, {"diagnostics", "proxy"}} {
		var said string
		for range 5 { // the machine may be busy with something else
			var took []time.Duration
			most := time.Duration(m.slowness() * float64(promised))
			for range times {
				began := time.Now()
				m.tulle(command...)
				took = append(took, time.Since(began))
			}
			if median(took) <= most {
				said = ""
				break
			}
			said = fmt.Sprintf("tulle %s takes %v, want at most %v (all: %v)", strings.Join(command, " "), median(took), most, took)
		}
		if said != "" {
			t.Error(said)
		}
	}
}
