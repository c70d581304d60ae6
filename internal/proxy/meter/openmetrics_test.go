package meter

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

// openScrape reads OpenMetrics with Prometheus' own parser: series to value, and
// the kind and unit of each metric.
func openScrape(t testing.TB, r *Registry) (series map[string]float64, kinds map[string]string) {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteOpenMetrics(&b); err != nil {
		t.Fatal(err)
	}
	series, kinds = map[string]float64{}, map[string]string{}
	p := textparse.NewOpenMetricsParser(b.Bytes(), labels.NewSymbolTable())
	for {
		entry, err := p.Next()
		switch {
		case errors.Is(err, io.EOF):
			if !strings.HasSuffix(b.String(), "\n# EOF\n") || strings.Count(b.String(), "# EOF") != 1 {
				t.Error("it doesn't end in # EOF, once")
			}
			return series, kinds
		case err != nil:
			t.Fatalf("Prometheus can't read it: %v\n%s", err, b.String())
		}
		switch entry {
		case textparse.EntryType:
			name, kind := p.Type()
			if _, twice := kinds[string(name)]; twice {
				t.Errorf("%s begins twice", name)
			}
			kinds[string(name)] = string(kind)
		case textparse.EntryUnit:
			name, unit := p.Unit()
			kinds[string(name)] += " " + string(unit)
		case textparse.EntrySeries:
			_, _, v := p.Series()
			var l labels.Labels
			p.Labels(&l)
			if _, twice := series[l.String()]; twice {
				t.Errorf("%s is there twice", l)
			}
			series[l.String()] = v
		}
	}
}

// TestOpenMetrics: the same series and values as in Prometheus' text, counters
// under their names without _total, units named.
func TestOpenMetrics(t *testing.T) {
	r := New(2, `1.2 "odd"`)
	h := r.Shard(0).Traffic(Labels{Direction: Outbound, Service: "cart.default:8080", TLS: Mutual})
	h.Opened(HTTP1)
	h.Received(100)
	h.Request(200, 300*time.Microsecond)
	h.Request(200, 5*time.Hour)
	r.Shard(1).Traffic(Labels{Direction: Inbound, Service: "a\\b\"c\n", Peer: "web.default"}).Opened(TCP)
	r.Shard(0).Error(Outbound, "cart.default:8080", "connect")
	r.SetIdentityExpiry(time.Unix(1_900_000_000, 0))
	r.Collect(func(w *Writer) {
		w.Family("tulle_extra", GaugeKind, "More\nof \\ \"it\".")
		w.Sample(1.5, "a", "b")
	})
	text := scrape(t, r)
	open, kinds := openScrape(t, r)
	for _, moving := range []string{"process_", "go_"} { // between the two
		for name := range text {
			if strings.Contains(name, `{__name__="`+moving) {
				text[name] = 0
				if _, ok := open[name]; ok {
					open[name] = 0
				}
			}
		}
	}
	if diff := cmp.Diff(text, open); diff != "" {
		t.Errorf("the two say different things (-text +OpenMetrics):\n%s", diff)
	}
	for name, want := range map[string]string{
		"tulle_requests": "counter", "tulle_received_bytes": "counter bytes", "tulle_request_duration_seconds": "histogram seconds",
		"tulle_connections": "counter", "tulle_connections_open": "gauge", "tulle_errors": "counter", "tulle_extra": "gauge",
		"tulle_identity_expiry_timestamp_seconds": "gauge seconds", "process_cpu_seconds": "counter seconds",
	} {
		if kinds[name] != want {
			t.Errorf("%s is a %q, want %q", name, kinds[name], want)
		}
	}
	for name, kind := range kinds {
		if strings.HasSuffix(name, "_total") || !model.UTF8Validation.IsValidMetricName(name) || kind == "" {
			t.Errorf("%s %s", name, kind)
		}
	}
}
