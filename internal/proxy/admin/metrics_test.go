package admin

import (
	"testing"

	"tulle.dev/tulle/internal/wire/h1"
)

func TestWantsOpenMetrics(t *testing.T) {
	for accept, want := range map[string]bool{
		"":                             false,
		"*/*":                          false,
		"text/plain":                   false,
		"application/openmetrics-text": true,
		"Application/OpenMetrics-Text; Version=\"1.0.0\"":                             true,
		"application/openmetrics-text;version=2.0.0":                                  false,
		"application/openmetrics-text;q=0":                                            false,
		"application/openmetrics-text;q=many":                                         false,
		"application/openmetrics-text;q=0.3,text/plain;q=0.5":                         false,
		"text/plain;version=0.0.4;q=0.5, application/openmetrics-text; q=0.5":         true,
		"text/plain;version=0.0.4;q=0.5,application/openmetrics-text;version=0.0.1":   false,
		"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;q=1": false,
		// What Prometheus 3 sends, and 2.
		"application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1": true,
		"application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1":                                                                               true,
	} {
		fields := []h1.Field{{Name: []byte("Host"), Value: []byte("x")}, {Name: []byte("accept"), Value: []byte(accept)}}
		if got := wantsOpenMetrics(fields); got != want {
			t.Errorf("Accept: %s: %v, want %v", accept, got, want)
		}
	}
}
