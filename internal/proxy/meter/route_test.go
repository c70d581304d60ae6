package meter

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestRoutes(t *testing.T) {
	r := New(2, "test")
	l := RouteLabels{Direction: Outbound, Service: "cart.default:8080", Route: "httproute/default/cart#0", Backend: "cart-v2.default:8080"}
	if r.Shard(0).Route(l) != r.Shard(0).Route(l) {
		t.Error("not the same handle for the same labels")
	}
	for i := range 2 {
		h := r.Shard(i).Route(l)
		h.Request(200, 300*time.Microsecond)
		h.Request(503, time.Hour)
	}
	r.Shard(0).Route(RouteLabels{Direction: Edge, Route: "x"}).Request(0, 0)
	var b strings.Builder
	r.WriteText(&b)
	const at = `{direction="outbound",service="cart.default:8080",route="httproute/default/cart#0",backend="cart-v2.default:8080",`
	for _, want := range []string{
		"tulle_route_requests_total" + at + `status="2xx"} 2`,
		"tulle_route_requests_total" + at + `status="5xx"} 2`,
		`tulle_route_requests_total{direction="edge",service="",route="x",backend="",status="none"} 1`,
		"tulle_route_duration_seconds_bucket" + at + `le="0.00025"} 0`,
		"tulle_route_duration_seconds_bucket" + at + `le="0.0005"} 2`,
		"tulle_route_duration_seconds_bucket" + at + `le="16.384"} 2`,
		"tulle_route_duration_seconds_bucket" + at + `le="+Inf"} 4`,
		"tulle_route_duration_seconds_count" + strings.TrimSuffix(at, ",") + "} 4",
	} {
		if !strings.Contains(b.String(), want+"\n") {
			t.Errorf("no %s in\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), `le="0.000375"`+"} 0\ntulle_route") {
		t.Error("a bucket for half a power of two")
	}
	h := r.Shard(0).Route(l)
	if n := testing.AllocsPerRun(100, func() { h.Request(200, time.Millisecond) }); n != 0 {
		t.Errorf("%v allocations a request", n)
	}
}

// TestRoutesAreBounded: what comes over the bound is counted as other, on every loop.
func TestRoutesAreBounded(t *testing.T) {
	r := New(4, "test")
	for i := range maxRoutes * 2 {
		r.Shard(i%4).Route(RouteLabels{Direction: Edge, Route: fmt.Sprint(i)}).Request(200, 0)
	}
	totals := r.sumRoutes()
	var other uint64
	for _, x := range totals {
		if x.labels.Route == overflow {
			other += x.classes[2]
		}
	}
	if len(totals) != maxRoutes+1 || other != maxRoutes {
		t.Errorf("%d series, %d requests in other", len(totals), other)
	}
}
