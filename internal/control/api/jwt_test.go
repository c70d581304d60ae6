package api

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"tulle.dev/tulle/internal/control/api/client"
)

// A workload can't fill the audit log, nor memory, with what it asks for, and others'
// entries don't go missing by it.
func TestMints(t *testing.T) {
	var m mints
	now := time.Now()
	ask := func(who string, failed bool, audience ...string) bool {
		return m.fresh(who, &client.JWTSVIDRequest{Identity: "shop/web", Audience: audience}, failed, now)
	}
	for _, c := range []struct {
		who      string
		failed   bool
		audience []string
		want     bool
	}{
		{"a", false, []string{"x", "y"}, true},
		{"a", false, []string{"y", "x"}, false},
		{"a", false, []string{"x\x00y"}, true},
		{"a", false, []string{"x"}, true},
		{"b", false, []string{"x"}, true},
		{"a", true, []string{"x"}, true},
		{"a", true, []string{"z"}, false},
	} {
		if got := ask(c.who, c.failed, c.audience...); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
	entries := 0
	for i := range 1000 {
		for _, failed := range []bool{false, true} {
			if ask("loud", failed, strings.Repeat("x", 1000)+strconv.Itoa(i)) {
				entries++
			}
		}
	}
	if entries != maxNoted+1 {
		t.Errorf("%d entries of one in an hour, want %d", entries, maxNoted+1)
	}
	for i := range maxMints + 10 {
		ask(strings.Repeat("w", 1000)+strconv.Itoa(i), true)
	}
	if len(m.of) > maxMints {
		t.Errorf("%d askers are remembered", len(m.of))
	}
	ask("loud", true)
	now = now.Add(mintEvery)
	if !ask("loud", true) || !ask("loud", false, "x") {
		t.Error("an hour later there is no entry")
	}
}
