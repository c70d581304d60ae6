package push

import (
	"testing"
	"time"

	"tulle.dev/tulle/internal/wire/control"
)

const ports = `
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {ports: [{name: sql, port: 3306}, {name: web, port: 80, appProtocol: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: cart}
spec: {ports: [{port: 80}]}
`

func (p *proxy) greets(keys ...string) {
	p.say(&control.ProxyMessage{Greets: &control.Greets{Ports: keys}})
}

func (p *proxy) serverFirst(key string) bool {
	r := p.get(control.KeyDestinationPart + key)
	return r != nil && r.Destination != nil && r.Destination.ServerFirst
}

// TestGreetings: what a service's own proxy heard reaches callers, ends in an
// hour, and nobody else can say it, nor of what is declared.
func TestGreetings(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.apply(ports)
		w.grant("db", "db.default")
		w.grant("cart", "cart.default")
		caller := w.connect("web", "web")
		defer caller.close()
		caller.subscribe("destination/db.default:3306", "destination/db.default:80", "destination/cart.default:80")
		eventually(t, "the caller knows the port", func() bool { return caller.get("destination/db.default:3306") != nil })

		stranger := w.connect("cart", "cart-1", serves("cart.default", 80, "127.0.0.1:80", "127.0.0.2:80"))
		defer stranger.close()
		stranger.greets("db.default:3306", "nonsense", "none.default:1")
		time.Sleep(time.Second)
		if caller.serverFirst("db.default:3306") {
			t.Fatal("a proxy spoke for a service that isn't its own")
		}

		db := w.connect("db", "db-1", serves("db.default", 3306, "127.0.0.1:3306", "127.0.0.2:3306"), serves("db.default", 80, "127.0.0.1:80", "127.0.0.2:80"))
		defer db.close()
		db.greets("db.default:3306", "db.default:80")
		eventually(t, "the caller is told", func() bool { return caller.serverFirst("db.default:3306") })
		time.Sleep(time.Second)
		if caller.serverFirst("db.default:80") {
			t.Error("a port that declares HTTP is said to be server-first")
		}
		// One that comes later is told, too.
		late := w.connect("late", "late")
		defer late.close()
		late.subscribe("destination/db.default:3306")
		eventually(t, "a late caller is told", func() bool { return late.serverFirst("db.default:3306") })

		// Conversations end within the hour, so others go on.
		known := func() bool {
			p := w.connect("web", "web")
			defer p.close()
			p.subscribe("destination/db.default:3306")
			eventually(t, "a caller knows the port", func() bool { return p.get("destination/db.default:3306") != nil })
			return p.serverFirst("db.default:3306")
		}
		caller.close()
		db.close()
		time.Sleep(GreetingKept - time.Minute)
		if !known() {
			t.Error("forgotten before its time")
		}
		db = w.connect("db", "db-1", serves("db.default", 3306, "127.0.0.1:3306", "127.0.0.2:3306"))
		db.greets("db.default:3306") // heard again: older than half of its time
		time.Sleep(10 * time.Minute)
		db.close()
		if !known() {
			t.Error("forgotten although it was heard again")
		}
		time.Sleep(GreetingKept)
		if known() {
			t.Error("not forgotten after its time")
		}
	})
}

// TestGreetingsAreKept: another control plane on the same store knows them.
func TestGreetingsAreKept(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.apply(ports)
		w.grant("db", "db.default")
		db := w.connect("db", "db-1", serves("db.default", 3306, "127.0.0.1:3306", "127.0.0.2:3306"))
		db.greets("db.default:3306")
		caller := w.connect("web", "web")
		caller.subscribe("destination/db.default:3306")
		eventually(t, "the caller is told", func() bool { return caller.serverFirst("db.default:3306") })
		db.close()
		caller.close()
		w.close()
		w.start()
		caller = w.connect("web", "web")
		defer caller.close()
		caller.subscribe("destination/db.default:3306")
		eventually(t, "the caller is told by the next one", func() bool { return caller.serverFirst("db.default:3306") })
	})
}

func TestGreetingKey(t *testing.T) {
	for key, want := range map[string]bool{
		"/tulle/greets/default/db/3306": true, "/tulle/greets/default/db/x": false,
		"/tulle/greets/default/db": false, "/tulle/greets/default/db/1/2": false, "/tulle/greets/default/db/70000": false,
	} {
		k, ok := parseGreetingKey(key)
		if ok != want || ok && greetingKey(k) != key {
			t.Errorf("%s: %v, %v", key, k, ok)
		}
	}
}
