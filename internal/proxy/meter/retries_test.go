package meter

import (
	"strconv"
	"testing"
)

// Tries are added up over the loops, what never happened isn't shown, and many
// destinations overflow into one.
func TestRetries(t *testing.T) {
	r := New(2, "test")
	for i := range 2 {
		r.Shard(i).Retried(Outbound, "cart.default:8080", RetryStatus, Retried)
		r.Shard(i).Retried(Outbound, "cart.default:8080", RetryHedge, RetryNoBudget)
	}
	got := scrape(t, r)
	for series, want := range map[string]float64{
		`{__name__="tulle_retries_total", direction="outbound", outcome="sent", reason="status", service="cart.default:8080"}`:  2,
		`{__name__="tulle_retries_total", direction="outbound", outcome="budget", reason="hedge", service="cart.default:8080"}`: 2,
	} {
		if got[series] != want {
			t.Errorf("%s: %v, want %v", series, got[series], want)
		}
	}
	if _, ok := got[`{__name__="tulle_retries_total", direction="outbound", outcome="sent", reason="hedge", service="cart.default:8080"}`]; ok {
		t.Error("there is a series for what never happened")
	}
	for i := range 2 * maxSeries {
		r.Shard(0).Retried(Edge, "s"+strconv.Itoa(i), RetryReset, RetryBody)
	}
	if v := scrape(t, r)[`{__name__="tulle_retries_total", direction="edge", outcome="body", reason="reset", service="other"}`]; v != maxSeries+2 { // two series were there before
		t.Errorf("%v tries of other destinations, want %d", v, maxSeries+2)
	}
	if n := testing.AllocsPerRun(100, func() { r.Shard(0).Retried(Outbound, "cart.default:8080", RetryStatus, Retried) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
