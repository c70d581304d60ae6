package http2

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// h2specTests is how many tests the suite has: fewer would mean that some
// didn't run.
const h2specTests = 146

var h2specCount = regexp.MustCompile(`(?m)^(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed`)

// TestH2spec runs what `make h2spec` runs: the conformance suite, strict,
// against the built programs, without TLS and with it.
func TestH2spec(t *testing.T) {
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("the go command is not in PATH: it builds h2spec")
	}
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	module := filepath.Join("..", "..", "h2spec")
	// h2spec is a module of its own, so that nothing else depends on it.
	fetch := exec.CommandContext(ctx, goTool, "mod", "download")
	fetch.Dir = module
	if out, err := fetch.CombinedOutput(); err != nil {
		t.Skipf("h2spec (github.com/summerwind/h2spec) can't be had from the module proxy: %v\n%s", err, out)
	}
	build := func(in, where string, packages ...string) {
		cmd := exec.CommandContext(ctx, goTool, append([]string{"build", "-o", where}, packages...)...)
		cmd.Dir = in
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go build %v: %v\n%s", packages, err, out)
		}
	}
	build(module, filepath.Join(dir, "run"), ".")
	build(module, filepath.Join(dir, "h2spec"), "github.com/summerwind/h2spec/cmd/h2spec")
	bin := os.Getenv("TULLE_BIN") // programs that are built already
	if bin == "" {
		bin = dir
		build(filepath.Join("..", "..", ".."), dir, "./cmd/tulle", "./cmd/tulle-proxy")
	}
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "run"), filepath.Join(bin, "tulle"), filepath.Join(bin, "tulle-proxy"), filepath.Join(dir, "h2spec")).CombinedOutput()
	runs := h2specCount.FindAllSubmatch(out, -1)
	if err != nil || len(runs) != 2 {
		t.Fatalf("h2spec ran %d times of 2, error %v:\n%s", len(runs), err, out)
	}
	for i, name := range []string{"plain", "TLS"} {
		t.Run(name, func(t *testing.T) {
			all, _ := strconv.Atoi(string(runs[i][1]))
			passed, _ := strconv.Atoi(string(runs[i][2]))
			if all < h2specTests || passed != all {
				t.Errorf("%s, want all of at least %d passed:\n%s", runs[i][0], h2specTests, out)
			}
		})
	}
}
