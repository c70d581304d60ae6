package main

import (
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestCollector: garbage that comes fast is collected later, and when it comes
// slowly again sooner.
func TestCollector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var set []int
		c := &collector{set: func(percent int) { set = append(set, percent) }}
		every := func(d time.Duration, n int) {
			for range n {
				c.collected(time.Now())
				time.Sleep(d)
			}
		}
		want := func(what string, percents ...int) {
			t.Helper()
			synctest.Wait()
			c.mu.Lock()
			defer c.mu.Unlock()
			if !slices.Equal(set, percents) {
				t.Errorf("%s: set %v, want %v", what, set, percents)
			}
		}
		every(100*time.Millisecond, 100)
		want("ten a second")
		time.Sleep(2 * busyWindow)
		every(10*time.Millisecond, busyCycles-1)
		want("a short burst")
		time.Sleep(2 * busyWindow)
		every(10*time.Millisecond, busyCycles)
		want("a storm", collectBusy)
		every(100*time.Millisecond, 200) // it goes on
		want("a storm that goes on", collectBusy)
		time.Sleep(2*calmWindow + time.Second)
		want("calm", collectBusy, collectAt)
		time.Sleep(time.Hour)
		want("calm for long", collectBusy, collectAt)
		every(10*time.Millisecond, busyCycles+1)
		want("another storm", collectBusy, collectAt, collectBusy)
		time.Sleep(2 * calmWindow)
	})
}

// TestHearsOfCollections: each collection is heard of, not only the first.
func TestHearsOfCollections(t *testing.T) {
	c := &collector{set: func(int) {}}
	c.watch(&cycle{c})
	heard := func() int {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.busy {
			return busyCycles
		}
		return c.cycles
	}
	c.since = time.Now().Add(time.Hour) // one long window
	for end := time.Now().Add(time.Minute); heard() < 3; runtime.GC() {
		if time.Now().After(end) {
			t.Fatalf("after many collections only %d were heard of", heard())
		}
		time.Sleep(time.Millisecond)
	}
}
