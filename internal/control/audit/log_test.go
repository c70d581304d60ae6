package audit

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func open(t *testing.T, path string) *Log {
	t.Helper()
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	l := open(t, path)
	for _, name := range []string{"a", "b", "c"} {
		if err := l.Write(Entry{Who: "alice", Action: "apply", Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	// What a crash cut is left out, and the log goes on.
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString(`{"who":"al`) // no end of line either
	f.Close()
	l.Close()
	l = open(t, path)
	if err := l.Write(Entry{Who: "bob", Action: "delete", Name: "d"}); err != nil {
		t.Fatal(err)
	}
	got, err := l.Last(2, nil)
	if err != nil || len(got) != 2 || got[0].Name != "c" || got[1].Name != "d" {
		t.Errorf("%+v, %v", got, err)
	}
	got, err = l.Last(10, func(e *Entry) bool { return e.Who == "alice" })
	if err != nil || len(got) != 3 {
		t.Errorf("%d of alice, %v", len(got), err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v, want mode 0600", info, err)
	}
}

// The record is bounded, and the newest entries are never those that go.
func TestPutAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	l := open(t, path)
	big := []byte(`"` + strings.Repeat("x", maxEntry/2) + `"`)
	n := 0
	for range (kept + 3) * maxFile / (maxEntry / 2) {
		n++
		if err := l.Write(Entry{Who: "alice", Revision: string(rune('0' + n%10)), After: big}); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) != kept+1 {
		t.Errorf("files %v, %v, want %d", files, err, kept+1)
	}
	got, err := l.Last(1, nil)
	if err != nil || len(got) != 1 || got[0].Revision != string(rune('0'+n%10)) {
		t.Errorf("%d entries, %v", len(got), err)
	}
	if err := l.Write(Entry{Who: "alice", After: []byte(`"` + strings.Repeat("x", 2*maxEntry) + `"`)}); err != nil {
		t.Fatal(err)
	}
	if got, err = l.Last(1, nil); err != nil || got[0].After != nil {
		t.Errorf("an entry that is too long: %v", err)
	}
}
