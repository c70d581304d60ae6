package sim_test

import (
	"flag"
	"io"
	"os"
	"testing"
	"testing/cryptotest"
)

var (
	oneSeed = flag.Uint64("seed", 0, "run this seed only, and with -v print all that happens")
	seeds   = flag.Int("seeds", 1000, "how many seeds to run")
)

// TestSeeds runs seeds; each is a world of its own.
func TestSeeds(t *testing.T) {
	if *oneSeed != 0 {
		r := play(t, *oneSeed, os.Stdout)
		report(t, r)
		return
	}
	n := *seeds
	if raceEnabled || testing.Short() {
		n = min(n, 100)
	}
	failed := 0
	for seed := uint64(1); seed <= uint64(n) && failed < 5; seed++ {
		r := play(t, seed, nil)
		if !report(t, r) {
			failed++
		}
	}
	if raceEnabled && failed == 0 && n < *seeds {
		t.Skipf("%d seeds ran; the race detector is too slow for all %d: make test runs them without it", n, *seeds)
	}
}

// play plays one seed. All randomness of cryptography is the seed's too.
func play(t *testing.T, seed uint64, log io.Writer) *run {
	if ca == nil {
		cryptotest.SetGlobalRandom(t, 0)
		ca = newAuthority()
	}
	cryptotest.SetGlobalRandom(t, seed)
	r := newRun(seed, log)
	r.play()
	return r
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
		first, second := play(t, seed, nil), play(t, seed, nil)
		if first.world.Digest() != second.world.Digest() || first.world.Steps() != second.world.Steps() {
			t.Errorf("seed %d: %d steps, then %d, with another record", seed, first.world.Steps(), second.world.Steps())
		}
	}
}
