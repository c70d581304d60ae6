package e2e

import (
	"context"
	"fmt"
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
