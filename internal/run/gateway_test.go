package run

import (
	"os"
	"path/filepath"
	"testing"
)

// TestGatewayDir: no two gateways have one directory, and what an earlier version
// left is taken over.
func TestGatewayDir(t *testing.T) {
	data := t.TempDir()
	for _, old := range []string{"edge", "a.b", "inner.shop"} {
		dir := filepath.Join(data, "gateways", old)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "proxy.log"), []byte(old), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]string{}
	for range 2 { // the second time they are there
		for _, g := range []struct{ namespace, name, log string }{
			{"default", "edge", "edge"}, {"shop", "inner", "inner.shop"},
			{"default", "a.b", "a.b"}, {"b", "a", ""}, // both were a.b
			{"b", "default", ""}, {"default", "b", ""}, {"default", "edge.shop", ""}, {"shop", "edge", ""},
		} {
			who := g.namespace + "/" + g.name
			c := GatewayConfig{Name: g.name, Namespace: g.namespace, DataDir: data}
			dir, err := c.dir()
			if err != nil {
				t.Fatal(err)
			}
			if other, ok := seen[dir]; ok && other != who {
				t.Errorf("%s and %s are both at %s", who, other, dir)
			}
			seen[dir] = who
			info, err := os.Stat(dir)
			if err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("%s: %v, %v", who, info, err)
			}
			if log, _ := os.ReadFile(filepath.Join(dir, "proxy.log")); string(log) != g.log {
				t.Errorf("%s has the log of %q, want %q", who, log, g.log)
			}
		}
	}
	left, err := os.ReadDir(filepath.Join(data, "gateways"))
	if err != nil || len(left) != len(seen) {
		t.Errorf("%d directories for %d gateways, %v", len(left), len(seen), err)
	}
}
