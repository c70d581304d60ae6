package cli

import (
	"reflect"
	"testing"

	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/view"
)

// TestReadable: whatever a view has is shown by `tulle view`, under the same name
// or as said here.
func TestReadable(t *testing.T) {
	other := map[string]string{
		"View.Bundle": "TrustDomains", "View.Versions": "", // empty in what is rendered
		"Proxy.TrustDomain": "", "Proxy.ClusterDomain": "", // in the identity, and of no use without names
		"Listener.Certificate": "TLS", "Listener.Key": "TLS", "Listener.Inbound": "Policy",
		"Rule.Policy": "Policy",
	}
	for _, pair := range [][2]reflect.Type{
		{reflect.TypeFor[view.View](), reflect.TypeFor[readableView]()},
		{reflect.TypeFor[view.Proxy](), reflect.TypeFor[readableProxy]()},
		{reflect.TypeFor[view.Listener](), reflect.TypeFor[readableListener]()},
		{reflect.TypeFor[view.Destination](), reflect.TypeFor[readableDestination]()},
		{reflect.TypeFor[view.Endpoints](), reflect.TypeFor[readableEndpoints]()},
		{reflect.TypeFor[view.Endpoint](), reflect.TypeFor[readableEndpoint]()},
		{reflect.TypeFor[view.Host](), reflect.TypeFor[readableHost]()},
		{reflect.TypeFor[route.Host](), reflect.TypeFor[readableRoutes]()},
		{reflect.TypeFor[route.Rule](), reflect.TypeFor[readableRule]()},
		{reflect.TypeFor[route.Backend](), reflect.TypeFor[readableBackend]()},
	} {
		for i := range pair[0].NumField() {
			name := pair[0].Field(i).Name
			shown, said := other[pair[0].Name()+"."+name]
			if !said {
				shown = name
			}
			if _, ok := pair[1].FieldByName(shown); !ok && shown != "" {
				t.Errorf("%s.%s isn't shown", pair[0], name)
			}
		}
	}
}
