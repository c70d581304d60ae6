//go:build linux

package main

import (
	"context"
	"fmt"
	"maps"
	"math"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// sample is one measurement of one hop.
type sample struct {
	cpu      float64 // µs of CPU per request, all of the hop's processes
	rate     float64 // requests a second
	p50, p99 float64 // ms
	switches float64 // context switches per request
	user     float64 // share of cpu in user space, from 0 to 1; coarse
}

// series is what the rounds gave for one hop.
type series struct {
	hop     *hop
	samples []sample
	calls   float64 // system calls per request; 0: not counted
	names   string  // the most frequent of them
	memory  string
}

func median(of []float64) float64 {
	of = slices.Sorted(slices.Values(of))
	n := len(of)
	if n == 0 {
		return 0
	}
	if n%2 == 1 {
		return of[n/2]
	}
	return (of[n/2-1] + of[n/2]) / 2
}

func (s *series) median(f func(sample) float64) float64 {
	all := make([]float64, len(s.samples))
	for i, x := range s.samples {
		all[i] = f(x)
	}
	return median(all)
}

func (s *series) cpu() float64 { return s.median(func(x sample) float64 { return x.cpu }) }
func (s *series) p99() float64 { return s.median(func(x sample) float64 { return x.p99 }) }

var (
	wrkRequests = regexp.MustCompile(`(\d+) requests in ([\d.]+)(ms|s|m)`)
	wrkLatency  = regexp.MustCompile(`(?m)^\s+(50|99)%\s+([\d.]+)(us|ms|s)`)
	wrkTrouble  = regexp.MustCompile(`(?m)^\s+(Socket errors|Non-2xx).*$`)
)

// full is one run of wrk, 50 connections. args are further ones of its command line.
func full(ctx context.Context, address string, length time.Duration, args ...string) (sample, int64, error) {
	var s sample
	seconds := max(1, int(length.Seconds()+0.5))
	all := append([]string{"-c", cpuList(otherCPUs()), "wrk", "-t1", "-c50", fmt.Sprintf("-d%ds", seconds), "--latency"}, args...)
	cmd := exec.CommandContext(ctx, "taskset", append(all, "http://"+address+"/")...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return s, 0, fmt.Errorf("wrk: %w: %s", err, out)
	}
	if bad := wrkTrouble.Find(out); bad != nil {
		return s, 0, fmt.Errorf("wrk through %s: %s", address, bad)
	}
	m := wrkRequests.FindSubmatch(out)
	if m == nil {
		return s, 0, fmt.Errorf("wrk said something else: %s", out)
	}
	n, _ := strconv.ParseInt(string(m[1]), 10, 64)
	took, _ := time.ParseDuration(string(m[2]) + string(m[3]))
	if n == 0 {
		return s, 0, fmt.Errorf("wrk got no answer from %s", address)
	}
	s.rate = float64(n) / took.Seconds()
	for _, m := range wrkLatency.FindAllSubmatch(out, -1) {
		d, _ := time.ParseDuration(string(m[2]) + string(m[3]))
		if string(m[1]) == "50" {
			s.p50 = float64(d) / 1e6
		} else {
			s.p99 = float64(d) / 1e6
		}
	}
	return s, n, nil
}

// load puts load on address: at a rate, or as much as it takes for rate 0.
func load(ctx context.Context, address string, rate float64, length time.Duration) (sample, int64, error) {
	if rate == 0 {
		return full(ctx, address, length)
	}
	res, err := pace(ctx, address, rate, length)
	if err != nil {
		return sample{}, 0, fmt.Errorf("through %s: %w", address, err)
	}
	return sample{rate: float64(res.Answered) / length.Seconds(), p50: res.P50, p99: res.P99}, res.Answered, nil
}

// loader puts load on an address for a while, and says how many requests were
// answered.
type loader func(ctx context.Context, address string, length time.Duration) (sample, int64, error)

// atRate is HTTP/1.1: so many requests a second, or as many as it takes for 0.
func atRate(rate float64) loader {
	return func(ctx context.Context, address string, length time.Duration) (sample, int64, error) {
		return load(ctx, address, rate, length)
	}
}

// measure measures hops under HTTP/1.1.
func (r *rig) measure(ctx context.Context, hops []*hop, rate float64, length time.Duration) ([]*series, error) {
	return r.turns(ctx, hops, atRate(rate), rate, length)
}

// turns measures hops under load, which goes at rate (0: as fast as it can):
// in each round every hop gets one measurement, in an
// order that moves by one.
func (r *rig) turns(ctx context.Context, hops []*hop, load loader, rate float64, length time.Duration) ([]*series, error) {
	all := make([]*series, len(hops))
	for i, h := range hops {
		all[i] = &series{hop: h}
		// Connections, buffers and caches are warm before anything counts.
		if _, _, err := load(ctx, h.address, min(length, time.Second)); err != nil {
			return nil, fmt.Errorf("%s: %w", h.name, err)
		}
	}
	for round := range r.rounds {
		for i := range all {
			s := all[(i+round)%len(all)]
			time.Sleep(r.settle)
			before, err := s.hop.used()
			if err != nil {
				return nil, err
			}
			x, n, err := load(ctx, s.hop.address, length)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.hop.name, err)
			}
			after, err := s.hop.used()
			if err != nil {
				return nil, err
			}
			x.cpu = float64((after.cpu - before.cpu).Microseconds()) / float64(n)
			if ticks := after.user - before.user + after.system - before.system; ticks > 0 {
				x.user = float64(after.user-before.user) / float64(ticks)
			}
			x.switches = float64(after.switches-before.switches) / float64(n)
			s.samples = append(s.samples, x)
		}
	}
	for _, s := range all {
		if err := r.count(ctx, s, load, rate); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// count adds what is looked at once, after the rounds: system calls under
// strace, which would spoil everything else, and memory.
func (r *rig) count(ctx context.Context, s *series, load loader, rate float64) (err error) {
	if len(s.hop.procs) == 0 {
		return nil
	}
	if s.memory, err = s.hop.memory(); err != nil {
		return err
	}
	// Few requests are enough for a count.
	length := time.Second
	if rate > 0 && rate < 100 {
		length = 3 * time.Second
	}
	for _, p := range s.hop.procs {
		var n int64
		calls, err := p.systemCalls(func() error {
			_, got, err := load(ctx, s.hop.address, length)
			n = got
			return err
		})
		if err != nil {
			return fmt.Errorf("%s under strace: %w", s.hop.name, err)
		}
		var names []string
		for _, name := range slices.SortedFunc(maps.Keys(calls), func(a, b string) int { return int(calls[b] - calls[a]) }) {
			each := float64(calls[name]) / float64(n)
			s.calls += each
			if each >= 0.005 {
				names = append(names, fmt.Sprintf("%s %.2f", name, each))
			}
		}
		s.names += "\n    " + p.name + ": " + strings.Join(names, ", ")
	}
	return nil
}

// show prints one table.
func (r *rig) show(title string, all []*series) {
	fmt.Printf("%s\n  %-9s %21s %10s %8s %8s %9s %9s  %s\n", title, "", "µs CPU per request", "requests/s", "p50 ms", "p99 ms", "switches", "syscalls", "RSS MB")
	for _, s := range all {
		if len(s.hop.procs) == 0 {
			fmt.Printf("  %-9s %21s %10.0f %8.2f %8.2f\n", s.hop.name, "", s.median(func(x sample) float64 { return x.rate }), s.median(func(x sample) float64 { return x.p50 }), s.p99())
			continue
		}
		low := slices.MinFunc(s.samples, func(a, b sample) int { return cmpFloat(a.cpu, b.cpu) })
		high := slices.MaxFunc(s.samples, func(a, b sample) int { return cmpFloat(a.cpu, b.cpu) })
		calls, p99 := "-", fmt.Sprintf("%.2f", s.p99())
		if math.IsNaN(s.p99()) {
			p99 = "-"
		}
		if s.calls > 0 {
			calls = fmt.Sprintf("%.1f", s.calls)
		}
		fmt.Printf("  %-9s %7.1f (%5.1f-%5.1f) %10.0f %8.2f %8s %9.2f %9s  %s\n", s.hop.name, s.cpu(), low.cpu, high.cpu,
			s.median(func(x sample) float64 { return x.rate }), s.median(func(x sample) float64 { return x.p50 }), p99,
			s.median(func(x sample) float64 { return x.switches }), calls, s.memory)
		if r.calls {
			fmt.Printf("    %.0f %% of the CPU in user space; system calls per request:%s\n", 100*s.median(func(x sample) float64 { return x.user }), s.names)
		}
	}
}

func cmpFloat(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// find returns the series of the named hop, or nil.
func find(all []*series, name string) *series {
	for _, s := range all {
		if s.hop.name == name {
			return s
		}
	}
	return nil
}

// compare bounds Tulle's CPU per request by a share of HAProxy's.
func (r *rig) compare(name string, all []*series, limit float64) {
	r.beside("haproxy", name, all, limit)
}

// floor says how near to HAProxy's CPU per request the kernel alone is.
func (r *rig) floor(all []*series) {
	if f, p := find(all, relayCommand), find(all, "haproxy"); f != nil && p != nil {
		fmt.Printf("  the kernel's share alone (relay) is %.3f of HAProxy's\n", f.cpu()/p.cpu())
	}
}

// beside bounds Tulle's CPU per request by a share of a peer's.
func (r *rig) beside(peer, name string, all []*series, limit float64) {
	if t, p := find(all, "tulle"), find(all, peer); t != nil && p != nil {
		r.bound(name, t.cpu()/p.cpu(), limit)
	} else {
		r.missing = append(r.missing, name)
	}
}
