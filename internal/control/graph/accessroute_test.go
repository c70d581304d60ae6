package graph

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/access"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/route"
)

// TestRoutedNeverOpens makes random routes of a Service and policies for their
// rules, and asks both for random requests: which rule takes it (the route's own
// table says), and whether the called workload's proxy lets it in. What a policy is
// about is never let in against it: a Deny for the rule that takes the request
// denies, an Allow for another rule than that lets nothing in.
func TestRoutedNeverOpens(t *testing.T) {
	paths := []string{"/", "/a", "/a/b", "/a/b/c", "/c", "/ab"}
	asked := append([]string{"/a/x", "/a/b/x", "/c/d", "/x"}, paths...)
	methods := []string{"GET", "POST"}
	denied, allowed := 0, 0
	for seed := range 3000 {
		r := rand.New(rand.NewPCG(uint64(seed), 11))
		hr := object.HTTPRoute.New().(*gatewayv1.HTTPRoute)
		hr.Namespace, hr.Name = "shop", "r"
		group, kind := gatewayv1.Group(""), gatewayv1.Kind("Service")
		hr.Spec.ParentRefs = []gatewayv1.ParentReference{{Group: &group, Kind: &kind, Name: "web"}}
		port := gatewayv1.PortNumber(80)
		rules := 1 + r.IntN(3)
		for i := range rules {
			name := gatewayv1.SectionName(fmt.Sprintf("s%d", i))
			rule := gatewayv1.HTTPRouteRule{Name: &name, BackendRefs: []gatewayv1.HTTPBackendRef{{BackendRef: gatewayv1.BackendRef{BackendObjectReference: gatewayv1.BackendObjectReference{Name: "web", Port: &port}}}}}
			for range 1 + r.IntN(2) {
				kind, value := []gatewayv1.PathMatchType{"Exact", "PathPrefix", "PathPrefix"}[r.IntN(3)], paths[r.IntN(len(paths))]
				if r.IntN(8) == 0 {
					kind, value = "RegularExpression", "/a/.*"
				}
				m := gatewayv1.HTTPRouteMatch{Path: &gatewayv1.HTTPPathMatch{Type: &kind, Value: &value}}
				if r.IntN(3) == 0 {
					method := gatewayv1.HTTPMethod(methods[r.IntN(2)])
					m.Method = &method
				}
				if r.IntN(4) == 0 {
					m.Headers = []gatewayv1.HTTPHeaderMatch{{Name: "x-h", Value: "1"}}
				}
				if r.IntN(6) == 0 {
					m.QueryParams = []gatewayv1.HTTPQueryParamMatch{{Name: "q", Value: "1"}}
				}
				rule.Matches = append(rule.Matches, m)
			}
			hr.Spec.Rules = append(hr.Spec.Rules, rule)
		}
		object.Default(hr)
		target := r.IntN(rules)
		section := gatewayv1.SectionName(fmt.Sprintf("s%d", target))
		p := object.AccessPolicy.New().(*v1alpha1.AccessPolicy)
		p.ObjectMeta = metav1.ObjectMeta{Namespace: "shop", Name: "p"}
		p.Spec.TargetRefs = []v1alpha1.TargetRef{{Kind: "HTTPRoute", Name: "r", SectionName: &section}}
		deny := r.IntN(2) == 0
		if deny {
			p.Spec.Action = v1alpha1.AccessDeny
		}
		own := v1alpha1.AccessOperation{}
		if r.IntN(2) == 0 {
			own.Paths = []v1alpha1.AccessPath{{Value: paths[1+r.IntN(len(paths)-1)]}}
		}
		p.Spec.Rules = []v1alpha1.AccessRule{{From: []v1alpha1.AccessSource{{Callers: []string{"x.shop"}}}, To: []v1alpha1.AccessOperation{own}}}
		object.Default(p)
		changes := decode(t, "in.yaml", []byte("apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {ports: [{port: 80}]}\n"))
		b := NewBuilder("mesh.local")
		s := b.Apply(1, append(changes, ChangeOf(hr), ChangeOf(p))).Snapshot
		svc := s.Services[mesh.Name{Namespace: "shop", Name: "web"}]
		table, err := route.Compile(svc.Routes[80])
		if err != nil {
			t.Fatal(err)
		}
		spec := access.Spec{Default: access.Allow}
		if in := svc.Inbound[80]; in != nil && in.Guard != nil {
			spec = *in.Guard.Access
		}
		rulesOf, err := access.Compile(spec, "mesh.local")
		if err != nil {
			t.Fatal(err)
		}
		session := rulesOf.Session(access.Peer{ID: identity.ID{TrustDomain: "mesh.local", Namespace: "shop", ServiceAccount: "x"}})
		for _, path := range asked {
			for _, method := range methods {
				for _, header := range []bool{false, true} {
					for _, query := range []string{"", "q=1"} {
						f := oneField(header)
						taken, _ := table.Match(&route.Request{Method: []byte(method), Path: []byte(path), Query: []byte(query), Fields: f})
						mine := taken != nil && taken.Name == fmt.Sprintf("httproute/shop/r#%d", target)
						about := mine && (own.Paths == nil || path == own.Paths[0].Value || strings.HasPrefix(path, own.Paths[0].Value+"/"))
						d := session.Explain(&access.Request{Method: []byte(method), Path: []byte(path), Fields: f})
						say := func(what string) {
							t.Fatalf("seed %d: %s: %s %s header=%v query=%q, taken by %v\nrules %s\npolicy %+v\nmade %+v\n%s", seed, what, method, path, header, query, taken, matchesText(hr), p.Spec, spec, d)
						}
						switch {
						case deny && about && d.Action == access.Allow:
							say("a Deny is got around")
						case !deny && !about && d.Action == access.Allow:
							say("an Allow opens what it isn't about")
						}
						if d.Action == access.Deny {
							denied++
						} else if !deny {
							allowed++
						}
					}
				}
			}
		}
	}
	if denied == 0 || allowed == 0 {
		t.Errorf("%d requests denied and %d allowed by a policy: the test tries nothing", denied, allowed)
	}
}

func matchesText(r *gatewayv1.HTTPRoute) string {
	var out []string
	for i := range r.Spec.Rules {
		for j := range r.Spec.Rules[i].Matches {
			m, _ := httpMatch(&r.Spec.Rules[i].Matches[j])
			out = append(out, fmt.Sprintf("%d:%s", i, matchText(&m)))
		}
	}
	return strings.Join(slices.Compact(out), "; ")
}

// oneField is whether a request has x-h: 1.
type oneField bool

func (f oneField) Field(name string) ([]byte, bool) {
	return []byte("1"), bool(f) && strings.EqualFold(name, "x-h")
}
