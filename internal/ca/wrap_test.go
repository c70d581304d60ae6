package ca

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func wrapping(t *testing.T, text string) *Wrapping {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(strings.Repeat(text, 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := ReadWrapping(path)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// Keys that lay in the clear are encrypted when they are read; with another
// wrapping key, or none, the CA isn't opened, nor made anew.
func TestWrapped(t *testing.T) {
	c := &clock{now: time.Now()}
	dir := t.TempDir()
	plain := open(t, Files{dir}, c)
	w := WrappedFiles{Files{dir}, wrapping(t, "a")}
	ca := open(t, w, c)
	if ca.Pin() != plain.Pin() {
		t.Error("another root")
	}
	if err := ca.AddRoot(); err != nil {
		t.Fatal(err)
	}
	keys, err := filepath.Glob(filepath.Join(dir, "*-key.pem"))
	if err != nil || len(keys) != 3 {
		t.Fatalf("%v, %v", keys, err)
	}
	for _, k := range keys {
		data, err := os.ReadFile(k)
		if err != nil || bytes.Contains(data, []byte("BEGIN PRIVATE KEY")) || !bytes.Contains(data, []byte(wrappedType)) {
			t.Errorf("%s isn't encrypted: %v", k, err)
		}
	}
	again := open(t, w, c)
	if again.Pin() != plain.Pin() || len(again.Roots()) != 2 {
		t.Error("not the same after a restart")
	}
	if _, err := Open(Config{Keys: WrappedFiles{Files{dir}, wrapping(t, "b")}, Now: c.Now}); err == nil || !strings.Contains(err.Error(), "wrapping key") {
		t.Errorf("with another wrapping key: %v", err)
	}
	if _, err := Open(Config{Keys: Files{dir}, Now: c.Now}); err == nil {
		t.Error("opened without the wrapping key")
	}
	if is, err := Encrypted(dir); err != nil || !is {
		t.Errorf("encrypted: %v, %v", is, err)
	}
	// One key in another's place is noticed.
	data, err := os.ReadFile(filepath.Join(dir, "root-2-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "root-key.pem"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Keys: w, Now: c.Now}); err == nil {
		t.Error("took one root's key for another's")
	}
}

func TestReadWrapping(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"short": {"secret", 0o600, "6 bytes"}, "open": {strings.Repeat("a", 32), 0o644, "chmod 600"}, "long": {strings.Repeat("a", 5000), 0o600, "5000 bytes"},
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(c.text), c.mode); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadWrapping(path); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if got := Credential(func(string) string { return dir }); got != "" {
		t.Errorf("a credential %q that isn't there", got)
	}
}
