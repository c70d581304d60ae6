package query

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tulle.dev/tulle/internal/telemetry"
)

func TestAdoption(t *testing.T) {
	l := newLab(t)
	cart := l.proxy("cart-1")
	const service = `direction="inbound",service="cart.default:8080",`
	l.scrape()
	l.run(90*time.Second, func() {
		cart.request(cartIn, "200", 6)
		cart.request(cartIn, "503", 1)
		cart.request(service+`peer="",tls="none"`, "200", 2)
		cart.request(webToCart, "200", 100) // the caller's side: counted where it arrives
		cart.add(`tulle_connections_total{direction="inbound",service="db.default:5432",peer="web.default",tls="mutual",protocol="tcp"}`, 1)
		cart.add(`tulle_access_total{`+service+`peer="web.default",decision="allowed",rule="accesspolicy/default/cart#0"}`, 4)
		cart.add(`tulle_access_total{`+service+`peer="web.default",decision="allowed",rule=""}`, 2)
		cart.add(`tulle_access_total{`+service+`peer="web.default",decision="denied",rule=""}`, 1)
		cart.add(`tulle_access_total{`+service+`peer="",decision="audit",rule=""}`, 2)
		cart.add(`tulle_access_total{`+service+`peer="",decision="ended",rule="mode/strict"}`, 1)
		cart.add(`tulle_errors_total{direction="inbound",service="cart.default:8080",reason="plaintext_refused"}`, 1)
		cart.add(`tulle_errors_total{direction="inbound",service="cart.default:8080",reason="connection_refused"}`, 9)
	})
	got, err := l.engine.Adoption(context.Background(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	const n = float64(time.Minute / interval)
	want := telemetry.Adoption{Window: "1m", Ports: []telemetry.AdoptionPort{
		{Service: "cart.default:8080", Requests: 9 * n, Mutual: 7 * n, Known: 7 * n, Allowed: 4 * n, ByDefault: 2 * n, Denied: n, Audit: 2 * n, Failed: n, Refused: 2 * n,
			Callers: []telemetry.AdoptionCaller{{Peer: "web.default", TLS: "mutual", Requests: 7 * n}, {TLS: "none", Requests: 2 * n}}},
		{Service: "db.default:5432", Requests: n, Mutual: n, Known: n, Callers: []telemetry.AdoptionCaller{{Peer: "web.default", TLS: "mutual", Requests: n}}},
	}}
	if diff := cmp.Diff(want, got, approximately); diff != "" {
		t.Error(diff)
	}
	for _, window := range []time.Duration{time.Second, 8 * 24 * time.Hour} {
		if _, err := l.engine.Adoption(context.Background(), window); err == nil {
			t.Errorf("a window of %s is taken", window)
		}
	}
}
