package query

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tulle.dev/tulle/internal/telemetry"
)

// last is each line's newest value.
func last(s telemetry.Series) map[string]*float64 {
	out := map[string]*float64{}
	for _, l := range s.Lines {
		out[l.Name] = l.Values[len(l.Values)-1]
	}
	return out
}

func TestCharts(t *testing.T) {
	l := newLab(t)
	web, cart := l.proxy("web"), l.proxy("cart-1")
	l.scrape()
	l.run(2*time.Minute, func() { // 10 requests/s, one in 20 fails
		web.request(webToCart, "200", 19)
		web.request(webToCart, "503", 1)
		cart.request(cartIn, "200", 19)
		cart.request(cartIn, "503", 1)
		cart.add("tulle_received_bytes_total{"+cartIn+"}", 2000)
		cart.add("tulle_sent_bytes_total{"+cartIn+"}", 4000)
		cart.add("tulle_connections_open{"+cartIn+"}", 0)
		web.request(`direction="outbound",service="bare.default:80",peer="",tls="none"`, "200", 2)
	})
	cartService := telemetry.Peer{Name: "cart", Namespace: "default"}
	tests := []struct {
		chart telemetry.Chart
		want  map[string]*float64
	}{
		{telemetry.Chart{Subject: "service", Of: cartService, Name: "requests"}, map[string]*float64{"success": f(9.5), "failure": f(0.5)}},
		{telemetry.Chart{Subject: "service", Of: cartService, Name: "success_rate"}, map[string]*float64{"success_rate": f(0.95)}},
		{telemetry.Chart{Subject: "service", Of: cartService, Name: "latency"}, map[string]*float64{"p50": f(1.25), "p95": f(1.475), "p99": f(1.495)}},
		{telemetry.Chart{Subject: "service", Of: cartService, Name: "bytes"}, map[string]*float64{"received": f(1000), "sent": f(2000)}},
		{telemetry.Chart{Subject: "service", Of: cartService, Name: "connections"}, map[string]*float64{"open": f(0)}},
		// Seen by its callers alone, and without a failure: zero, not unknown.
		{telemetry.Chart{Subject: "service", Of: telemetry.Peer{Name: "bare", Namespace: "default"}, Name: "requests"}, map[string]*float64{"success": f(1), "failure": f(0)}},
		{telemetry.Chart{Subject: "service", Of: telemetry.Peer{Name: "nonesuch", Namespace: "default"}, Name: "requests"}, map[string]*float64{"success": nil, "failure": nil}},
		// A name is not a pattern.
		{telemetry.Chart{Subject: "service", Of: telemetry.Peer{Name: "c.*", Namespace: "default"}, Name: "requests"}, map[string]*float64{"success": nil, "failure": nil}},
		{telemetry.Chart{Subject: "services", Name: "requests"}, map[string]*float64{"cart.default": f(10), "bare.default": f(1)}},
		{telemetry.Chart{Subject: "proxy", Of: telemetry.Peer{Name: "web", Namespace: "default"}, Name: "requests"}, map[string]*float64{"outbound": f(11)}},
		{telemetry.Chart{Subject: "proxy", Of: telemetry.Peer{Name: `we"b`, Namespace: "default"}, Name: "latency"}, map[string]*float64{"p50": nil, "p95": nil, "p99": nil}},
	}
	for _, test := range tests {
		test.chart.Span = 2 * time.Minute
		s, err := l.engine.Chart(context.Background(), test.chart)
		if err != nil {
			t.Errorf("%+v: %v", test.chart, err)
			continue
		}
		if diff := cmp.Diff(test.want, last(s), approximately); diff != "" {
			t.Errorf("%s of %s %s, newest values (-want +got):\n%s", test.chart.Name, test.chart.Subject, test.chart.Of, diff)
		}
		for i, at := range s.Times {
			if at != float64(l.now.Unix()-120+int64(5*i)) {
				t.Errorf("%+v: time %d is %v", test.chart, i, at)
				break
			}
		}
	}
}

func TestEveryChartParses(t *testing.T) {
	l := newLab(t)
	for subject, of := range charts {
		for name := range of {
			for _, span := range []time.Duration{0, time.Minute, time.Hour, 24 * time.Hour} {
				c := telemetry.Chart{Subject: subject, Of: telemetry.Peer{Name: "a", Namespace: "b"}, Name: name, Span: span}
				s, err := l.engine.Chart(context.Background(), c)
				if err != nil {
					t.Errorf("%+v: %v", c, err)
				}
				if n := len(s.Times); n < 10 || n > 200 {
					t.Errorf("%+v: %d points", c, n)
				}
			}
		}
	}
}

func TestBadCharts(t *testing.T) {
	l := newLab(t)
	for _, test := range []struct {
		chart telemetry.Chart
		want  string
	}{
		{telemetry.Chart{Subject: "service", Name: "colour"}, `chart "colour" of a "service": want one of proxy/connections`},
		{telemetry.Chart{Name: "requests"}, `chart "requests" of a "": want one of`},
		{telemetry.Chart{Subject: "services", Name: "requests", Span: time.Second}, "range 1s: want 1m to 1d"},
		{telemetry.Chart{Subject: "services", Name: "requests", Span: 48 * time.Hour}, "range 2d: want 1m to 1d"},
	} {
		_, err := l.engine.Chart(context.Background(), test.chart)
		var invalid *telemetry.InvalidError
		if !errors.As(err, &invalid) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: error %v, want %q", test.chart, err, test.want)
		}
	}
}
