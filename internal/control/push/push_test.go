package push

import (
	"crypto/x509"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/control"
)

func addrPort(s string) netip.AddrPort {
	if s == "" {
		return netip.AddrPort{}
	}
	return netip.MustParseAddrPort(s)
}

const cart = `
apiVersion: v1
kind: Service
metadata: {name: cart}
spec: {ports: [{port: 80}]}
`

func workload(name, account string, meshPort int) string {
	return fmt.Sprintf(`
apiVersion: tulle.dev/v1alpha1
kind: Workload
metadata: {name: %s}
spec:
  serviceAccount: %s
  ports: [{service: cart, port: 80, appPort: 8080, meshPort: %d}]
`, name, account, meshPort)
}

// bubble runs a test in virtual time.
func bubble(t *testing.T, f func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close()
		f(t, w)
	})
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name, account, proxy string
		options              []option
		want                 string
	}{
		{"another namespace", "web", "web", []option{func(h *control.Hello) { h.Namespace = "other" }}, "namespace other"},
		{"no grant", "web", "web", []option{serves("cart.default", 80, "127.0.0.1:1", "127.0.0.1:2")}, "may not serve cart.default"},
		{"another account", "web", "cart-1", nil, "has service account cart"},
		{"no such gateway", "edge", "nowhere", []option{func(h *control.Hello) { h.Role = view.Gateway }}, "no Gateway nowhere"},
		{"gateway of another", "web", "edge", []option{func(h *control.Hello) { h.Role = view.Gateway }}, "is run with identity"},
		{"name taken", "cart", "cart-9", []option{func(h *control.Hello) { h.UID = "another" }}, "another proxy named"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.apply(cart + "---" + workload("cart-1", "cart", 15080) + "---" + `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec: {gatewayClassName: tulle, listeners: [{name: a, port: 80, protocol: HTTP}]}
`)
				there := w.connect("cart", "cart-9")
				defer there.close()
				eventually(t, "the first is there", func() bool { return there.get(control.KeyProxy) != nil })
				p := w.connect(c.account, c.proxy, c.options...)
				defer p.close()
				<-p.done
				if !strings.Contains(p.refused, c.want) {
					t.Errorf("refused with %q (%v), want %q", p.refused, p.err, c.want)
				}
			})
		})
	}
	t.Run("no certificate", func(t *testing.T) {
		bubble(t, func(t *testing.T, w *world) {
			w.apply(cart)
			p := w.connect("", "web")
			defer p.close()
			<-p.done
			if p.err == nil || !strings.Contains(p.err.Error(), "needs a certificate") {
				t.Errorf("got %v", p.err)
			}
		})
	})
}

func TestOnlyWhatChangesIsSent(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.apply(cart + "---" + strings.ReplaceAll(cart, "cart", "other") + "---" + workload("cart-1", "cart", 15080))
		p := w.connect("web", "web")
		defer p.close()
		keys := []string{"endpoints/cart.default:80", "destination/cart.default:80", "host/cart", "host/nowhere", "endpoints/other.default:80"}
		p.subscribe(keys...)
		eventually(t, "everything has an answer", func() bool {
			return !slices.ContainsFunc(keys, func(k string) bool { return p.get(k) == nil })
		})
		if !p.get("host/nowhere").Absent || p.get("host/cart").Host.Service != "cart.default" {
			t.Error("hosts are wrong")
		}
		synctest.Wait()
		p.mu.Lock()
		p.updates = nil
		p.mu.Unlock()
		w.apply(workload("cart-2", "cart", 15081))
		eventually(t, "the new endpoint", func() bool { return len(p.endpoints("cart.default:80")) == 2 })
		synctest.Wait()
		p.mu.Lock()
		if len(p.updates) != 1 || !slices.Equal(p.updates[0], []string{"endpoints/cart.default:80"}) {
			t.Errorf("updates %v, want one of the endpoints alone", p.updates)
		}
		p.mu.Unlock()
		// A service that appears answers a look-up that found nothing.
		w.apply(strings.ReplaceAll(cart, "cart", "nowhere"))
		eventually(t, "the host is known", func() bool { r := p.get("host/nowhere"); return r != nil && !r.Absent })
		if _, err := w.objects.Remove(t.Context(), object.Service, "default", "nowhere", "", false); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the host is unknown again", func() bool { return p.get("host/nowhere").Absent })
		// What isn't subscribed to any more is not sent.
		p.say(&control.ProxyMessage{Subscribe: &control.Subscribe{Remove: []string{"endpoints/cart.default:80"}}})
		synctest.Wait()
		p.mu.Lock()
		p.updates = nil
		p.mu.Unlock()
		w.apply(workload("cart-3", "cart", 15082))
		time.Sleep(time.Second)
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.updates) != 0 {
			t.Errorf("updates %v after the subscription ended", p.updates)
		}
	})
}

func TestHeldIsNotSentAgain(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.apply(cart + "---" + workload("cart-1", "cart", 15080))
		p := w.connect("web", "web")
		p.subscribe("endpoints/cart.default:80", "host/cart")
		eventually(t, "all there", func() bool {
			return p.get("host/cart") != nil && p.get(control.KeyBundle) != nil && p.get(control.KeyProxy) != nil
		})
		p.close()
		w.close()
		w.start() // a restarted control plane numbers the same contents the same
		held := func(h *control.Hello) {
			for k, r := range p.have {
				h.Held = append(h.Held, control.Held{Key: k, Version: r.Version})
			}
		}
		q := w.connect("web", "web", held)
		defer q.close()
		q.subscribe("endpoints/cart.default:80", "host/cart", "destination/cart.default:80")
		eventually(t, "the one new thing", func() bool { return q.get("destination/cart.default:80") != nil })
		synctest.Wait()
		q.mu.Lock()
		defer q.mu.Unlock()
		if len(q.have) != 1 {
			t.Errorf("sent again: %v", q.updates)
		}
	})
}

func TestRejectedAlone(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.apply(cart + "---" + workload("cart-1", "cart", 15080))
		p := w.connect("web", "web")
		defer p.close()
		p.mu.Lock()
		p.judge = func(u *control.Update) string {
			for _, r := range u.Resources {
				if r.Destination != nil && r.Destination.Protocol == view.Detect {
					return "destination: I don't detect"
				}
			}
			return ""
		}
		p.mu.Unlock()
		p.subscribe("endpoints/cart.default:80", "destination/cart.default:80", "host/cart")
		eventually(t, "the others are taken", func() bool { return p.get("host/cart") != nil && p.endpoints("cart.default:80") != nil })
		eventually(t, "the rejection is known", func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return strings.Contains(w.rejected["web.default"], "I don't detect")
		})
		list := w.server.Proxies()
		if len(list) != 1 || !strings.Contains(list[0].Rejected, "destination/cart.default:80") {
			t.Errorf("proxies: %+v", list)
		}
		w.apply(strings.ReplaceAll(cart, "port: 80", "port: 80, appProtocol: http"))
		eventually(t, "the better one is taken", func() bool { return p.get("destination/cart.default:80") != nil })
		eventually(t, "the rejection is over", func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.rejected["web.default"] == ""
		})
	})
}

// TestOneUpdateUnderWay: while a proxy hasn't answered, changes gather; then
// one update brings the last state.
func TestOneUpdateUnderWay(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.apply(cart)
		p := w.connect("web", "web")
		defer p.close()
		p.subscribe("endpoints/cart.default:80")
		eventually(t, "an answer", func() bool { return p.endpoints("cart.default:80") != nil })
		synctest.Wait()
		hold := make(chan struct{})
		p.mu.Lock()
		p.hold, p.updates = hold, nil
		p.mu.Unlock()
		for i := range 50 {
			w.apply(workload(fmt.Sprintf("cart-%d", i), "cart", 15000+i))
		}
		time.Sleep(time.Second)
		p.mu.Lock()
		if len(p.updates) != 1 {
			t.Errorf("%d updates without an answer", len(p.updates))
		}
		p.hold = nil
		p.mu.Unlock()
		close(hold)
		eventually(t, "everything arrived", func() bool { return len(p.endpoints("cart.default:80")) == 50 })
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.updates) > 3 {
			t.Errorf("%d updates for one state", len(p.updates))
		}
	})
}

// TestUnansweredUpdate: a proxy that never answers is cut off.
func TestUnansweredUpdate(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.apply(cart)
		p := w.connect("web", "web")
		hold := make(chan struct{})
		p.mu.Lock()
		p.hold = hold
		p.mu.Unlock()
		time.Sleep(ackTimeout + time.Second)
		if n := w.server.Connected(); n != 0 {
			t.Errorf("%d proxies are connected", n)
		}
		close(hold)
		p.close()
	})
}

func TestDrain(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		all := crowd(t, w, 2)
		watcher := w.connect("web", "web")
		defer watcher.close()
		watcher.subscribe("endpoints/cart.default:80")
		eventually(t, "both are called", func() bool { return len(watcher.endpoints("cart.default:80")) == 2 })
		synctest.Wait()
		hold := make(chan struct{})
		watcher.mu.Lock()
		watcher.hold = hold
		watcher.mu.Unlock()
		p := all[0]
		p.status(control.Status{Ready: true, Draining: true})
		drained := func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.drained }
		time.Sleep(3 * time.Second)
		if drained() {
			t.Error("drained before the peer has answered")
		}
		watcher.mu.Lock()
		watcher.hold = nil
		watcher.mu.Unlock()
		close(hold)
		eventually(t, "drained", drained)
		if n := len(watcher.endpoints("cart.default:80")); n != 1 {
			t.Errorf("the peer has %d endpoints, want 1", n)
		}
		// Of a drained proxy nothing is left when it has gone.
		p.close()
		time.Sleep(3 * time.Second)
		if w.workload("cart-0") != nil {
			t.Error("the drained workload is still there")
		}
		all[1].close()
	})
}

// TestDrainDoesNotWaitForEver: a peer that never answers holds a drain up for a
// bounded time only.
func TestDrainDoesNotWaitForEver(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		all := crowd(t, w, 1)
		watcher := w.connect("web", "web")
		watcher.subscribe("endpoints/cart.default:80")
		eventually(t, "called", func() bool { return len(watcher.endpoints("cart.default:80")) == 1 })
		synctest.Wait()
		hold := make(chan struct{})
		watcher.mu.Lock()
		watcher.hold = hold
		watcher.mu.Unlock()
		all[0].status(control.Status{Ready: true, Draining: true})
		time.Sleep(drainLimit + time.Second)
		all[0].mu.Lock()
		if !all[0].drained {
			t.Error("not drained")
		}
		all[0].mu.Unlock()
		close(hold)
		all[0].close()
		watcher.close()
	})
}

// TestStatusIsNotLost: what a proxy says while the store is full is written
// when there is room.
func TestStatusIsNotLost(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		all := crowd(t, w, 1)
		ready := func() bool {
			wl := w.workload("cart-0")
			return wl != nil && wl.Status.Ready != nil && *wl.Status.Ready
		}
		eventually(t, "ready", ready)
		w.store.SetFull(true)
		all[0].status(control.Status{Ready: false, Detail: "down"})
		time.Sleep(3 * renewEvery)
		if !ready() {
			t.Fatal("written to a full store")
		}
		w.store.SetFull(false)
		time.Sleep(2 * renewEvery)
		if ready() {
			t.Error("the status was lost")
		}
		all[0].close()
	})
}

// TestRenewalIsSeen: what is said of a proxy's certificate is its newest, though
// the conversation began with an older one.
func TestRenewalIsSeen(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.apply(cart)
		p := w.connect("web", "web")
		defer p.close()
		eventually(t, "connected", func() bool { return w.server.Connected() == 1 })
		before := w.server.Proxies()[0].CertificateExpires
		key, err := identity.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		csr, err := x509.CreateCertificateRequest(nil, &x509.CertificateRequest{}, key)
		if err != nil {
			t.Fatal(err)
		}
		in := control.EncodeCertifyRequest(&control.CertifyRequest{CSR: csr})
		var out []byte
		if err := p.conn.Invoke(t.Context(), control.MethodCertify, &in, &out, grpc.ForceCodecV2(rawCodec{})); err != nil {
			t.Fatal(err)
		}
		if after := w.server.Proxies()[0].CertificateExpires; !after.After(before) {
			t.Errorf("%s after the renewal, %s before", after, before)
		}
	})
}

func TestCertifyNeedsProof(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.apply(cart)
		p := w.connect("", "x")
		defer p.close()
		in := control.EncodeCertifyRequest(&control.CertifyRequest{CSR: []byte("no csr")})
		var out []byte
		err := p.conn.Invoke(t.Context(), control.MethodCertify, &in, &out, grpc.ForceCodecV2(rawCodec{}))
		if err == nil || !strings.Contains(err.Error(), "certificate request") {
			t.Errorf("got %v", err)
		}
	})
}
