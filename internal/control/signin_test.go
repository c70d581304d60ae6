package control

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSignInConfig(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := SignInConfig{Issuer: "https://login.example", ClientID: "tulle", SecretFile: write("secret", "a secret\n", 0o600), Redirect: "https://mesh.example/login/callback"}
	for name, c := range map[string]struct {
		change func(*SignInConfig)
		want   string
	}{
		"good":               {func(*SignInConfig) {}, ""},
		"a public client":    {func(c *SignInConfig) { c.SecretFile = "" }, ""},
		"none":               {func(c *SignInConfig) { *c = SignInConfig{} }, ""},
		"no client":          {func(c *SignInConfig) { c.ClientID = "" }, "belong together"},
		"scopes alone":       {func(c *SignInConfig) { *c = SignInConfig{Scopes: []string{"groups"}} }, "belong together"},
		"a plain issuer":     {func(c *SignInConfig) { c.Issuer = "http://login.example" }, "--dashboard-oidc-issuer"},
		"another redirect":   {func(c *SignInConfig) { c.Redirect = "https://mesh.example/" }, "--dashboard-oidc-redirect"},
		"no secret there":    {func(c *SignInConfig) { c.SecretFile = filepath.Join(dir, "none") }, "--dashboard-oidc-secret-file"},
		"an open secret":     {func(c *SignInConfig) { c.SecretFile = write("open", "a", 0o644) }, "chmod 600"},
		"an empty secret":    {func(c *SignInConfig) { c.SecretFile = write("empty", "\n", 0o600) }, "is empty"},
		"a redirect of none": {func(c *SignInConfig) { c.Redirect = "" }, "belong together"},
	} {
		config := good
		c.change(&config)
		err := config.check()
		if err == nil {
			s, failed := config.open()
			if err = failed; err == nil && (s == nil) != (config.Issuer == "") {
				t.Errorf("%s: opened %v", name, s)
			}
			if s != nil && config.SecretFile != "" && s.ClientSecret != "a secret" {
				t.Errorf("%s: the secret is another", name)
			}
		}
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
