package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"tulle.dev/tulle/internal/policy"
)

// TestFullDisk fills the disk under an access log: what finds no room is counted,
// the operator is told once, what is in the file are whole lines, and with room
// again there are more.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("this test mounts a small tmpfs, which this user may not (%v): run it as root", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	path, filler := filepath.Join(dir, "access.log"), filepath.Join(dir, "filler")
	f, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.WriteFile(filler, make([]byte, 40<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	r := New(Config{Output: f, Loops: 1, Log: slog.New(slog.NewTextHandler(&said, nil))})
	p, rec := r.Pen(0), some()
	p.Set(policy.AccessLog{Mode: policy.LogAll})
	var told trouble
	written := 0
	write := func(rounds int) (failed error) {
		for range rounds {
			for range 20 {
				p.Write(rec, 0)
				written++
			}
			_, err := r.write()
			told.tell(r, err, rec.At)
			failed = errors.Join(failed, err)
		}
		return failed
	}
	whole := func() int {
		t.Helper()
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		lines := bytes.SplitAfter(data, newline)
		for _, line := range lines[:len(lines)-1] {
			if !json.Valid(line) {
				t.Fatalf("not a line: %.300q", line)
			}
		}
		if last := lines[len(lines)-1]; len(last) > 0 {
			t.Errorf("the end of a line is missing: %q", last)
		}
		return len(lines) - 1
	}
	if err := write(10); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("200 lines in 24 KiB: %v", err)
	}
	kept := whole()
	if w, d := r.written.Load(), r.dropped.Load(); int(w) != kept || int(w+d) != written || d == 0 {
		t.Errorf("%d lines are in the file, %d are counted as written and %d as lost, of %d", kept, w, d, written)
	}
	if n := strings.Count(said.String(), "can't be written"); n != 1 {
		t.Errorf("it was said %d times, want once:\n%s", n, &said)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if err := write(1); err != nil {
		t.Fatal(err)
	}
	if n := whole(); n != kept+20 {
		t.Errorf("%d lines, want %d", n, kept+20)
	}
	if text := said.String(); strings.Count(text, "can be written again") != 1 {
		t.Errorf("it was said:\n%s", text)
	}

	// A proxy that starts on a full disk serves; its log begins when there is room.
	os.Remove(path)
	if err := os.WriteFile(filler, make([]byte, 64<<10), 0o600); err != nil && !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	late, err := OpenFile(path)
	if err != nil {
		t.Fatalf("OpenFile on a full disk: %v", err)
	}
	defer late.Close()
	if _, err := late.Write([]byte("{}\n")); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a write to a full disk: %v", err)
	}
	os.Remove(filler)
	if _, err := late.Write([]byte("{}\n")); err != nil || whole() != 1 {
		t.Errorf("with room again: %v, %d lines", err, whole())
	}
}
