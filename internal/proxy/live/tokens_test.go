package live

import (
	"net/netip"
	"strings"
	"testing"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/view"
)

func guardedProxy(listener, rule *policy.Guard) *view.Proxy {
	return &view.Proxy{Role: view.Gateway, TrustDomain: "mesh.local", Listeners: []view.Listener{{
		Name: "a", Kind: view.Edge, Address: netip.MustParseAddrPort("127.0.0.1:80"), Inbound: &policy.Inbound{Guard: listener},
		Routes: route.Spec{Hosts: []route.Host{{Hostnames: []string{"*"}, Rules: []route.Rule{
			{Name: "free", Matches: []route.Match{{Path: route.Path{Kind: route.PathPrefix, Value: "/free"}}}},
			{Name: "r", Policy: &policy.Request{Guard: rule}},
		}}}},
	}}}
}

// TestTokensStay: what was verified isn't forgotten for a change of something else,
// but is for a change of the policy, its keys included.
func TestTokensStay(t *testing.T) {
	jwt := func(keys string) *policy.JWT {
		return &policy.JWT{Issuers: []policy.Issuer{{Name: "https://issuer.example", Keys: []byte(keys)}}}
	}
	ask := &policy.External{Destination: "authz.default:9000"}
	first, err := compileProxy(guardedProxy(&policy.Guard{JWT: jwt(`{"keys":[]}`)}, &policy.Guard{JWT: jwt(""), External: ask}), nil)
	if err != nil {
		t.Fatal(err)
	}
	a := first.Listeners[0]
	rule := func(l *Listener) Authentication {
		for i, r := range l.Routes.Rules() {
			if r.Name == "r" {
				return l.RouteAuthentication[i]
			}
		}
		t.Fatal("no rule")
		return Authentication{}
	}
	if a.Authentication.Tokens == nil || rule(a).Tokens == nil || rule(a).External == nil || a.Authentication.External != nil {
		t.Fatalf("%+v %+v", a.Authentication, a.RouteAuthentication)
	}
	if implied := strings.Join(first.implied(), " "); !strings.Contains(implied, DestinationKey(ask.Destination)) || !strings.Contains(implied, EndpointsKey(ask.Destination)) {
		t.Errorf("who is asked isn't followed: %s", implied)
	}
	other := guardedProxy(&policy.Guard{JWT: jwt(`{"keys":[]}`)}, &policy.Guard{JWT: jwt(`{"keys":[{}]}`)})
	other.Listeners[0].Protocol = view.HTTP
	second, err := compileProxy(other, first)
	if err != nil {
		t.Fatal(err)
	}
	b := second.Listeners[0]
	if b == a || b.Authentication.Tokens != a.Authentication.Tokens {
		t.Error("the listener's tokens are forgotten")
	}
	if rule(b).Tokens == rule(a).Tokens {
		t.Error("the rule's keys are those of before")
	}
	for name, g := range map[string]*policy.Guard{
		"external.destination": {External: &policy.External{Destination: "authz"}},
		"claims[0].header":     {JWT: &policy.JWT{Issuers: []policy.Issuer{{Claims: []policy.ClaimHeader{{Claim: "a", Header: "Host"}}}}}},
	} {
		for _, p := range []*view.Proxy{guardedProxy(g, nil), guardedProxy(nil, g)} {
			if _, err := compileProxy(p, nil); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "guard") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
