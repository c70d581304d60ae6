//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	limitDemoSeconds = 10.0
	limitCommandMS   = 150.0
)

// demo is the time until `tulle up --demo` is green, and what a command that
// only asks costs beside it.
func (r *rig) demo(ctx context.Context) error {
	fmt.Println("== demo: tulle up --demo, once built")
	if _, err := exec.LookPath(filepath.Join(filepath.Dir(r.tulle), "shop")); err != nil {
		return errors.New("the shop isn't built: make shop")
	}
	dir := filepath.Join(r.dir, "mesh")
	var all unix.CPUSet
	all.Fill()
	p, err := spawn("tulle up", &all, nil, r.tulle, "up", "--demo", "--data-dir", dir, "--listen", "127.0.0.1:0", "--dashboard", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer p.stop()
	ask := func(args ...string) error {
		return exec.CommandContext(ctx, r.tulle, append([]string{"--data-dir", dir}, args...)...).Run()
	}
	// All nine proxies are there, and nothing is wrong.
	for ask("get", "workload", "load") != nil || ask("check") != nil {
		select {
		case <-p.done:
			return fmt.Errorf("it ended: %s", p.said)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
		if time.Since(p.began) > time.Minute {
			return fmt.Errorf("not green after a minute: %s", p.said)
		}
	}
	green := time.Since(p.began).Seconds()
	fmt.Printf("  green after %.1f s\n", green)
	r.bound("demo-green-s", green, limitDemoSeconds)
	for _, args := range [][]string{{"check"}, {"stat", "-o", "json"}, {"get", "workloads"}, {"diagnostics", "proxy", "web"}} {
		var took []float64
		for range 2*r.rounds + 1 {
			began := time.Now()
			if err := ask(args...); err != nil {
				return fmt.Errorf("tulle %v: %w", args, err)
			}
			took = append(took, float64(time.Since(began).Microseconds())/1e3)
		}
		fmt.Printf("  tulle %-24s %6.1f ms\n", fmt.Sprint(args), median(took))
		r.bound("command-"+args[0]+"-ms", median(took), limitCommandMS)
	}
	return nil
}
