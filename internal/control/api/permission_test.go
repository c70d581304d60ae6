package api

import (
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/control/operator"
)

// everybody are callers of each kind, in the order of the letters below.
var everybody = []struct {
	letter byte
	who    *operator.Who
}{
	{'n', nil}, // nobody
	{'v', &operator.Who{Name: "view in shop", Role: v1alpha1.OperatorView, Namespaces: []string{"shop"}}},
	{'e', &operator.Who{Name: "edit in shop", Role: v1alpha1.OperatorEdit, Namespaces: []string{"shop"}}},
	{'a', &operator.Who{Name: "admin in shop", Role: v1alpha1.OperatorAdmin, Namespaces: []string{"shop"}}},
	{'V', &operator.Who{Name: "view", Role: v1alpha1.OperatorView}},
	{'E', &operator.Who{Name: "edit", Role: v1alpha1.OperatorEdit}},
	{'A', &operator.Who{Name: "admin", Role: v1alpha1.OperatorAdmin}},
}

// TestPermissions says for each question of the API who may ask it. Those of which
// it is looked at inside are everybody's here, but for objects (TestOperators).
func TestPermissions(t *testing.T) {
	const (
		all    = "veaVEA" // names and figures of services
		shop   = "veaVEA" // what is in namespace shop
		bank   = "VEA"    // and in another one
		whole  = "VEA"    // what may tell of every namespace
		admin  = "A"
		inside = "nveaVEA"
	)
	table := []struct{ pattern, path, may string }{
		{"GET /tulle/v1/status", "", all},
		{"GET /tulle/v1/check", "", all},
		{"GET /tulle/v1/proxies", "", all},
		{"GET /tulle/v1/proxies/{namespace}/{name}", "/tulle/v1/proxies/shop/cart", shop},
		{"GET /tulle/v1/proxies/{namespace}/{name}", "/tulle/v1/proxies/bank/till", bank},
		{"GET /tulle/v1/proxies/{namespace}/{name}/connections", "/tulle/v1/proxies/shop/cart/connections", shop},
		{"GET /tulle/v1/proxies/{namespace}/{name}/connections", "/tulle/v1/proxies/bank/till/connections", bank},
		{"GET /tulle/v1/endpoints", "/tulle/v1/endpoints?service=cart.shop", shop},
		{"GET /tulle/v1/endpoints", "/tulle/v1/endpoints?service=till.bank", bank},
		{"GET /tulle/v1/endpoints", "/tulle/v1/endpoints?service=%00", bank},
		{"GET /tulle/v1/identity", "", all},
		{"GET /tulle/v1/trust", "", all},
		{"POST /tulle/v1/trust", "", admin},
		{"GET /tulle/v1/audit", "", whole}, // and then administrators' alone
		{"POST /tulle/v1/dashboard-logins", "", all},
		{"POST /tulle/v1/certificates", "", inside},
		{"POST /tulle/v1/join-tokens", "", inside},
		{"POST /tulle/v1/jwt-svids", "", inside},
		{"GET /tulle/v1/bundles", "", inside}, // they are public
		{"POST /tulle/v1/explain", "", whole},
		{"POST /tulle/v1/access", "", all}, /* and then of their namespaces */
		{"GET /tulle/v1/adoption", "", all},
		{"POST /tulle/v1/diff", "", whole},
		{"GET /tulle/v1/policies", "", whole},
		{"GET /tulle/v1/why", "", whole},
		{"GET /tulle/v1/why/{id}", "/tulle/v1/why/0123456789abcdef", whole},
		{"GET /tulle/v1/tap", "/tulle/v1/tap?service=cart.shop", "eaEA"},
		{"GET /tulle/v1/tap", "/tulle/v1/tap?proxy=till.bank", "EA"},
		{"GET /tulle/v1/tap", "/tulle/v1/tap?service=%00", "EA"},
		{"GET /tulle/v1/stat", "", all},
		{"GET /tulle/v1/routes", "", all},
		{"GET /tulle/v1/edges", "", all},
		{"/", "/tulle/v1/nothing", inside},
	}
	listed := map[string]bool{}
	for _, row := range table {
		listed[row.pattern] = true
		method, path, ok := strings.Cut(row.pattern, " ")
		if !ok {
			method, path = "GET", row.pattern
		}
		if row.path != "" {
			path = row.path
		}
		for _, c := range everybody {
			r := httptest.NewRequest(method, path, nil)
			if parts := strings.Split(r.URL.Path, "/"); strings.Contains(row.pattern, "{namespace}") {
				r.SetPathValue("namespace", parts[4])
			}
			if c.who != nil {
				r = r.WithContext(operator.With(r.Context(), c.who))
			}
			err := permitted(row.pattern, r)
			if may := strings.IndexByte(row.may, c.letter) >= 0; may != (err == nil) {
				t.Errorf("%s as %+v: %v, want it permitted: %v", path, c.who, err, may)
			}
		}
	}
	source, err := os.ReadFile("handler.go")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`handle\("([^"]+)", `).FindAllSubmatch(source, -1)
	if len(found) < 20 {
		t.Fatalf("only %d patterns in handler.go: are they written otherwise now?", len(found))
	}
	for _, m := range found {
		if !listed[string(m[1])] {
			t.Errorf("nobody says here who may ask %q", m[1])
		}
	}
	for pattern := range permit {
		if !listed[pattern] {
			t.Errorf("permit has %q, which isn't served", pattern)
		}
	}
}
