package proxy

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"tulle.dev/tulle/internal/view"
)

// sidecarLoops is how many loops a sidecar has at most, unless told otherwise.
const sidecarLoops = 2

// Loops is how many loops a proxy of that role runs: what was asked for, else
// for a sidecar at most two, for a gateway one per CPU it may use.
func Loops(asked int, role view.Role) int {
	if asked > 0 {
		return asked
	}
	n := cpus()
	if role == view.Sidecar {
		n = min(n, sidecarLoops)
	}
	return max(n, 1)
}

// offLoop is how many handshakes of one loop may compute off it. There are none where
// the loops have all processors for themselves.
func (c *Config) offLoop() int {
	if c.Steps == nil && cpus() <= c.Loops {
		return 0
	}
	return handshakesPerLoop
}

// cpus is how many CPUs the process may use: its affinity, and its cgroup's
// limit rounded down.
func cpus() int {
	n := runtime.NumCPU()
	if limit, ok := cgroupCPUs("/proc/self/cgroup", "/sys/fs/cgroup"); ok {
		n = min(n, max(int(limit), 1))
	}
	return n
}

// cgroupCPUs reads cpu.max of the process's cgroup (version 2) and of those
// above it; the smallest counts.
func cgroupCPUs(self, root string) (limit float64, ok bool) {
	b, err := os.ReadFile(self)
	if err != nil {
		return 0, false
	}
	_, path, found := strings.Cut(strings.TrimSpace(string(b)), "0::")
	if !found {
		return 0, false
	}
	for dir := filepath.Join(root, path); len(dir) >= len(root); dir = filepath.Dir(dir) {
		b, err := os.ReadFile(filepath.Join(dir, "cpu.max"))
		if err != nil {
			continue
		}
		f := strings.Fields(string(b))
		if len(f) != 2 || f[0] == "max" {
			continue
		}
		quota, err1 := strconv.ParseFloat(f[0], 64)
		period, err2 := strconv.ParseFloat(f[1], 64)
		if err1 != nil || err2 != nil || period <= 0 {
			continue
		}
		if n := quota / period; !ok || n < limit {
			limit, ok = n, true
		}
	}
	return limit, ok
}
