package push

import (
	"fmt"
	"net"
	"testing"
	"time"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/control"
)

func TestRegistrationLivesWithItsProxy(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.apply(cart)
		w.grant("cart", "cart.default")
		l, err := net.Listen("tcp", "127.0.0.1:0") // its proxy's machine answers all along
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		register := serves("cart.default", 80, "127.0.0.1:8080", l.Addr().String())
		watcher := w.connect("web", "web")
		defer watcher.close()
		watcher.subscribe("endpoints/cart.default:80")
		p := w.connect("cart", "cart-1", register)
		eventually(t, "the workload is registered", func() bool { return w.workload("cart-1") != nil })
		time.Sleep(time.Second)
		if got := watcher.endpoints("cart.default:80"); len(got) != 0 {
			t.Errorf("called before it is ready: %v", got)
		}
		p.status(control.Status{Ready: true})
		eventually(t, "it is called", func() bool { return len(watcher.endpoints("cart.default:80")) == 1 })
		time.Sleep(10 * LeaseTTL)
		if len(watcher.endpoints("cart.default:80")) != 1 {
			t.Error("the lease of a connected proxy ended")
		}
		// It goes, comes back within the lease time, and is called all along.
		p.close()
		time.Sleep(LeaseTTL / 2)
		if len(watcher.endpoints("cart.default:80")) != 1 {
			t.Error("taken out within the lease time")
		}
		p = w.connect("cart", "cart-1", register)
		p.status(control.Status{Ready: true})
		time.Sleep(3 * LeaseTTL)
		if len(watcher.endpoints("cart.default:80")) != 1 {
			t.Error("lost although it came back")
		}
		// Its program goes, and comes back.
		p.status(control.Status{Ready: false, Detail: "program down"})
		eventually(t, "not called while its program is down", func() bool { return len(watcher.endpoints("cart.default:80")) == 0 })
		p.status(control.Status{Ready: true})
		eventually(t, "called again", func() bool { return len(watcher.endpoints("cart.default:80")) == 1 })
		// It goes for good: of two leases one ended, which is no mass.
		p.close()
		time.Sleep(LeaseTTL + 5*time.Second)
		if got := watcher.endpoints("cart.default:80"); len(got) != 0 {
			t.Errorf("still called: %v", got)
		}
		if w.workload("cart-1") != nil {
			t.Error("the registered workload is still there")
		}
	})
}

// TestWrittenWorkload: an object a person wrote stays when its proxy goes, but
// is not called; and its proxy is ready only once it has registered.
func TestWrittenWorkload(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.apply(cart + "---" + workload("cart-1", "cart", 15080))
		watcher := w.connect("web", "web")
		defer watcher.close()
		watcher.subscribe("endpoints/cart.default:80")
		first := w.connect("cart", "cart-1")
		first.status(control.Status{Ready: true})
		eventually(t, "not called before it registered", func() bool {
			wl := w.workload("cart-1")
			return wl.Status.Ready != nil && !*wl.Status.Ready && len(watcher.endpoints("cart.default:80")) == 0
		})
		// The same process says hello again, with its listeners up.
		p := w.connect("cart", "cart-1", serves("cart.default", 80, "127.0.0.1:8080", "127.0.0.1:15080"))
		p.status(control.Status{Ready: true})
		<-first.done
		first.close()
		eventually(t, "called", func() bool { return len(watcher.endpoints("cart.default:80")) == 1 })
		eventually(t, "its own listeners are there", func() bool {
			r := p.get(control.KeyProxy)
			return r != nil && len(r.Proxy.Listeners) == 1 && r.Proxy.Listeners[0].Kind == view.Inbound
		})
		p.close()
		time.Sleep(LeaseTTL + 5*time.Second)
		wl := w.workload("cart-1")
		if wl == nil || wl.Status.Lease != v1alpha1.LeaseEnded || len(watcher.endpoints("cart.default:80")) != 0 {
			t.Errorf("workload %+v, endpoints %v", wl, watcher.endpoints("cart.default:80"))
		}
	})
}

// crowd connects n proxies that serve cart.
func crowd(t *testing.T, w *world, n int) []*proxy {
	w.apply(cart)
	w.grant("cart", "cart.default")
	var out []*proxy
	for i := range n {
		// A port that this process holds, so that a probe finds it alive.
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		p := w.connect("cart", fmt.Sprintf("cart-%d", i), serves("cart.default", 80, "127.0.0.1:8080", l.Addr().String()))
		p.status(control.Status{Ready: true})
		out = append(out, p)
	}
	return out
}

func TestManyEndAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		all := crowd(t, w, 10)
		watcher := w.connect("web", "web")
		defer watcher.close()
		watcher.subscribe("endpoints/cart.default:80")
		eventually(t, "all are called", func() bool { return len(watcher.endpoints("cart.default:80")) == 10 })
		time.Sleep(3 * LeaseTTL)
		for _, p := range all[:4] {
			p.close()
		}
		time.Sleep(3 * LeaseTTL)
		if got := len(watcher.endpoints("cart.default:80")); got != 10 {
			t.Errorf("%d endpoints, want all 10 kept", got)
		}
		if n := len(w.server.Suspects()); n != 4 {
			t.Errorf("%d suspects, want 4", n)
		}
		suspects := 0
		for _, e := range watcher.get("endpoints/cart.default:80").Endpoints.List {
			if e.Suspect {
				suspects++
			}
		}
		if suspects != 4 {
			t.Errorf("%d endpoints are marked, want 4", suspects)
		}
		// One comes back: no suspect any more. The others are believed gone in the end.
		back := w.connect("cart", "cart-0", serves("cart.default", 80, "127.0.0.1:8080", "127.0.0.1:15000"))
		back.status(control.Status{Ready: true})
		eventually(t, "it is trusted again", func() bool { return len(w.server.Suspects()) == 3 })
		time.Sleep(maxSuspect + time.Minute)
		if got := len(watcher.endpoints("cart.default:80")); got != 7 {
			t.Errorf("%d endpoints, want 7", got)
		}
		back.close()
		for _, p := range all[4:] {
			p.close()
		}
	})
}

func TestFewEndAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		all := crowd(t, w, 12)
		time.Sleep(3 * LeaseTTL)
		for _, p := range all[:2] {
			p.close()
		}
		time.Sleep(2 * LeaseTTL)
		if n := len(w.server.Suspects()); n != 0 || w.workload("cart-0") != nil || w.workload("cart-1") != nil || w.workload("cart-2") == nil {
			t.Errorf("%d suspects; the two that went should be gone", n)
		}
		for _, p := range all[2:] {
			p.close()
		}
	})
}

func TestSuspectsThatRefuse(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.apply(cart)
		w.grant("cart", "cart.default")
		var all []*proxy
		for i := range 3 {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			address := l.Addr().String()
			l.Close() // nothing listens there any more: refused
			p := w.connect("cart", fmt.Sprintf("cart-%d", i), serves("cart.default", 80, "127.0.0.1:8080", address))
			p.status(control.Status{Ready: true})
			all = append(all, p)
		}
		time.Sleep(3 * LeaseTTL)
		for _, p := range all {
			p.close()
		}
		time.Sleep(3 * LeaseTTL)
		for i := range 3 {
			if w.workload(fmt.Sprintf("cart-%d", i)) != nil {
				t.Errorf("cart-%d is kept although its address refuses", i)
			}
		}
	})
}

// TestDeadProxy: a proxy that was killed is taken out as soon as its machine
// refuses connections to it, long before its lease ends; back, it is called again.
func TestDeadProxy(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.apply(cart)
		w.grant("cart", "cart.default")
		watcher := w.connect("web", "web")
		defer watcher.close()
		watcher.subscribe("endpoints/cart.default:80")
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := l.Addr().String()
		register := serves("cart.default", 80, "127.0.0.1:8080", address)
		p := w.connect("cart", "cart-1", register)
		p.status(control.Status{Ready: true})
		eventually(t, "called", func() bool { return len(watcher.endpoints("cart.default:80")) == 1 })
		p.close() // only its conversation: it still takes connections
		time.Sleep(5 * time.Second)
		if len(watcher.endpoints("cart.default:80")) != 1 {
			t.Error("taken out although it takes connections")
		}
		l.Close()
		eventually(t, "taken out", func() bool { return len(watcher.endpoints("cart.default:80")) == 0 })
		if wl := w.workload("cart-1"); wl == nil || wl.Status.Lease != v1alpha1.LeaseHeld {
			t.Errorf("its lease ended early: %+v", wl)
		}
		p = w.connect("cart", "cart-1", register)
		p.status(control.Status{Ready: true})
		eventually(t, "called again", func() bool { return len(watcher.endpoints("cart.default:80")) == 1 })
		p.close()
	})
}

func TestLeasesEndedWhileAway(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		all := crowd(t, w, 3)
		eventually(t, "all are ready", func() bool {
			wl := w.workload("cart-2")
			return wl != nil && wl.Status.Ready != nil && *wl.Status.Ready
		})
		for _, p := range all {
			p.close()
		}
		w.close()
		time.Sleep(5 * time.Minute)
		w.start()
		time.Sleep(2 * LeaseTTL)
		for i := range 3 {
			wl := w.workload(fmt.Sprintf("cart-%d", i))
			if wl == nil || wl.Status.Lease != v1alpha1.LeaseSuspect {
				t.Errorf("cart-%d: %+v, want it kept as suspect", i, wl)
			}
		}
	})
}
