package push

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"tulle.dev/tulle/internal/wire/control"
)

// told are the keys that a proxy was sent since the last call, sorted.
func (p *proxy) told() string {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	keys := slices.Concat(p.updates...)
	p.updates = nil
	slices.Sort(keys)
	return strings.Join(keys, " ")
}

// TestConsumerRoutes: routes of a namespace to another one's service reach the
// proxies of that namespace, and nobody else hears of them.
func TestConsumerRoutes(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.apply(cart)
		in := func(namespace string) option { return func(h *control.Hello) { h.Namespace = namespace } }
		here, lab := w.connect("web", "web"), w.connect("lab/web", "web", in("lab"))
		defer here.close()
		defer lab.close()
		const key = control.KeyDestinationPart + "cart.default:80"
		here.subscribe(key)
		lab.subscribe(key)
		here.told()
		lab.told()
		w.apply(`
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: mine, namespace: lab}
spec:
  parentRefs: [{kind: Service, group: "", name: cart, namespace: default}]
  rules: [{backendRefs: [{name: cart, namespace: default, port: 80}]}]
`)
		if got := lab.told(); got != key {
			t.Errorf("the namespace's proxy was told %q", got)
		}
		if got := here.told(); got != "" {
			t.Errorf("another namespace's proxy was told %q", got)
		}
		if hosts := lab.get(key).Destination.Routes.Hosts; len(hosts) != 1 || hosts[0].Rules[0].Name != "httproute/lab/mine#0" {
			t.Errorf("routes of lab: %+v", hosts)
		}
		if hosts := here.get(key).Destination.Routes.Hosts; len(hosts) != 0 {
			t.Errorf("routes of default: %+v", hosts)
		}
	})
}

// TestPolicyPushes: a policy reaches whoever keeps to it: callers with the
// destination or its endpoints, the workload that serves with its listener.
func TestPolicyPushes(t *testing.T) {
	const destination, endpoints = control.KeyDestinationPart + "cart.default:80", control.KeyEndpointsPart + "cart.default:80"
	const otherDestination, otherEndpoints = control.KeyDestinationPart + "other.default:80", control.KeyEndpointsPart + "other.default:80"
	policy := func(spec string) string {
		return "\napiVersion: tulle.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: p}\nspec:\n  targetRefs: [{kind: Service, name: cart}]\n  " + spec + "\n"
	}
	bubble(t, func(t *testing.T, w *world) {
		w.apply(cart + "---" + strings.ReplaceAll(cart, "cart", "other") + "---" + workload("cart-1", "cart", 15080))
		w.grant("cart", "cart.default")
		caller, server := w.connect("web", "web", func(h *control.Hello) { h.Zone = "west" }), w.connect("cart", "cart-1")
		defer caller.close()
		defer server.close()
		caller.subscribe(destination, endpoints, otherDestination, otherEndpoints)
		server.subscribe(otherDestination)
		caller.told()
		server.told()
		if zone := caller.get(control.KeyProxy).Proxy.Zone; zone != "west" {
			t.Errorf("the proxy's own zone came back as %q", zone)
		}
		for _, step := range []struct{ spec, caller, server string }{
			{"timeouts: {request: 1s}", destination, ""},
			{"timeouts: {request: 1s}\n  locality: AnyZone", endpoints, ""},
			{"timeouts: {request: 1s}\n  locality: AnyZone\n  overload: {}", "", control.KeyProxy},
			{"timeouts: {request: 1s}\n  locality: AnyZone\n  overload: {}\n  retry: {attempts: 2}", "", ""}, // the default anyway
			{"locality: AnyZone", destination, control.KeyProxy},
		} {
			w.apply(policy(step.spec))
			if got := caller.told(); got != step.caller {
				t.Errorf("%s: the caller was told %q, want %q", step.spec, got, step.caller)
			}
			if got := server.told(); got != step.server {
				t.Errorf("%s: the server was told %q, want %q", step.spec, got, step.server)
			}
		}
	})
}
