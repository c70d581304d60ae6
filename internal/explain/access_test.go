package explain

import (
	"net/netip"
	"strings"
	"testing"

	"tulle.dev/tulle/internal/access"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/policy"
)

// guardedMesh has payment (strict), whose rules let web POST /charge and holders of
// the claim in; probe, where mutual TLS is off; db, which is opaque; open.
func guardedMesh() *mesh.Snapshot {
	name := func(n string) mesh.Name { return mesh.Name{Namespace: "shop", Name: n} }
	id := func(n string) identity.ID {
		return identity.ID{TrustDomain: "mesh.local", Namespace: "shop", ServiceAccount: n}
	}
	web := access.Spec{Rules: []access.Rule{
		{Name: "accesspolicy/shop/p#0", Action: access.Allow, From: []access.Source{{ServiceAccounts: []string{"shop/web"}}}, To: []access.Operation{{Methods: []string{"POST"}, Paths: []access.Path{{Kind: access.PathPrefix, Value: "/charge"}}}}},
		{Name: "accesspolicy/shop/p#1", Action: access.Allow, From: []access.Source{{Namespaces: []string{"shop"}}}, When: []access.Claim{{Name: "realm.roles", Values: []string{"payer", "7"}}}},
	}}
	all := access.Spec{Rules: []access.Rule{{Name: "accesspolicy/shop/all#0", Action: access.Allow, From: []access.Source{{ServiceAccounts: []string{"shop/web"}}}}}}
	service := func(n string, protocol mesh.Protocol, g *policy.Guard, mode mesh.MutualTLS) *mesh.Service {
		return &mesh.Service{Name: name(n), Ports: []mesh.Port{{Name: "main", Port: 80, Protocol: protocol}}, MutualTLS: map[uint16]mesh.MutualTLS{80: mode},
			Inbound: map[uint16]*policy.Inbound{80: {Guard: g}}}
	}
	open := service("open", mesh.HTTP, nil, 0)
	open.Ports = append(open.Ports, mesh.Port{Name: "second", Port: 81})
	return &mesh.Snapshot{
		Settings: mesh.Settings{TrustDomain: "mesh.local", Plaintext: true, Denied: []string{"spiffe://mesh.local/ns/shop/sa/gone"}},
		Services: map[mesh.Name]*mesh.Service{
			name("payment"): service("payment", mesh.HTTP, &policy.Guard{Access: &web}, mesh.MutualStrict),
			name("probe"):   service("probe", mesh.HTTP, &policy.Guard{Access: &all}, mesh.MutualOff),
			name("db"):      service("db", mesh.TCP, &policy.Guard{Access: &web}, 0),
			name("token"):   service("token", mesh.HTTP, &policy.Guard{JWT: &policy.JWT{Required: true}, External: &policy.External{Destination: "judge.shop:9"}}, 0),
			name("open"):    open,
		},
		Workloads: map[mesh.Name]*mesh.Workload{
			name("web-1"): {Name: name("web-1"), Identity: id("web"), Address: netip.MustParseAddr("10.0.0.1")},
			name("old-1"): {Name: name("old-1"), Identity: id("old")},
		},
	}
}

func TestAccess(t *testing.T) {
	payer := map[string]any{"realm": map[string]any{"roles": []any{"x", "payer"}}}
	for _, tt := range []struct {
		from, to, method, path string
		claims                 map[string]any
		allowed                bool
		by, says, plaintext    string
	}{
		{"web.shop", "payment.shop", "POST", "/charge/1?x=y", nil, true, "accesspolicy/shop/p#0", "allowed by", "refused"},
		{"web-1.shop", "payment.shop:80", "POST", "/charge", nil, true, "accesspolicy/shop/p#0", "workload web-1.shop is spiffe://mesh.local/ns/shop/sa/web", "refused"},
		{"web.shop", "payment.shop:main", "GET", "/charge", nil, false, "", "for its claim realm.roles", "refused"},
		{"web.shop", "payment.shop", "POST", "/%63harge", nil, true, "accesspolicy/shop/p#0", "", "refused"},
		{"web.shop", "payment.shop", "POST", "//charge", nil, false, "", "for its claim realm.roles", "refused"},
		{"old.shop", "payment.shop", "GET", "/", nil, false, "", "realm.roles", "refused"},
		{"old.shop", "payment.shop", "GET", "/", payer, true, "accesspolicy/shop/p#1", "", "refused"},
		{"old.shop", "payment.shop", "GET", "/", map[string]any{"realm.roles": 7.0}, true, "accesspolicy/shop/p#1", "", "refused"},
		{"spiffe://other.example/ns/shop/sa/web", "payment.shop", "POST", "/charge", nil, false, "", "service account", "refused"},
		{"gone.shop", "open.shop:80", "", "", nil, false, "", "trusts this identity no more", "allowed"},
		{"new.shop", "open.shop:80", "", "", nil, true, "", "no workload is", "allowed"},
		{"", "payment.shop", "POST", "/charge", nil, false, "", "mutual TLS alone", "refused"},
		{"web.shop", "probe.shop", "", "", nil, false, "", "nobody proves who they are", "denied"},
		{"web.shop", "db.shop", "", "", nil, false, "", "can't be seen", "denied"},
		{"web.shop", "token.shop", "", "", nil, false, "", "a token is required", "denied"},
		{"web.shop", "token.shop", "", "", payer, true, "", "judge.shop:9", "allowed"},
	} {
		out, err := Access(guardedMesh(), AccessQuestion{From: tt.from, To: tt.to, Method: tt.method, Path: tt.path, Claims: tt.claims})
		if err != nil {
			t.Errorf("%s to %s: %v", tt.from, tt.to, err)
			continue
		}
		a := out[0]
		text := a.Reason + "\n" + strings.Join(a.Notes, "\n")
		if a.Allowed != tt.allowed || a.By != tt.by || a.Plaintext != tt.plaintext || !strings.Contains(text, tt.says) {
			t.Errorf("%s to %s %s %s %v: %+v\nwant allowed %v by %q, plaintext %s, %q said", tt.from, tt.to, tt.method, tt.path, tt.claims, a, tt.allowed, tt.by, tt.plaintext, tt.says)
		}
	}
}

func TestAccessList(t *testing.T) {
	list, err := Access(guardedMesh(), AccessQuestion{From: "web.shop"})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, a := range list {
		verdict := "no"
		switch {
		case a.Some:
			verdict = "some"
		case a.Allowed:
			verdict = "yes"
		}
		got[a.To] = verdict
	}
	for to, want := range map[string]string{"payment.shop:80": "some", "probe.shop:80": "no", "db.shop:80": "no", "open.shop:80": "yes", "open.shop:81": "yes"} {
		if got[to] != want {
			t.Errorf("%s: %s, want %s", to, got[to], want)
		}
	}
}

func TestAccessQuestions(t *testing.T) {
	for _, tt := range []struct{ from, to, says string }{
		{"web.shop", "nosuch.shop", "there is no Service nosuch in namespace shop"},
		{"web.shop", "open.shop", "say which: open.shop:80 or :81"},
		{"web.shop", "open.shop:9", "has no port"},
		{"a/b", "open.shop:80", "want ACCOUNT.NAMESPACE"},
		{"spiffe://", "open.shop:80", "from:"},
	} {
		if _, err := Access(guardedMesh(), AccessQuestion{From: tt.from, To: tt.to}); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s to %s: %v, want %q", tt.from, tt.to, err, tt.says)
		}
	}
}
