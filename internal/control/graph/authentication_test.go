package graph

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/access"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/mesh"
)

const judged = `
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: other}
spec: {ports: [{port: 80}]}
---
apiVersion: tulle.dev/v1alpha1
kind: AuthenticationPolicy
metadata: {name: people}
spec:
  targetRefs: [{kind: Service, name: web}]
  jwt:
    issuers: [{issuer: "https://a.example/"}, {issuer: b, jwksURI: "https://b.example/keys"}]
`

// TestKeys: fetched keys come into what is made of the policies that name them, and
// into nothing else.
func TestKeys(t *testing.T) {
	b := NewBuilder("mesh.local")
	before := b.Apply(1, decode(t, "in.yaml", []byte(judged))).Snapshot
	urls := []string{"https://a.example/.well-known/openid-configuration", "https://b.example/keys"}
	if got := b.KeyURLs(); !slices.Equal(got, urls) {
		t.Fatalf("wanted are %v, want %v", got, urls)
	}
	if said := dumpStatuses(b.Statuses()); !strings.Contains(said, "NoKeys: spec.jwt.issuers[0]: no keys from "+urls[0]) {
		t.Errorf("the status doesn't say that keys are missing:\n%s", said)
	}
	b.Keys(map[string][]byte{urls[1]: []byte("K"), "https://c.example": []byte("X")})
	r := b.Apply(2, nil)
	web, other := mesh.Name{Namespace: "default", Name: "web"}, mesh.Name{Namespace: "default", Name: "other"}
	issuers := r.Snapshot.Services[web].Inbound[80].Guard.JWT.Issuers
	if issuers[0].Keys != nil || string(issuers[1].Keys) != "K" {
		t.Errorf("keys: %q and %q, want none and K", issuers[0].Keys, issuers[1].Keys)
	}
	if r.Snapshot.Services[other] != before.Services[other] || !r.Changed.Services[web] || r.Changed.Services[other] {
		t.Errorf("changed: %+v", r.Changed)
	}
	if said := dumpStatuses(b.Statuses()); strings.Contains(said, urls[1]) {
		t.Errorf("the status still misses keys that are there:\n%s", said)
	}
	// The same again changes nothing.
	b.Keys(map[string][]byte{urls[1]: []byte("K")})
	if r := b.Apply(3, nil); !r.Changed.Empty() {
		t.Errorf("the same keys changed %+v", r.Changed)
	}
}

// TestDomains: whose JWT-SVIDs are believed goes along, wherever that is said.
func TestDomains(t *testing.T) {
	b := NewBuilder("mesh.local")
	in := strings.Replace(judged, `{issuer: b, jwksURI: "https://b.example/keys"}`, `{issuer: "spiffe://mesh.local", audiences: [a]}, {issuer: "https://t.example", jwksURI: "spiffe://partner.example", audiences: [a]}`, 1)
	s := b.Apply(1, decode(t, "in.yaml", []byte(in))).Snapshot
	var got []string
	for _, is := range s.Services[mesh.Name{Namespace: "default", Name: "web"}].Inbound[80].Guard.JWT.Issuers {
		got = append(got, is.Domain)
	}
	if want := []string{"", "mesh.local", "partner.example"}; !slices.Equal(got, want) {
		t.Errorf("domains %q, want %q", got, want)
	}
}

// TestTokensOfAServicesRoute: callers' proxies know the routes of a Service, and the
// called one's checks tokens. A policy for such a route says what to do instead, and
// that does it: tokens are looked for at the Service, and the route's AccessPolicy
// asks for a claim.
func TestTokensOfAServicesRoute(t *testing.T) {
	b := NewBuilder("mesh.local")
	s := b.Apply(1, decode(t, "in.yaml", []byte(judged+`
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: admin}
spec:
  parentRefs: [{group: "", kind: Service, name: web, port: 80}]
  rules:
  - name: inside
    matches: [{path: {value: /admin}}]
    backendRefs: [{name: web, port: 80}]
  - name: rest
    backendRefs: [{name: web, port: 80}]
---
apiVersion: tulle.dev/v1alpha1
kind: AuthenticationPolicy
metadata: {name: wrong}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: admin}]
  jwt: {issuers: [{issuer: "https://a.example/"}]}
  external: {backendRef: {name: other, port: 80}}
---
apiVersion: tulle.dev/v1alpha1
kind: AccessPolicy
metadata: {name: admins}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: admin, sectionName: inside}]
  rules: [{when: [{claim: groups, values: [admins]}]}]
---
apiVersion: tulle.dev/v1alpha1
kind: AccessPolicy
metadata: {name: rest}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: admin, sectionName: rest}]
  rules: [{}]
`))).Snapshot
	said := dumpStatuses(b.Statuses())
	for _, want := range []string{
		"spec.jwt: the route's parent is a Service, and its rules are for callers' proxies, which aren't asked for proof: target Service web.default, and ask for a claim at this route with an AccessPolicy (when)",
		"; spec.external: the route's parent is a Service, and its rules are for callers' proxies, which aren't asked for proof: target Service web.default",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("the status doesn't say %q:\n%s", want, said)
		}
	}
	guard := s.Services[mesh.Name{Namespace: "default", Name: "web"}].Inbound[80].Guard
	if guard.JWT == nil || guard.External != nil || guard.Access == nil {
		t.Fatalf("%+v", guard)
	}
	table, err := access.Compile(*guard.Access, "mesh.local")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path   string
		groups string
		want   bool
	}{{"/admin/x", "admins", true}, {"/admin/x", "staff", false}, {"/admin", "", false}, {"/shop", "", true}} {
		r := &access.Request{Method: []byte("GET"), Path: []byte(c.path), Claims: oneClaim(c.groups)}
		if got := table.Session(access.Peer{}).Explain(r).Action == access.Allow; got != c.want {
			t.Errorf("%s with group %q: %v", c.path, c.groups, got)
		}
	}
}

// oneClaim is the claim groups of a token, or no token.
type oneClaim string

func (c oneClaim) Claim(name string, values []string) bool {
	return c != "" && name == "groups" && (len(values) == 0 || slices.Contains(values, string(c)))
}

// TestTooManyRules: what is more than a target takes denies everything, and its
// status says so; it isn't left out, for a Deny may be among it.
func TestTooManyRules(t *testing.T) {
	b := NewBuilder("mesh.local")
	changes := decode(t, "in.yaml", []byte("apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n"))
	for i := range maxAccessRules/64 + 1 {
		p := object.AccessPolicy.New().(*v1alpha1.AccessPolicy)
		p.ObjectMeta = metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("p%03d", i)}
		p.Spec.TargetRefs = []v1alpha1.TargetRef{{Kind: "Service", Name: "web"}}
		p.Spec.Rules = make([]v1alpha1.AccessRule, 64)
		object.Default(p)
		changes = append(changes, ChangeOf(p))
	}
	spec := b.Apply(1, changes).Snapshot.Services[mesh.Name{Namespace: "default", Name: "web"}].Inbound[80].Guard.Access
	table, err := access.Compile(*spec, "mesh.local")
	if err != nil {
		t.Fatal(err)
	}
	if r := table.Session(access.Peer{}).Explain(&access.Request{Method: []byte("GET"), Path: []byte("/")}); r.Action != access.Deny {
		t.Errorf("with more rules than are taken: %s", r)
	}
	last := Ref{object.AccessPolicy, mesh.Name{Namespace: "default", Name: fmt.Sprintf("p%03d", maxAccessRules/64)}}
	if c := b.Statuses()[last].Ancestors[0].Conditions[0]; c.True || !strings.Contains(c.Message, "everything is denied") {
		t.Errorf("status: %+v", c)
	}
}

// TestUnknownWords: a policy that isn't validated before it comes here, and says
// words that nobody knows, opens nothing.
func TestUnknownWords(t *testing.T) {
	b := NewBuilder("mesh.local")
	changes := decode(t, "in.yaml", []byte("apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n"))
	p := object.AccessPolicy.New().(*v1alpha1.AccessPolicy)
	p.Namespace, p.Name = "default", "p"
	p.Spec.TargetRefs = []v1alpha1.TargetRef{{Kind: "Service", Name: "web"}}
	p.Spec.Action, p.Spec.Mode, p.Spec.IfUnenforceable = "Permit", "Soft", "Perhaps"
	p.Spec.Rules = []v1alpha1.AccessRule{{From: []v1alpha1.AccessSource{{Callers: []string{"x.default"}}}}}
	a := object.AuthenticationPolicy.New().(*v1alpha1.AuthenticationPolicy)
	a.Namespace, a.Name = "default", "a"
	a.Spec.TargetRefs, a.Spec.MutualTLS = p.Spec.TargetRefs, "Loose"
	svc := b.Apply(1, append(changes, ChangeOf(p), ChangeOf(a))).Snapshot.Services[mesh.Name{Namespace: "default", Name: "web"}]
	if r := svc.Inbound[80].Guard.Access.Rules[0]; r.Action != access.Deny || r.Audit || r.AllowUnenforceable {
		t.Errorf("an unknown action, mode and ifUnenforceable made %+v", r)
	}
	if svc.MutualTLS[80] != mesh.MutualStrict {
		t.Errorf("an unknown mutualTLS made %d", svc.MutualTLS[80])
	}
}
