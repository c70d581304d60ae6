package cli

import (
	"bytes"
	"testing"
	"time"
)

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 0: "0s", 90 * time.Second: "90s", 3*time.Minute + 7*time.Second: "3m7s", 5 * time.Minute: "5m",
		45 * time.Minute: "45m", 3*time.Hour + 20*time.Minute: "3h20m", 7 * time.Hour: "7h", 47 * time.Hour: "47h", 50 * time.Hour: "2d",
	} {
		if got := age(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestPercentNeverRoundsUpToAll(t *testing.T) {
	for v, want := range map[float64]string{1: "100%", 0.999999: "99.99%", 0.5: "50.00%", 0: "0.00%"} {
		if got := percent(v); got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
}

func TestTableIgnoresColours(t *testing.T) {
	table := newTable("NAME", "STATE", "X")
	p := painter(true)
	table.row("a", p.good("yes"), "1")
	table.row("b", "never", "2")
	var out bytes.Buffer
	table.write(&out)
	want := "NAME   STATE   X\na      \x1b[32myes\x1b[0m     1\nb      never   2\n"
	if out.String() != want {
		t.Errorf("table:\n%q, want\n%q", out.String(), want)
	}
}

func TestColoursOnlyOnTerminals(t *testing.T) {
	if newPainter(&bytes.Buffer{}, func(string) string { return "" }) {
		t.Error("colours in a buffer")
	}
}
