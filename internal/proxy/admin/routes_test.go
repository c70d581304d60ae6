package admin

import (
	"encoding/json"
	"testing"

	"tulle.dev/tulle/internal/route"
)

// TestDumpRoutes: nothing that a rule asks for or does is left out, so that no rule
// looks like one for every request.
func TestDumpRoutes(t *testing.T) {
	rule := route.Rule{Name: "r", Filters: route.Filters{Redirect: &route.Redirect{}, Mirrors: []route.Mirror{{}}}, Matches: []route.Match{
		{Path: route.Path{Kind: route.PathRegex, Value: "/v[0-9]"}, Query: []route.Field{{Name: "a", Value: "1"}}},
		{Path: route.Path{Kind: route.PathGRPCMethod, Value: "Add"}, Headers: []route.Field{{Name: "x", Value: "y.*", Regex: true}}},
	}}
	got, err := json.Marshal(dumpRule(&rule))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"name":"r","matches":[{"path_expression":"/v[0-9]","query":{"a":"1"}},{"grpc_method":"Add","headers":{"x":"~ y.*"}}],"filters":["redirect","mirror"],"backends":[]}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
