package push

import (
	"testing"
	"time"

	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/control"
)

// TestLiesAboutRoots: a proxy that says it has roots it doesn't have, or answers
// what wasn't asked, gets ahead alone: of the others nothing is believed but what
// they say, and it is told the roots again with the next change.
func TestLiesAboutRoots(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.apply(cart)
		bundleOf := func(p *proxy) *view.Bundle {
			if r := p.get(control.KeyBundle); r != nil {
				return r.Bundle
			}
			return nil
		}
		took := func(name string) bool {
			for _, p := range w.server.Trust() {
				if p.Proxy.Name == name {
					return p.Bundle
				}
			}
			return false
		}
		held := func(version uint64) option {
			return func(h *control.Hello) { h.Held = []control.Held{{Key: control.KeyBundle, Version: version}} }
		}
		honest := w.connect("web", "web-1")
		defer honest.close()
		eventually(t, "the honest one has the roots", func() bool { return bundleOf(honest) != nil && took("web-1") })

		// A version that there isn't is as good as none.
		w.hold = make(chan struct{}) // the next ones answer nothing by themselves
		inventive := w.connect("cart", "cart-1", held(1<<63-1))
		defer inventive.close()
		mute := w.connect("db", "db-1")
		defer mute.close()
		eventually(t, "they are told", func() bool { return bundleOf(inventive) != nil && bundleOf(mute) != nil })
		for nonce := range uint64(50) { // of nobody's updates
			inventive.say(&control.ProxyMessage{Ack: &control.Ack{Nonce: nonce + 1000}})
		}
		time.Sleep(time.Second)
		if took("cart-1") || took("db-1") || !took("web-1") {
			t.Error("who has answered nothing counts as one that knows the roots")
		}
		close(w.hold)
		eventually(t, "they have answered", func() bool { return took("cart-1") && took("db-1") })

		// The root changes. One answers that it has taken the new one before it did,
		// and one says so that begins anew and was told by a friend.
		w.hold = nil
		if err := w.ca.AddRoot(); err != nil {
			t.Fatal(err)
		}
		honest.mu.Lock()
		honest.judge = func(*control.Update) string { return "not yet" }
		honest.mu.Unlock()
		w.server.BundleChanged()
		eventually(t, "the others have taken it", func() bool { return took("cart-1") && took("db-1") })
		newest := w.server.config.CA.Bundle().Version
		liar := w.connect("web", "liar", func(h *control.Hello) {
			for _, st := range streams(w.server) {
				if st.key.Name.Name == "db-1" {
					h.Held = []control.Held{{Key: control.KeyBundle, Version: st.inForce(control.KeyBundle)}}
				}
			}
		})
		defer liar.close()
		eventually(t, "the liar is believed of itself", func() bool { return took("liar") })
		time.Sleep(5 * time.Second)
		if took("web-1") {
			t.Error("for the liar's word another one counts as knowing the new root")
		}
		if bundleOf(liar) != nil {
			t.Error("it was told what it says it has")
		}
		honest.mu.Lock()
		honest.judge = nil
		honest.mu.Unlock()

		// The next step is told to all, in full.
		if err := w.ca.SwitchRoot(); err != nil {
			t.Fatal(err)
		}
		w.server.BundleChanged()
		for name, p := range map[string]*proxy{"web-1": honest, "cart-1": inventive, "db-1": mute, "liar": liar} {
			eventually(t, name+" has both roots, the new one first", func() bool {
				b := bundleOf(p)
				return b != nil && b.Version > newest && len(b.Domains) > 0 && len(b.Domains[0].Roots) == 2 && took(name)
			})
		}
	})
}

// streams are the open conversations.
func streams(s *Server) (list []*stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.byName {
		list = append(list, st)
	}
	return list
}

// TestSharesAfterRestart: a control plane that is killed and comes back, with no
// memory of who has which part of a limit, neither doubles the limit nor takes it
// away: not while the proxies come back one by one, not when half of them are slow
// to, not when it dies again meanwhile.
func TestSharesAfterRestart(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.apply(limited)
		all := []*limiter{w.limiter("db-1", 3000), w.limiter("db-2", 3000), w.limiter("db-3", 300), w.limiter("db-4", 3000)}
		defer func() {
			for _, l := range all {
				l.close()
			}
		}()
		// Each second is looked at by itself.
		seconds := func(what string, n int, least, most int) {
			t.Helper()
			for i := range n {
				time.Sleep(time.Second)
				sum := 0
				for _, l := range all {
					sum += l.count()
				}
				if sum < least || sum > most {
					t.Errorf("%s, second %d: %d, want %d to %d", what, i+1, sum, least, most)
				}
			}
		}
		time.Sleep(8 * time.Second)
		seconds("", 1, 0, 10_000) // what there was before
		seconds("before", 5, 900, 1100)
		for round := range 2 {
			w.stop()
			w.grpc.Stop()
			w.all.Wait()
			seconds("while it is away", 5, 900, 1100)
			w.start()
			for i, l := range all {
				if round == 1 && i == 2 {
					seconds("while some are still away", 3, 700, 1200)
				}
				l.reconnect(w)
				seconds("while they come back", 1, 700, 1200)
			}
			seconds("when they are back", 5, 800, 1150)
			seconds("then", 5, 900, 1100)
		}
	})
}

// reconnect begins another conversation; what the limiter lets through meanwhile is
// what it was told last.
func (l *limiter) reconnect(w *world) {
	l.proxy.close()
	l.mu.Lock()
	l.can = false
	l.mu.Unlock()
	p := w.connect("db", l.name)
	l.mu.Lock()
	l.proxy = p
	l.mu.Unlock()
}
