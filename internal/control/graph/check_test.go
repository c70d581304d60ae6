package graph

import (
	"fmt"
	"strings"
	"testing"

	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/route"
)

// TestWhatProxiesCannotCompile has rules that the schema lets through and the
// route table doesn't: they are said to be wrong, and what is left compiles.
func TestWhatProxiesCannotCompile(t *testing.T) {
	path := func(kind, value string) string {
		return fmt.Sprintf(`{matches: [{path: {type: %s, value: %q}}], backendRefs: [{name: web, port: 80}]}`, kind, value)
	}
	header := func(name, value string) string {
		return fmt.Sprintf(`{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: %q, value: %q}]}}], backendRefs: [{name: web, port: 80}]}`, name, value)
	}
	for _, rule := range []string{
		path("RegularExpression", "/a)(b"),
		`{matches: [{headers: [{name: x-a, type: RegularExpression, value: ` + strings.Repeat("a", 1025) + `}]}], backendRefs: [{name: web, port: 80}]}`,
		path("RegularExpression", "/[^/]{1000}[^/]{1000}[^/]{1000}"),
		path("RegularExpression", "/["),
		header("host", "x"),
		`{filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplaceFullPath, replaceFullPath: "/a#b"}}}]}`,
		`{filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: "a b"}}}], backendRefs: [{name: web, port: 80}]}`,
		`{filters: [{type: CORS, cors: {allowOrigins: ["https://a:99999"]}}], backendRefs: [{name: web, port: 80}]}`,
	} {
		b := NewBuilder("mesh.local")
		r := b.Apply(1, decode(t, "in.yaml", []byte(fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: odd}
spec:
  parentRefs: [{kind: Service, group: "", name: web}]
  rules:
  - %s
  - {matches: [{path: {value: /good}}], backendRefs: [{name: web, port: 80}]}
`, rule))))
		spec := r.Snapshot.Services[mesh.Name{Namespace: "default", Name: "web"}].Routes[80]
		table, err := route.Compile(spec)
		if err != nil {
			t.Errorf("%s: %v", rule, err)
			continue
		}
		good, _ := table.Match(&route.Request{Path: []byte("/good")})
		if good == nil || len(good.Backends) != 1 || good.Backends[0].Destination == "" {
			t.Errorf("%s: the good rule beside it is gone", rule)
		}
		if said := dumpStatuses(b.Statuses()); !strings.Contains(said, "PartiallyInvalid=true") || !strings.Contains(said, "rules[0]") {
			t.Errorf("%s: the status says\n%s", rule, said)
		}
	}
}
