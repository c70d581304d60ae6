package explain_test

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"tulle.dev/tulle/internal/ca"
	"tulle.dev/tulle/internal/explain"
	"tulle.dev/tulle/internal/identity"
)

// guardedGateway has the ports http (80: /admin for an address alone, /tokens for who
// has the claim) and https (443: two listeners by name, one of which wants a token;
// TLS that is passed through at 8443, for an address alone).
const guardedGateway = `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  gatewayClassName: tulle
  listeners:
  - {name: http, port: 80, protocol: HTTP}
  - {name: shop, port: 443, protocol: HTTPS, hostname: shop.example, tls: {certificateRefs: [{name: web}]}}
  - {name: third, port: 443, protocol: HTTPS, hostname: a.third.example, tls: {certificateRefs: [{name: web}]}}
  - {name: staff, port: 444, protocol: HTTPS, hostname: "*.staff.example", tls: {certificateRefs: [{name: web}]}}
---
apiVersion: v1
kind: Secret
metadata: {name: web, namespace: shop}
type: kubernetes.io/tls
data: {tls.crt: %s, tls.key: %s}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{port: 80, appProtocol: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: till, namespace: shop}
spec: {ports: [{port: 80, appProtocol: http}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{name: edge}]
  rules:
  - name: till
    matches: [{path: {value: /till}}]
    backendRefs: [{name: till, port: 80}]
  - name: both
    matches: [{path: {value: /both}}]
    backendRefs: [{name: till, port: 80}, {name: web, port: 80}]
  - name: tokens
    matches: [{path: {value: /tokens}}]
    backendRefs: [{name: web, port: 80}]
  - name: old
    matches: [{path: {value: /old}}]
    filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplaceFullPath, replaceFullPath: /new}}}]
  - name: nowhere
    matches: [{path: {value: /nowhere}}]
    backendRefs: [{name: gone, port: 80}]
  - name: rest
    matches: [{path: {value: /shop}}, {path: {value: /admin}}]
    backendRefs: [{name: web, port: 80}]
---
apiVersion: tulle.dev/v1alpha1
kind: AccessPolicy
metadata: {name: office, namespace: shop}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: edge}]
  action: Deny
  rules:
  - from: [{notNetworks: [203.0.113.0/24]}]
    to: [{paths: [{value: /admin}]}]
---
apiVersion: tulle.dev/v1alpha1
kind: AccessPolicy
metadata: {name: payers, namespace: shop}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: web, sectionName: tokens}]
  rules: [{when: [{claim: role, values: [payer]}]}]
---
apiVersion: tulle.dev/v1alpha1
kind: AccessPolicy
metadata: {name: till, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: till}]
  rules: [{from: [{callers: [clerk.shop]}]}]
---
apiVersion: tulle.dev/v1alpha1
kind: AuthenticationPolicy
metadata: {name: tokens, namespace: shop}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: web, sectionName: tokens}]
  jwt: {issuers: [{issuer: "https://a.example/"}]}
---
apiVersion: tulle.dev/v1alpha1
kind: AuthenticationPolicy
metadata: {name: staff, namespace: shop}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: edge, sectionName: staff}]
  jwt: {required: true, issuers: [{issuer: "https://a.example/"}]}
`

func TestGatewayAccess(t *testing.T) {
	authority, err := ca.Open(ca.Config{Keys: &ca.MemoryKeys{}})
	if err != nil {
		t.Fatal(err)
	}
	svid, _, err := authority.Credentials(identity.ID{TrustDomain: "mesh.local", Namespace: "shop", ServiceAccount: "edge"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(svid.Certificate.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	part := func(kind string, der []byte) string {
		return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	snapshot, statuses := build(t, "mesh.yaml", fmt.Appendf(nil, guardedGateway, part("CERTIFICATE", svid.Leaf.Raw), part("PRIVATE KEY", pkcs8)))
	payer := map[string]any{"role": "payer"}
	for _, c := range []struct {
		name    string
		q       explain.AccessQuestion
		allowed bool
		some    bool
		says    string
	}{
		{"anybody", explain.AccessQuestion{Path: "/shop"}, true, false, "the default is to allow"},
		{"a path for an address", explain.AccessQuestion{Path: "/admin"}, false, false, "accesspolicy/shop/office#0"},
		{"from there", explain.AccessQuestion{Path: "/admin/x", From: "203.0.113.7"}, true, false, "allowed"},
		{"from elsewhere", explain.AccessQuestion{Path: "/admin", From: "192.0.2.1"}, false, false, "accesspolicy/shop/office#0"},
		{"a path trick", explain.AccessQuestion{Path: "/shop/../admin", From: "192.0.2.1"}, false, false, "accesspolicy/shop/office#0"},
		{"a route that asks for a claim", explain.AccessQuestion{Path: "/tokens"}, false, false, "accesspolicy/shop/payers#0 would, but for its claim role"},
		{"with the claim", explain.AccessQuestion{Path: "/tokens", Claims: payer}, true, false, "allowed by accesspolicy/shop/payers#0"},
		{"a claim where nobody looks", explain.AccessQuestion{Path: "/shop", Claims: payer}, true, false, "no token is looked for"},
		{"a service that doesn't know the gateway", explain.AccessQuestion{Path: "/till"}, false, false, "the gateway lets it pass, and till.shop:80 doesn't"},
		{"one of two", explain.AccessQuestion{Path: "/both"}, true, true, "1 of the 2 services"},
		{"no route", explain.AccessQuestion{Path: "/else"}, false, false, "404"},
		{"a redirect", explain.AccessQuestion{Path: "/old"}, true, false, "redirect"},
		{"a backend that isn't", explain.AccessQuestion{Path: "/nowhere"}, false, false, "no service that there is"},
		{"over TLS", explain.AccessQuestion{Gateway: "edge.shop:443", Host: "shop.example", Path: "/shop"}, true, false, "allowed"},
		{"by the listener's name", explain.AccessQuestion{Gateway: "edge.shop:shop", Host: "SHOP.example.", Path: "/shop"}, true, false, "allowed"},
		{"no certificate", explain.AccessQuestion{Gateway: "edge.shop:443", Host: "other.example", Path: "/shop"}, false, false, `no certificate for server name "other.example"`},
		{"another listener's name on the connection", explain.AccessQuestion{Gateway: "edge.shop:443", ServerName: "shop.example", Host: "a.third.example", Path: "/shop"}, false, false, "421"},
		{"a token is required", explain.AccessQuestion{Gateway: "edge.shop:444", Host: "a.staff.example", Path: "/shop"}, false, false, "a token is required"},
		{"and there", explain.AccessQuestion{Gateway: "edge.shop:444", Host: "a.staff.example", Path: "/shop", Claims: payer}, true, false, "allowed"},
		{"a route's token in place of the listener's", explain.AccessQuestion{Gateway: "edge.shop:444", Host: "a.staff.example", Path: "/tokens"}, false, false, "payers#0 would"},
		{"not one's own to know", explain.AccessQuestion{Path: "/till", Within: func(string) bool { return false }}, true, false, "isn't yours to ask"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.q.Gateway == "" {
				c.q.Gateway = "edge.shop:80"
			}
			out, err := explain.Access(snapshot, c.q)
			if err != nil {
				t.Fatal(err, statuses)
			}
			a := out[0]
			text := a.Reason + "\n" + strings.Join(a.Notes, "\n")
			if a.Allowed != c.allowed || a.Some != c.some || !strings.Contains(text, c.says) {
				t.Errorf("%+v, want %v and %q", a, c.allowed, c.says)
			}
			for _, then := range a.Then {
				if then.Caller != "spiffe://mesh.local/ns/shop/sa/edge" {
					t.Errorf("behind the gateway the caller is %q", then.Caller)
				}
			}
		})
	}
	for gateway, want := range map[string]string{
		"edge": "no Gateway edge in namespace default", "edge.shop": "several ports", "edge.shop:99": "no listener",
	} {
		if _, err := explain.Access(snapshot, explain.AccessQuestion{Gateway: gateway}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", gateway, err, want)
		}
	}
	if _, err := explain.Access(snapshot, explain.AccessQuestion{Gateway: "edge.shop:80", From: "web.shop"}); err == nil || !strings.Contains(err.Error(), "prove nothing") {
		t.Errorf("a workload as caller: %v", err)
	}
}
