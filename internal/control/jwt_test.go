package control

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/federation"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/signer"
)

const webID = "spiffe://mesh.local/ns/shop/sa/web"

func bundleOf(t *testing.T, r *running) *spiffebundle.Bundle {
	t.Helper()
	b, err := r.client.Bundles(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := spiffebundle.Parse(spiffeid.RequireTrustDomainFromString(b.TrustDomain), b.Bundles[b.TrustDomain])
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func tokenOf(t *testing.T, r *running, audience string) string {
	t.Helper()
	tok, err := r.client.CreateJWTSVID(t.Context(), client.JWTSVIDRequest{Identity: "shop/web", Audience: []string{audience}})
	if err != nil {
		t.Fatal(err)
	}
	return tok.Token
}

// Tokens come from the API, the SPIFFE library believes them by our bundle, also after
// the keys were changed with the root and after a restart.
func TestJWTSVID(t *testing.T) {
	dir := shortDir(t)
	r := start(t, dir)
	first := tokenOf(t, r, "payment")
	got, err := jwtsvid.ParseAndValidate(first, bundleOf(t, r), []string{"payment"})
	if err != nil || got.ID.String() != webID || got.Claims["iss"] != "spiffe://mesh.local" {
		t.Fatalf("%+v, %v", got, err)
	}
	for name, q := range map[string]client.JWTSVIDRequest{
		"no audience":         {Identity: "shop/web"},
		"an odd ttl":          {Identity: "shop/web", Audience: []string{"a"}, TTL: "24h"},
		"no identity":         {Audience: []string{"a"}},
		"a foreign identity":  {Identity: "spiffe://partner.example/ns/shop/sa/web", Audience: []string{"a"}},
		"the control plane's": {Identity: "tulle/control-plane", Audience: []string{"a"}},
	} {
		var s *client.Status
		if _, err := r.client.CreateJWTSVID(t.Context(), q); !errors.As(err, &s) || s.Reason != client.ReasonBadRequest {
			t.Errorf("%s: %v", name, err)
		}
	}
	before, err := r.client.Trust(t.Context())
	if err != nil || len(before.JWTKeys) != 1 || !before.JWTKeys[0].Signs || before.JWTIssued != 1 {
		t.Fatalf("%+v, %v", before, err)
	}
	after, err := r.client.ChangeTrust(t.Context(), client.TrustRotate)
	if err != nil || len(after.JWTKeys) != 2 {
		t.Fatalf("%+v, %v", after, err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r = start(t, dir)
	b := bundleOf(t, r)
	if len(b.JWTAuthorities()) != 2 {
		t.Errorf("%d keys after a restart", len(b.JWTAuthorities()))
	}
	for _, token := range []string{first, tokenOf(t, r, "payment")} {
		if _, err := jwtsvid.ParseAndValidate(token, b, []string{"payment"}); err != nil {
			t.Error(err)
		}
	}
	entries, err := r.client.Audit(t.Context(), client.AuditFilter{Last: 1000})
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(entries)
	if n := strings.Count(string(text), `"jwt-svid"`); n < 3 || strings.Contains(string(text), first) {
		t.Errorf("%d entries in the audit log, or a token in it: %s", n, text)
	}
	r.apply(`
apiVersion: tulle.dev/v1alpha1
kind: Mesh
metadata: {name: mesh}
spec: {deniedIdentities: ["` + webID + `"]}
`)
	if _, err := r.client.CreateJWTSVID(t.Context(), client.JWTSVIDRequest{Identity: "shop/web", Audience: []string{"a"}}); err == nil || !strings.Contains(err.Error(), "is denied") {
		t.Errorf("a denied identity: %v", err)
	}
}

// A workload that shows its certificate gets tokens for itself, and nothing else.
func TestJWTSVIDForItself(t *testing.T) {
	r := start(t, shortDir(t))
	cert := certificateOf(t, r, "shop/web")
	c := client.New(client.Config{Address: r.at.Listen, TLS: &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{cert}}})
	defer c.Close()
	tok, err := c.CreateJWTSVID(t.Context(), client.JWTSVIDRequest{Identity: webID, Audience: []string{"payment"}})
	if err != nil || tok.Identity != webID {
		t.Fatalf("%+v, %v", tok, err)
	}
	if b, err := c.Bundles(t.Context()); err != nil || len(b.Bundles) != 1 {
		t.Errorf("%+v, %v", b, err)
	}
	for _, id := range []string{"spiffe://mesh.local/ns/shop/sa/cart", "spiffe://mesh.local/ns/tulle/sa/admin", "shop/web"} {
		var s *client.Status
		if _, err := c.CreateJWTSVID(t.Context(), client.JWTSVIDRequest{Identity: id, Audience: []string{"payment"}}); !errors.As(err, &s) || s.Code != http.StatusForbidden {
			t.Errorf("for %s: %v", id, err)
		}
	}
	var s *client.Status
	if _, err := c.Status(t.Context()); !errors.As(err, &s) || s.Code != http.StatusUnauthorized {
		t.Errorf("another question: %v", err)
	}
	nobody := client.New(client.Config{Address: r.at.Listen, TLS: &tls.Config{InsecureSkipVerify: true}})
	defer nobody.Close()
	if _, err := nobody.CreateJWTSVID(t.Context(), client.JWTSVIDRequest{Identity: webID, Audience: []string{"payment"}}); !errors.As(err, &s) || s.Code != http.StatusUnauthorized {
		t.Errorf("nobody: %v", err)
	}
}

// An issuer that is a URL has a document of OpenID Connect; an AuthenticationPolicy takes
// the keys of the mesh by its name.
func TestJWTIssuer(t *testing.T) {
	const issuer = "https://mesh.example/tokens"
	r := startWith(t, shortDir(t), func(c *Config) { c.JWTIssuer = issuer })
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // the name is a SPIFFE id
	defer web.CloseIdleConnections()
	get := func(path string) string {
		resp, err := web.Get("https://" + r.at.Listen + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, %v", path, resp.Status, err)
		}
		return string(data)
	}
	if doc := get(federation.DiscoveryPath); !strings.Contains(doc, `"issuer":"`+issuer+`"`) || !strings.Contains(doc, `"jwks_uri":"`+issuer+federation.KeysPath+`"`) {
		t.Errorf("the document: %s", doc)
	}
	if set := get(federation.KeysPath); !strings.Contains(set, `"use":"sig"`) {
		t.Errorf("the keys: %s", set)
	}
	if doc := get(federation.Path); !strings.Contains(doc, `"jwt-svid"`) {
		t.Errorf("the bundle: %s", doc)
	}
	got, err := jwtsvid.ParseAndValidate(tokenOf(t, r, "a"), bundleOf(t, r), []string{"a"})
	if err != nil || got.Claims["iss"] != issuer {
		t.Errorf("%+v, %v", got, err)
	}
	r.apply(`
apiVersion: v1
kind: Service
metadata: {name: payment, namespace: shop}
spec: {ports: [{port: 80, appProtocol: http}]}
`)
	r.apply(`
apiVersion: tulle.dev/v1alpha1
kind: AuthenticationPolicy
metadata: {name: tokens, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: payment}]
  jwt: {issuers: [{issuer: "` + issuer + `", audiences: [payment], jwksURI: "spiffe://mesh.local"}]}
`)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		list, err := r.client.List(t.Context(), client.Resource{Group: "tulle.dev", Version: "v1alpha1", Plural: "authenticationpolicies", Namespaced: true}, "shop")
		if err != nil {
			t.Fatal(err)
		}
		text, _ := json.Marshal(list)
		if strings.Contains(string(text), `"Accepted"`) && !strings.Contains(string(text), "NoKeys") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the policy has no keys: %s", text)
		}
	}
	for _, bad := range []string{"http://mesh.example", "https://", "https://a/?b", "mesh"} {
		if _, err := New(Config{DataDir: shortDir(t), JWTIssuer: bad}); err == nil || !strings.Contains(err.Error(), "--jwt-issuer") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// Where the CA's key is with a signer, the keys of tokens are too.
func TestJWTSigner(t *testing.T) {
	m := &mountedSecret{t: t, dir: t.TempDir()}
	m.write("issuer", 90*24*time.Hour)
	key, err := identity.ReadKey(filepath.Join(m.dir, secretKey))
	if err != nil {
		t.Fatal(err)
	}
	token, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	dir := shortDir(t)
	path := filepath.Join(dir, "signer.sock")
	l, err := signer.Listen(path, uint32(os.Getuid()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- signer.Serve(ctx, l, signer.Config{Keys: []signer.Key{{Name: "issuer", Signer: key}, {Name: "jwt-1", Signer: token}}, UID: uint32(os.Getuid()), Log: slog.New(slog.DiscardHandler)})
	}()
	t.Cleanup(func() { cancel(); <-ended })
	r := startWith(t, filepath.Join(dir, "data"), func(c *Config) {
		c.CAFiles = CAFiles{IssuerChain: filepath.Join(m.dir, secretChain), Roots: filepath.Join(m.dir, secretRoots), Signer: SignerPrefix + path}
	})
	b := bundleOf(t, r)
	if _, err := jwtsvid.ParseAndValidate(tokenOf(t, r, "payment"), b, []string{"payment"}); err != nil {
		t.Error(err)
	}
	for _, public := range b.JWTAuthorities() {
		if !token.Public().(*ecdsa.PublicKey).Equal(public) {
			t.Error("another key than the signer's")
		}
	}
	if keys, _ := filepath.Glob(filepath.Join(dir, "data", "ca", "*-key.pem")); len(keys) > 0 {
		t.Errorf("keys lie here: %v", keys)
	}
}
