package namespace

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestCloseEndsTheRest: what the program left behind doesn't outlive the
// namespace, even when it doesn't listen.
func TestCloseEndsTheRest(t *testing.T) {
	n := isolate(t, Config{})
	got, _ := shell(t, n, `setsid sleep 1000 & echo $!; (trap '' TERM; exec sleep 1000) & echo $!; sleep 0.1`)
	var pids []int
	for _, text := range strings.Fields(got) {
		pid, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("got %q", got)
		}
		pids = append(pids, pid)
	}
	if len(pids) != 2 || !lives(pids[0]) || !lives(pids[1]) {
		t.Fatalf("got %q: want two processes that live on", got)
	}
	n.Close()
	for _, pid := range pids {
		for deadline := time.Now().Add(time.Minute); lives(pid); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				syscall.Kill(pid, syscall.SIGKILL)
				t.Fatalf("process %d lives on", pid)
			}
		}
	}
}

// lives reports whether a process is there and no zombie.
func lives(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(stat), ") Z ")
}
