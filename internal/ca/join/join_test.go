package join

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tulle.dev/tulle/internal/control/store"
	"tulle.dev/tulle/internal/identity"
)

var cart = identity.ID{TrustDomain: "mesh.local", Namespace: "default", ServiceAccount: "cart"}

func create(t *testing.T, tokens *Tokens, services ...string) identity.JoinToken {
	t.Helper()
	token, _, err := tokens.Create(t.Context(), []byte("root"), Grant{Identity: cart, Services: services}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestOnce(t *testing.T) {
	s := store.NewMemory()
	defer s.Close()
	tokens := &Tokens{Store: s, Now: time.Now}
	token := create(t, tokens, "cart.default")
	items, _, _ := s.List(t.Context(), "/")
	for _, it := range items {
		if strings.Contains(string(it.Value), strings.TrimPrefix(token.Reveal(), "tulle-join.v1.")[44:]) || strings.Contains(it.Key, token.Reveal()) {
			t.Error("the secret is in the store")
		}
	}
	// Of many at the same time, one gets it.
	var wins int
	var mu sync.Mutex
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			g, err := tokens.Redeem(t.Context(), token.Reveal())
			mu.Lock()
			defer mu.Unlock()
			if err == nil && g.Identity == cart && slices.Equal(g.Services, []string{"cart.default"}) {
				wins++
			} else if !errors.Is(err, ErrRefused) {
				t.Errorf("got %v %v", g, err)
			}
		})
	}
	all.Wait()
	if wins != 1 {
		t.Errorf("taken %d times", wins)
	}
	// The grant stays, and others add to it.
	create2 := create(t, tokens, "stats.default", "cart.default")
	if _, err := tokens.Redeem(t.Context(), create2.Reveal()); err != nil {
		t.Fatal(err)
	}
	services, err := tokens.Services(t.Context(), cart)
	if err != nil || !slices.Equal(services, []string{"cart.default", "stats.default"}) {
		t.Errorf("services %v %v", services, err)
	}
	other := cart
	other.ServiceAccount = "web"
	if services, err := tokens.Services(t.Context(), other); err != nil || len(services) != 0 {
		t.Errorf("another identity: %v %v", services, err)
	}
}

func TestRefused(t *testing.T) {
	s := store.NewMemory()
	defer s.Close()
	tokens := &Tokens{Store: s, Now: time.Now}
	token := create(t, tokens)
	wrong := token
	wrong.Secret[3] ^= 1
	unknown := identity.NewJoinToken([]byte("root"))
	for name, text := range map[string]string{"wrong secret": wrong.Reveal(), "unknown": unknown.Reveal()} {
		if _, err := tokens.Redeem(t.Context(), text); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := tokens.Redeem(t.Context(), "garbage"); err == nil || strings.Contains(err.Error(), "garbage") {
		t.Errorf("garbage: %v", err)
	}
	// A wrong secret must not use the token up.
	if _, err := tokens.Redeem(t.Context(), token.Reveal()); err != nil {
		t.Error(err)
	}
	if _, _, err := tokens.Create(t.Context(), nil, Grant{Identity: cart}, MaxTTL+1); err == nil {
		t.Error("a life too long was taken")
	}
	if _, _, err := tokens.Create(t.Context(), nil, Grant{Identity: cart, Services: make([]string, MaxServices+1)}, 0); err == nil {
		t.Error("too many services were taken")
	}
}

func TestEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := store.NewMemory()
		defer s.Close()
		tokens := &Tokens{Store: s, Now: time.Now}
		token := create(t, tokens)
		time.Sleep(DefaultTTL + time.Second)
		if _, err := tokens.Redeem(t.Context(), token.Reveal()); !errors.Is(err, ErrRefused) {
			t.Errorf("after its end: %v", err)
		}
		time.Sleep(2 * time.Minute)
		if items, _, _ := s.List(t.Context(), "/"); len(items) != 0 {
			t.Errorf("still kept: %v", items)
		}
	})
}
