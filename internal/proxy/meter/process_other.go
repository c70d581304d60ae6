//go:build !linux

package meter

import (
	"time"

	"golang.org/x/sys/unix"
)

// writeProcess writes the process metrics that getrusage knows.
func writeProcess(w *Writer, start time.Time) {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) == nil {
		w.Family("process_cpu_seconds_total", CounterKind, "User and system CPU time, in seconds.")
		w.Sample(float64(unix.TimevalToNsec(u.Utime)+unix.TimevalToNsec(u.Stime)) / 1e9)
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		w.Family("process_max_fds", GaugeKind, "Most file descriptors that may be open.")
		w.Count(uint64(limit.Cur))
	}
	w.Family("process_start_time_seconds", GaugeKind, "When the process started, in seconds since 1970.")
	w.Sample(float64(start.UnixMilli()) / 1000)
}
