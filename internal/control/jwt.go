package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/federation"
	"tulle.dev/tulle/internal/control/jwtsvid"
	"tulle.dev/tulle/internal/control/keys"
	"tulle.dev/tulle/internal/control/store"
	"tulle.dev/tulle/internal/identity"
)

// openTokens opens what issues JWT-SVIDs. Where the key of the issuing certificate is
// with a signer, no key of theirs is here either.
func (c *Control) openTokens(domain identity.TrustDomain, signs *signs, s store.Store, notice func() time.Duration) (*jwtsvid.Authority, error) {
	private, err := c.caKeys(filepath.Join(c.config.DataDir, "ca"))
	if err != nil {
		return nil, err
	}
	issuer := c.config.JWTIssuer
	if issuer == "" {
		issuer = "spiffe://" + string(domain)
	}
	config := jwtsvid.Config{TrustDomain: domain, Issuer: issuer, Keys: private, Store: s, Notice: notice, Log: c.config.Log,
		File: filepath.Join(c.config.DataDir, JWTKeysFile)}
	if signs != nil && c.config.CAFiles.IssuerChain != "" {
		config.Keys, config.Held = nil, signs.tokenKeys
	}
	return jwtsvid.Open(config)
}

// tokenKeys lists the signer's keys of JWT-SVIDs.
func (s *signs) tokenKeys(ctx context.Context) ([]jwtsvid.Held, error) {
	list, err := s.client.Keys(ctx)
	if err != nil {
		return nil, err
	}
	var out []jwtsvid.Held
	for _, k := range list {
		if !strings.HasPrefix(k.Name, jwtsvid.KeyName) {
			continue
		}
		key, err := s.client.Key(k.Key)
		if err != nil {
			return nil, err
		}
		out = append(out, jwtsvid.Held{Name: k.Name, Signer: key})
	}
	return out, nil
}

// CreateJWTSVID signs a token for who may use the API.
func (f *facts) CreateJWTSVID(_ context.Context, r client.JWTSVIDRequest) (*client.JWTSVID, error) {
	id, err := f.grantable(r.Identity)
	if err != nil {
		return nil, err
	}
	var ttl time.Duration
	if r.TTL != "" {
		if ttl, err = time.ParseDuration(r.TTL); err != nil || ttl < jwtsvid.MinTTL || ttl > jwtsvid.MaxTTL {
			return nil, badRequest("ttl %.100q: want a duration from %s to %s, such as 5m", r.TTL, jwtsvid.MinTTL, jwtsvid.MaxTTL)
		}
	}
	t, err := f.jwt.Issue(id, r.Audience, ttl)
	fail := func(code int, reason string) error {
		return &client.Status{Kind: "Status", APIVersion: "v1", Result: "Failure", Code: code, Reason: reason, Message: err.Error()}
	}
	switch {
	case errors.Is(err, jwtsvid.ErrInvalid):
		return nil, badRequest("%s", err)
	case errors.Is(err, jwtsvid.ErrTooMany):
		return nil, fail(http.StatusTooManyRequests, client.ReasonTooMany)
	case err != nil:
		return nil, fail(http.StatusServiceUnavailable, client.ReasonUnavailable)
	}
	return &client.JWTSVID{Identity: id.String(), Token: t.Text, KeyID: t.KeyID, Expires: t.Expires}, nil
}

// Bundles are the trust bundles of the mesh and of those that it is federated with.
func (f *facts) Bundles(context.Context) (*client.Bundles, error) {
	all := f.foreign.Known()
	all[f.ca.TrustDomain()] = federation.Own(f.ca, f.jwt)
	out := &client.Bundles{TrustDomain: string(f.ca.TrustDomain()), Bundles: map[string]json.RawMessage{}, Denied: f.Snapshot().Settings.Denied}
	for domain, b := range all {
		doc, err := b.Document(domain)
		if err != nil {
			return nil, err
		}
		out.Bundles[string(domain)] = doc
	}
	return out, nil
}

// tokenKeys are the keys of JWT-SVIDs for people.
func (f *facts) tokenKeys() []client.TrustJWTKey {
	var out []client.TrustJWTKey
	list, _ := f.jwt.Bundle()
	for _, k := range list {
		out = append(out, client.TrustJWTKey{ID: k.ID, From: k.From, Until: k.Until, Signs: k.Signs, Elsewhere: !k.Own})
	}
	return out
}

func (f *facts) checkTokens(context.Context) []client.Check {
	c := client.Check{Category: "identity", Description: "JWT-SVIDs can be signed", Result: client.Success}
	if err := f.jwt.Problem(); err != nil {
		c.Result, c.Error = client.Warning, err.Error()
		c.Hint = "the keys that there are go on; programs that ask for tokens get none once there is no key"
	}
	return []client.Check{c}
}

// domainKeys are the keys of a trust domain's JWT-SVIDs for AuthenticationPolicies, a
// JWK set.
func (f *facts) domainKeys(name string) ([]byte, error) {
	var b *federation.Bundle
	if domain := identity.TrustDomain(name); domain == f.ca.TrustDomain() {
		b = federation.Own(f.ca, f.jwt)
		f.bundle.KeysFollowed()
	} else if b = f.foreign.Known()[domain]; b == nil && f.foreign.Wanted(domain) {
		return nil, fmt.Errorf("the bundle of %s isn't known yet", name)
	}
	if b == nil || len(b.JWTKeys) == 0 {
		return nil, fmt.Errorf("%w: %s has no keys of JWT-SVIDs", keys.ErrUnknown, name)
	}
	return b.KeySet()
}

// checkJWTIssuer says what is wrong with a URL as an issuer (OpenID Connect Discovery
// 1.0, section 3).
func checkJWTIssuer(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("%q: want https://HOST or https://HOST/PATH", text)
	}
	return nil
}
