package query

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tulle.dev/tulle/internal/telemetry"
	"tulle.dev/tulle/internal/telemetry/tsdb"
)

// lab is a database, a clock that only the test moves, and proxies whose
// counters only the test moves.
type lab struct {
	t      *testing.T
	db     *tsdb.DB
	engine *Engine
	now    time.Time
	order  []*proxy
}

// interval is the time between two scrapes.
const interval = 2 * time.Second

func newLab(t *testing.T, services ...Service) *lab {
	t.Helper()
	db, err := tsdb.Open(tsdb.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	l := &lab{t: t, db: db, now: time.UnixMilli(1_800_000_000_000)}
	l.engine = New(Config{DB: db, Services: func() []Service { return services }, Now: func() time.Time { return l.now }, Version: "v0"})
	return l
}

// proxy is the counters of one proxy, by series.
type proxy struct {
	target  *tsdb.Target
	started time.Time
	counts  map[string]float64
	order   []string
}

func (l *lab) proxy(name string) *proxy {
	p := &proxy{
		target:  l.db.Target(map[string]string{"proxy": name, "namespace": "default"}),
		started: l.now.Add(-time.Second),
		counts:  map[string]float64{},
	}
	l.order = append(l.order, p)
	return p
}

// add moves a counter, or a gauge.
func (p *proxy) add(series string, by float64) {
	if _, known := p.counts[series]; !known {
		p.order = append(p.order, series)
	}
	p.counts[series] += by
}

// request counts n requests that took the middle of (1 ms, 1.5 ms].
func (p *proxy) request(labels, status string, n float64) {
	p.add("tulle_requests_total{"+labels+`,status="`+status+`"}`, n)
	for _, le := range []string{"0.001", "0.0015", "0.002", "+Inf"} {
		if le == "0.001" {
			p.add("tulle_request_duration_seconds_bucket{"+labels+`,le="`+le+`"}`, 0)
		} else {
			p.add("tulle_request_duration_seconds_bucket{"+labels+`,le="`+le+`"}`, n)
		}
	}
}

func (p *proxy) text() string {
	var b strings.Builder
	types := map[string]string{
		"tulle_requests_total": "counter", "tulle_request_duration_seconds": "histogram", "tulle_connections_total": "counter",
		"tulle_route_requests_total": "counter", "tulle_route_duration_seconds": "histogram",
		"tulle_access_total": "counter", "tulle_errors_total": "counter",
		"tulle_connections_open": "gauge", "tulle_received_bytes_total": "counter", "tulle_sent_bytes_total": "counter",
	}
	for name, typ := range types {
		fmt.Fprintf(&b, "# HELP %s Text.\n# TYPE %s %s\n", name, name, typ)
		for _, series := range p.order {
			if strings.HasPrefix(series, name+"{") || strings.HasPrefix(series, name+"_bucket{") {
				fmt.Fprintf(&b, "%s %v\n", series, p.counts[series])
			}
		}
	}
	fmt.Fprintf(&b, "# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds %v\n", float64(p.started.UnixMilli())/1000)
	return b.String()
}

// scrape stores every proxy's counters at the time that is now.
func (l *lab) scrape() {
	l.t.Helper()
	for _, p := range l.order {
		if _, err := p.target.Append(context.Background(), []byte(p.text()), "text/plain; version=0.0.4", l.now, time.Millisecond); err != nil {
			l.t.Fatal(err)
		}
	}
}

// run lets time pass: tick moves the counters between two scrapes.
func (l *lab) run(d time.Duration, tick func()) {
	l.t.Helper()
	for end := l.now.Add(d); l.now.Before(end); {
		l.now = l.now.Add(interval)
		tick()
		l.scrape()
	}
}

func (l *lab) stat(window time.Duration) map[string]telemetry.Service {
	l.t.Helper()
	stat, err := l.engine.Stat(context.Background(), window)
	if err != nil {
		l.t.Fatal(err)
	}
	out := map[string]telemetry.Service{}
	for _, s := range stat.Services {
		out[s.Name+"."+s.Namespace] = s
	}
	return out
}

func (l *lab) edges(window time.Duration) map[string]telemetry.Edge {
	l.t.Helper()
	edges, err := l.engine.Edges(context.Background(), window)
	if err != nil {
		l.t.Fatal(err)
	}
	out := map[string]telemetry.Edge{}
	for _, e := range edges.Edges {
		out[e.From.Name+" -> "+e.To.Name] = e
	}
	return out
}

func f(v float64) *float64 { return &v }

// latency is what requests in the middle of (1 ms, 1.5 ms] look like: PromQL
// spreads a bucket's requests evenly over it.
var latency = telemetry.Latency{P50: f(1.25), P95: f(1.475), P99: f(1.495)}

// approximately allows for floating point, not for another answer.
var approximately = cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) < 1e-9 })

const (
	webToCart = `direction="outbound",service="cart.default:8080",peer="",tls="mutual"`
	cartIn    = `direction="inbound",service="cart.default:8080",peer="web.default",tls="mutual"`
)

func TestGoldenSignalsOfAMinute(t *testing.T) {
	l := newLab(t,
		Service{"cart", "default", telemetry.Meshed{Ready: 2, Total: 2}},
		Service{"quiet", "default", telemetry.Meshed{Ready: 0, Total: 1}},
	)
	web, cart := l.proxy("web"), l.proxy("cart-1")
	l.scrape()
	l.run(90*time.Second, func() { // 10 requests/s, one in 20 fails
		for _, side := range []struct {
			p      *proxy
			labels string
		}{{web, webToCart}, {cart, cartIn}} {
			side.p.request(side.labels, "200", 19)
			side.p.request(side.labels, "503", 1)
			side.p.add("tulle_received_bytes_total{"+side.labels+"}", 2000)
			side.p.add("tulle_sent_bytes_total{"+side.labels+"}", 4000)
			side.p.add("tulle_connections_total{"+side.labels+`,protocol="http1"}`, 1)
			side.p.add("tulle_connections_open{"+side.labels+"}", 0)
		}
	})
	signals := telemetry.Signals{
		RPS: f(10), SuccessRate: f(0.95), Latency: latency, MutualTLS: f(1),
		TCPConnections: f(0), ReceivedBytes: f(1000), SentBytes: f(2000),
	}
	for _, window := range []time.Duration{10 * time.Second, time.Minute} {
		want := map[string]telemetry.Service{
			"cart.default":  {Name: "cart", Namespace: "default", Meshed: telemetry.Meshed{Ready: 2, Total: 2}, Signals: signals},
			"quiet.default": {Name: "quiet", Namespace: "default", Meshed: telemetry.Meshed{Total: 1}},
		}
		if diff := cmp.Diff(want, l.stat(window), approximately); diff != "" {
			t.Errorf("stat over %s (-want +got):\n%s", window, diff)
		}
		wantEdges := map[string]telemetry.Edge{
			"web -> cart": {
				From: telemetry.Peer{Name: "web", Namespace: "default"}, To: telemetry.Peer{Name: "cart", Namespace: "default"},
				Protocol: "http", Signals: signals,
			},
		}
		if diff := cmp.Diff(wantEdges, l.edges(window), approximately); diff != "" {
			t.Errorf("edges over %s (-want +got):\n%s", window, diff)
		}
	}
}

// A demo is looked at ten seconds after it began: the rates are the true ones,
// not a sixth of them because the window is a minute.
func TestRatesAfterTenSeconds(t *testing.T) {
	l := newLab(t)
	cart := l.proxy("cart-1")
	l.scrape() // before any request: the proxy exposes no series of traffic
	l.run(10*time.Second, func() { cart.request(cartIn, "200", 20) })
	got := l.stat(time.Minute)["cart.default"]
	if diff := cmp.Diff(f(10), got.RPS, approximately); diff != "" {
		t.Errorf("rps (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(latency, got.Latency, approximately); diff != "" {
		t.Errorf("latency (-want +got):\n%s", diff)
	}
}

// When it is asked between two scrapes, the rate is the same.
func TestRatesBetweenScrapes(t *testing.T) {
	l := newLab(t)
	cart := l.proxy("cart-1")
	l.scrape()
	l.run(2*time.Minute, func() { cart.request(cartIn, "200", 20) })
	for range 8 {
		l.now = l.now.Add(230 * time.Millisecond)
		if diff := cmp.Diff(f(10), l.stat(time.Minute)["cart.default"].RPS, approximately); diff != "" {
			t.Errorf("rps (-want +got):\n%s", diff)
		}
	}
}

// The only failure there is must not be lost because its counter is new.
func TestFirstFailureCounts(t *testing.T) {
	l := newLab(t)
	cart := l.proxy("cart-1")
	l.run(20*time.Second, func() { cart.request(cartIn, "200", 10) })
	cart.request(cartIn, "500", 1)
	l.run(interval, func() { cart.request(cartIn, "200", 10) })
	// 11 scrapes of 10 good requests and the one that failed.
	if diff := cmp.Diff(f(110.0/111), l.stat(time.Minute)["cart.default"].SuccessRate, approximately); diff != "" {
		t.Errorf("success rate (-want +got):\n%s", diff)
	}
}

func TestStatJoinsBothSides(t *testing.T) {
	tests := []struct {
		name                    string
		outbound, inbound       map[string]float64 // requests a scrape, by status
		rps, success, mutualTLS *float64
	}{
		{"same on both sides", map[string]float64{"200": 4}, map[string]float64{"200": 4}, f(2), f(1), f(1)},
		{"lost on the way", map[string]float64{"200": 3, "503": 1}, map[string]float64{"200": 3}, f(2), f(0.75), f(1)},
		{"failed at the service", map[string]float64{"200": 3, "503": 1}, map[string]float64{"200": 3, "503": 1}, f(2), f(0.75), f(1)},
		{"callers outside the mesh too", map[string]float64{"200": 2}, map[string]float64{"200": 4}, f(2), f(1), f(1)},
		{"no proxy of its own", map[string]float64{"200": 2, "502": 2}, nil, f(2), f(0.5), f(1)},
		{"nothing but failures", map[string]float64{"503": 2}, nil, f(1), f(0), nil},
		{"client errors are answers", map[string]float64{"404": 2}, map[string]float64{"404": 2}, f(1), f(1), f(1)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := newLab(t)
			web, cart := l.proxy("web"), l.proxy("cart-1")
			l.scrape()
			l.run(70*time.Second, func() {
				for status, n := range test.outbound {
					web.request(webToCart, status, n)
				}
				for status, n := range test.inbound {
					cart.request(cartIn, status, n)
				}
			})
			got := l.stat(time.Minute)["cart.default"]
			want := []*float64{test.rps, test.success, test.mutualTLS}
			if diff := cmp.Diff(want, []*float64{got.RPS, got.SuccessRate, got.MutualTLS}, approximately); diff != "" {
				t.Errorf("rps, success rate, mutual TLS (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPortsOfAServiceAreOne(t *testing.T) {
	l := newLab(t)
	cart := l.proxy("cart-1")
	l.scrape()
	l.run(70*time.Second, func() {
		cart.request(cartIn, "200", 2)
		cart.request(strings.Replace(cartIn, ":8080", ":9090", 1), "200", 6)
	})
	got := l.stat(time.Minute)["cart.default"]
	if diff := cmp.Diff(telemetry.Signals{RPS: f(4), SuccessRate: f(1), Latency: latency, MutualTLS: f(1), TCPConnections: f(0), ReceivedBytes: f(0), SentBytes: f(0)}, got.Signals, approximately); diff != "" {
		t.Errorf("signals (-want +got):\n%s", diff)
	}
}

func TestOpaqueTCP(t *testing.T) {
	const (
		out = `direction="outbound",service="redis.default:6379",peer="",tls="none"`
		in  = `direction="inbound",service="redis.default:6379",peer="",tls="none"`
	)
	l := newLab(t)
	cart, redis := l.proxy("cart-1"), l.proxy("redis")
	cart.add("tulle_connections_open{"+out+"}", 3)
	redis.add("tulle_connections_open{"+in+"}", 3)
	l.scrape()
	l.run(70*time.Second, func() {
		for p, labels := range map[*proxy]string{cart: out, redis: in} {
			p.add("tulle_connections_total{"+labels+`,protocol="tcp"}`, 1)
			p.add("tulle_received_bytes_total{"+labels+"}", 64)
			p.add("tulle_sent_bytes_total{"+labels+"}", 128)
		}
	})
	want := telemetry.Signals{MutualTLS: f(0), TCPConnections: f(3), ReceivedBytes: f(32), SentBytes: f(64)}
	if diff := cmp.Diff(want, l.stat(time.Minute)["redis.default"].Signals, approximately); diff != "" {
		t.Errorf("stat (-want +got):\n%s", diff)
	}
	edges := l.edges(time.Minute)
	// The plaintext arrival is an edge of its own: the server's proxy can't know
	// who called.
	for _, name := range []string{"cart-1 -> redis", " -> redis"} {
		if diff := cmp.Diff(telemetry.Edge{From: edges[name].From, To: telemetry.Peer{Name: "redis", Namespace: "default"}, Protocol: "tcp", Signals: want}, edges[name], approximately); diff != "" {
			t.Errorf("edge %q (-want +got):\n%s", name, diff)
		}
	}
	if len(edges) != 2 {
		t.Errorf("got %d edges, want 2: %v", len(edges), edges)
	}
}

func TestGatewayIsAnEdge(t *testing.T) {
	l := newLab(t)
	gateway := l.proxy("edge")
	l.scrape()
	l.run(70*time.Second, func() {
		gateway.request(`direction="edge",service="web.default:8080",peer="",tls="none"`, "200", 8)
	})
	got := l.edges(time.Minute)["edge -> web"]
	if diff := cmp.Diff([]*float64{f(4), f(0)}, []*float64{got.RPS, got.MutualTLS}, approximately); diff != "" {
		t.Errorf("rps, mutual TLS (-want +got):\n%s", diff)
	}
}

func TestCallsElsewhere(t *testing.T) {
	l := newLab(t)
	web := l.proxy("web")
	l.scrape()
	l.run(70*time.Second, func() {
		web.request(`direction="outbound",service="",peer="",tls="none"`, "200", 4)
		web.request(`direction="outbound",service="other",peer="other",tls="none"`, "200", 4) // too many label sets
		web.request(`direction="outbound",service="external/payments",peer="",tls="tls"`, "200", 4)
	})
	if stat := l.stat(time.Minute); len(stat) != 0 {
		t.Errorf("services %v, want none", stat)
	}
	elsewhere := telemetry.Edge{
		From: telemetry.Peer{Name: "web", Namespace: "default"}, Protocol: "http",
		Signals: telemetry.Signals{RPS: f(2), SuccessRate: f(1), Latency: latency, TCPConnections: f(0), ReceivedBytes: f(0), SentBytes: f(0)},
	}
	payments := elsewhere // an egress policy has a name for it
	payments.To.Name = "external/payments"
	want := map[string]telemetry.Edge{"web -> ": elsewhere, "web -> external/payments": payments}
	if diff := cmp.Diff(want, l.edges(time.Minute), approximately); diff != "" {
		t.Errorf("edges (-want +got):\n%s", diff)
	}
}

// A restarted proxy counts from zero again; nothing is counted twice or lost.
func TestProxyRestart(t *testing.T) {
	l := newLab(t)
	cart := l.proxy("cart-1")
	l.scrape()
	tick := func() { cart.request(cartIn, "200", 20) }
	l.run(40*time.Second, tick)
	clear(cart.counts)
	cart.order, cart.started = nil, l.now
	l.run(40*time.Second, tick)
	got := l.stat(time.Minute)["cart.default"]
	if diff := cmp.Diff([]*float64{f(10), f(1)}, []*float64{got.RPS, got.SuccessRate}, approximately); diff != "" {
		t.Errorf("rps, success rate (-want +got):\n%s", diff)
	}
}

func TestNoTrafficIsNotZeroPercent(t *testing.T) {
	l := newLab(t)
	cart := l.proxy("cart-1")
	cart.request(cartIn, "200", 20)
	l.run(90*time.Second, func() {})
	want := telemetry.Signals{RPS: f(0), TCPConnections: f(0), ReceivedBytes: f(0), SentBytes: f(0)}
	if diff := cmp.Diff(want, l.stat(time.Minute)["cart.default"].Signals, approximately); diff != "" {
		t.Errorf("signals (-want +got):\n%s", diff)
	}
	if edges := l.edges(time.Minute); len(edges) != 0 {
		t.Errorf("edges without traffic: %v", edges)
	}
}

func TestWindow(t *testing.T) {
	tests := []struct {
		in   string
		want time.Duration
		err  string
	}{
		{"", time.Minute, ""},
		{"30s", 30 * time.Second, ""},
		{"1h", time.Hour, ""},
		{"1", 0, `window "1": want a duration such as 30s, 1m or 1h`},
		{"1s", 0, "window 1s: want 5s to 6h"},
		{"7h", 0, "window 7h: want 5s to 6h"},
	}
	for _, test := range tests {
		got, err := ParseWindow(test.in)
		if test.err != "" {
			if err == nil || err.Error() != test.err {
				t.Errorf("ParseWindow(%q): error %v, want %q", test.in, err, test.err)
			}
			continue
		}
		if got != test.want || err != nil {
			t.Errorf("ParseWindow(%q) = %v, %v, want %v", test.in, got, err, test.want)
		}
	}
}

func BenchmarkStatAndEdges(b *testing.B) {
	for _, proxies := range []int{10, 200} {
		b.Run(fmt.Sprint(proxies, "proxies"), func(b *testing.B) {
			db, err := tsdb.Open(tsdb.Config{Dir: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			now := time.UnixMilli(1_800_000_000_000)
			engine := New(Config{DB: db, Now: func() time.Time { return now }})
			// Each calls four others; as many buckets as a real proxy has.
			var targets []*tsdb.Target
			for i := range proxies {
				targets = append(targets, db.Target(map[string]string{"proxy": fmt.Sprint("p", i), "namespace": "default"}))
			}
			text := func(i, n int) []byte {
				var t strings.Builder
				write := func(labels string) {
					fmt.Fprintf(&t, "# TYPE tulle_requests_total counter\ntulle_requests_total{%s,status=\"200\"} %d\n# TYPE tulle_request_duration_seconds histogram\n", labels, 20*n)
					for le := range 33 {
						fmt.Fprintf(&t, "tulle_request_duration_seconds_bucket{%s,le=\"%d\"} %d\n", labels, le, le*n)
					}
				}
				for k := 1; k <= 4; k++ {
					write(fmt.Sprintf(`direction="outbound",service="s%d.default:80",peer="",tls="mutual"`, (i+k)%proxies))
					write(fmt.Sprintf(`direction="inbound",service="s%d.default:80",peer="p%d.default",tls="mutual"`, i, (i+proxies-k)%proxies))
				}
				return []byte(t.String())
			}
			for n := range 31 {
				now = now.Add(interval)
				for i, target := range targets {
					if _, err := target.Append(context.Background(), text(i, n), "text/plain", now, 0); err != nil {
						b.Fatal(err)
					}
				}
			}
			for b.Loop() {
				stat, edges, err := engine.StatAndEdges(context.Background(), time.Minute)
				if err != nil || len(stat.Services) != proxies || len(edges.Edges) != 4*proxies {
					b.Fatalf("%d services, %d edges, error %v", len(stat.Services), len(edges.Edges), err)
				}
			}
		})
	}
}
