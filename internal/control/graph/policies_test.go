package graph

import (
	"strings"
	"testing"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/control/object"
)

// TestForeignTargets: a policy that isn't validated before it comes here, as in a
// cluster, speaks neither for another namespace nor for the mesh.
func TestForeignTargets(t *testing.T) {
	b := NewBuilder("mesh.local")
	changes := decode(t, "in.yaml", []byte("apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: other}\nspec: {ports: [{port: 80}]}\n"))
	p := object.TrafficPolicy.New().(*v1alpha1.TrafficPolicy)
	p.Namespace, p.Name = "shop", "p"
	p.Spec.TargetRefs = []v1alpha1.TargetRef{{Kind: "Mesh", Name: "mesh"}, {Kind: "Namespace", Name: "other"}, {Kind: "Service", Name: "web"}, {Kind: "Pod", Name: "x"}}
	p.Spec.Timeouts = &v1alpha1.Timeouts{Request: new(gatewayv1.Duration("1s"))}
	r := b.Apply(1, append(changes, ChangeOf(p)))
	for n, s := range r.Snapshot.Services {
		if s.Request != nil {
			t.Errorf("%s has a policy: %+v", n, s.Request)
		}
	}
	got := dumpStatuses(b.Statuses())
	for _, want := range []string{
		"for Mesh mesh \n    Accepted=false Invalid: policies for the whole Mesh belong in namespace tulle-system",
		"for Namespace other \n    Accepted=false Invalid: a policy of namespace shop can't be for namespace other: put it there",
		"for Service web \n    Accepted=false TargetNotFound: there is no Service web in namespace shop",
		"for Pod x \n    Accepted=false Invalid: a policy can't be for a Pod",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the status doesn't say %q:\n%s", want, got)
		}
	}
}
