package elect

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tulle.dev/tulle/internal/control/store"
)

func TestOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := store.NewMemory()
		defer s.Close()
		var all sync.WaitGroup
		electors := make([]*Elector, 3)
		stops := make([]context.CancelFunc, 3)
		stores := make([]*toggle, 3)
		for i := range electors {
			stores[i] = &toggle{Store: s}
			electors[i] = New(stores[i], string(rune('a'+i)))
			var ctx context.Context
			ctx, stops[i] = context.WithCancel(t.Context())
			all.Go(func() { electors[i].Run(ctx) })
		}
		leader := func() int {
			found := -1
			for i, e := range electors {
				if e.Leader() {
					if found >= 0 {
						t.Fatalf("%d and %d are elected", found, i)
					}
					found = i
				}
			}
			return found
		}
		watch := func(d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
				leader()
			}
		}
		watch(ttl)
		first := leader()
		if first < 0 {
			t.Fatal("nobody is elected")
		}
		watch(10 * ttl)
		if leader() != first {
			t.Error("changed without a reason")
		}
		stops[first]() // steps down: another is elected soon
		watch(renew + time.Second)
		second := leader()
		if second < 0 || second == first {
			t.Errorf("%d after %d", second, first)
		}
		// One whose store fails knows nothing, and says no before another says yes.
		stores[second].away.Store(true)
		watch(2 * ttl)
		if third := leader(); third < 0 || third == second {
			t.Errorf("%d after %d lost the store", third, second)
		}
		for _, stop := range stops {
			stop()
		}
		all.Wait()
		if leader() >= 0 {
			t.Error("elected after its end")
		}
	})
}

// toggle is a store that can be made unreachable.
type toggle struct {
	store.Store
	away atomic.Bool
}

func (t *toggle) Get(ctx context.Context, key string) (store.Item, error) {
	if t.away.Load() {
		return store.Item{}, store.ErrUnavailable
	}
	return t.Store.Get(ctx, key)
}

func (t *toggle) Renew(ctx context.Context, l store.Lease) error {
	if t.away.Load() {
		return store.ErrUnavailable
	}
	return t.Store.Renew(ctx, l)
}

func (t *toggle) Grant(ctx context.Context, d time.Duration) (store.Lease, error) {
	if t.away.Load() {
		return 0, store.ErrUnavailable
	}
	return t.Store.Grant(ctx, d)
}

func (t *toggle) Revoke(ctx context.Context, l store.Lease) error {
	if t.away.Load() {
		return store.ErrUnavailable
	}
	return t.Store.Revoke(ctx, l)
}
