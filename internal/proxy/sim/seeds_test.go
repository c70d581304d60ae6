package sim_test

import (
	"flag"
	"os"
	"testing"
)

var (
	oneSeed = flag.Uint64("seed", 0, "run this seed only, and with -v print all that happens")
	seeds   = flag.Int("seeds", 1000, "how many seeds to run")
)

// TestSeeds runs seeds; each is a world of its own.
func TestSeeds(t *testing.T) {
	if *oneSeed != 0 {
		r := newRun(*oneSeed, os.Stdout)
		r.play()
		report(t, r)
		return
	}
	n := *seeds
	if raceEnabled || testing.Short() {
		n = min(n, 100)
	}
	failed := 0
	for seed := uint64(1); seed <= uint64(n) && failed < 5; seed++ {
		r := newRun(seed, nil)
		r.play()
		if !report(t, r) {
			failed++
		}
	}
}

func report(t *testing.T, r *run) bool {
	t.Helper()
	for _, v := range r.violations {
		t.Errorf("seed %d: %s", r.seed, v)
	}
	return len(r.violations) == 0
}

// A seed is a run: twice the same, step by step.
func TestSeedsRepeat(t *testing.T) {
	for seed := uint64(1); seed <= 30; seed++ {
		first, second := newRun(seed, nil), newRun(seed, nil)
		first.play()
		second.play()
		if first.world.Digest() != second.world.Digest() || first.world.Steps() != second.world.Steps() {
			t.Errorf("seed %d: %d steps, then %d, with another record", seed, first.world.Steps(), second.world.Steps())
		}
	}
}
