package shop_test

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tulle.dev/tulle/examples/shop/recommendations"
)

// TestBrowser is a customer with a real browser; the steps are in
// testdata/browser.mjs.
func TestBrowser(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is missing: apt-get install nodejs npm")
	}
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("chromium is missing: apt-get install chromium")
	}
	playwright, err := filepath.Abs("../../web/node_modules/playwright-core")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(playwright); err != nil {
		t.Skip("playwright-core is missing: cd web && npm ci")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, "testdata/browser.mjs", open(t, recommendations.Config{Version: "v1"}), chromium, playwright)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	steps := 0
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		if verb, rest, _ := strings.Cut(lines.Text(), " "); verb == "ok" {
			steps++
		} else {
			t.Errorf("%s %s", verb, rest)
		}
	}
	if err != nil || steps != 7 {
		t.Errorf("%d steps of 7, %v", steps, err)
	}
}
