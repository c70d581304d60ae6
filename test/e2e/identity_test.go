package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

// identityMain is a program that uses its workload's identity itself, with the
// SPIFFE library and nothing told but by the environment.
func identityMain() int {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	svid, err := workloadapi.FetchX509SVID(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(svid.ID, time.Until(svid.Certificates[0].NotAfter).Round(time.Hour))
	token, err := workloadapi.FetchJWTSVID(ctx, jwtsvid.Params{Audience: "payment"})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	judged, err := workloadapi.ValidateJWTSVID(ctx, token.Marshal(), "payment")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("token of", judged.ID)
	return 0
}

// A program gets its workload's identity from the Workload API, and the proxy has
// the same with a key of its own. Once denied, it gets none.
func TestIdentity(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	m := newMesh(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	run := func() (string, error) {
		return m.try("run", "-q", "--name", "web", "--service-account", "shopper", "--", "env", "E2E_ROLE=identity", self)
	}
	out, err := run()
	if err != nil || !strings.Contains(out, "spiffe://mesh.local/ns/default/sa/shopper 24h") || !strings.Contains(out, "token of spiffe://mesh.local/ns/default/sa/shopper") {
		t.Fatalf("%v: %s", err, out)
	}
	m.apply(`
apiVersion: tulle.dev/v1alpha1
kind: Mesh
metadata: {name: mesh}
spec: {deniedIdentities: ["spiffe://mesh.local/ns/default/sa/shopper"]}
`)
	if out, err := run(); err == nil || !strings.Contains(out, "is denied") {
		t.Errorf("a denied identity: %v: %s", err, out)
	}
}

// A proxy lets in who brings a token of the mesh for it, by the mesh's own keys.
func TestTokensOfTheMesh(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	m := newMesh(t)
	m.serve("--name", "payment", "--service", "payment", "--port", "8080", "--", "env", "E2E_ROLE=server", "E2E_LISTEN=127.0.0.1:8080", "E2E_NAME=payment", self(t))
	m.apply(`
apiVersion: tulle.dev/v1alpha1
kind: AuthenticationPolicy
metadata: {name: tokens}
spec:
  targetRefs: [{kind: Service, name: payment}]
  jwt: {required: true, issuers: [{issuer: "spiffe://mesh.local", audiences: [payment]}]}
`)
	ask := func(audience string) string {
		out, err := m.try("run", "-q", "--name", "web", "--", "env", "E2E_ROLE=bearer", "E2E_TO="+audience, "E2E_URL=http://payment:8080/", self(t))
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return out
	}
	eventually(t, "the keys are there", func() bool { return strings.Contains(ask("payment"), "200") })
	for audience, want := range map[string]string{"payment": "200", "stock": "401", "": "401"} {
		if out := ask(audience); !strings.Contains(out, want) {
			t.Errorf("with a token for %q: %s, want %s", audience, out, want)
		}
	}
}

// bearerMain asks with a token of its workload for E2E_TO, or with none.
func bearerMain() int {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, os.Getenv("E2E_URL"), nil)
	if err == nil && os.Getenv("E2E_TO") != "" {
		var token *jwtsvid.SVID
		if token, err = workloadapi.FetchJWTSVID(ctx, jwtsvid.Params{Audience: os.Getenv("E2E_TO")}); err == nil {
			r.Header.Set("Authorization", "Bearer "+token.Marshal())
		}
	}
	var resp *http.Response
	if err == nil {
		resp, err = http.DefaultClient.Do(r)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	resp.Body.Close()
	fmt.Println(resp.StatusCode)
	return 0
}
