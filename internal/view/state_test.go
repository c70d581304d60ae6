package view

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestStateFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	if _, err := Load(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	v := &View{Version: 7, Proxy: Proxy{Name: "web"}, Versions: map[string]uint64{"proxy": 3}}
	for range 2 { // the second replaces the first
		if err := Save(path, v); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(v, got, comparable); diff != "" {
		t.Error(diff)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v, want 0600: it may hold keys", info.Mode(), err)
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("%d files are left, want 1", len(files))
	}
}

// TestStateBytes holds the header to docs/format/state-file.md.
func TestStateBytes(t *testing.T) {
	b := encodeState(&View{Proxy: Proxy{Name: "w"}})
	const header = "\x89TULLE\r\n" + "\x00\x00\x00\x01" + "\x00\x00\x00\x00\x00\x00\x00\x05"
	if !strings.HasPrefix(string(b), header) || len(b) != 52+5 || string(b[52:]) != "\x12\x03\x0a\x01w" {
		t.Errorf("%q", b)
	}
}

func TestBrokenStateFile(t *testing.T) {
	good := encodeState(&View{Version: 7, Proxy: Proxy{Name: "web"}})
	change := func(i int, by byte) []byte {
		b := append([]byte(nil), good...)
		b[i] += by
		return b
	}
	for name, test := range map[string]struct {
		b    []byte
		want string
	}{
		"empty":         {nil, "0 bytes are too short"},
		"text":          {[]byte(strings.Repeat("apiVersion: v1\n", 10)), "does not begin as a state file"},
		"line ends":     {[]byte(strings.ReplaceAll(string(good), "\r\n", "\n")), ""},
		"newer":         {change(11, 1), "it has format 2, this program reads format 1"},
		"cut off":       {good[:len(good)-1], "promises"},
		"longer":        {append(change(0, 0), 0), "promises"},
		"payload":       {change(len(good)-1, 1), "checksum is wrong"},
		"checksum":      {change(30, 1), "checksum is wrong"},
		"huge length":   {change(12, 1), "promises"},
		"not a view":    {frameState([]byte{0xff}), "not a view: broken field tag"},
		"bad field":     {frameState([]byte{0x10, 1}), "proxy: want a message"},
		"still correct": {good, "fine"},
	} {
		path := filepath.Join(t.TempDir(), "state")
		if err := os.WriteFile(path, test.b, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path)
		if test.want == "fine" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		corrupt, ok := errors.AsType[*CorruptError](err)
		if !ok || corrupt.Path != path || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "tulle view") {
			t.Errorf("%s: %v, want a CorruptError about %q that says what to do", name, err, test.want)
		}
	}
}

func TestSaveFailure(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "no", "state")
	if err := Save(path, &View{}); err == nil || !strings.Contains(err.Error(), "write the state file") {
		t.Errorf("no directory: %v", err)
	}
	// A directory in the way: the rename fails, the temporary file goes.
	path = filepath.Join(dir, "state")
	if err := os.MkdirAll(filepath.Join(path, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Save(path, &View{}); err == nil {
		t.Error("saved over a directory")
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("%d files are left, want 1", len(files))
	}
}
