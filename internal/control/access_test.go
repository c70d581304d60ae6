package control

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tulle.dev/tulle/internal/control/keys"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/explain"
)

// An issuer's keys are found by discovery and get to the policy that names it, and
// a control plane that starts again while the issuer is away has them still. Who
// may do what is answered from the same rules.
func TestIssuerKeys(t *testing.T) {
	const set = `{"keys":[{"kty":"EC","crv":"P-256","kid":"1","use":"sig","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}`
	var issuer *httptest.Server
	issuer = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case keys.Discovery:
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, issuer.URL, issuer.URL+"/jwks")
		case "/jwks":
			fmt.Fprint(w, set)
		default:
			http.NotFound(w, r)
		}
	}))
	defer issuer.Close()
	dir := shortDir(t)
	r := start(t, dir)
	r.apply(cartService + fmt.Sprintf(`
---
apiVersion: tulle.dev/v1alpha1
kind: AuthenticationPolicy
metadata: {name: people}
spec:
  targetRefs: [{kind: Service, name: cart}]
  jwt: {issuers: [{issuer: %q}]}
---
apiVersion: tulle.dev/v1alpha1
kind: AccessPolicy
metadata: {name: cart}
spec:
  targetRefs: [{kind: Service, name: cart}]
  rules: [{from: [{callers: [web.default]}]}]
`, issuer.URL))
	known := func() bool {
		data, err := r.client.Get(t.Context(), resource(object.AuthenticationPolicy), "default", "people")
		return err == nil && strings.Contains(string(data), `"type":"ResolvedRefs","status":"True"`)
	}
	eventually(t, "the issuer's keys are known", known)
	for from, want := range map[string]bool{"web": true, "shop": false, "": false} {
		answers, err := r.client.Access(t.Context(), explain.AccessQuestion{From: from, To: "cart"})
		if err != nil || len(answers) != 1 || answers[0].Allowed != want {
			t.Errorf("may %q call cart: %+v, %v; want %v", from, answers, err, want)
		}
	}
	if _, err := r.client.Access(t.Context(), explain.AccessQuestion{From: "web", To: "nosuch"}); err == nil || !strings.Contains(err.Error(), "there is no Service nosuch") {
		t.Errorf("a service that isn't there: %v", err)
	}

	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	issuer.Close()
	info, err := os.Stat(filepath.Join(dir, IssuerKeysFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the keys' file: %v, %v; want mode 0600", info, err)
	}
	r = start(t, dir)
	guard := false
	eventually(t, "the keys are in the mesh", func() bool {
		list, err := r.client.ServicePolicies(t.Context(), "cart.default")
		for i := range list {
			for _, f := range list[i].Inbound {
				guard = guard || f.Name == "jwt.issuers" && f.Value == issuer.URL
			}
		}
		return err == nil && guard
	})
	// Without keys the status would say so as soon as there is a mesh.
	for range 20 {
		if !known() {
			t.Fatal("a control plane that starts while the issuer is away has lost its keys")
		}
		time.Sleep(10 * time.Millisecond)
	}
}
