package meter

import (
	"bytes"
	"math"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

// scrape reads the text with Prometheus' own parser: series to value.
func scrape(t testing.TB, r *Registry) map[string]float64 {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	p := textparse.NewPromParser(b.Bytes(), labels.NewSymbolTable(), false)
	got := make(map[string]float64)
	for {
		entry, err := p.Next()
		if err != nil {
			if err.Error() == "EOF" {
				return got
			}
			t.Fatalf("Prometheus can't read it: %v\n%s", err, b.String())
		}
		if entry != textparse.EntrySeries {
			continue
		}
		_, _, v := p.Series()
		var l labels.Labels
		p.Labels(&l)
		if _, ok := got[l.String()]; ok {
			t.Errorf("%s is there twice", l)
		}
		got[l.String()] = v
	}
}

func TestText(t *testing.T) {
	r := New(2, `1.2 "odd"`)
	cart := Labels{Direction: Outbound, Service: "cart.default:8080", TLS: Mutual}
	for i := range 2 {
		h := r.Shard(i).Traffic(cart)
		h.Opened(HTTP1)
		h.Opened(HTTP1)
		h.Closed()
		h.Received(100)
		h.Sent(1000)
		h.Request(200, 300*time.Microsecond)
		h.Request(503, 5*time.Millisecond)
	}
	r.Shard(1).Traffic(Labels{Direction: Inbound, Service: "a\\b\"c\n", Peer: "web.default"}).Opened(TCP)
	r.Shard(0).Error(Outbound, "cart.default:8080", "connect")
	r.Shard(1).Error(Outbound, "cart.default:8080", "connect")
	r.Shard(0).Malformed(Inbound, "two-lengths")
	r.SetIdentityExpiry(time.Unix(1_900_000_000, 0))
	r.SetControlConnected(true)
	r.SetViewVersion(1<<60 + 1)
	r.Collect(func(w *Writer) {
		w.Family("tulle_extra", GaugeKind, "More\nof \\ it.")
		w.Sample(1.5, "a", "b")
	})
	got := scrape(t, r)
	const of = `direction="outbound", peer="", `
	for series, want := range map[string]float64{
		`{__name__="tulle_requests_total", ` + of + `service="cart.default:8080", status="200", tls="mutual"}`:                                        2,
		`{__name__="tulle_requests_total", ` + of + `service="cart.default:8080", status="503", tls="mutual"}`:                                        2,
		`{__name__="tulle_request_duration_seconds_bucket", direction="outbound", le="0.00025", peer="", service="cart.default:8080", tls="mutual"}`:  0,
		`{__name__="tulle_request_duration_seconds_bucket", direction="outbound", le="0.000375", peer="", service="cart.default:8080", tls="mutual"}`: 2,
		`{__name__="tulle_request_duration_seconds_bucket", direction="outbound", le="0.006", peer="", service="cart.default:8080", tls="mutual"}`:    4,
		`{__name__="tulle_request_duration_seconds_bucket", direction="outbound", le="+Inf", peer="", service="cart.default:8080", tls="mutual"}`:     4,
		`{__name__="tulle_request_duration_seconds_count", ` + of + `service="cart.default:8080", tls="mutual"}`:                                      4,
		`{__name__="tulle_request_duration_seconds_sum", ` + of + `service="cart.default:8080", tls="mutual"}`:                                        0.0106,
		`{__name__="tulle_connections_total", ` + of + `protocol="http1", service="cart.default:8080", tls="mutual"}`:                                 4,
		`{__name__="tulle_connections_open", ` + of + `service="cart.default:8080", tls="mutual"}`:                                                    2,
		`{__name__="tulle_received_bytes_total", ` + of + `service="cart.default:8080", tls="mutual"}`:                                                200,
		`{__name__="tulle_sent_bytes_total", ` + of + `service="cart.default:8080", tls="mutual"}`:                                                    2000,
		`{__name__="tulle_connections_open", direction="inbound", peer="web.default", service="a\\b\"c\n", tls="none"}`:                               1,
		`{__name__="tulle_errors_total", direction="outbound", reason="connect", service="cart.default:8080"}`:                                        2,
		`{__name__="tulle_malformed_total", direction="inbound", reason="two-lengths"}`:                                                               1,
		`{__name__="tulle_identity_expiry_timestamp_seconds"}`:                                                                                        1_900_000_000,
		`{__name__="tulle_control_connected"}`:                 1,
		`{__name__="tulle_view_version"}`:                      1<<60 + 1,
		`{__name__="tulle_build_info", version="1.2 \"odd\""}`: 1,
		`{__name__="tulle_extra", a="b"}`:                      1.5,
	} {
		if v, ok := got[series]; !ok || v != want {
			t.Errorf("%s: %v (there: %v), want %v", series, v, ok, want)
		}
	}
	if cpu, ok := got[`{__name__="process_cpu_seconds_total"}`]; !ok || cpu < 0 {
		t.Errorf("process_cpu_seconds_total: %v", cpu)
	}
	if start := got[`{__name__="process_start_time_seconds"}`]; math.Abs(start-float64(time.Now().Unix())) > 60 {
		t.Errorf("process_start_time_seconds: %v", start)
	}
}

func TestBucket(t *testing.T) {
	for i := range bounds {
		b := time.Duration(boundNanoseconds(i))
		if got := bucket(b); got != i {
			t.Errorf("%v is in bucket %d, want %d: bounds are inclusive", b, got, i)
		}
		if got := bucket(b + 1); got != i+1 {
			t.Errorf("%v is in bucket %d, want %d", b+1, got, i+1)
		}
	}
	for d, want := range map[time.Duration]int{0: 0, 1: 0, time.Hour: bounds, math.MaxInt64: bounds} {
		if got := bucket(d); got != want {
			t.Errorf("%v is in bucket %d, want %d", d, got, want)
		}
	}
	if boundLabels[0] != "0.00025" || boundLabels[1] != "0.000375" || boundLabels[bounds-1] != "16.384" {
		t.Errorf("bounds %v", boundLabels)
	}
}

func TestOverflow(t *testing.T) {
	r := New(2, "test")
	for i := range 3 * maxSeries {
		r.Shard(i % 2).Traffic(Labels{Direction: Outbound, Service: "s" + strconv.Itoa(i), TLS: Mutual}).Received(1)
		r.Shard(i%2).Error(Outbound, "s"+strconv.Itoa(i), "connect")
		r.Shard(i%2).Malformed(Inbound, "reason"+strconv.Itoa(i))
	}
	got := scrape(t, r)
	sum := map[string]float64{}
	n := map[string]int{}
	for series, v := range got {
		name := regexp.MustCompile(`__name__="(\w+)"`).FindStringSubmatch(series)[1]
		sum[name] += v
		n[name]++
	}
	for _, name := range []string{"tulle_received_bytes_total", "tulle_errors_total", "tulle_malformed_total"} {
		if n[name] > maxSeries+4 {
			t.Errorf("%s has %d series", name, n[name])
		}
	}
	if sum["tulle_received_bytes_total"] != 3*maxSeries || sum["tulle_errors_total"] != 3*maxSeries || sum["tulle_malformed_total"] != 3*maxSeries {
		t.Errorf("something was lost: %v", sum)
	}
	if got[`{__name__="tulle_received_bytes_total", direction="outbound", peer="other", service="other", tls="mutual"}`] != 2*maxSeries {
		t.Error("no overflow series")
	}
	// Odd statuses are bounded, too.
	h := r.Shard(0).Traffic(Labels{Direction: Edge})
	for i := range 100 {
		h.Request(600+i, time.Millisecond)
	}
	if v := scrape(t, r)[`{__name__="tulle_requests_total", direction="edge", peer="", service="", status="other", tls="none"}`]; v != 100-maxStatuses {
		// The series itself may have overflowed.
		v = scrape(t, r)[`{__name__="tulle_requests_total", direction="edge", peer="other", service="other", status="other", tls="none"}`]
		if v != 100-maxStatuses {
			t.Errorf("other statuses: %v", v)
		}
	}
}

// TestConcurrentScrapes: loops count while others scrape (run with -race).
func TestConcurrentScrapes(t *testing.T) {
	r := New(4, "test")
	var loops sync.WaitGroup
	const n = 2000
	for i := range 4 {
		loops.Go(func() {
			s := r.Shard(i)
			for j := range n {
				h := s.Traffic(Labels{Direction: Outbound, Service: "s" + strconv.Itoa(j%7)})
				h.Opened(HTTP1)
				h.Request(200+j%5, time.Duration(j)*time.Microsecond)
				h.Received(3)
				h.Closed()
				s.Error(Outbound, "x", "r"+strconv.Itoa(j%3))
			}
		})
	}
	for range 20 {
		for series, v := range scrape(t, r) {
			if v < 0 || strings.Contains(series, "connections_open") && v > 4 {
				t.Errorf("%s is %v", series, v)
			}
		}
	}
	loops.Wait()
	var received float64
	for series, v := range scrape(t, r) {
		if strings.Contains(series, "tulle_received_bytes_total") {
			received += v
		}
	}
	if received != 4*n*3 {
		t.Errorf("received %v, want %v", received, 4*n*3)
	}
}

func TestCountingDoesNotAllocate(t *testing.T) {
	s := New(1, "test").Shard(0)
	l := Labels{Direction: Outbound, Service: "cart.default:8080", TLS: Mutual}
	s.Traffic(l).Request(200, time.Millisecond)
	s.Error(Outbound, "cart.default:8080", "connect")
	if n := testing.AllocsPerRun(100, func() {
		h := s.Traffic(l)
		h.Opened(HTTP1)
		h.Received(1)
		h.Sent(1)
		h.Request(200, time.Millisecond)
		h.Closed()
		s.Error(Outbound, "cart.default:8080", "connect")
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkRequest(b *testing.B) {
	h := New(1, "test").Shard(0).Traffic(Labels{Direction: Outbound, Service: "cart.default:8080"})
	b.ReportAllocs()
	for b.Loop() {
		h.Request(200, 700*time.Microsecond)
	}
}

func BenchmarkResolve(b *testing.B) {
	s := New(1, "test").Shard(0)
	l := Labels{Direction: Outbound, Service: "cart.default:8080", Peer: "web.default", TLS: Mutual}
	b.ReportAllocs()
	for b.Loop() {
		s.Traffic(l)
	}
}
