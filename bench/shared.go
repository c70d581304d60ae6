//go:build linux

package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
)

// The test of the connection that two proxies share.
const (
	limitSharedP99 = 2.0   // p99 beside others, of p99 alone
	sharedRate     = 100.0 // small requests a second
	greedyRate     = 125e6 // bytes a second that the greedy reader takes: 1 Gbit/s
	greedyBody     = 10 << 30
)

// shared is what small requests suffer from a reader that has stopped and from
// a large download, all on the one connection between two proxies.
func (r *rig) shared(ctx context.Context) error {
	ports, err := freePorts(1)
	if err != nil {
		return err
	}
	f := multiplexed
	f.origin = local(ports[0])
	self, err := os.Executable()
	if err != nil {
		return err
	}
	server, err := spawn(sharedCommand, otherCPUs(), nil, self, sharedCommand, f.origin)
	if err != nil {
		return err
	}
	defer server.stop()
	if err := server.wait(ctx, f.origin); err != nil {
		return err
	}
	hops, err := r.pairs(ctx, f)
	if err != nil {
		return err
	}
	defer stopAll(hops)
	fmt.Printf("pair multiplexed, %.0f small requests a second: alone, and beside a reader that has stopped and a download at %.0f MB/s\n", sharedRate, greedyRate/1e6)
	fmt.Printf("  %-9s %12s %12s %13s %13s %10s\n", "", "p50 alone", "p99 alone", "p50 beside", "p99 beside", "MB/s")
	figures := map[string][5][]float64{}
	var straight [2][]float64 // to the server, beside Tulle's download
	held := map[string]bool{} // peers that the two others hold up for good
	for range r.rounds {
		for _, h := range hops {
			if held[h.name] {
				continue
			}
			alone, err := pace(ctx, h.address, sharedRate, r.length)
			if err != nil {
				return err
			}
			beside, direct, rate, err := r.besideOthers(ctx, h, f.origin)
			if err != nil && h.name != "tulle" && ctx.Err() == nil {
				held[h.name] = true
				continue
			}
			if err != nil {
				return fmt.Errorf("%s: %w", h.name, err)
			}
			all := figures[h.name]
			for i, v := range []float64{alone.P50, alone.P99, beside.P50, beside.P99, rate} {
				all[i] = append(all[i], v)
			}
			figures[h.name] = all
			if h.name == "tulle" {
				straight[0], straight[1] = append(straight[0], direct.P50), append(straight[1], direct.P99)
			}
		}
	}
	for _, h := range hops {
		if held[h.name] {
			fmt.Printf("  %-9s small requests beside them were not answered within 5 s\n", h.name)
			continue
		}
		all := figures[h.name]
		fmt.Printf("  %-9s %9.2f ms %9.2f ms %10.2f ms %10.2f ms %10.0f\n", h.name, median(all[0]), median(all[1]), median(all[2]), median(all[3]), median(all[4]))
		if h.name == "tulle" {
			fmt.Printf("  %-9s %12s %12s %10.2f ms %10.2f ms\n", "direct", "", "", median(straight[0]), median(straight[1]))
			r.bound("shared-connection-p99", median(all[3])/median(all[1]), limitSharedP99)
		}
	}
	return nil
}

// besideOthers measures small requests beside the two others, as many that go
// straight to the server meanwhile, and how many MB a second the greedy one got.
func (r *rig) besideOthers(ctx context.Context, h *hop, origin string) (res, direct pacedResult, rate float64, err error) {
	stalled, err := net.Dial("tcp", h.address)
	if err != nil {
		return res, direct, 0, err
	}
	defer stalled.Close()
	if _, err := fmt.Fprintf(stalled, "GET /big HTTP/1.1\r\nHost: %s\r\n\r\n", h.address); err != nil {
		return res, direct, 0, err
	}
	type got struct {
		rate float64
		err  error
	}
	greedy := make(chan got, 1)
	go func() {
		s, _, err := bulkWith(ctx, h.address, r.length+2*r.settle, "-conns", "1", "-rate", fmt.Sprint(greedyRate))
		greedy <- got{1e3 * s.rate, err}
	}()
	unproxied := make(chan error, 1)
	go func() {
		var err error
		direct, err = pace(ctx, origin, sharedRate, r.length)
		unproxied <- err
	}()
	res, err = pace(ctx, h.address, sharedRate, r.length)
	g := <-greedy
	return res, direct, g.rate, cmp.Or(err, <-unproxied, g.err)
}

// sharedCommand makes this program the server of that test: small answers, and
// bodies that come from nowhere. nginx stops for ten milliseconds and more now and
// then while it reads a file of that size.
const sharedCommand = "shared-server"

// sharedMain is `bench shared-server LISTEN`.
func sharedMain(args []string) int {
	piece := make([]byte, 64<<10)
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "small") })
	http.HandleFunc("/big", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(greedyBody))
		for range greedyBody / len(piece) {
			if _, err := w.Write(piece); err != nil {
				return
			}
		}
	})
	fmt.Fprintln(os.Stderr, "shared server:", http.ListenAndServe(args[0], nil))
	return 1
}
