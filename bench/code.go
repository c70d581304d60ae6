//go:build linux

package main

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
)

// Limits of what Go's own benchmarks measure.
const (
	limitAllocsPlain = 0
	// limitAllocsPair is what crypto/tls itself allocates: one value of 24 to
	// 48 bytes for each read from a socket, four reads in a pair's exchange.
	limitAllocsPair = 4
	limitChangeP99  = 100.0 // ms
)

var benchmarkLine = regexp.MustCompile(`^(Benchmark\w+)\S*\s+\d+\s+(.*)$`)

// benchmark runs Go benchmarks of one package and returns what each reports by
// unit: {"BenchmarkEdge": {"allocs/op": 0}}.
func benchmark(ctx context.Context, pkg, pattern string, args ...string) (map[string]map[string]float64, error) {
	args = append([]string{"test", "-run", "^$", "-bench", pattern, "-benchmem"}, args...)
	out, err := exec.CommandContext(ctx, "go", append(args, pkg)...).CombinedOutput()
	all := map[string]map[string]float64{}
	for line := range strings.Lines(string(out)) {
		m := benchmarkLine.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		figures := map[string]float64{}
		fields := strings.Fields(m[2])
		for i := 0; i+1 < len(fields); i += 2 {
			if v, err := strconv.ParseFloat(fields[i], 64); err == nil {
				figures[fields[i+1]] = v
			}
		}
		all[m[1]] = figures
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("go test -bench %s %s: %v\n%s", pattern, pkg, err, out)
	}
	return all, nil
}

// code is what the code's own benchmarks show: allocations of a request, and
// how long a change takes to reach 200 proxies.
func (r *rig) code(ctx context.Context) error {
	fmt.Println("== code: Go benchmarks (go test -bench, in this repository)")
	times := "20000x"
	if r.length.Seconds() < 2 {
		times = "2000x"
	}
	got, err := benchmark(ctx, "./internal/proxy", "^Benchmark(Edge|Pair)$", "-benchtime", times)
	if err != nil {
		return err
	}
	for _, b := range []struct {
		name, what, ratio string
		most              float64
	}{
		{"BenchmarkEdge", "one plain hop", "allocs-plain", limitAllocsPlain},
		{"BenchmarkPair", "pair with mutual TLS (what crypto/tls allocates for its reads)", "allocs-pair", limitAllocsPair},
	} {
		fmt.Printf("  %-64s %3.0f allocations, %4.0f bytes a request\n", b.what, got[b.name]["allocs/op"], got[b.name]["B/op"])
		r.bound(b.ratio, got[b.name]["allocs/op"], b.most)
	}
	// It fails by itself when the limit is passed, and then reports no figure
	// but in its error.
	got, err = benchmark(ctx, "./internal/control/push", "^BenchmarkEndpointChange$", "-benchtime", "100x")
	if err != nil {
		return err
	}
	change := got["BenchmarkEndpointChange"]
	fmt.Printf("  %-64s p50 %.1f ms, p99 %.1f ms\n", "an endpoint's change reaches 200 proxies (API, etcd, streams)", change["p50-ms"], change["p99-ms"])
	r.bound("endpoint-change-p99-ms", change["p99-ms"], limitChangeP99)
	return nil
}
