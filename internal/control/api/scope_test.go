package api

import (
	"encoding/json"
	"strings"
	"testing"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/operator"
	"tulle.dev/tulle/internal/telemetry"
)

// Of what is about all, operators of some namespaces are told what is of those.
func TestScope(t *testing.T) {
	shop := &operator.Who{Name: "ed", Role: v1alpha1.OperatorEdit, Namespaces: []string{"shop"}}
	all := &operator.Who{Name: "ada", Role: v1alpha1.OperatorView}
	peer := func(n, ns string) telemetry.Peer { return telemetry.Peer{Name: n, Namespace: ns} }
	for name, c := range map[string]struct {
		of         func(w *operator.Who) any
		mine, tell int // of "mine" in the answer to shop's operator, and elements in all
	}{
		"stat": {func(w *operator.Who) any {
			return Stat(w, telemetry.Stat{Services: []telemetry.Service{{Name: "mine", Namespace: "shop"}, {Name: "theirs", Namespace: "bank"}}})
		}, 1, 2},
		"edges": {func(w *operator.Who) any {
			return Edges(w, telemetry.Edges{Edges: []telemetry.Edge{{From: peer("mine", "shop"), To: peer("x", "bank")}, {From: peer("x", "bank"), To: peer("mine", "shop")},
				{From: peer("theirs", "bank"), To: peer("theirs", "bank")}, {From: peer("", ""), To: peer("theirs", "bank")}}})
		}, 2, 4},
		"proxies": {func(w *operator.Who) any {
			return Proxies(w, []client.Proxy{{Name: "mine", Namespace: "shop"}, {Name: "theirs", Namespace: "bank"}})
		}, 1, 2},
		"trust": {func(w *operator.Who) any {
			return trustWithin(w, &client.Trust{Proxies: []client.TrustProxy{{Name: "mine", Namespace: "shop"}, {Name: "theirs", Namespace: "bank"}}})
		}, 1, 2},
		"adoption": {func(w *operator.Who) any {
			return adoptionWithin(w, telemetry.Adoption{Ports: []telemetry.AdoptionPort{{Service: "mine.shop:80"}, {Service: "theirs.bank:80"}}})
		}, 1, 2},
		"routes": {func(w *operator.Who) any {
			return routesWithin(w, telemetry.Routes{Routes: []telemetry.Route{{Service: "mine.shop:80"}, {Backend: "mine.shop:80"}, {Route: "httproute/shop/mine#0"}, {Route: "httproute/bank/theirs#0"}, {Service: "theirs.bank:80"}}})
		}, 3, 5},
		"check": {func(w *operator.Who) any {
			return Report(w, &client.CheckReport{Checks: []client.Check{{Description: "mine", Result: client.Failure, Error: "theirs.bank is gone", Hint: "theirs"}}})
		}, 1, 1},
	} {
		data, err := json.Marshal(c.of(shop))
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(data), "mine"); n != c.mine || strings.Contains(string(data), "theirs") {
			t.Errorf("%s: %s, want %d times what is theirs to see", name, data, c.mine)
		}
		if data, err = json.Marshal(c.of(all)); err != nil || strings.Count(string(data), "mine")+strings.Count(string(data), "theirs") < c.tell {
			t.Errorf("%s: to who sees all %s, %v", name, data, err)
		}
	}
}
