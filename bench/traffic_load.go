//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// openCommand makes this program the open loop for answers that may be slow or
// not 200. (paced costs the machine less, and wants every answer to be 200.)
const openCommand = "open-load"

// openLoad is an open loop of evenly paced GETs: as many connections as it takes,
// so that slow answers hold nothing up here. Latency counts from when a request
// was due.
type openLoad struct {
	target string
	rate   float64
	length time.Duration
	conns  int           // at most
	grace  time.Duration // how long answers are waited for after the last request
}

// openResult is what happened. Latencies are in milliseconds.
type openResult struct {
	Sent int64
	// Status counts answers by their status, Broken requests whose connection
	// ended first or couldn't be had, Waiting those not answered in time.
	Status          map[int]int64
	Broken, Waiting int64
	// Error is one of the reasons of Broken.
	Error string
	// InTime counts the answers that were 200 and came before the last request was
	// due; P50, P99 and Max are of all that were 200.
	InTime        int64
	P50, P99, Max float64
}

// failed counts the requests that were not answered 200.
func (r openResult) failed() int64 { return r.Sent - r.Status[http.StatusOK] }

// openLoop runs the generator as a child process beside the proxies.
func openLoop(ctx context.Context, target string, rate float64, length time.Duration, args ...string) (openResult, error) {
	var res openResult
	self, err := os.Executable()
	if err != nil {
		return res, err
	}
	cmd := exec.CommandContext(ctx, self, append([]string{openCommand, "-target", target, "-rate", fmt.Sprint(rate), "-length", length.String()}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return res, fmt.Errorf("open load: %w", err)
	}
	return res, json.Unmarshal(out, &res)
}

func openMain(args []string) int {
	fs := flag.NewFlagSet(openCommand, flag.ExitOnError)
	var o openLoad
	fs.StringVar(&o.target, "target", "", "HOST:PORT")
	fs.Float64Var(&o.rate, "rate", 1000, "requests a second")
	fs.DurationVar(&o.length, "length", 5*time.Second, "how long")
	fs.IntVar(&o.conns, "conns", 4000, "connections at most")
	fs.DurationVar(&o.grace, "grace", 3*time.Second, "how long answers are waited for at the end")
	fs.Parse(args)
	if err := setAffinity(otherCPUs()); err != nil {
		fmt.Fprintln(os.Stderr, "open load:", err)
		return 1
	}
	json.NewEncoder(os.Stdout).Encode(o.run())
	return 0
}

// setAffinity keeps all threads of this process on some CPUs: those that are there
// and those that they will start.
func setAffinity(cpus *unix.CPUSet) error {
	return everyThread(func(id int) error { return unix.SchedSetaffinity(id, cpus) })
}

// everyThread calls f with each thread of this program. Those to come take after them.
func everyThread(f func(id int) error) error {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range tasks {
		var id int
		fmt.Sscan(t.Name(), &id)
		if err := f(id); err != nil {
			return err
		}
	}
	return nil
}

// openWorker is one connection.
type openWorker struct {
	load   *openLoad
	end    time.Time
	conn   net.Conn
	in     *bufio.Reader
	took   []time.Duration
	inTime int64
	status map[int]int64
	broken int64
	late   int64
	err    error
}

func (o *openLoad) run() openResult {
	total := int64(o.rate * o.length.Seconds())
	due := make(chan time.Time, total)
	var idle atomic.Int64
	var workers []*openWorker
	var all sync.WaitGroup
	start := time.Now()
	end := start.Add(o.length + o.grace)
	for i := range total {
		at := start.Add(time.Duration(float64(i) / o.rate * float64(time.Second)))
		time.Sleep(time.Until(at))
		if idle.Add(-1) < 0 && len(workers) < o.conns {
			w := &openWorker{load: o, end: end, status: map[int]int64{}}
			workers = append(workers, w)
			all.Go(func() { w.run(due, &idle) })
		}
		due <- at
	}
	close(due)
	all.Wait()
	res := openResult{Sent: total, Status: map[int]int64{}}
	var took []time.Duration
	for _, w := range workers {
		took = append(took, w.took...)
		res.InTime += w.inTime
		for s, n := range w.status {
			res.Status[s] += n
		}
		res.Broken += w.broken
		res.Waiting += w.late
		if w.err != nil {
			res.Error = w.err.Error()
		}
	}
	if len(took) > 0 {
		slices.Sort(took)
		at := func(q float64) float64 { return float64(took[min(int(q*float64(len(took))), len(took)-1)]) / 1e6 }
		res.P50, res.P99, res.Max = at(0.50), at(0.99), at(1)
	}
	return res
}

// run makes the requests that are due. idle counts the workers that have nothing
// to do, less the requests that nobody has taken yet.
func (w *openWorker) run(due <-chan time.Time, idle *atomic.Int64) {
	defer func() {
		if w.conn != nil {
			w.conn.Close()
		}
	}()
	for at := range due {
		if time.Now().After(w.end) {
			w.late++
		} else if status, err := w.once(); err == nil {
			w.status[status]++
			if status == http.StatusOK {
				w.took = append(w.took, time.Since(at))
				if time.Now().Before(w.end.Add(-w.load.grace)) {
					w.inTime++
				}
			}
		} else {
			if time.Now().After(w.end) {
				w.late++
			} else {
				w.broken++
				w.err = err
			}
			if w.conn != nil {
				w.conn.Close()
				w.conn = nil
			}
		}
		idle.Add(1)
	}
}

// once makes one request and reads its answer.
func (w *openWorker) once() (int, error) {
	if w.conn == nil {
		c, err := net.DialTimeout("tcp", w.load.target, time.Until(w.end))
		if err != nil {
			return 0, err
		}
		c.SetDeadline(w.end)
		w.conn, w.in = c, bufio.NewReader(c)
	}
	if _, err := io.WriteString(w.conn, "GET / HTTP/1.1\r\nHost: "+w.load.target+"\r\n\r\n"); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(w.in, nil)
	if err != nil {
		return 0, err
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0, err
	}
	resp.Body.Close()
	if resp.Close {
		w.conn.Close()
		w.conn = nil
	}
	return resp.StatusCode, nil
}

// statuses prints what came beside 200.
func (r openResult) statuses() string {
	out := ""
	for _, s := range slices.Sorted(maps.Keys(r.Status)) {
		if s != http.StatusOK {
			out += fmt.Sprintf(" %d: %d", s, r.Status[s])
		}
	}
	if r.Broken > 0 {
		out += fmt.Sprintf(" broken: %d (%s)", r.Broken, r.Error)
	}
	if r.Waiting > 0 {
		out += fmt.Sprintf(" not answered: %d", r.Waiting)
	}
	return out
}
