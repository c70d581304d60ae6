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
	profile string // directory for CPU profiles; empty: none
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

// table is one of what is measured. One that is long runs only when its own name,
// or -long, asks for it.
type table struct {
	name string
	run  func(*rig, context.Context) error
	long bool
}

// asked says whether the command line means a table: by its name, by the part of
// it before a hyphen ("traffic" is all of "traffic-..."), or by naming none.
func (t table) asked(names []string, long bool) bool {
	if slices.Contains(names, t.name) {
		return true
	}
	if t.long && !long {
		return false
	}
	group, _, _ := strings.Cut(t.name, "-")
	return len(names) == 0 || slices.Contains(names, group)
}

var tables = []table{
	{name: "http1", run: (*rig).http1},
	{name: "http2", run: (*rig).http2},
	{name: "http2-shared", run: (*rig).shared},
	{name: "bulk", run: (*rig).bulk},
	{name: "rates", run: (*rig).rates},
	{name: "memory", run: (*rig).memory},
	{name: "start", run: (*rig).start},
	{name: "code", run: (*rig).code},
	{name: "demo", run: (*rig).demo},
	{name: "traffic-routes", run: (*rig).trafficRoutes},
	{name: "traffic-policies", run: (*rig).trafficPolicies},
	{name: "traffic-slow", run: (*rig).trafficSlow},
	{name: "traffic-failing", run: (*rig).trafficFailing},
	{name: "traffic-overload", run: (*rig).trafficOverload},
	{name: "identity-handshakes", run: (*rig).identityHandshakes},
	{name: "identity-storm", run: (*rig).identityStorm},
	{name: "identity-access", run: (*rig).identityAccess},
	{name: "identity-issue", run: (*rig).identityIssue},
	{name: "identity-rotation", run: (*rig).identityRotation, long: true},
}

// children are the hidden first arguments that make this program one of those
// that it starts beside the proxies.
var children = map[string]func(args []string) int{
	pacedCommand:      pacedMain,
	relayCommand:      relayMain,
	bulkCommand:       bulkMain,
	openCommand:       openMain,
	serversCommand:    serversMain,
	sharedCommand:     sharedMain,
	handshakesCommand: handshakesMain,
	referenceCommand:  referenceMain,
	issueCommand:      issueMain,
}

func main() {
	if len(os.Args) > 1 {
		if child := children[os.Args[1]]; child != nil {
			os.Exit(child(os.Args[2:]))
		}
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
	flag.StringVar(&r.profile, "profile", "", "`DIRECTORY` for CPU profiles of crypto/tls's handshakes")
	without := flag.String("without", "", "peers to leave out, comma-separated: tulle, haproxy, nginx, envoy")
	flag.StringVar(&r.tulle, "tulle", "bin/tulle", "the tulle program")
	flag.StringVar(&r.proxy, "tulle-proxy", "bin/tulle-proxy", "the tulle-proxy program")
	long := flag.Bool("long", false, "identity-rotation too, which takes minutes")
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
		if !slices.ContainsFunc(tables, func(t table) bool { return t.asked([]string{n}, true) }) {
			var known []string
			for _, t := range tables {
				known = append(known, t.name)
			}
			fmt.Fprintf(os.Stderr, "bench: there is no table %q: %s, traffic or identity\n", n, strings.Join(known, ", "))
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
		if !t.asked(names, *long) {
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
