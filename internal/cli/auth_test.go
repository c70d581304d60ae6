package cli

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tulle.dev/tulle/internal/explain"
)

// What a gateway decides is shown with what comes after it.
func TestPrintGatewayAccess(t *testing.T) {
	var out bytes.Buffer
	a := &app{}
	a.Out = &out
	a.printAccess(&explain.AccessAnswer{Gateway: true, To: "edge.shop:443", Route: "httproute/shop/web#0", Allowed: true, Some: true, Reason: "allowed: no rule is about it, and the default is to allow",
		Notes: []string{"1 of the 2 services of the route let it pass"},
		Then: []explain.AccessAnswer{
			{To: "till.shop:80", Caller: "spiffe://mesh.local/ns/shop/sa/edge", Reason: "denied: no rule allows it"},
			{To: "web.shop:80", Caller: "spiffe://mesh.local/ns/shop/sa/edge", Allowed: true, Reason: "allowed", Notes: []string{"no endpoint"}},
		}})
	want := `yes: allowed: no rule is about it, and the default is to allow
  gateway: edge.shop:443, route httproute/shop/web#0
  then till.shop:80, called by spiffe://mesh.local/ns/shop/sa/edge: no: denied: no rule allows it
  then web.shop:80, called by spiffe://mesh.local/ns/shop/sa/edge: yes: allowed
    no endpoint
  1 of the 2 services of the route let it pass
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAccessQuestion(t *testing.T) {
	a := &app{namespace: "shop"}
	for _, c := range []struct {
		from, to, gateway string
		want              explain.AccessQuestion
	}{
		{"web", "till:80", "", explain.AccessQuestion{From: "web.shop", To: "till.shop:80"}},
		{"none", "till", "", explain.AccessQuestion{To: "till.shop"}},
		{"", "", "edge:443", explain.AccessQuestion{Gateway: "edge.shop:443"}},
		{"203.0.113.7", "", "edge", explain.AccessQuestion{Gateway: "edge.shop", From: "203.0.113.7"}},
		{"none", "", "edge.other", explain.AccessQuestion{Gateway: "edge.other"}},
	} {
		got, err := a.accessQuestion(c.from, c.to, c.gateway, false)
		if err != nil {
			t.Fatal(err)
		}
		if got.From != c.want.From || got.To != c.want.To || got.Gateway != c.want.Gateway {
			t.Errorf("%+v: %+v", c, got)
		}
	}
}
