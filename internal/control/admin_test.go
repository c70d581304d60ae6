package control

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/identity"
)

// TestAdminAddress: a proxy says where its admin listener is, and what it says
// leads nowhere but to mutual TLS with it.
func TestAdminAddress(t *testing.T) {
	f := &facts{credentials: new(identity.Credentials)}
	proxy := client.Proxy{Name: "web", Namespace: "default", Connected: true, Identity: "spiffe://mesh.local/ns/default/sa/web"}
	for _, at := range []string{"unix:/run/docker.sock", "metadata.example:80", "127.0.0.1:1/secret?", "user@127.0.0.1:1", "", "127.0.0.1"} {
		proxy.Admin = at
		if _, _, err := f.adminClient(&proxy); err == nil {
			t.Errorf("%q is taken", at)
		}
	}
	proxy.Admin = "127.0.0.1:9000"
	c, base, err := f.adminClient(&proxy)
	if err != nil || base != "https://127.0.0.1:9000" {
		t.Fatalf("%q, %v", base, err)
	}
	if err := c.CheckRedirect(nil, nil); !errors.Is(err, http.ErrUseLastResponse) {
		t.Errorf("it follows redirects: %v", err)
	}
}

// TestDataDirectory: it becomes the user's alone, unless there is more in it
// than ours.
func TestDataDirectory(t *testing.T) {
	for _, test := range []struct{ name, holds, fails string }{
		{"empty", "", ""},
		{"ours", "ca", ""},
		{"other", "letters", "letters"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			if test.holds != "" {
				if err := os.Mkdir(filepath.Join(dir, test.holds), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			err := private(dir)
			info, statErr := os.Stat(dir)
			if statErr != nil {
				t.Fatal(statErr)
			}
			mode := info.Mode().Perm()
			switch {
			case test.fails == "" && (err != nil || mode != 0o700):
				t.Errorf("mode %v, %v", mode, err)
			case test.fails != "" && (err == nil || !strings.Contains(err.Error(), test.fails) || mode != 0o755):
				t.Errorf("mode %v, %v", mode, err)
			}
		})
	}
}
