package store

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBrokenStore: etcd's crash over a file it can't read becomes an error that
// says what to do, without stacks.
func TestBrokenStore(t *testing.T) {
	dir, err := os.MkdirTemp("", "tulle") // t.TempDir's name may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	crash := filepath.Join(dir, "crash")
	script := "#!/bin/sh\n(echo; echo 'failed to open database'; echo 'panic: failed to open database'; echo; echo 'goroutine 1 [running]:'; yes main.main | head -n 1000) >&2\nexit 2\n"
	if err := os.WriteFile(crash, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err = StartEmbedded(t.Context(), filepath.Join(dir, "etcd"), []string{crash}, slog.New(slog.DiscardHandler))
	text := fmt.Sprint(err)
	if err == nil || !strings.Contains(text, "exit status 2: failed to open database; ") || !strings.Contains(text, "move it away") || strings.Contains(text, "goroutine") {
		t.Errorf("got %s", text)
	}
}
