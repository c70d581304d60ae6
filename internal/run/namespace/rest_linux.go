package namespace

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// restAfter is how long what a program left behind may take to end.
const restAfter = 2 * time.Second

// endRest ends what the program has started and left behind: in a namespace
// without a proxy it could reach nothing, and it would keep the namespace.
// Only processes of this very network namespace are touched.
func endRest() {
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return
	}
	for began, s := time.Now(), syscall.SIGTERM; ; {
		rest := others(own)
		if len(rest) == 0 {
			return
		}
		for _, pid := range rest {
			_ = syscall.Kill(pid, s)
			if s == syscall.SIGTERM {
				_ = syscall.Kill(pid, syscall.SIGCONT)
			}
		}
		for len(others(own)) > 0 && time.Since(began) < restAfter {
			time.Sleep(10 * time.Millisecond)
		}
		if s == syscall.SIGKILL {
			return
		}
		s = syscall.SIGKILL
	}
}

// others are the living processes of a network namespace, without this one.
func others(namespace string) (pids []int) {
	links, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		return nil
	}
	for _, link := range links {
		at, err := os.Readlink(link) // fails for a zombie, and for what isn't ours
		if err != nil || at != namespace {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(link))))
		if err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}
