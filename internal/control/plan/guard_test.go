package plan

import (
	"net/netip"
	"testing"

	"tulle.dev/tulle/internal/access"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/view"
)

// TestGuards: what a port takes, and who may come in, gets to the listener of the
// workload that serves it, and to a gateway's; whoever is asked is in a full view.
func TestGuards(t *testing.T) {
	web, judge, edge := mesh.Name{Namespace: "a", Name: "web"}, mesh.Name{Namespace: "a", Name: "judge"}, mesh.Name{Namespace: "a", Name: "edge"}
	at := netip.MustParseAddrPort("127.0.0.1:80")
	guard := &policy.Guard{Access: &access.Spec{Rules: []access.Rule{{Name: "r"}}}, External: &policy.External{Destination: "judge.a:9"}}
	s := &mesh.Snapshot{
		Settings: mesh.Settings{Plaintext: true},
		Services: map[mesh.Name]*mesh.Service{
			web: {Name: web, Ports: []mesh.Port{{Port: 1}, {Port: 2}, {Port: 3}, {Port: 4}}, Inbound: map[uint16]*policy.Inbound{1: {Guard: guard}},
				MutualTLS: map[uint16]mesh.MutualTLS{1: mesh.MutualStrict, 2: mesh.MutualPermissive, 3: mesh.MutualOff}},
			judge: {Name: judge, Ports: []mesh.Port{{Port: 9}}},
		},
		Endpoints: map[mesh.PortKey]*mesh.EndpointSet{{Service: judge, Port: 9}: {Key: mesh.PortKey{Service: judge, Port: 9}}},
		Workloads: map[mesh.Name]*mesh.Workload{web: {Name: web}},
		Gateways: map[mesh.Name]*mesh.Gateway{edge: {Name: edge, Listeners: []mesh.GatewayListener{{Name: "l", Listen: at, Hostname: "*", Inbound: &policy.Inbound{Guard: guard},
			Routes: route.Spec{Hosts: []route.Host{{Hostnames: []string{"*"}}}}}}}},
	}
	for port := range uint16(4) {
		s.Workloads[web].Ports = append(s.Workloads[web].Ports, mesh.WorkloadPort{Service: web, Port: port + 1, Mesh: at})
	}
	p := Proxy(s, web, view.Sidecar)
	for i, want := range []bool{false, true, true, true} { // the last: as the mesh has it
		if got := p.Listeners[i].Plaintext; got != want {
			t.Errorf("port %d: plaintext %v, want %v", i+1, got, want)
		}
	}
	s.Settings.Plaintext = false
	if Proxy(s, web, view.Sidecar).Listeners[3].Plaintext {
		t.Error("plaintext is taken where the mesh refuses it and no policy says otherwise")
	}
	if in := p.Listeners[0].Inbound; in == nil || in.Guard != guard {
		t.Errorf("the workload's listener has %+v", in)
	}
	if in := Proxy(s, edge, view.Gateway).Listeners[0].Inbound; in == nil || in.Guard != guard {
		t.Errorf("the gateway's listener has %+v", in)
	}
	for _, n := range []mesh.Name{web, edge} {
		if Full(s, n).Endpoints["judge.a:9"] == nil {
			t.Errorf("a full view of %s hasn't whom it asks", n)
		}
	}
}
