package push

import "testing"

func TestLegible(t *testing.T) {
	for in, want := range map[string]string{
		"zone-1 b\u00e9":                 "zone-1 b\u00e9",
		"refused:\nline\ttwo":            "refused: line two",
		"\x1b[2J\u009b31m\u202e\x7f\xff": "\ufffd[2J\ufffd31m\ufffd\ufffd\ufffd",
	} {
		if got := legible(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
