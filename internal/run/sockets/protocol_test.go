package sockets

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRequestRoundTrip(t *testing.T) {
	for _, want := range []request{
		{kind: Capture, family: IPv4, count: 2, id: 1},
		{kind: NamesUDP, family: IPv6, count: MaxBatch, id: 1<<32 - 1},
		{kind: Families},
	} {
		got, err := parseRequest(want.append(nil))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(request{})); diff != "" {
			t.Errorf("request (-sent +read):\n%s", diff)
		}
	}
}

func TestRequestRefused(t *testing.T) {
	good := request{kind: Dial, family: IPv4, count: 1}.append(nil)
	change := func(at int, to byte) []byte {
		b := append([]byte(nil), good...)
		b[at] = to
		return b
	}
	for name, b := range map[string][]byte{
		"empty":          nil,
		"short":          good[:7],
		"long":           append(append([]byte(nil), good...), 0),
		"version":        change(0, 2),
		"kind 0":         change(1, 0),
		"kind 6":         change(1, 6),
		"family":         change(2, 5),
		"no sockets":     change(3, 0),
		"too many":       change(3, MaxBatch+1),
		"no family, dgr": change(2, 0),
	} {
		if r, err := parseRequest(b); err == nil {
			t.Errorf("%s: read as %+v, want an error", name, r)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(request{kind: Dial, family: IPv4, count: 1}.append(nil))
	f.Add(answer{status: statusFailed, id: 7, text: "no"}.append(nil))
	f.Add(answer{count: 3, families: bitIPv4, id: 7}.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := parseRequest(b); err == nil {
			if diff := cmp.Diff(b, r.append(nil)); diff != "" && r.kind != Families {
				t.Errorf("request changed:\n%s", diff)
			}
		}
		if a, err := parseAnswer(b); err == nil {
			if diff := cmp.Diff(b, a.append(nil)); diff != "" {
				t.Errorf("answer changed:\n%s", diff)
			}
		}
	})
}
