package cli

import (
	"encoding/json"
	"reflect"
	"testing"
)

// TestLegible: nothing that a terminal obeys is left of what proxies say, and JSON
// says the same.
func TestLegible(t *testing.T) {
	for in, want := range map[string]string{
		"GET /caf\u00e9 \u00a7\u4e16":      "GET /caf\u00e9 \u00a7\u4e16",
		`a\b"c`:                            `a\b"c`,
		"\x1b]0;owned\x07":                 `\x1b]0;owned\a`,
		"a\nb\rc\x7f":                      `a\nb\rc\x7f`,
		"\u009b31m \u202e \u2028":          `\u009b31m \u202e \u2028`,
		"\x9b31m":                          `\x9b31m`,
		"\U000e0001 \U0001f600 \ufeff\xff": "\\U000e0001 \U0001f600 \\ufeff\\xff",
	} {
		if got := plain(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
		data := []byte(`{"a":` + string(must(json.Marshal(in))) + "}")
		var before, after any
		if err := json.Unmarshal(data, &before); err != nil {
			t.Fatal(err)
		}
		clean := legible(data)
		if plain(string(clean)) != string(clean) {
			t.Errorf("%q: %s isn't legible", in, clean)
		}
		if err := json.Unmarshal(clean, &after); err != nil || !reflect.DeepEqual(before, after) {
			t.Errorf("%s became %s: %v", data, clean, err)
		}
	}
	type inner struct{ Text string }
	answer := struct {
		Raw   json.RawMessage
		Any   any
		List  []inner
		Map   map[string]*inner
		Bytes []byte
	}{json.RawMessage(`{"k\u001b":["\u001b",12345678901234567890]}`), []any{"\x1b", map[string]any{"\x1b": "\x1b"}}, []inner{{"\x1b"}}, map[string]*inner{"\x1b": {"\x1b"}, "nil": nil}, []byte("\x1b")}
	want := answer
	want.Raw = json.RawMessage(`{"k\\x1b":["\\x1b",12345678901234567890]}`)
	want.Any, want.List, want.Map = []any{`\x1b`, map[string]any{`\x1b`: `\x1b`}}, []inner{{`\x1b`}}, map[string]*inner{`\x1b`: {`\x1b`}, "nil": nil}
	cleanse(reflect.ValueOf(&answer))
	if !reflect.DeepEqual(answer, want) {
		t.Errorf("%+v, want %+v", answer, want)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
