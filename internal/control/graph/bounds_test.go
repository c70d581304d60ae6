package graph

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/mesh"
)

// TestTableBounds: what is more than a proxy takes is refused, the newest first,
// with a status, and the older routes stay.
func TestTableBounds(t *testing.T) {
	b := NewBuilder("mesh.local")
	changes := decode(t, "in.yaml", []byte(`
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec: {gatewayClassName: tulle, listeners: [{name: a, port: 80, protocol: HTTP}]}
`))
	const each = 16
	last := maxTableHosts / each
	for i := range last + 1 {
		r := object.HTTPRoute.New().(*gatewayv1.HTTPRoute)
		r.Namespace, r.Name = "default", fmt.Sprintf("r%d", i)
		r.CreationTimestamp = metav1.NewTime(time.Unix(int64(i), 0))
		r.Spec.ParentRefs = []gatewayv1.ParentReference{{Name: "edge"}}
		for j := range each {
			r.Spec.Hostnames = append(r.Spec.Hostnames, gatewayv1.Hostname(fmt.Sprintf("h%d.r%d.example", j, i)))
		}
		object.Default(r)
		changes = append(changes, ChangeOf(r))
	}
	r := b.Apply(1, changes)
	hosts := 0
	for _, l := range r.Snapshot.Gateways[mesh.Name{Namespace: "default", Name: "edge"}].Listeners {
		hosts += len(l.Routes.Hosts)
	}
	if hosts > maxTableHosts || hosts < maxTableHosts-each {
		t.Errorf("%d hostnames in the table, want nearly %d", hosts, maxTableHosts)
	}
	ref := func(i int) Ref {
		return Ref{object.HTTPRoute, mesh.Name{Namespace: "default", Name: fmt.Sprintf("r%d", i)}}
	}
	for i, want := range map[int]bool{0: true, last - 2: true, last: false} {
		if c := b.Statuses()[ref(i)].Parents[0].Conditions[0]; c.True != want || !want && !strings.Contains(c.Message, "as many hostnames or rules") {
			t.Errorf("route %d: %+v", i, c)
		}
	}
	b.Apply(2, []Change{{Ref: ref(0)}, {Ref: ref(1)}})
	if c := b.Statuses()[ref(last)].Parents[0].Conditions[0]; !c.True {
		t.Errorf("where there is room again: %+v", c)
	}
}

// TestPolicyBounds: of policies that add up a target takes a bounded number, the
// oldest ones.
func TestPolicyBounds(t *testing.T) {
	b := NewBuilder("mesh.local")
	changes := decode(t, "in.yaml", []byte("apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n"))
	for i := range maxPerTarget + 1 {
		p := object.RateLimitPolicy.New().(*v1alpha1.RateLimitPolicy)
		p.Namespace, p.Name = "default", fmt.Sprintf("p%d", i)
		p.CreationTimestamp = metav1.NewTime(time.Unix(int64(i), 0))
		p.Spec.TargetRefs = []v1alpha1.TargetRef{{Kind: "Service", Name: "web"}}
		p.Spec.Limits = []v1alpha1.RateLimit{{Requests: int32(i)}}
		changes = append(changes, ChangeOf(p))
	}
	r := b.Apply(1, changes)
	in := r.Snapshot.Services[mesh.Name{Namespace: "default", Name: "web"}].Inbound[80]
	if len(in.Limits) != maxPerTarget || in.Limits[maxPerTarget-1].Requests != maxPerTarget-1 {
		t.Errorf("limits: %+v", in.Limits)
	}
	for i, want := range map[int]bool{0: true, maxPerTarget - 1: true, maxPerTarget: false} {
		s := b.Statuses()[Ref{object.RateLimitPolicy, mesh.Name{Namespace: "default", Name: fmt.Sprintf("p%d", i)}}]
		if c := s.Ancestors[0].Conditions[0]; c.True != want || !want && c.Reason != "Conflicted" {
			t.Errorf("policy %d: %+v", i, c)
		}
	}
}
