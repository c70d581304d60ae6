package cli

import (
	"testing"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/examples/shop"
	"tulle.dev/tulle/internal/control/object"
)

// TestShopAddress: the demo's gateway serves where --shop says.
func TestShopAddress(t *testing.T) {
	for _, bad := range []string{"", "8081", "localhost:8081", "127.0.0.1", "127.0.0.1:0", "[fe80::1%eth0]:80"} {
		if at, err := shopAddress(bad); err == nil {
			t.Errorf("--shop %q is taken for %v", bad, at)
		}
	}
	for _, address := range []string{"127.0.0.1:8081", "[::1]:80"} {
		at, err := shopAddress(address)
		if err != nil {
			t.Fatal(err)
		}
		documents, err := object.Decode("mesh.yaml", shop.Mesh)
		if err != nil {
			t.Fatal(err)
		}
		moved := 0
		for _, d := range documents {
			g, ok := d.Object.(*gatewayv1.Gateway)
			if !ok {
				continue
			}
			moveGateway(g, at)
			moved++
			if g.Spec.Addresses[0].Value != at.Addr().String() || *g.Spec.Addresses[0].Type != gatewayv1.IPAddressType {
				t.Errorf("it serves at %v, want %v", g.Spec.Addresses, at.Addr())
			}
			if len(g.Spec.Listeners) != 1 || g.Spec.Listeners[0].Port != gatewayv1.PortNumber(at.Port()) {
				t.Errorf("its listeners are %v, want one on port %d", g.Spec.Listeners, at.Port())
			}
		}
		if moved != 1 {
			t.Errorf("the shop has %d gateways, want 1", moved)
		}
	}
}
