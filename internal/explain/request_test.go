package explain_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"sigs.k8s.io/yaml"

	"tulle.dev/tulle/internal/control/graph"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/explain"
	"tulle.dev/tulle/internal/mesh"
)

var update = flag.Bool("update", false, "rewrite the expected output in testdata")

// build makes a snapshot of objects.
func build(t testing.TB, file string, data []byte) (*mesh.Snapshot, map[graph.Ref]*graph.Status) {
	t.Helper()
	docs, err := object.Decode(file, data)
	if err != nil {
		t.Fatal(err)
	}
	var changes []graph.Change
	for _, d := range docs {
		object.Default(d.Object)
		changes = append(changes, graph.ChangeOf(d.Object))
	}
	r := graph.NewBuilder("mesh.local").Apply(1, changes)
	return r.Snapshot, r.Statuses
}

// file finds a part of an archive.
func file(t testing.TB, a *txtar.Archive, name string) *txtar.File {
	t.Helper()
	for i := range a.Files {
		if a.Files[i].Name == name {
			return &a.Files[i]
		}
	}
	t.Fatalf("no part %q", name)
	return nil
}

// TestAsk asks each line of "ask", FROM METHOD URL [HEADER: VALUE], and compares
// the answers with "want".
func TestAsk(t *testing.T) {
	path := filepath.Join("testdata", "ask.txtar")
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	snapshot, _ := build(t, "mesh.yaml", file(t, archive, "mesh.yaml").Data)
	var got strings.Builder
	for line := range strings.Lines(string(file(t, archive, "ask").Data)) {
		line = strings.TrimSpace(line)
		words := strings.SplitN(line, " ", 4)
		q := explain.Question{From: words[0], Method: words[1], URL: words[2]}
		if len(words) > 3 {
			name, value, _ := strings.Cut(words[3], ": ")
			q.Headers = []explain.Header{{Name: name, Value: value}}
		}
		got.WriteString("# " + line + "\n")
		answer, err := explain.Ask(snapshot, q)
		if err != nil {
			got.WriteString("error: " + err.Error() + "\n\n")
			continue
		}
		text, err := yaml.Marshal(answer)
		if err != nil {
			t.Fatal(err)
		}
		got.WriteString(string(text) + "\n")
	}
	want := file(t, archive, "want")
	if *update {
		want.Data = []byte(got.String())
		if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(string(want.Data), got.String()); diff != "" {
		t.Error(diff)
	}
}

// TestDiff compares, of each testdata/diff-*.txtar, the mesh of "mesh.yaml" with
// the one in which the objects of "change.yaml" take their place.
func TestDiff(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join("testdata", "diff-*.txtar"))
	if err != nil || len(paths) == 0 {
		t.Fatal("no tests", err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			old := file(t, archive, "mesh.yaml").Data
			before, _ := build(t, "mesh.yaml", old)
			after, _ := build(t, "mesh.yaml", append(append(append([]byte{}, old...), "\n---\n"...), file(t, archive, "change.yaml").Data...))
			effect, err := explain.Diff(before, after)
			if err != nil {
				t.Fatal(err)
			}
			none, err := explain.Diff(after, after)
			if err != nil || !none.None() {
				t.Errorf("a mesh differs from itself: %+v, %v", none, err)
			}
			got, err := yaml.Marshal(effect)
			if err != nil {
				t.Fatal(err)
			}
			want := file(t, archive, "want")
			if *update {
				want.Data = got
				if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(want.Data), string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestEffective: what is in force for a service and for a route's rules.
func TestEffective(t *testing.T) {
	archive, err := txtar.ParseFile(filepath.Join("testdata", "ask.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	snapshot, _ := build(t, "mesh.yaml", file(t, archive, "mesh.yaml").Data)
	said := func(list []explain.Effective) (out []string) {
		for _, e := range list {
			for _, fields := range [][]explain.Field{e.Request, e.Upstream, e.Inbound} {
				for _, f := range fields {
					if f.Source != "" {
						out = append(out, strings.TrimSpace(e.At+" "+e.Rule)+": "+f.Name+" "+f.Value+" "+f.Source)
					}
				}
			}
		}
		return out
	}
	const all, cart = "trafficpolicy/default/all", "trafficpolicy/default/cart"
	rule := func(at, name, timeout, from string) []string {
		return []string{at + " " + name + ": timeouts.request " + timeout + " " + from, at + " " + name + ": retry.attempts 3 " + cart,
			at + " " + name + ": retry.budget 10% of requests, at least 10/s " + cart}
	}
	const at = "cart.default:8080"
	service := []string{at + ": timeouts.request 10s " + all, at + ": retry.attempts 3 " + cart, at + ": retry.budget 10% of requests, at least 10/s " + cart,
		at + ": limits.requests 100 " + all, at + ": overload.minConcurrency 4 " + cart, at + ": overload.maxConcurrency 1000 " + cart,
		at + ": overload.latencyTolerance 200% " + cart, at + ": overload.queue 50ms " + cart}
	service = append(service, rule(at, "httproute/default/cart#0", "3s", "httproute/default/cart")...)
	if diff := cmp.Diff(service, said(explain.ServicePolicies(snapshot, mesh.Name{Namespace: "default", Name: "cart"}))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(rule(at, "httproute/default/cart#0", "3s", "httproute/default/cart"), said(explain.RoutePolicies(snapshot, "httproute/default/cart#"))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(rule("gateway edge.default, http", "httproute/default/shop#0", "10s", all), said(explain.RoutePolicies(snapshot, "httproute/default/shop#"))); diff != "" {
		t.Error(diff)
	}
}
