package meter

import (
	"bytes"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// clockTicks is USER_HZ, which Linux fixes at 100 for all architectures Go
// runs on.
const clockTicks = 100

// writeProcess writes the process metrics that Prometheus' conventions name.
func writeProcess(w *Writer, start time.Time) {
	if s, ok := readStat(); ok {
		w.Family("process_cpu_seconds_total", CounterKind, "User and system CPU time, in seconds.")
		w.Sample(s.cpu)
		w.Family("process_resident_memory_bytes", GaugeKind, "Resident memory, in bytes.")
		w.Count(s.resident)
		w.Family("process_virtual_memory_bytes", GaugeKind, "Virtual memory, in bytes.")
		w.Count(s.virtual)
	}
	if n, ok := countFDs(); ok {
		w.Family("process_open_fds", GaugeKind, "Open file descriptors.")
		w.Count(n)
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		w.Family("process_max_fds", GaugeKind, "Most file descriptors that may be open.")
		w.Count(limit.Cur)
	}
	w.Family("process_start_time_seconds", GaugeKind, "When the process started, in seconds since 1970.")
	w.Sample(float64(start.UnixMilli()) / 1000)
}

type stat struct {
	cpu               float64
	resident, virtual uint64
}

// readStat reads /proc/self/stat (proc_pid_stat(5)).
func readStat() (stat, bool) {
	// Raw calls: os would make the poller watch the file, eight system calls more.
	fd, err := unix.Open("/proc/self/stat", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return stat{}, false
	}
	defer unix.Close(fd)
	b := make([]byte, 1024) // it has about 350 bytes
	n, err := unix.Read(fd, b)
	if err != nil {
		return stat{}, false
	}
	b = b[:n]
	// The second field is the command in brackets and may hold anything.
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return stat{}, false
	}
	f := bytes.Fields(b[i+1:])
	// f[0] is field 3, so utime (14), stime (15), vsize (23), rss (24) are:
	const utime, stime, vsize, rss = 11, 12, 20, 21
	if len(f) <= rss {
		return stat{}, false
	}
	number := func(i int) uint64 {
		n, _ := strconv.ParseUint(string(f[i]), 10, 64)
		return n
	}
	return stat{
		cpu:      float64(number(utime)+number(stime)) / clockTicks,
		virtual:  number(vsize),
		resident: number(rss) * uint64(os.Getpagesize()),
	}, true
}

func countFDs() (uint64, bool) {
	// Since Linux 6.2 the directory's size is the number (proc_pid_fd(5)).
	var st unix.Stat_t
	if unix.Stat("/proc/self/fd", &st) == nil && st.Size > 0 {
		return uint64(st.Size), true
	}
	return listFDs()
}

// listFDs counts the open descriptors one by one.
func listFDs() (uint64, bool) {
	d, err := os.Open("/proc/self/fd")
	if err != nil {
		return 0, false
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return 0, false
	}
	return uint64(len(names)) - 1, true // without d itself
}
