package jwtsvid

import (
	"os"
	"path/filepath"
	"testing"

	"tulle.dev/tulle/internal/ca"
	"tulle.dev/tulle/internal/identity"
)

// cutShort crashes while it deletes a key.
type cutShort struct{ ca.Files }

func (c cutShort) Remove(name string) error {
	_ = os.Remove(filepath.Join(c.Dir, identity.KeyFile(name)))
	panic("crash")
}

// A crash while an old key is deleted doesn't hinder the next start.
func TestCrashWhileForgetting(t *testing.T) {
	w := newWorld(t)
	files := w.keys.(ca.Files)
	w.keys = cutShort{files}
	a := w.open()
	crashed := func() (crashed bool) {
		defer func() { crashed = recover() != nil }()
		w.pass(a, 3*Life)
		return
	}
	if !crashed() {
		t.Fatal("no key was deleted")
	}
	w.keys = files
	issue(t, w.open())
}
