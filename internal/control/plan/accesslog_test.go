package plan

import (
	"testing"

	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/policy"
)

// TestAccessLogOf: the nearest override wins, then the first.
func TestAccessLogOf(t *testing.T) {
	override := func(sample uint8, namespace, service, workload, gateway string) mesh.AccessLogOverride {
		return mesh.AccessLogOverride{Namespace: namespace, Service: service, Workload: workload, Gateway: gateway, AccessLog: policy.AccessLog{Mode: policy.LogAll, Sample: sample}}
	}
	s := &mesh.Settings{AccessLog: policy.AccessLog{Mode: policy.LogFailed}, AccessLogs: []mesh.AccessLogOverride{
		override(1, "shop", "", "", ""),
		override(2, "shop", "", "", ""),
		override(3, "shop", "cart", "", ""),
		override(4, "shop", "pay", "", ""),
		override(5, "shop", "", "cart-2", ""),
		override(6, "shop", "", "", "edge"),
	}}
	for _, test := range []struct {
		name    mesh.Name
		serves  []string
		gateway bool
		want    uint8 // 0: the mesh's
	}{
		{mesh.Name{Name: "web-1", Namespace: "default"}, nil, false, 0},
		{mesh.Name{Name: "web-1", Namespace: "shop"}, nil, false, 1},
		{mesh.Name{Name: "cart-1", Namespace: "shop"}, []string{"cart"}, false, 3},
		{mesh.Name{Name: "cart-1", Namespace: "shop"}, []string{"pay", "cart"}, false, 3},
		{mesh.Name{Name: "cart-1", Namespace: "other"}, []string{"pay"}, false, 4}, // it serves shop's
		{mesh.Name{Name: "cart-2", Namespace: "shop"}, []string{"cart"}, false, 5},
		{mesh.Name{Name: "cart-2", Namespace: "other"}, nil, false, 0},
		{mesh.Name{Name: "edge", Namespace: "shop"}, nil, true, 6},
		{mesh.Name{Name: "edge", Namespace: "shop"}, nil, false, 1},
		{mesh.Name{Name: "cart-2", Namespace: "shop"}, nil, true, 1},
		{mesh.Name{Name: "edge", Namespace: "other"}, nil, true, 0},
	} {
		var w *mesh.Workload
		if !test.gateway {
			w = &mesh.Workload{Name: test.name}
			for _, n := range test.serves {
				w.Ports = append(w.Ports, mesh.WorkloadPort{Service: mesh.Name{Name: n, Namespace: "shop"}})
			}
		}
		want := policy.AccessLog{Mode: policy.LogAll, Sample: test.want}
		if test.want == 0 {
			want = s.AccessLog
		}
		if got := accessLog(s, test.name, w); got != want {
			t.Errorf("%v, serving %v, a gateway: %t: %+v, want %+v", test.name, test.serves, test.gateway, got, want)
		}
	}
}
