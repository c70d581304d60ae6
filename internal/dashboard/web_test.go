package dashboard

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// webFolder is where the pages' sources are, with their tools installed.
func webFolder(t *testing.T) string {
	t.Helper()
	need(t, "node")
	web, err := filepath.Abs("../../web")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(web, "node_modules", "playwright-core")); err != nil {
		t.Skip("the tools of web/ are missing: cd web && npm ci")
	}
	return web
}

// tool runs one of the tools of web/.
func tool(t *testing.T, web, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, filepath.Join(web, "node_modules", ".bin", name), args...)
	command.Dir = web
	command.Env = append(os.Environ(), "CI=1", "NO_COLOR=1")
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestAssetsAreTheSources builds web/ again and compares: what is tracked in
// dist/ is what the sources say, to the byte.
func TestAssetsAreTheSources(t *testing.T) {
	web := webFolder(t)
	tool(t, web, "tsc", "--noEmit")
	fresh := t.TempDir()
	tool(t, web, "vite", "build", "--outDir", fresh, "--emptyOutDir", "--logLevel", "error")
	seen := map[string]bool{}
	compare := func(root fs.FS, other func(string) ([]byte, error), missing string) {
		err := fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasSuffix(path, ".gz") || seen[path] {
				return err
			}
			seen[path] = true
			a, err := fs.ReadFile(root, path)
			if err != nil {
				return err
			}
			b, err := other(path)
			switch {
			case err != nil:
				t.Errorf("%s %s: run `make web`", path, missing)
			case !bytes.Equal(a, b):
				t.Errorf("%s differs from its sources: run `make web`", path)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	tracked, err := fs.Sub(dist, "dist")
	if err != nil {
		t.Fatal(err)
	}
	compare(tracked, func(p string) ([]byte, error) { return os.ReadFile(filepath.Join(fresh, p)) }, "isn't built from the sources any more")
	compare(os.DirFS(fresh), func(p string) ([]byte, error) { return fs.ReadFile(tracked, p) }, "isn't tracked")
}

// TestWebUnits runs the tests of the pages' pure parts (web/test/*.test.ts).
func TestWebUnits(t *testing.T) {
	out := tool(t, webFolder(t), "vitest", "run")
	if !strings.Contains(out, "passed") {
		t.Errorf("nothing passed:\n%s", out)
	}
}
