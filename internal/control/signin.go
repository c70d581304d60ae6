package control

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"tulle.dev/tulle/internal/control/keys"
	"tulle.dev/tulle/internal/dashboard"
)

// SignInConfig is an OpenID Connect provider by whose page operators log in.
type SignInConfig struct {
	// Issuer is its URL, ClientID what it calls this dashboard, SecretFile has the
	// client secret (empty for a public client).
	Issuer, ClientID, SecretFile string
	// Redirect is where it sends browsers back to: https://HOST/login/callback.
	Redirect string
	// Scopes are asked for beside openid.
	Scopes []string
}

// check says what is wrong with it, naming the flag.
func (c *SignInConfig) check() error {
	if c.Issuer == "" && c.ClientID == "" && c.SecretFile == "" && c.Redirect == "" && len(c.Scopes) == 0 {
		return nil
	}
	if c.Issuer == "" || c.ClientID == "" || c.Redirect == "" {
		return errors.New("--dashboard-oidc-issuer, --dashboard-oidc-client and --dashboard-oidc-redirect belong together: give all three")
	}
	if err := keys.Permitted(c.Issuer); err != nil {
		return fmt.Errorf("--dashboard-oidc-issuer: %w", err)
	}
	if err := dashboard.CheckRedirect(c.Redirect); err != nil {
		return fmt.Errorf("--dashboard-oidc-redirect: %w", err)
	}
	return nil
}

// open reads the secret; nil when there is no provider.
func (c *SignInConfig) open() (*dashboard.SignIn, error) {
	if c.Issuer == "" {
		return nil, nil
	}
	s := &dashboard.SignIn{Issuer: c.Issuer, ClientID: c.ClientID, Redirect: c.Redirect, Scopes: c.Scopes}
	if c.SecretFile == "" {
		return s, nil
	}
	info, err := os.Stat(c.SecretFile)
	if err != nil {
		return nil, fmt.Errorf("--dashboard-oidc-secret-file: %w", err)
	}
	if info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("--dashboard-oidc-secret-file: %s can be read by others (%s): chmod 600 it", c.SecretFile, info.Mode().Perm())
	}
	data, err := os.ReadFile(c.SecretFile)
	if err != nil {
		return nil, fmt.Errorf("--dashboard-oidc-secret-file: %w", err)
	}
	if s.ClientSecret = strings.TrimSpace(string(data)); s.ClientSecret == "" {
		return nil, fmt.Errorf("--dashboard-oidc-secret-file: %s is empty", c.SecretFile)
	}
	return s, nil
}

// host is the name under which browsers come back.
func (c *SignInConfig) host() []string {
	if u, err := url.Parse(c.Redirect); err == nil && u.Hostname() != "" {
		return []string{u.Hostname()}
	}
	return nil
}
