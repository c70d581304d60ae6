package object

import (
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/control/object/schema"
)

// TestDefaultOfPrograms: what a program made is filled in as what a person wrote.
func TestDefaultOfPrograms(t *testing.T) {
	r := HTTPRoute.New().(*gatewayv1.HTTPRoute)
	r.Name = "web"
	r.Spec.ParentRefs = []gatewayv1.ParentReference{{Name: "edge"}}
	Default(r)
	docs, err := Decode("", []byte("apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: web}\nspec: {parentRefs: [{name: edge}]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(docs[0].Object, Object(r)); d != "" {
		t.Errorf("-written +made:\n%s", d)
	}
	if issues := Validate(r); issues != nil {
		t.Errorf("%v", issues)
	}
	p := TrafficPolicy.New().(*v1alpha1.TrafficPolicy)
	p.Name = "web"
	if issues := Validate(p); len(issues) == 0 {
		t.Error("a policy for nothing is fine")
	}
	Default(p)
	if p.Namespace != DefaultNamespace {
		t.Errorf("namespace %q", p.Namespace)
	}
}

// TestUnset tells fields that aren't written from fields that say none, which a
// policy inherits or not.
func TestUnset(t *testing.T) {
	docs, err := Decode("", []byte(`
apiVersion: tulle.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: a}
spec:
  targetRefs: [{kind: Service, name: web}]
  subset: {}
  retry: {on: [], attempts: 0}
  overload: {}
  ejection: {off: null}
`))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // as written, and as stored
		spec := &docs[0].Object.(*v1alpha1.TrafficPolicy).Spec
		switch {
		case spec.Subset == nil, spec.Retry.On == nil, spec.Retry.Attempts == nil, spec.Overload == nil:
			t.Errorf("what says none is gone: %+v", spec)
		case spec.Retry.Statuses != nil, spec.Balance != nil, spec.Ejection.Off != nil, spec.Overload.Priorities != nil:
			t.Errorf("what isn't written is there: %+v", spec)
		}
		docs[0].Object = Clone(docs[0].Object)
	}
}

// TestConcurrent: several goroutines may read objects of a kind for the first time.
func TestConcurrent(t *testing.T) {
	in := []byte("apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {name: a}\nspec: {rules: [{matches: [{method: {method: a}}, {method: {method: /}}]}]}\n")
	used := GRPCRoute.schema
	GRPCRoute.schema = schema.New(GRPCRoute.Group, GRPCRoute.Plural)
	defer func() { GRPCRoute.schema = used }()
	var all sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		all.Go(func() { _, errs[i] = Decode("", in) })
	}
	all.Wait()
	for _, err := range errs {
		if err == nil || err.Error() != errs[0].Error() {
			t.Errorf("%v, and %v", err, errs[0])
		}
	}
}
