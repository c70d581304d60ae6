package query

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tulle.dev/tulle/internal/telemetry"
)

// route counts n requests that a rule sent to a backend in the middle of (1 ms, 2 ms].
func (p *proxy) route(labels, status string, n float64) {
	p.add("tulle_route_requests_total{"+labels+`,status="`+status+`"}`, n)
	for _, le := range []string{"0.001", "0.002", "+Inf"} {
		by := n
		if le == "0.001" {
			by = 0
		}
		p.add("tulle_route_duration_seconds_bucket{"+labels+`,le="`+le+`"}`, by)
	}
}

func TestRoutes(t *testing.T) {
	l := newLab(t)
	a, b, edge := l.proxy("web-1"), l.proxy("web-2"), l.proxy("edge")
	const rule = `direction="outbound",service="cart.default:8080",route="httproute/default/cart#0",backend="`
	l.scrape()
	l.run(90*time.Second, func() {
		for _, p := range []*proxy{a, b} { // 9 to 1, a fifth of the second fails
			p.route(rule+`cart.default:8080"`, "2xx", 9)
			p.route(rule+`cart-v2.default:8080"`, "2xx", 0.8)
			p.route(rule+`cart-v2.default:8080"`, "5xx", 0.2)
		}
		edge.route(`direction="edge",service="",route="",backend=""`, "4xx", 2)
		edge.route(`direction="mirror",service="",route="",backend=""`, "2xx", 2)
	})
	got, err := l.engine.Routes(context.Background(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	latency := telemetry.Latency{P50: f(1.5), P95: f(1.95), P99: f(1.99)}
	want := telemetry.Routes{Window: "1m", Routes: []telemetry.Route{
		{Direction: "edge", RPS: f(1), Share: f(1), SuccessRate: f(1), Latency: latency},
		{Direction: "outbound", Service: "cart.default:8080", Route: "httproute/default/cart#0", Backend: "cart-v2.default:8080", RPS: f(1), Share: f(0.1), SuccessRate: f(0.8), Latency: latency},
		{Direction: "outbound", Service: "cart.default:8080", Route: "httproute/default/cart#0", Backend: "cart.default:8080", RPS: f(9), Share: f(0.9), SuccessRate: f(1), Latency: latency},
	}}
	if diff := cmp.Diff(want, got, approximately); diff != "" {
		t.Error(diff)
	}
	if _, err := l.engine.Routes(context.Background(), time.Second); err == nil {
		t.Error("a window of a second is taken")
	}
}
