package attest

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	"tulle.dev/tulle/internal/identity"
)

// apiServer is the part of a Kubernetes API server that answers TokenReviews, as
// authentication.k8s.io/v1 says.
func apiServer(t *testing.T, answer func(r *authenticationv1.TokenReview) int) *Kubernetes {
	t.Helper()
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != "/apis/authentication.k8s.io/v1/tokenreviews" || r.Header.Get("Content-Type") != "application/json" {
			http.Error(w, "not found", http.StatusNotFound)
			return
		}
		if r.Header.Get("Authorization") != "Bearer own" {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		body, _ := io.ReadAll(r.Body)
		var review authenticationv1.TokenReview
		if err := json.Unmarshal(body, &review); err != nil || review.APIVersion != "authentication.k8s.io/v1" || review.Kind != "TokenReview" {
			http.Error(w, "not a TokenReview", http.StatusBadRequest)
			return
		}
		code := answer(&review)
		review.Spec.Token = ""
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		json.NewEncoder(w).Encode(&review)
	}))
	t.Cleanup(s.Close)
	dir := t.TempDir()
	config := Config{URL: s.URL, CAFile: filepath.Join(dir, "ca.crt"), TokenFile: filepath.Join(dir, "token"), TrustDomain: "mesh.local"}
	roots := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := errors.Join(os.WriteFile(config.CAFile, roots, 0o600), os.WriteFile(config.TokenFile, []byte("own\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	k, err := NewKubernetes(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k
}

const token = "head.body.signature"

func status(user string, audiences ...string) func(*authenticationv1.TokenReview) int {
	return func(r *authenticationv1.TokenReview) int {
		r.Status = authenticationv1.TokenReviewStatus{Authenticated: true, User: authenticationv1.UserInfo{Username: user}, Audiences: audiences}
		return http.StatusCreated
	}
}

func TestAttest(t *testing.T) {
	var asked authenticationv1.TokenReviewSpec
	k := apiServer(t, func(r *authenticationv1.TokenReview) int {
		asked = r.Spec
		return status("system:serviceaccount:shop:cart", "tulle")(r)
	})
	id, err := k.Attest(t.Context(), token)
	if want := (identity.ID{TrustDomain: "mesh.local", Namespace: "shop", ServiceAccount: "cart"}); err != nil || id != want {
		t.Errorf("got %v %v, want %v", id, err, want)
	}
	if diff := cmp.Diff(authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{"tulle"}}, asked); diff != "" {
		t.Error(diff)
	}
	// Our own token is renewed.
	if err := os.WriteFile(k.config.TokenFile, []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Attest(t.Context(), token); err == nil || errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "system:auth-delegator") {
		t.Errorf("another token of our own: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		answer  func(*authenticationv1.TokenReview) int
		token   string
		refused bool // for good
		asked   bool
	}{
		"not authenticated": {func(r *authenticationv1.TokenReview) int {
			r.Status.Error = "[invalid bearer token]"
			return http.StatusCreated
		}, token, true, true},
		"another audience": {status("system:serviceaccount:shop:cart", "vault"), token, true, true},
		"no audience":      {status("system:serviceaccount:shop:cart"), token, true, true},
		"a person":         {status("alice", "tulle"), token, true, true},
		"a node":           {status("system:node:one", "tulle"), token, true, true},
		"too many parts":   {status("system:serviceaccount:shop:cart:x", "tulle"), token, true, true},
		"no name":          {status("system:serviceaccount:shop:", "tulle"), token, true, true},
		"a path":           {status("system:serviceaccount:shop:../x", "tulle"), token, true, true},
		"out of order":     {func(*authenticationv1.TokenReview) int { return http.StatusInternalServerError }, token, false, true},
		"another kind": {func(r *authenticationv1.TokenReview) int {
			r.Kind = "Status"
			return http.StatusCreated
		}, token, false, true},
		"no JWT":     {nil, "hello", true, false},
		"two lines":  {nil, "a.b.c\nX: y", true, false},
		"very large": {nil, "a." + strings.Repeat("b", maxToken) + ".c", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			asked := false
			k := apiServer(t, func(r *authenticationv1.TokenReview) int { asked = true; return c.answer(r) })
			id, err := k.Attest(t.Context(), c.token)
			if err == nil || errors.Is(err, ErrRefused) != c.refused || asked != c.asked {
				t.Errorf("got %v %v, asked %v", id, err, asked)
			}
			if err != nil && strings.Contains(err.Error(), c.token) {
				t.Errorf("the token is in %v", err)
			}
		})
	}
}

func TestBounds(t *testing.T) {
	k := apiServer(t, status("system:serviceaccount:shop:cart", "tulle"))
	var refused int
	k.limit.SetBurst(2)
	k.limit.SetLimit(0)
	for range 5 {
		if _, err := k.Attest(t.Context(), token); err != nil && !errors.Is(err, ErrRefused) {
			refused++
		}
	}
	if refused != 3 {
		t.Errorf("%d of 5 were not asked about, want 3", refused)
	}
	for _, u := range []string{"http://10.0.0.1", "https://", "https://a@b", "https://a?x", ""} {
		if CheckURL(u) == nil {
			t.Errorf("%q was taken", u)
		}
	}
	if err := CheckURL("https://10.0.0.1:6443"); err != nil {
		t.Error(err)
	}
}
