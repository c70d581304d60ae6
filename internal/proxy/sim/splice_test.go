package sim_test

import (
	"math/rand/v2"
	"testing"
	"testing/cryptotest"
)

// TestSplicedBodies plays runs whose bodies of a known length are long: where both
// connections are plain they go through pipes. All that runs are judged by holds.
func TestSplicedBodies(t *testing.T) {
	if ca == nil {
		cryptotest.SetGlobalRandom(t, 0)
		ca = newAuthority()
	}
	n := 400
	if raceEnabled || testing.Short() {
		n = 60
	}
	up, down, failed := 0, 0, 0
	for seed := uint64(500_000); seed < 500_000+uint64(n) && failed < 5; seed++ {
		cryptotest.SetGlobalRandom(t, seed)
		r := newRun(seed, nil)
		if w := &r.world.Weather; w.Segment < 1000 || w.Window < 16<<10 {
			continue
		}
		plan := rand.New(rand.NewPCG(seed, 9))
		longest := func() int { return plan.IntN(400 << 10) }
		ups, downs := 0, 0
		for _, q := range r.requests {
			if q.framed == length && plan.IntN(2) == 0 {
				q.body, ups = content(q.id, longest(), 1), ups+1
			}
			if q.answered == length && plan.IntN(2) == 0 {
				q.answer, downs = content(q.id, longest(), 2), downs+1
			}
		}
		r.play()
		if !report(t, r) {
			failed++
		}
		spliced := 0
		for _, n := range r.proxies {
			for _, p := range n.pollers {
				spliced += p.Spliced
			}
		}
		if ups > 0 && downs == 0 {
			up += spliced
		} else if ups == 0 {
			down += spliced
		}
	}
	if up == 0 || down == 0 {
		t.Errorf("%d bytes were spliced to programs, %d to clients: this shows nothing", up, down)
	}
}
