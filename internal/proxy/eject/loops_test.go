package eject

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tulle.dev/tulle/internal/policy"
)

// A limit holds for all loops together, also when it is less than their number.
func TestLimit(t *testing.T) {
	for _, loops := range []int{1, 4} {
		for _, max := range []uint32{1, 3} {
			var l Limit
			var held, most, refused atomic.Int64
			var group sync.WaitGroup
			for range loops {
				group.Go(func() {
					for range 20000 {
						h, ok := l.Take(max)
						if !ok {
							refused.Add(1)
							continue
						}
						n := held.Add(1)
						for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
						}
						held.Add(-1)
						h.Release()
						h.Release()
					}
				})
			}
			group.Wait()
			if most.Load() > int64(max) {
				t.Errorf("%d loops held %d, want at most %d", loops, most.Load(), max)
			}
			if l.Held() != 0 {
				t.Errorf("%d are held in the end", l.Held())
			}
			if loops == 1 && refused.Load() != 0 {
				t.Error("refused while there was room")
			}
		}
	}
}

// Failures count for the whole proxy, and however many loops find out at once an
// endpoint is ejected once and tried by one.
func TestLoops(t *testing.T) {
	for _, loops := range []int{1, 4} {
		s, y := service(t, nil, 4)
		var group sync.WaitGroup
		var claims atomic.Int64
		for range loops {
			group.Go(func() {
				mine := make([]Tally, len(y))
				for i := range mine {
					mine[i].Endpoint = y[i].Endpoint
				}
				for k := range 2000 {
					now := second + int64(k)*second/1000
					mine[0].Bad(now)
					for i := range mine[1:] {
						mine[i+1].Good(now, time.Millisecond)
					}
				}
				if e := y[0].Endpoint; e.Claim(second + 10*second) {
					claims.Add(1)
				}
			})
		}
		group.Wait()
		if out(y) != 1 || s.ejections[Consecutive]+s.ejections[SuccessRate] != 1 {
			t.Errorf("%d loops: %d out, ejections %v", loops, out(y), s.ejections)
		}
		if claims.Load() != 1 {
			t.Errorf("%d loops: tried by %d requests", loops, claims.Load())
		}
	}
}

// Failures that no loop alone has enough of are enough together.
func TestLoopsTogether(t *testing.T) {
	_, y := service(t, nil, 2)
	other := &Tally{Endpoint: y[0].Endpoint}
	for i := range int(policy.DefaultEjection.Consecutive) {
		if i%2 == 0 {
			y[0].Bad(second)
		} else {
			other.Bad(second)
		}
	}
	if !y[0].Endpoint.Out() {
		t.Error("not ejected")
	}
}
