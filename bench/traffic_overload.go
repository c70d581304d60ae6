//go:build linux

package main

import (
	"context"
	"fmt"
	"time"
)

// The limits of what is left of a workload under three times what it can do.
const (
	limitOverCapacity = 1.25 // its capacity, of the answers in time
	limitOverloadP99  = 5.0  // p99 of what was accepted, of p99 without load
)

const (
	overloadWorkers = 8
	overloadTime    = 10 * time.Millisecond
	overloadTimes   = 3.0 // capacities
)

const envoyAdaptive = `          - name: envoy.filters.http.adaptive_concurrency
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.adaptive_concurrency.v3.AdaptiveConcurrency
              gradient_controller_config:
                sample_aggregate_percentile: {value: 90}
                concurrency_limit_params: {concurrency_update_interval: 0.1s}
                min_rtt_calc_params: {interval: 60s, request_count: 50}
`

// trafficOverload is a workload that is asked for more than it can do.
func (r *rig) trafficOverload(ctx context.Context) error {
	s, err := r.serve(ctx, 1, overloadTime, overloadWorkers)
	if err != nil {
		return err
	}
	defer s.proc.stop()
	nominal := overloadWorkers / overloadTime.Seconds()
	// What it can do is measured: its sleeps are longer than they say.
	direct, err := openLoop(ctx, local(s.ports[0]), overloadTimes*nominal, r.length, "-conns", "64", "-grace", "0s")
	if err != nil {
		return err
	}
	capacity := float64(direct.InTime) / r.length.Seconds()
	if capacity == 0 {
		return fmt.Errorf("the server alone answered nothing:%s", direct.statuses())
	}
	rate := overloadTimes * capacity
	fmt.Printf("== traffic-overload: a workload of %d workers at %v, which alone answered %.0f requests a second; %.0f are made, open loop\n", overloadWorkers, overloadTime, capacity, rate)
	if err := r.certificates(); err != nil {
		return err
	}
	names := []string{"tulle", "no shedding"}
	if !r.has("tulle") {
		names = nil
	}
	names = append(names, r.peers("envoy")...)
	figures := map[string]*[4][]float64{}
	answers := map[string]string{}
	// Fresh each time: a queue of before would be in the way.
	for range r.rounds {
		for _, name := range names {
			var h *hop
			switch name {
			case "tulle":
				h, err = r.tullePair(ctx, name, s.ports[0], policyObject("TrafficPolicy", "cart", "  overload: {}\n"))
			case "no shedding":
				h, err = r.tullePair(ctx, name, s.ports[0])
			default:
				h, err = r.envoyMany(ctx, name, s.ports, envoyOptions{filters: envoyAdaptive})
			}
			if err != nil {
				return err
			}
			rest, loaded, err := r.overloaded(ctx, h, capacity/10, rate)
			h.stop()
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			f := figures[name]
			if f == nil {
				f = new([4][]float64)
				figures[name] = f
			}
			for i, v := range []float64{float64(loaded.InTime) / r.length.Seconds(), rest.P99, loaded.P50, loaded.P99} {
				f[i] = append(f[i], v)
			}
			answers[name] = loaded.statuses()
			time.Sleep(time.Second) // the server works off what it was given
		}
	}
	fmt.Printf("  %-12s %12s %14s %14s %14s\n", "", "answers/s", "p99 at rest", "p50 accepted", "p99 accepted")
	for _, name := range names {
		f := figures[name]
		fmt.Printf("  %-12s %12.0f %11.2f ms %11.2f ms %11.2f ms %s\n", name, median(f[0]), median(f[1]), median(f[2]), median(f[3]), answers[name])
	}
	if f := figures["tulle"]; f != nil {
		r.bound("overload-capacity-of-goodput", capacity/median(f[0]), limitOverCapacity)
		r.bound("overload-p99-of-accepted", median(f[3])/median(f[1]), limitOverloadP99)
	}
	return nil
}

// overloaded measures a hop under little load, then under too much.
func (r *rig) overloaded(ctx context.Context, h *hop, little, much float64) (rest, loaded openResult, err error) {
	if rest, err = openLoop(ctx, h.address, little, max(r.length, 2*time.Second)); err != nil {
		return
	}
	loaded, err = openLoop(ctx, h.address, much, r.length, "-grace", "1s")
	return
}
