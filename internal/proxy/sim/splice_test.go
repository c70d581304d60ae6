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
		plan, ups := rand.New(rand.NewPCG(seed, 9)), seed%2 == 0
		for _, q := range r.requests {
			n := plan.IntN(400 << 10)
			if ups {
				q.answer = q.answer[:min(len(q.answer), 1<<10)]
				if q.framed == length {
					q.body = content(q.id, n, 1)
				}
				continue
			}
			q.body = q.body[:min(len(q.body), 1<<10)]
			if q.answered == length {
				q.answer = content(q.id, n, 2)
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
		switch {
		case len(r.requests) == 0: // opaque streams
		case ups:
			up += spliced
		default:
			down += spliced
		}
	}
	if up == 0 || down == 0 {
		t.Errorf("%d bytes were spliced to programs, %d to clients: this shows nothing", up, down)
	}
}
