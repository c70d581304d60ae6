package graph

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/identity"
)

// TestIncremental makes, changes and deletes random objects of all kinds, few
// names so that they meet. After each step the builder has the same mesh and
// conditions as one that starts from nothing, and said exactly what changed.
func TestIncremental(t *testing.T) {
	seeds, steps := 12, 150
	if testing.Short() {
		seeds = 3
	}
	// Certificates with their key, and something that is neither.
	pairs := [][2][]byte{{[]byte("x"), []byte("y")}}
	for _, names := range [][]string{{"a.example"}, {"*.example"}} {
		chain, key := certificateFor(t, names)
		pairs = append(pairs, [2][]byte{chain, key})
	}
	for seed := range seeds {
		r := world{rand.New(rand.NewPCG(uint64(seed), 5)), pairs}
		b := NewBuilder("mesh.local")
		have := map[Ref]Change{}
		said := map[Ref]*Status{}
		before := b.Apply(1, nil).Snapshot
		for step := range steps {
			var changes []Change
			for range 1 + r.IntN(3) {
				o := r.object()
				object.Default(o)
				o.SetGeneration(1)
				c := ChangeOf(o)
				if r.IntN(4) == 0 {
					c.Object = nil
				}
				changes = append(changes, c)
			}
			for _, c := range changes {
				if c.Object == nil {
					delete(have, c.Ref)
					delete(said, c.Ref)
				} else {
					have[c.Ref] = c
				}
			}
			got := b.Apply(uint64(step+2), changes)
			for ref, s := range got.Statuses {
				said[ref] = s
			}
			whole := NewBuilder("mesh.local")
			var all []Change
			for _, c := range have {
				all = append(all, c)
			}
			want := whole.Apply(1, all)
			compiles(t, got.Snapshot)
			if d := cmp.Diff(dumpMesh(want.Snapshot), dumpMesh(got.Snapshot)); d != "" {
				t.Fatalf("seed %d, step %d, after %v: the mesh differs:\n%s", seed, step, refsOf(changes), d)
			}
			if d := cmp.Diff(dumpStatuses(whole.Statuses()), dumpStatuses(said)); d != "" {
				t.Fatalf("seed %d, step %d, after %v: the conditions differ:\n%s", seed, step, refsOf(changes), d)
			}
			if !got.Changed.All {
				exact(t, "service", before.Services, got.Snapshot.Services, got.Changed.Services)
				exact(t, "gateway", before.Gateways, got.Snapshot.Gateways, got.Changed.Gateways)
				for n := range got.Snapshot.Workloads {
					old, now := before.EgressOf(n.Namespace, identity.ID{}), got.Snapshot.EgressOf(n.Namespace, identity.ID{})
					if !reflect.DeepEqual(old, now) && !got.Changed.Egress[n] && before.Workloads[n] != nil {
						t.Errorf("workload %v may call elsewhere, and nobody said so", n)
					}
				}
				exact(t, "endpoints", before.Endpoints, got.Snapshot.Endpoints, got.Changed.Endpoints)
			}
			if t.Failed() {
				t.Fatalf("seed %d, step %d, after %v", seed, step, refsOf(changes))
			}
			before = got.Snapshot
		}
	}
}

// exact checks that what changed was said, nothing else, and that the rest is the
// very same value.
func exact[K comparable, V any](t *testing.T, what string, before, after map[K]*V, changed map[K]bool) {
	t.Helper()
	for k, v := range after {
		if old := before[k]; (old != v) != changed[k] {
			t.Errorf("%s %v: another value: %v, said to have changed: %v", what, k, old != v, changed[k])
		}
		if old := before[k]; old != nil && old != v && reflect.DeepEqual(old, v) {
			t.Errorf("%s %v: built again, though nothing is different", what, k)
		}
	}
	for k := range before {
		if after[k] == nil && !changed[k] {
			t.Errorf("%s %v went away, and nobody said so", what, k)
		}
	}
	for k := range changed {
		if before[k] == nil && after[k] == nil {
			t.Errorf("%s %v changed, though it never was", what, k)
		}
	}
}

func refsOf(changes []Change) []string {
	var out []string
	for _, c := range changes {
		out = append(out, fmt.Sprintf("%s there=%v", c.Ref, c.Object != nil))
	}
	return out
}

// world makes random objects.
type world struct {
	*rand.Rand
	pairs [][2][]byte
}

func pick[T any](w world, list ...T) T { return list[w.IntN(len(list))] }

func maybe[T any](w world, list ...T) *T {
	if w.IntN(2) == 0 {
		return nil
	}
	v := pick(w, list...)
	return &v
}

func (w world) meta() metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: pick(w, "a", "b"), Name: pick(w, "x", "y"),
		CreationTimestamp: metav1.NewTime(time.Date(2026, 1, 1, 0, w.IntN(3), 0, 0, time.UTC))}
}

func (w world) object() object.Object {
	kind := pick(w, object.Service, object.Service, object.Workload, object.Gateway, object.HTTPRoute, object.HTTPRoute, object.GRPCRoute,
		object.TLSRoute, object.TCPRoute, object.ReferenceGrant, object.Namespace, object.Secret,
		object.TrafficPolicy, object.TrafficPolicy, object.RateLimitPolicy, object.FaultPolicy,
		object.AccessPolicy, object.AccessPolicy, object.AuthenticationPolicy, object.EgressPolicy)
	o := kind.New()
	m := w.meta()
	switch o := o.(type) {
	case *corev1.Service:
		o.ObjectMeta = m
		o.Spec.Ports = []corev1.ServicePort{{Name: "p", Port: 80, AppProtocol: maybe(w, "tcp", "http")}}
		if w.IntN(2) == 0 {
			o.Spec.Ports = append(o.Spec.Ports, corev1.ServicePort{Name: "q", Port: 81})
		}
		if w.IntN(2) == 0 {
			o.Spec.Selector = map[string]string{"app": pick(w, "x", "y")}
		}
	case *v1alpha1.Workload:
		o.ObjectMeta = m
		o.Labels = map[string]string{"app": pick(w, "x", "y"), "version": pick(w, "1", "2")}
		if w.IntN(2) == 0 {
			o.Spec.Ports = []v1alpha1.WorkloadPort{{Service: pick(w, "x", "y.b"), Port: 80, MeshPort: 9}}
		}
	case *gatewayv1.Gateway:
		o.ObjectMeta = m
		for i := range 1 + w.IntN(4) {
			l := gatewayv1.Listener{Name: gatewayv1.SectionName(fmt.Sprintf("l%d", i)), Port: pick[gatewayv1.PortNumber](w, 1, 2),
				Protocol: pick(w, gatewayv1.HTTPProtocolType, gatewayv1.HTTPSProtocolType, gatewayv1.TLSProtocolType, gatewayv1.TCPProtocolType),
				Hostname: maybe[gatewayv1.Hostname](w, "a.example", "*.example", "*.a.example"),
				AllowedRoutes: &gatewayv1.AllowedRoutes{Namespaces: &gatewayv1.RouteNamespaces{From: maybe(w, gatewayv1.NamespacesFromAll, gatewayv1.NamespacesFromSelector),
					Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "1"}}}}}
			if l.Protocol == gatewayv1.HTTPSProtocolType || l.Protocol == gatewayv1.TLSProtocolType {
				l.TLS = &gatewayv1.ListenerTLSConfig{Mode: maybe(w, gatewayv1.TLSModeTerminate, gatewayv1.TLSModePassthrough),
					CertificateRefs: []gatewayv1.SecretObjectReference{{Name: pick[gatewayv1.ObjectName](w, "x", "y"), Namespace: maybe[gatewayv1.Namespace](w, "a", "b")}}}
			}
			o.Spec.Listeners = append(o.Spec.Listeners, l)
		}
	case *gatewayv1.HTTPRoute:
		o.ObjectMeta, o.Spec.ParentRefs, o.Spec.Hostnames = m, w.parents(), w.hostnames()
		for range 1 + w.IntN(2) {
			rule := gatewayv1.HTTPRouteRule{Name: maybe[gatewayv1.SectionName](w, "r", "s")}
			for range w.IntN(3) {
				rule.Matches = append(rule.Matches, gatewayv1.HTTPRouteMatch{Path: &gatewayv1.HTTPPathMatch{Value: maybe(w, "/a", "/a/b", "/c")}, Method: maybe[gatewayv1.HTTPMethod](w, "GET")})
			}
			for _, ref := range w.backends() {
				rule.BackendRefs = append(rule.BackendRefs, gatewayv1.HTTPBackendRef{BackendRef: ref})
			}
			if w.IntN(3) == 0 {
				rule.Timeouts = &gatewayv1.HTTPRouteTimeouts{Request: maybe[gatewayv1.Duration](w, "1s", "0s")}
			}
			if w.IntN(3) == 0 {
				rule.Filters = []gatewayv1.HTTPRouteFilter{{Type: gatewayv1.HTTPRouteFilterRequestMirror,
					RequestMirror: &gatewayv1.HTTPRequestMirrorFilter{BackendRef: w.backends()[0].BackendObjectReference}}}
			}
			if w.IntN(4) == 0 {
				rule.Filters = []gatewayv1.HTTPRouteFilter{{Type: gatewayv1.HTTPRouteFilterExtensionRef, ExtensionRef: &gatewayv1.LocalObjectReference{Kind: "X", Name: "x"}}}
			}
			o.Spec.Rules = append(o.Spec.Rules, rule)
		}
	case *gatewayv1.GRPCRoute:
		o.ObjectMeta, o.Spec.ParentRefs, o.Spec.Hostnames = m, w.parents(), w.hostnames()
		rule := gatewayv1.GRPCRouteRule{Name: maybe[gatewayv1.SectionName](w, "r", "s")}
		for _, ref := range w.backends() {
			rule.BackendRefs = append(rule.BackendRefs, gatewayv1.GRPCBackendRef{BackendRef: ref})
		}
		o.Spec.Rules = append(o.Spec.Rules, rule)
	case *gatewayv1.TLSRoute:
		o.ObjectMeta, o.Spec.ParentRefs, o.Spec.Hostnames = m, w.parents(), w.hostnames()
		o.Spec.Rules = []gatewayv1.TLSRouteRule{{BackendRefs: w.backends()}}
	case *gatewayv1.TCPRoute:
		o.ObjectMeta, o.Spec.ParentRefs = m, w.parents()
		o.Spec.Rules = []gatewayv1.TCPRouteRule{{BackendRefs: w.backends()}}
	case *gatewayv1.ReferenceGrant:
		o.ObjectMeta = m
		from := pick(w, object.HTTPRoute, object.GRPCRoute, object.TCPRoute, object.Gateway, object.AuthenticationPolicy, object.EgressPolicy)
		o.Spec.From = []gatewayv1.ReferenceGrantFrom{{Group: gatewayv1.Group(from.Group), Kind: gatewayv1.Kind(from.Name), Namespace: pick[gatewayv1.Namespace](w, "a", "b")}}
		o.Spec.To = []gatewayv1.ReferenceGrantTo{{Kind: pick[gatewayv1.Kind](w, "Service", "Secret"), Name: maybe[gatewayv1.ObjectName](w, "x", "y")}}
	case *corev1.Namespace:
		o.Name, o.Labels = pick(w, "a", "b"), map[string]string{"team": pick(w, "1", "2")}
	case *corev1.Secret:
		o.ObjectMeta, o.Type = m, corev1.SecretTypeTLS
		pair := pick(w, w.pairs...)
		o.Data = map[string][]byte{"tls.crt": pair[0], "tls.key": pair[1]}
	case *v1alpha1.TrafficPolicy:
		o.ObjectMeta, o.Spec.TargetRefs = w.targets(m)
		o.Spec.Timeouts = &v1alpha1.Timeouts{Request: maybe[gatewayv1.Duration](w, "1s", "2s"), Connect: maybe[gatewayv1.Duration](w, "1s", "2s")}
		if w.IntN(2) == 0 {
			o.Spec.Subset = map[string]string{pick(w, "app", "version"): "1"}
		}
		if w.IntN(2) == 0 {
			o.Spec.Overload = &v1alpha1.Overload{Off: maybe(w, true, false)}
		}
		if w.IntN(2) == 0 {
			o.Spec.Session = &v1alpha1.Session{Type: maybe(w, v1alpha1.SessionCookie, v1alpha1.SessionHeader)}
		}
	case *v1alpha1.RateLimitPolicy:
		o.ObjectMeta, o.Spec.TargetRefs = w.targets(m)
		o.Spec.Limits = []v1alpha1.RateLimit{{Requests: w.Int32N(3)}}
	case *v1alpha1.AccessPolicy:
		o.ObjectMeta, o.Spec.TargetRefs = w.targets(m)
		o.Spec.Action = pick(w, v1alpha1.AccessAllow, v1alpha1.AccessDeny)
		o.Spec.Mode = pick(w, v1alpha1.AccessEnforce, v1alpha1.AccessEnforce, v1alpha1.AccessAudit)
		o.Spec.IfUnenforceable = pick(w, v1alpha1.AccessAllow, v1alpha1.AccessDeny)
		if w.IntN(3) == 0 {
			o.Spec.Default = v1alpha1.AccessDeny
		}
		for range w.IntN(3) {
			r := v1alpha1.AccessRule{From: []v1alpha1.AccessSource{{Callers: []string{pick(w, "x.a", "*.b")}}}}
			if w.IntN(2) == 0 {
				r.To = []v1alpha1.AccessOperation{{Paths: []v1alpha1.AccessPath{{Value: pick(w, "/a", "/a/b", "/c")}}, Ports: pick(w, nil, []int32{80}, []int32{81})}}
			}
			o.Spec.Rules = append(o.Spec.Rules, r)
		}
	case *v1alpha1.AuthenticationPolicy:
		o.ObjectMeta, o.Spec.TargetRefs = w.targets(m)
		o.Spec.MutualTLS = pick(w, "", v1alpha1.MutualTLSStrict, v1alpha1.MutualTLSPermissive, v1alpha1.MutualTLSOff)
		if w.IntN(2) == 0 {
			o.Spec.JWT = &v1alpha1.JWTAuthentication{Issuers: []v1alpha1.JWTIssuer{{Issuer: "https://issuer.example"}}}
		}
		if w.IntN(2) == 0 {
			o.Spec.External = &v1alpha1.ExternalAuthorization{BackendRef: w.backends()[0].BackendObjectReference}
		}
	case *v1alpha1.EgressPolicy:
		o.ObjectMeta, o.Spec.TargetRefs = w.targets(m)
		o.Spec.Default = pick(w, v1alpha1.AccessAllow, v1alpha1.AccessDeny)
		d := v1alpha1.EgressDestination{Hosts: []string{pick(w, "a.example", "*.example", "1.2.3.4")}}
		if w.IntN(2) == 0 {
			d.TLS = &v1alpha1.EgressTLS{ClientCertificateRef: &gatewayv1.SecretObjectReference{Name: pick[gatewayv1.ObjectName](w, "x", "y"), Namespace: maybe[gatewayv1.Namespace](w, "a", "b")}}
		}
		o.Spec.To = []v1alpha1.EgressDestination{d}
	case *v1alpha1.FaultPolicy:
		o.ObjectMeta, o.Spec.TargetRefs = w.targets(m)
		o.Spec.Duration = maybe[gatewayv1.Duration](w, "1m")
		o.Spec.Faults = []v1alpha1.Fault{{Percent: maybe[int32](w, 1, 2), Delay: maybe[gatewayv1.Duration](w, "1s")}}
	}
	return o
}

func (w world) parents() []gatewayv1.ParentReference {
	var out []gatewayv1.ParentReference
	for range 1 + w.IntN(2) {
		p := gatewayv1.ParentReference{Name: pick[gatewayv1.ObjectName](w, "x", "y"), Namespace: maybe[gatewayv1.Namespace](w, "a", "b")}
		if w.IntN(2) == 0 {
			group, kind := gatewayv1.Group(""), gatewayv1.Kind("Service")
			p.Group, p.Kind = &group, &kind
			if w.IntN(2) == 0 {
				p.Port = maybe[gatewayv1.PortNumber](w, 80, 81)
			}
			if w.IntN(3) == 0 {
				p.SectionName = maybe[gatewayv1.SectionName](w, "p", "q")
			}
		} else if w.IntN(3) == 0 {
			p.SectionName = maybe[gatewayv1.SectionName](w, "l0", "l1")
		}
		out = append(out, p)
	}
	return out
}

func (w world) hostnames() []gatewayv1.Hostname {
	return pick(w, nil, nil, []gatewayv1.Hostname{"a.example"}, []gatewayv1.Hostname{"*.example", "b.other"})
}

func (w world) backends() []gatewayv1.BackendRef {
	var out []gatewayv1.BackendRef
	for range 1 + w.IntN(2) {
		out = append(out, gatewayv1.BackendRef{BackendObjectReference: gatewayv1.BackendObjectReference{
			Name: pick[gatewayv1.ObjectName](w, "x", "y"), Namespace: maybe[gatewayv1.Namespace](w, "a", "b"), Port: maybe[gatewayv1.PortNumber](w, 80, 81)}})
	}
	return out
}

func (w world) targets(m metav1.ObjectMeta) (metav1.ObjectMeta, []v1alpha1.TargetRef) {
	if w.IntN(4) == 0 {
		m.Namespace = v1alpha1.MeshNamespace
		return m, []v1alpha1.TargetRef{{Kind: "Mesh", Name: "mesh"}}
	}
	var out []v1alpha1.TargetRef
	for range 1 + w.IntN(2) {
		t := v1alpha1.TargetRef{Kind: pick[gatewayv1.Kind](w, "Namespace", "Service", "Service", "HTTPRoute", "GRPCRoute", "Gateway", "Mesh"), Name: pick[gatewayv1.ObjectName](w, "x", "y", "a")}
		if w.IntN(2) == 0 {
			t.SectionName = maybe[gatewayv1.SectionName](w, "p", "q", "r", "s", "l0")
		}
		out = append(out, t)
	}
	return m, out
}
