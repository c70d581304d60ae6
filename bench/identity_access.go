//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"tulle.dev/tulle/internal/access"
	"tulle.dev/tulle/internal/identity"
)

// The limits of access rules.
const (
	limitAccessMicros = 1.0
	limitAccessCPU    = 1.10 // of a request without rules
)

// accessRules are 1,000, as a large service may have: exact paths for one caller
// each, path prefixes for a namespace, methods and header fields; some that deny.
func accessRules() []access.Rule {
	var all []access.Rule
	for i := range 1000 {
		a := access.Rule{Name: fmt.Sprint(i), Action: access.Allow}
		account := fmt.Sprintf("default/s%d", i%20)
		if i%2 == 0 {
			account = "default/web"
		}
		switch {
		case i%10 < 6:
			a.From = []access.Source{{ServiceAccounts: []string{account}}}
			a.To = []access.Operation{{Methods: []string{"GET"}, Paths: []access.Path{{Kind: access.PathExact, Value: fmt.Sprintf("/v1/items/%d", i)}}}}
		case i%10 < 9:
			a.From = []access.Source{{ServiceAccounts: []string{account}}}
			a.To = []access.Operation{{Paths: []access.Path{{Kind: access.PathPrefix, Value: fmt.Sprintf("/v1/tree/%d", i)}}}}
		default:
			a.Action = access.Deny
			a.From = []access.Source{{ServiceAccounts: []string{account + "-other"}}}
			a.To = []access.Operation{{Methods: []string{"DELETE"}}}
		}
		all = append(all, a)
	}
	return all
}

// accessObjects is the same as AccessPolicies. Of rules each has room for 64 of one
// action, and a target has room for 512: half of them are for the namespace.
func accessObjects(rules []access.Rule) []string {
	type group struct {
		target string
		action access.Action
	}
	groups := map[group][]string{}
	for i, a := range rules {
		namespace, account, _ := strings.Cut(a.From[0].ServiceAccounts[0], "/")
		to := a.To[0]
		var parts []string
		if len(to.Methods) > 0 {
			parts = append(parts, fmt.Sprintf("methods: [%s]", strings.Join(to.Methods, ", ")))
		}
		for _, p := range to.Paths {
			kind := "Exact"
			if p.Kind == access.PathPrefix {
				kind = "PathPrefix"
			}
			parts = append(parts, fmt.Sprintf("paths: [{type: %s, value: %s}]", kind, p.Value))
		}
		g := group{"{kind: Service, name: cart}", a.Action}
		if i >= len(rules)/2 {
			g.target = "{kind: Namespace, name: default}"
		}
		groups[g] = append(groups[g], fmt.Sprintf("  - {from: [{callers: [%s.%s]}], to: [{%s}]}\n", account, namespace, strings.Join(parts, ", ")))
	}
	var all []string
	for g, lines := range groups {
		action := map[access.Action]string{access.Allow: "Allow", access.Deny: "Deny"}[g.action]
		for some := range slices.Chunk(lines, 64) {
			all = append(all, fmt.Sprintf("apiVersion: tulle.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {name: bench-%d}\nspec:\n  targetRefs: [%s]\n  action: %s\n  rules:\n%s",
				len(all), g.target, action, strings.Join(some, "")))
		}
	}
	return all
}

// identityAccess is 1,000 access rules: what a decision costs, and a request.
func (r *rig) identityAccess(ctx context.Context) error {
	fmt.Println("== identity-access: 1,000 access rules on one service: 600 with exact paths, 300 with prefixes, 100 that deny")
	rules := accessRules()
	table, err := access.Compile(access.Spec{Default: access.Deny, Rules: rules}, "mesh.local")
	if err != nil {
		return err
	}
	session := table.Session(access.Peer{ID: identity.ID{TrustDomain: "mesh.local", Namespace: "default", ServiceAccount: "web"}})
	worst, allocs := 0.0, int64(0)
	for _, c := range []struct {
		title, path string
		want        access.Action
	}{
		{"exact path", "/v1/items/994", access.Allow},
		{"prefix", "/v1/tree/998/deep/er", access.Allow},
		{"no rule", "/v1/nothing/of/this/kind", access.Deny},
	} {
		q := &access.Request{Method: []byte("GET"), Path: []byte(c.path), Authority: []byte("cart:8080")}
		var m access.Scratch
		if d := session.Request(q, &m); d.Action != c.want {
			return fmt.Errorf("%s: the decision is %v, want %v", c.title, d.Action, c.want)
		}
		var took []float64
		var each int64
		for range r.rounds {
			res := testing.Benchmark(func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					session.Request(q, &m)
				}
			})
			took, each = append(took, float64(res.T.Nanoseconds())/float64(res.N)/1e3), res.AllocsPerOp()
		}
		fmt.Printf("  %-12s %7.3f µs, %d allocations\n", c.title, median(took), each)
		worst, allocs = max(worst, median(took)), max(allocs, each)
	}
	r.bound("access-worst-us", worst, limitAccessMicros)
	r.bound("access-allocations", float64(allocs), 0)
	if !r.has("tulle") {
		return nil
	}
	if err := r.certificates(); err != nil {
		return err
	}
	var hops []*hop
	defer func() { stopAll(hops) }()
	for name, more := range map[string][]string{"none": nil, "1,000": accessObjects(rules)} {
		h, err := r.tullePair(ctx, name, port(r.address), more...)
		if err != nil {
			return err
		}
		hops = append(hops, h)
	}
	load, err := r.scripted([]scriptedRequest{{path: "/v1/items/994"}, {path: "/v1/tree/998/deep/er"}, {path: "/v1/items/0"}})
	if err != nil {
		return err
	}
	all, err := r.turns(ctx, hops, load, 0, r.length)
	if err != nil {
		return err
	}
	r.show("pair with mutual TLS and HTTP/2 between, without rules and with them (CPU of both)", all)
	r.bound("access-cpu", find(all, "1,000").cpu()/find(all, "none").cpu(), limitAccessCPU)
	return nil
}
