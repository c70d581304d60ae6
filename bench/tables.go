//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The limits: shares of HAProxy's CPU per request, and bounds of Tulle's own.
const (
	limitFull        = 0.80
	limitEnvoy       = 0.30 // of Envoy's
	limitMultiplexed = 0.90
	limitTwoHops     = 1.00 // the multiplexed pair, of two plain hops
	limitThousand    = 0.75
	limitSlow        = 1.00 // at 100 and 10 requests a second
	limitAddedP99    = 1.00 // ms
	limitIdleMB      = 10.0
	limitConnKB      = 1.5
	limitIdleBest    = 1.00 // memory with idle connections, of the best peer's
	limitWakeUps     = 2.0  // a second
	limitIdleCPU     = 0.1  // percent of a core
	limitStartReady  = 50.0
)

// idleConns is how many idle client connections are held.
const idleConns = 1000

func cpuList(s *unix.CPUSet) string {
	var all []string
	for i := range 1024 {
		if s.IsSet(i) {
			all = append(all, fmt.Sprint(i))
		}
	}
	return strings.Join(all, ",")
}

// peers lists those of the names that take part.
func (r *rig) peers(names ...string) []string {
	var all []string
	for _, n := range names {
		if r.has(n) {
			all = append(all, n)
		}
	}
	return all
}

func stopAll(hops []*hop) {
	for _, h := range hops {
		h.stop()
	}
}

// plains starts one plain hop of every proxy, and of further peers.
func (r *rig) plains(ctx context.Context, further ...string) (hops []*hop, err error) {
	for _, name := range r.peers(append(further, "haproxy", "nginx", "envoy", "tulle")...) {
		h, err := r.plain(ctx, name)
		if err != nil {
			stopAll(hops)
			return nil, err
		}
		hops = append(hops, h)
	}
	return hops, nil
}

// pairs starts every pair, after what they negotiate was compared.
func (r *rig) pairs(ctx context.Context, f form) (hops []*hop, err error) {
	names := r.peers("haproxy", "envoy", "tulle")
	if err := r.sameTLS(ctx, names, f); err != nil {
		return nil, err
	}
	for _, name := range names {
		ports, err := freePorts(1)
		if err == nil {
			var h *hop
			if h, err = r.pair(ctx, name, f, ports[0], ports[0]); err == nil {
				hops = append(hops, h)
			}
		}
		if err != nil {
			stopAll(hops)
			return nil, err
		}
	}
	return hops, nil
}

// http1 is full load.
func (r *rig) http1(ctx context.Context) error {
	fmt.Println("== http1: full load, HTTP/1.1 keep-alive, 50 connections, 100-byte body")
	hops, err := r.plains(ctx, relayCommand)
	if err != nil {
		return err
	}
	all, err := r.measure(ctx, hops, 0, r.length)
	stopAll(hops)
	if err != nil {
		return err
	}
	r.show("one plain hop", all)
	r.floor(all)
	r.compare("http1-plain", all, limitFull)
	r.beside("envoy", "http1-plain-envoy", all, limitEnvoy)
	for _, f := range []form{between, multiplexed} {
		if hops, err = r.pairs(ctx, f); err != nil {
			return err
		}
		if f == multiplexed && r.has("tulle") { // what it costs without encryption
			h, err := r.plain(ctx, "tulle")
			if err != nil {
				stopAll(hops)
				return err
			}
			h.name = "one hop"
			hops = append(hops, h)
		}
		all, err = r.measure(ctx, hops, 0, r.length)
		stopAll(hops)
		if err != nil {
			return err
		}
		r.show("pair, mutual TLS 1.3 and "+f.name+" between (CPU of both)", all)
		if f == between {
			r.compare("http1-pair", all, limitFull)
			continue
		}
		r.compare("http1-pair-multiplexed", all, limitMultiplexed)
		r.beside("envoy", "http1-pair-multiplexed-envoy", all, limitEnvoy)
		if t, one := find(all, "tulle"), find(all, "one hop"); t != nil {
			r.bound("http1-pair-multiplexed-two-hops", t.cpu()/(2*one.cpu()), limitTwoHops)
		}
	}
	return r.spread(ctx)
}

// rates is evenly paced load, and what the pair adds to latency.
func (r *rig) rates(ctx context.Context) error {
	fmt.Printf("== rates: evenly paced open loop, %d connections, 100-byte body\n", pacedConns)
	plains, err := r.plains(ctx)
	if err != nil {
		return err
	}
	defer func() { stopAll(plains) }()
	pairs, err := r.pairs(ctx, between)
	if err != nil {
		return err
	}
	defer func() { stopAll(pairs) }()
	muxed, err := r.pairs(ctx, multiplexed)
	if err != nil {
		return err
	}
	defer func() { stopAll(muxed) }()
	for _, rate := range []float64{1000, 100, 10} {
		length, limit := r.length, limitSlow
		if rate == 1000 {
			limit = limitThousand
		}
		if rate == 10 {
			length *= 2
		}
		all, err := r.measure(ctx, plains, rate, length)
		if err != nil {
			return err
		}
		r.show(fmt.Sprintf("one plain hop, %.0f requests a second", rate), all)
		r.compare(fmt.Sprintf("rate-%.0f-plain", rate), all, limit)
		with := pairs
		if rate == 1000 {
			with = append([]*hop{{name: "direct", address: r.address}}, pairs...)
		}
		if all, err = r.measure(ctx, with, rate, length); err != nil {
			return err
		}
		r.show(fmt.Sprintf("pair, %.0f requests a second (CPU of both)", rate), all)
		r.compare(fmt.Sprintf("rate-%.0f-pair", rate), all, limit)
		if t := find(all, "tulle"); t != nil && rate == 1000 {
			r.bound("pair-p99-added-ms", t.p99()-find(all, "direct").p99(), limitAddedP99)
		}
		if rate == 1000 {
			if all, err = r.measure(ctx, append([]*hop{{name: "direct", address: r.address}}, muxed...), rate, length); err != nil {
				return err
			}
			r.show(fmt.Sprintf("pair multiplexed, %.0f requests a second (CPU of both)", rate), all)
			r.compare(fmt.Sprintf("rate-%.0f-pair-multiplexed", rate), all, limit)
			r.noWorse(fmt.Sprintf("rate-%.0f-pair-multiplexed-p99", rate), all)
		}
	}
	return nil
}

// memory is what a proxy costs that does nothing.
func (r *rig) memory(ctx context.Context) error {
	fmt.Printf("== memory: idle, then with %d idle client connections that each made one request\n", idleConns)
	fmt.Printf("  %-9s %14s %16s %14s %12s\n", "", "idle RSS MB", "of it anonymous", "KB/connection", "wake-ups/s, CPU %")
	for _, name := range r.peers("haproxy", "nginx", "tulle") {
		var idle, anon, each, wakes, cpu []float64
		for range r.rounds {
			h, err := r.plain(ctx, name)
			if err != nil {
				return err
			}
			i, a, e, w, c, err := r.rest(h)
			h.stop()
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			idle, anon, each, wakes, cpu = append(idle, i), append(anon, a), append(each, e), append(wakes, w), append(cpu, c)
		}
		fmt.Printf("  %-9s %14.1f %16.1f %14.2f %10.1f, %.3f\n", name, median(idle), median(anon), median(each), median(wakes), median(cpu))
		if name == "tulle" {
			r.bound("idle-rss-mb", median(idle), limitIdleMB)
			r.bound("idle-connection-kb", median(each), limitConnKB)
			r.bound("idle-wakeups-per-second", median(wakes), limitWakeUps)
			r.bound("idle-cpu-percent", median(cpu), limitIdleCPU)
		}
	}
	return r.crowds(ctx)
}

// rest measures one fresh hop at rest: MB idle, MB of it anonymous, KB for
// each idle connection, wake-ups a second and percent of a core with them.
func (r *rig) rest(h *hop) (idle, anon, each, wakes, cpu float64, err error) {
	p := h.procs[0]
	// One request has been through: what is made at first use is there.
	first := pacedConn{}
	request := []byte("GET / HTTP/1.1\r\nHost: " + h.address + "\r\n\r\n")
	if first.fd, err = connect(h.address); err != nil {
		return
	}
	defer unix.Close(first.fd)
	if err = first.once(request); err != nil {
		return
	}
	time.Sleep(time.Second)
	before, err := p.memory()
	if err != nil {
		return
	}
	for range idleConns {
		c := pacedConn{}
		if c.fd, err = connect(h.address); err != nil {
			return
		}
		defer unix.Close(c.fd)
		if err = c.once(request); err != nil {
			return
		}
	}
	time.Sleep(2 * time.Second)
	after, err := p.memory()
	if err != nil {
		return
	}
	// What was set for the requests (times for heads, pooled connections) runs out.
	time.Sleep(3 * r.length)
	u0, err := p.used()
	if err != nil {
		return
	}
	watch := 2 * r.length
	time.Sleep(watch)
	u1, err := p.used()
	if err != nil {
		return
	}
	return float64(before.total) / 1e6, float64(before.anonymous) / 1e6, float64(after.total-before.total) / 1e3 / idleConns,
		float64(u1.switches-u0.switches) / watch.Seconds(), 100 * float64(u1.cpu-u0.cpu) / float64(watch), nil
}

// start is the time from exec to an answered request.
func (r *rig) start(ctx context.Context) error {
	fmt.Println("== start: from exec to the first answered request")
	rounds := 2*r.rounds + 1
	for _, name := range r.peers("haproxy", "nginx", "tulle") {
		var all []float64
		for range rounds {
			took, err := r.ready(ctx, name)
			if err != nil {
				return err
			}
			all = append(all, took)
		}
		fmt.Printf("  %-9s %6.1f ms\n", name, median(all))
		if name == "tulle" {
			r.bound("start-ready-ms", median(all), limitStartReady)
		}
	}
	return nil
}

// ready starts a proxy, asks it until it answers, and says how many
// milliseconds after its exec that was.
func (r *rig) ready(ctx context.Context, name string) (float64, error) {
	h, err := r.plain(ctx, name)
	if err != nil {
		return 0, err
	}
	defer h.stop()
	c, err := net.Dial("tcp", h.address)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(2 * time.Second))
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", h.address)
	if _, err := c.Read(make([]byte, 1024)); err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	return float64(time.Since(h.procs[0].began).Microseconds()) / 1e3, nil
}
