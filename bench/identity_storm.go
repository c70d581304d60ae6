//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// urgent has a thread or program run before all that aren't, at once.
func urgent(id int) error {
	return unix.SchedSetAttr(id, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}, 0)
}

// ordinary takes urgent back.
func ordinary(id int) {
	unix.SchedSetAttr(id, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL}, 0)
}

// stormRate is the existing traffic, in requests a second.
const stormRate = 500.0

// identityStorm is what existing traffic between two proxies suffers while many
// greet the server's one.
func (r *rig) identityStorm(ctx context.Context) error {
	fmt.Printf("== identity-storm: a pair with mutual TLS under %.0f requests a second: alone, and while %d clients do one full handshake after another with the server's proxy\n", stormRate, handshakers)
	if err := r.certificates(); err != nil {
		return err
	}
	type pair struct {
		*hop
		inbound string
	}
	var pairs []pair
	defer func() {
		for _, p := range pairs {
			p.stop()
		}
	}()
	for _, name := range r.peers("envoy", "tulle") {
		ports, err := freePorts(1)
		if err != nil {
			return err
		}
		h, err := r.pair(ctx, name, multiplexed, ports[0], ports[0])
		if err != nil {
			return err
		}
		pairs = append(pairs, pair{h, local(ports[0])})
	}
	// The load generator and the origin share their processor with the storm's clients.
	// Those are idle work, and still the kernel (EEVDF) lets one run on until its next
	// tick, 4 ms, while another that just ran waits to run on. So these two are more than
	// ordinary.
	var first []string
	if err := urgent(r.origin.pid()); err != nil {
		fmt.Printf("the load generator and the origin can't run before the storm's clients (%v; root can): some of p99 is their waiting\n", err)
	} else {
		first = []string{"-urgent"}
		defer ordinary(r.origin.pid())
	}
	figures := map[string]*[5][]float64{}
	for range r.rounds {
		for _, p := range pairs {
			time.Sleep(r.settle)
			alone, err := pace(ctx, p.address, stormRate, r.length, first...)
			if err != nil {
				return err
			}
			type storm struct {
				handshakeResult
				err error
			}
			greeted := make(chan storm, 1)
			go func() {
				// What requests suffer shall be the proxy's doing.
				res, err := r.shake(ctx, p.inbound, tls.X25519, r.length+2*r.settle, "-idle")
				greeted <- storm{res, err}
			}()
			time.Sleep(r.settle)
			beside, err := pace(ctx, p.address, stormRate, r.length, first...)
			s := <-greeted
			if err == nil {
				err = s.err
			}
			if err == nil && s.Failed > 0 && p.name == "tulle" {
				err = fmt.Errorf("%d handshakes failed: %s", s.Failed, s.Error)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			f := figures[p.name]
			if f == nil {
				f = new([5][]float64)
				figures[p.name] = f
			}
			for i, v := range []float64{alone.P50, alone.P99, beside.P50, beside.P99, float64(s.Done) / (r.length + 2*r.settle).Seconds()} {
				f[i] = append(f[i], v)
			}
		}
	}
	fmt.Printf("  %-9s %12s %12s %13s %13s %14s\n", "", "p50 alone", "p99 alone", "p50 beside", "p99 beside", "handshakes/s")
	for _, p := range pairs {
		f := figures[p.name]
		fmt.Printf("  %-9s %9.2f ms %9.2f ms %10.2f ms %10.2f ms %14.0f\n", p.name, median(f[0]), median(f[1]), median(f[2]), median(f[3]), median(f[4]))
		if p.name == "tulle" {
			r.bound("storm-p99", median(f[3])/median(f[1]), limitStormP99)
		}
	}
	return nil
}
