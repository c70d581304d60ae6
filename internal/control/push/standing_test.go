package push

import (
	"sync"
	"testing"
	"testing/synctest"

	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/control"
)

const standingGateway = `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: tulle
  addresses: [{type: IPAddress, value: 127.0.0.1}]
  listeners: [{name: http, port: 8080, protocol: HTTP}]
`

// TestStanding: a gateway's proxy has taken its configuration when it has said so,
// and has its listeners open; one that comes back with it has too.
func TestStanding(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		var mu sync.Mutex
		var last Standing
		var told []mesh.Name
		w.server.config.Standing = func(n mesh.Name, s Standing) {
			mu.Lock()
			defer mu.Unlock()
			last, told = s, append(told, n)
		}
		wants := func(what string, want Standing) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if last != want {
				t.Errorf("%s: %+v, want %+v", what, last, want)
			}
		}
		w.apply(standingGateway + "---" + cart)
		sidecar := w.connect("web", "web")
		defer sidecar.close()
		wants("no proxy", Standing{})

		held := make(chan struct{})
		gateway := func(h *control.Hello) { h.Role = view.Gateway }
		p := w.connect("edge", "edge", gateway)
		synctest.Wait()
		own := p.get(control.KeyProxy)
		if own == nil {
			t.Fatal("it was told nothing")
		}
		wants("it answers", Standing{Taken: true})
		p.status(control.Status{Detail: "port 8080 is taken"})
		wants("its port is another's", Standing{Lacks: "its proxy says: port 8080 is taken"})
		p.status(control.Status{Ready: true})
		wants("it has its port", Standing{Taken: true})
		p.close()
		wants("it goes", Standing{Away: true, Lacks: "its proxy is not connected"})

		p = w.connect("edge", "edge", gateway, func(h *control.Hello) {
			h.Held = append(h.Held, control.Held{Key: control.KeyProxy, Version: own.Version})
		})
		wants("it comes back with what it had", Standing{Taken: true})
		p.close()
		synctest.Wait()

		w.hold = held
		p = w.connect("edge", "edge", gateway, func(h *control.Hello) {
			h.Held = append(h.Held, control.Held{Key: control.KeyProxy, Version: own.Version + 1})
		})
		p.status(control.Status{Ready: true})
		wants("it comes back with something else, and hasn't answered yet", Standing{Lacks: "its proxy has not taken it yet"})
		close(held)
		wants("it has", Standing{Taken: true})
		p.close()
		synctest.Wait()
		for _, n := range told {
			if n != (mesh.Name{Namespace: "default", Name: "edge"}) {
				t.Errorf("it was told of %s", n)
			}
		}
	})
}
