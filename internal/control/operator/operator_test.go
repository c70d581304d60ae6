package operator

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/identity"
)

func TestMay(t *testing.T) {
	view := &Who{Role: v1alpha1.OperatorView}
	edit := &Who{Role: v1alpha1.OperatorEdit, Namespaces: []string{"shop"}}
	admin := &Who{Role: v1alpha1.OperatorAdmin}
	for _, c := range []struct {
		who       *Who
		verb      Verb
		namespace string
		want      bool
	}{
		{view, View, "shop", true}, {view, View, "", true}, {view, ViewSecrets, "shop", false}, {view, Edit, "shop", false},
		{edit, View, "shop", true}, {edit, View, "", false}, {edit, View, "bank", false}, {edit, ViewSecrets, "shop", true},
		{edit, Edit, "shop", true}, {edit, Edit, "bank", false}, {edit, Administer, "shop", false},
		{admin, Administer, "", true}, {admin, Edit, "bank", true},
		{Of(context.Background()), View, "shop", false}, {&Who{Role: "Other"}, View, "", false},
	} {
		if got := c.who.May(c.verb, c.namespace) == nil; got != c.want {
			t.Errorf("%s %s in %q: %v, want %v", c.who.Role, verbs[c.verb], c.namespace, got, c.want)
		}
	}
}

// issuer is an OpenID Connect provider with one key.
type issuer struct {
	*httptest.Server
	key *rsa.PrivateKey
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{key: key}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(map[string]any{"issuer": i.URL, "jwks_uri": i.URL + "/keys", "authorization_endpoint": i.URL, "token_endpoint": i.URL,
			"id_token_signing_alg_values_supported": []string{"RS256"}})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Algorithm: "RS256", Use: "sig"}}})
	})
	i.Server = httptest.NewServer(mux)
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) token(t *testing.T, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: i.key, KeyID: "k"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestFind(t *testing.T) {
	now := time.Now()
	real, other := newIssuer(t), newIssuer(t)
	sum := func(s string) string {
		b := sha256.Sum256([]byte(s))
		return hex.EncodeToString(b[:])
	}
	operator := func(name string, s v1alpha1.OperatorSpec) *v1alpha1.Operator {
		return &v1alpha1.Operator{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: s}
	}
	ended := metav1.NewTime(now.Add(-time.Minute))
	b := &Book{Now: time.Now, Operators: func(context.Context) ([]*v1alpha1.Operator, error) {
		return []*v1alpha1.Operator{
			operator("ci", v1alpha1.OperatorSpec{Role: v1alpha1.OperatorEdit, Namespaces: []string{"shop"}, Tokens: []v1alpha1.OperatorToken{{SHA256: sum("one")}, {SHA256: sum("old"), Expires: &ended}},
				Identities: []string{"spiffe://mesh.local/ns/ops/sa/ci"}}),
			operator("team", v1alpha1.OperatorSpec{Role: v1alpha1.OperatorView, OIDC: []v1alpha1.OperatorOIDC{{Issuer: real.URL, Audience: "tulle", Claim: "groups", Values: []string{"sre"}}}}),
		}, nil
	}}
	claims := func(more map[string]any) map[string]any {
		c := map[string]any{"iss": real.URL, "aud": "tulle", "sub": "alice", "exp": now.Add(time.Hour).Unix(), "iat": now.Unix(), "groups": []string{"dev", "sre"}}
		for k, v := range more {
			c[k] = v
		}
		return c
	}
	for _, c := range []struct{ what, token, want string }{
		{"a token", "one", "ci"},
		{"another token", "two", ""},
		{"one that ended", "old", ""},
		{"nothing", "", ""},
		{"an ID token", real.token(t, claims(nil)), "team"},
		{"for another audience", real.token(t, claims(map[string]any{"aud": "shop"})), ""},
		{"without the group", real.token(t, claims(map[string]any{"groups": []string{"dev"}})), ""},
		{"that ended", real.token(t, claims(map[string]any{"exp": now.Add(-time.Hour).Unix()})), ""},
		{"signed by somebody else", other.token(t, claims(nil)), ""},
		{"of an unknown issuer", other.token(t, claims(map[string]any{"iss": other.URL})), ""},
		{"not signed", "eyJhbGciOiJub25lIn0.e30.", ""},
	} {
		w, err := b.Token(t.Context(), c.token)
		got := ""
		if err == nil {
			got, _, _ = strings.Cut(w.Name, " ")
		}
		if got != c.want {
			t.Errorf("%s: %q, %v, want %q", c.what, got, err, c.want)
		}
	}
	id := identity.ID{TrustDomain: "mesh.local", Namespace: "ops", ServiceAccount: "ci"}
	if w, err := b.Certificate(t.Context(), id); err != nil || w.Name != "ci" || w.How != "certificate" {
		t.Errorf("%+v, %v", w, err)
	}
	id.ServiceAccount = "web"
	if _, err := b.Certificate(t.Context(), id); !errors.Is(err, ErrUnknown) {
		t.Errorf("a workload's certificate: %v", err)
	}
	if _, err := b.Certificate(t.Context(), identity.ID{}); !errors.Is(err, ErrUnknown) {
		t.Errorf("no certificate: %v", err)
	}
}

// What is open at once has a bound, for all and for each; the oldest makes room.
func TestSessionsBound(t *testing.T) {
	now := time.Now()
	b := &Book{Now: func() time.Time { return now }}
	s := &Sessions{Book: b}
	name := func(i int) *Who {
		return &Who{Name: "operator " + string(rune('A'+i%1000)), Role: v1alpha1.OperatorView}
	}
	first := s.Begin(name(0))
	for range maxOwn {
		now = now.Add(time.Second)
		s.Begin(name(0))
	}
	if _, err := s.Who(t.Context(), first); !errors.Is(err, ErrUnknown) {
		t.Errorf("the first of %d sessions of one: %v", maxOwn+1, err)
	}
	now = now.Add(time.Second)
	mine := s.Begin(name(1))
	for i := range maxSessions + 10 {
		now = now.Add(time.Millisecond)
		s.Begin(name(2 + i%200))
	}
	if len(s.open) > maxSessions {
		t.Errorf("%d sessions", len(s.open))
	}
	if _, err := s.Who(t.Context(), mine); len(s.open) == maxSessions && err == nil {
		t.Error("the oldest session has a place though there are as many as may be")
	}
	for i := range maxCodes + 10 {
		s.Invite(name(i % 300))
	}
	if len(s.codes) > maxCodes {
		t.Errorf("%d codes", len(s.codes))
	}
}
