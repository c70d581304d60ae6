package l7http

import (
	"testing"
	"time"

	"tulle.dev/tulle/internal/wire/h1"
)

func TestParseTimeout(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"1H": time.Hour, "2M": 2 * time.Minute, "3S": 3 * time.Second, "100m": 100 * time.Millisecond,
		"7u": 7 * time.Microsecond, "9n": 9, "0m": 0, "99999999H": maxTimeout, "99999999n": 99999999,
	} {
		if d, ok := parseTimeout([]byte(in)); !ok || d != want {
			t.Errorf("%s: %v %t, want %v", in, d, ok, want)
		}
	}
	for _, in := range []string{"", "m", "1", "1x", "-1m", "1.5S", "999999999m", " 1m"} {
		if d, ok := parseTimeout([]byte(in)); ok {
			t.Errorf("%q: %v", in, d)
		}
	}
}

func TestGRPCOutcome(t *testing.T) {
	for code, want := range map[string]int{"0": 200, "2": 500, "5": 200, "7": 200, "12": 501, "13": 500, "14": 503, "4": 504, "15": 500, "x": 500} {
		x := Exchange{exchangeState: exchangeState{status: 200}}
		x.noteGRPC([]h1.Field{{Name: []byte("a"), Value: []byte("1")}, {Name: []byte("Grpc-Status"), Value: []byte(code)}})
		if x.status != want {
			t.Errorf("grpc-status %s counts as %d, want %d", code, x.status, want)
		}
	}
}

// TestGRPCWithoutBackend: a call to a backend that doesn't exist is UNAVAILABLE,
// where HTTP says 500 (Gateway API, GRPCRouteRule.BackendRefs).
func TestGRPCWithoutBackend(t *testing.T) {
	if got := grpcOf(NoBackend); got != grpcUnavailable {
		t.Errorf("code %d, want %d", got, grpcUnavailable)
	}
}
