//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// rig is one run: what is measured, how long, and where files go.
type rig struct {
	rounds  int
	length  time.Duration // of one measurement
	settle  time.Duration // before one
	without []string
	calls   bool   // print which system calls
	tulle   string // bin/tulle
	proxy   string // bin/tulle-proxy
	dir     string // configuration, certificates; removed at the end
	openssl string // OpenSSL's configuration for HAProxy
	envoy   string // Envoy, when there is one

	origin  *process // nginx, the server behind every proxy
	address string   // its HOST:PORT
	// origin2 and originGRPC are nghttpd, the servers behind HTTP/2 proxies.
	origin2, originGRPC   *process
	address2, addressGRPC string

	limits  []limit
	missing []string // ratios that a missing peer leaves out
}

// limit is one figure with a bound.
type limit struct {
	name       string
	value, max float64
}

type table struct {
	name string
	run  func(*rig, context.Context) error
}

var tables = []table{
	{"http1", (*rig).http1},
	{"http2", (*rig).http2},
	{"bulk", (*rig).bulk},
	{"rates", (*rig).rates},
	{"memory", (*rig).memory},
	{"start", (*rig).start},
	{"code", (*rig).code},
	{"demo", (*rig).demo},
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == pacedCommand {
		os.Exit(pacedMain(os.Args[2:]))
	}
	if len(os.Args) > 1 && os.Args[1] == bulkCommand {
		os.Exit(bulkMain(os.Args[2:]))
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx)
	stop()
	os.Exit(code)
}

func run(ctx context.Context) int {
	r := &rig{}
	quick := flag.Bool("quick", false, "two short rounds: to see that it works, not to believe")
	flag.IntVar(&r.rounds, "rounds", 5, "interleaved rounds")
	seconds := flag.Float64("seconds", 5, "length of one measurement")
	flag.BoolVar(&r.calls, "calls", false, "print the system calls by name")
	without := flag.String("without", "", "peers to leave out, comma-separated: tulle, haproxy, nginx, envoy")
	flag.StringVar(&r.tulle, "tulle", "bin/tulle", "the tulle program")
	flag.StringVar(&r.proxy, "tulle-proxy", "bin/tulle-proxy", "the tulle-proxy program")
	flag.Parse()
	r.length, r.settle = time.Duration(*seconds*float64(time.Second)), 300*time.Millisecond
	if *quick {
		r.rounds, r.length = 2, 1500*time.Millisecond
	}
	if *without != "" {
		r.without = strings.Split(*without, ",")
	}
	names := flag.Args()
	for _, n := range names {
		if !slices.ContainsFunc(tables, func(t table) bool { return t.name == n }) {
			fmt.Fprintf(os.Stderr, "bench: there is no table %q: http1, http2, bulk, rates, memory, start, code or demo\n", n)
			return 2
		}
	}
	var err error
	if r.dir, err = os.MkdirTemp("", "tulle-bench-"); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 2
	}
	defer os.RemoveAll(r.dir)
	if err := r.prepare(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 2
	}
	defer func() { r.origin.stop(); r.origin2.stop(); r.originGRPC.stop() }()
	code := 0
	for _, t := range tables {
		if len(names) > 0 && !slices.Contains(names, t.name) {
			continue
		}
		r.limits, r.missing = nil, nil
		if err := t.run(r, ctx); err != nil {
			if errors.Is(ctx.Err(), context.Canceled) {
				err = errors.New("interrupted")
			}
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", t.name, err)
			return 2
		}
		for _, l := range r.limits {
			over := ""
			if l.value > l.max {
				over, code = "  OVER", 1
			}
			fmt.Printf("ratio %s %.3f limit %.2f%s\n", l.name, l.value, l.max, over)
		}
		for _, name := range r.missing {
			fmt.Printf("ratio %s not measured: a peer is missing\n", name)
		}
		fmt.Println()
	}
	return code
}

// bound notes a figure that has a limit.
func (r *rig) bound(name string, value, max float64) {
	r.limits = append(r.limits, limit{name, value, max})
}

func (r *rig) has(peer string) bool { return !slices.Contains(r.without, peer) }
