package dial

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/meter"
)

// Of the requests of the last ten seconds Percent may be tried again, and Min
// a second whatever they were.
func TestBudget(t *testing.T) {
	for _, test := range []struct {
		name         string
		requests     int // a second, for 20 s; each wants a further try
		allowed      policy.Budget
		least, at    int // further tries that the last ten seconds saw
		afterSilence int // those allowed at once when nothing came for a minute
	}{
		{"a share", 1000, policy.Budget{Percent: 20, Min: 10}, 1990, 2010, 10},
		{"the floor", 20, policy.Budget{Percent: 20, Min: 10}, 100, 110, 10},
		{"only a share", 100, policy.Budget{Percent: 5}, 49, 51, 0},
		{"none", 100, policy.Budget{}, 0, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			var b Budget
			now, tried := time.Duration(0), make(map[time.Duration]int)
			for second := range time.Duration(20) {
				for i := range test.requests {
					now = second*time.Second + time.Duration(i)*time.Second/time.Duration(test.requests)
					b.Request(now)
					if b.Try(now, test.allowed) {
						tried[second]++
					}
				}
			}
			last := 0
			for second := time.Duration(10); second < 20; second++ {
				last += tried[second]
			}
			if last < test.least || last > test.at {
				t.Errorf("%d further tries in ten seconds, want %d to %d", last, test.least, test.at)
			}
			n := 0
			for now += time.Minute; b.Try(now, test.allowed); n++ {
			}
			if n != test.afterSilence {
				t.Errorf("after a minute of silence %d at once, want %d", n, test.afterSilence)
			}
		})
	}
}

// A budget holds for all loops together, be there more of them than it allows
// tries.
func TestBudgetIsShared(t *testing.T) {
	for _, loops := range []int{1, 4} {
		for _, least := range []uint32{1, 2, 40} {
			t.Run(fmt.Sprintf("loops=%d min=%d", loops, least), func(t *testing.T) {
				var all Budgets
				var wg sync.WaitGroup
				tried := make([]int, loops)
				for i := range loops {
					wg.Go(func() {
						b := all.Of(meter.Outbound, "a.b:1")
						for range 1000 {
							b.Request(time.Second)
							if b.Try(time.Second, policy.Budget{Min: least}) {
								tried[i]++
							}
						}
					})
				}
				wg.Wait()
				sum := 0
				for _, n := range tried {
					sum += n
				}
				// Never more. One that was counted and taken back may have kept
				// another from being made.
				if sum > int(least) || sum == 0 {
					t.Errorf("%d further tries, want at most %d", sum, least)
				}
				if requests, _ := all.Of(meter.Outbound, "a.b:1").spent(time.Second); requests != uint64(loops)*1000 {
					t.Errorf("%d requests counted, want %d", requests, loops*1000)
				}
			})
		}
	}
	var all Budgets
	if all.Of(meter.Outbound, "a.b:1") == all.Of(meter.Inbound, "a.b:1") {
		t.Error("both directions share a budget")
	}
}

func TestBudgetAllocatesNothing(t *testing.T) {
	var b Budget
	now := time.Duration(0)
	if n := testing.AllocsPerRun(100, func() {
		now += 100 * time.Millisecond
		b.Request(now)
		b.Try(now, policy.DefaultRetry.Budget)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
