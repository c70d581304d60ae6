package push

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"tulle.dev/tulle/internal/ca/join"
	"tulle.dev/tulle/internal/control/store"
	"tulle.dev/tulle/internal/identity"
)

// slowStore takes a second for a look-up, and counts those at a time.
type slowStore struct {
	store.Store
	now, most, all atomic.Int64
}

func (s *slowStore) Get(ctx context.Context, key string) (store.Item, error) {
	s.all.Add(1)
	n := s.now.Add(1)
	for most := s.most.Load(); n > most && !s.most.CompareAndSwap(most, n); most = s.most.Load() {
	}
	time.Sleep(time.Second)
	s.now.Add(-1)
	return s.Store.Get(ctx, key)
}

// TestJoinsTakeTurns: however many proxies join at once, few ask the store at a
// time, all get their turn, and one that has left meanwhile keeps its token.
func TestJoinsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := store.NewMemory()
		defer memory.Close()
		slow := &slowStore{Store: memory}
		tokens := &join.Tokens{Store: memory, Now: time.Now}
		s := New(Config{Tokens: &join.Tokens{Store: slow, Now: time.Now}})
		id := identity.ID{TrustDomain: "mesh.local", Namespace: "default", ServiceAccount: "web"}
		token := func() string {
			made, _, err := tokens.Create(t.Context(), []byte("root"), join.Grant{Identity: id}, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			return made.Reveal()
		}
		var all sync.WaitGroup
		const joiners = 20 * joinsAtOnce
		for range joiners {
			text := token()
			all.Go(func() {
				if got, err := s.redeem(t.Context(), text, func(identity.ID) error { return nil }); err != nil || got != id {
					t.Errorf("it is %s, %v", got, err)
				}
			})
		}
		synctest.Wait()
		late := token()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := s.redeem(ctx, late, func(identity.ID) error { return nil }); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("one whose time was over got %v", err)
		}
		all.Wait()
		if most := slow.most.Load(); most != joinsAtOnce {
			t.Errorf("%d at a time, want %d", most, joinsAtOnce)
		}
		if _, err := s.redeem(t.Context(), late, func(identity.ID) error { return nil }); err != nil {
			t.Errorf("its token is gone: %v", err)
		}
	})
}
