//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"tulle.dev/tulle/internal/route"
)

// The limits of matching one of 1,000 rules.
const (
	limitRouteMicros = 1.0  // the worst rule that no regular expression comes before
	limitRouteEnvoy  = 0.30 // of Envoy's CPU per request, with the same rules
)

// benchRule is one rule, in the words of no program: one of the first three, or a
// header field alone.
type benchRule struct {
	exact, prefix, regex string
	name, value          string
}

// thousandRules are 700 exact paths, 250 prefixes of different depths, 10 regular
// expressions and 40 rules that look at a header field, from the one that is tried
// first (Gateway API's order: exact, longest prefix, header; Tulle has the regular
// expressions before a rule without a path).
func thousandRules() []benchRule {
	var all []benchRule
	for i := range 700 {
		all = append(all, benchRule{exact: fmt.Sprintf("/api/v1/resource-%d/list", i)})
	}
	for depth := 4; depth >= 0; depth-- {
		for i := range 50 {
			all = append(all, benchRule{prefix: fmt.Sprintf("/api/v2/team-%d", i) + strings.Repeat("/service/deep", depth)})
		}
	}
	for i := range 10 {
		all = append(all, benchRule{regex: fmt.Sprintf("/[a-z]+/v[0-9]+/item-%d/[0-9a-f-]{36}", i)})
	}
	for i := range 40 {
		all = append(all, benchRule{name: fmt.Sprint("x-header-", i%8), value: fmt.Sprint("value-", i)})
	}
	return all
}

// routeCase is a request and the rule that it must find, by its place.
type routeCase struct {
	title   string
	request scriptedRequest
	want    int
	regexes bool // they are among the rules
}

const (
	deepest  = "/service/deep/service/deep/service/deep/service/deep"
	regexHit = "/api/v2/item-%d/7c9e6679-7425-40de-944b-e07fc1f90ae7"
)

func routeCases() []routeCase {
	all := []routeCase{
		{"first exact path", scriptedRequest{path: "/api/v1/resource-0/list"}, 0, false},
		{"last exact path", scriptedRequest{path: "/api/v1/resource-699/list"}, 699, false},
		{"deepest prefix", scriptedRequest{path: "/api/v2/team-7" + deepest + "/x"}, 707, false},
		{"shallowest prefix", scriptedRequest{path: "/api/v2/team-49/x/y/z/service/deep/x"}, 949, false},
		{"last header field", scriptedRequest{"/api/v2/other" + deepest + "/x", "x-header-7", "value-39"}, 999, false},
		{"last header field, after 10 regular expressions", scriptedRequest{"/api/v2/other" + deepest + "/x", "x-header-7", "value-39"}, 999, true},
	}
	for _, i := range []int{0, 4, 9} {
		all = append(all, routeCase{fmt.Sprintf("regular expression %d of 10", i+1), scriptedRequest{path: fmt.Sprintf(regexHit, i)}, 950 + i, true})
	}
	return all
}

// routeSpec is the rules as Tulle's tables have them; each is named by its place.
func routeSpec(rules []benchRule, regexes bool) route.Spec {
	h := route.Host{Hostnames: []string{"*"}}
	for i, b := range rules {
		m := route.Match{}
		switch {
		case b.exact != "":
			m.Path = route.Path{Kind: route.PathExact, Value: b.exact}
		case b.prefix != "":
			m.Path = route.Path{Kind: route.PathPrefix, Value: b.prefix}
		case b.regex != "":
			if !regexes {
				continue
			}
			m.Path = route.Path{Kind: route.PathRegex, Value: b.regex}
		default:
			m.Headers = []route.Field{{Name: b.name, Value: b.value}}
		}
		h.Rules = append(h.Rules, route.Rule{Name: fmt.Sprint(i), Matches: []route.Match{m}, Backends: []route.Backend{{Destination: "backend.default:80", Weight: 1}}})
	}
	return route.Spec{Hosts: []route.Host{h}}
}

// routeObjects is the same as HTTPRoutes, of which each has room for 16 rules.
func routeObjects(rules []benchRule) []string {
	var all []string
	var b strings.Builder
	for i, rule := range rules {
		if i%16 == 0 {
			b.Reset()
			fmt.Fprintf(&b, "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: routes-%d}\nspec:\n  parentRefs: [{name: edge}]\n  rules:\n", i/16)
		}
		match := fmt.Sprintf("headers: [{name: %s, value: %s}]", rule.name, rule.value)
		switch {
		case rule.exact != "":
			match = fmt.Sprintf("path: {type: Exact, value: %q}", rule.exact)
		case rule.prefix != "":
			match = fmt.Sprintf("path: {type: PathPrefix, value: %q}", rule.prefix)
		case rule.regex != "":
			match = fmt.Sprintf("path: {type: RegularExpression, value: %q}", rule.regex)
		}
		fmt.Fprintf(&b, "  - {matches: [{%s}], backendRefs: [{name: backend, port: 80}]}\n", match)
		if i%16 == 15 || i == len(rules)-1 {
			all = append(all, b.String())
		}
	}
	return all
}

// envoyRoutes is the same as Envoy's list, which it tries in order.
func envoyRoutes(rules []benchRule) string {
	var all []string
	for _, b := range rules {
		match := fmt.Sprintf("prefix: /, headers: [{name: %s, string_match: {exact: %s}}]", b.name, b.value)
		switch {
		case b.exact != "":
			match = fmt.Sprintf("path: %q", b.exact)
		case b.prefix != "":
			match = fmt.Sprintf("path_separated_prefix: %q", b.prefix)
		case b.regex != "":
			match = fmt.Sprintf("safe_regex: {regex: %q}", b.regex)
		}
		all = append(all, fmt.Sprintf("{match: {%s}, route: {cluster: back, timeout: 0s}}", match))
	}
	return "[" + strings.Join(all, ", ") + "]"
}

// headerFields are a request's, as a proxy has them: a look-up walks them.
type headerFields [][2][]byte

func (h headerFields) Field(name string) ([]byte, bool) {
	for i := range h {
		if len(h[i][0]) == len(name) && bytes.EqualFold(h[i][0], []byte(name)) {
			return h[i][1], true
		}
	}
	return nil, false
}

// browserFields are what a browser and a proxy before this one send, and one more.
func browserFields(name, value string) headerFields {
	var h headerFields
	for _, f := range [][2]string{
		{"accept", "*/*"}, {"accept-encoding", "gzip, br"}, {"accept-language", "en-GB"}, {"user-agent", "Mozilla/5.0"},
		{"cookie", "session=0123456789abcdef"}, {"x-request-id", "7c9e6679-7425-40de-944b-e07fc1f90ae7"},
		{"traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, {name, value},
	} {
		if f[0] != "" {
			h = append(h, [2][]byte{[]byte(f[0]), []byte(f[1])})
		}
	}
	return h
}

// trafficRoutes is 1,000 rules: what one look-up costs, and a request.
func (r *rig) trafficRoutes(ctx context.Context) error {
	fmt.Println("== traffic-routes: 1,000 rules on one service: 700 exact paths, 250 prefixes, 40 header fields, 10 regular expressions")
	rules := thousandRules()
	worst, allocs := 0.0, int64(0)
	for _, c := range routeCases() {
		table, err := route.Compile(routeSpec(rules, c.regexes))
		if err != nil {
			return err
		}
		req := &route.Request{Authority: []byte("shop.example"), Method: []byte("GET"), Path: []byte(c.request.path), Fields: browserFields(c.request.name, c.request.value)}
		if got, _ := table.Match(req); got == nil || got.Name != fmt.Sprint(c.want) {
			return fmt.Errorf("%s: the rule found is not %d", c.title, c.want)
		}
		var took []float64
		var each int64
		for range r.rounds {
			res := testing.Benchmark(func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					table.Match(req)
				}
			})
			took, each = append(took, float64(res.T.Nanoseconds())/float64(res.N)/1e3), res.AllocsPerOp()
		}
		fmt.Printf("  %-50s %7.3f µs, %d allocations\n", c.title, median(took), each)
		if !c.regexes {
			worst, allocs = max(worst, median(took)), max(allocs, each)
		}
	}
	r.bound("routes-worst-us", worst, limitRouteMicros)
	r.bound("routes-allocations", float64(allocs), 0)

	var hops []*hop
	defer func() { stopAll(hops) }()
	for _, name := range r.peers("envoy", "tulle") {
		var h *hop
		var err error
		if name == "envoy" {
			h, err = r.envoyMany(ctx, name, []int{port(r.address)}, envoyOptions{routes: envoyRoutes(rules)})
		} else {
			h, err = r.tulleMany(ctx, name, []int{port(r.address)}, routeObjects(rules)...)
		}
		if err != nil {
			return err
		}
		hops = append(hops, h)
	}
	var requests []scriptedRequest
	for _, c := range routeCases() {
		if !c.regexes {
			requests = append(requests, c.request)
		}
	}
	load, err := r.scripted(requests)
	if err != nil {
		return err
	}
	all, err := r.turns(ctx, hops, load, 0, r.length)
	if err != nil {
		return err
	}
	r.show("one plain hop with those rules, full load of five requests that take turns", all)
	r.beside("envoy", "routes-envoy", all, limitRouteEnvoy)
	return nil
}
