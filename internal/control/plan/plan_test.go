package plan

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"tulle.dev/tulle/internal/control/graph"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/control"
)

var update = flag.Bool("update", false, "rewrite the expected output of golden tests")

// TestGolden: each archive holds in.yaml, and files named "full NAME" (the whole
// view of a proxy) or "NAMESPACE KEY" (the answer to one subscription).
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := snapshot(t, a.Files[0].Name, a.Files[0].Data)
			out := &txtar.Archive{Comment: a.Comment, Files: a.Files[:1:1]}
			for _, f := range a.Files[1:] {
				what, arg, _ := strings.Cut(f.Name, " ")
				var v any
				if what == "full" {
					n, err := Find(s, arg)
					if err != nil {
						v = err.Error()
					} else {
						v = Full(s, n)
					}
				} else {
					r, ok := Resource(s, what, arg)
					switch {
					case !ok:
						v = "not a key"
					case r.Absent:
						v = "absent"
					case r.Destination != nil:
						v = r.Destination
					case r.Endpoints != nil:
						v = r.Endpoints
					default:
						v = r.Host
					}
				}
				data, err := json.MarshalIndent(v, "", " ")
				if err != nil {
					t.Fatal(err)
				}
				out.Files = append(out.Files, txtar.File{Name: f.Name, Data: append(data, '\n')})
			}
			got := txtar.Format(out)
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if d := cmp.Diff(string(txtar.Format(a)), string(got)); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

func snapshot(t testing.TB, file string, data []byte) *mesh.Snapshot {
	t.Helper()
	docs, err := object.Decode(file, data)
	if err != nil {
		t.Fatal(err)
	}
	var changes []graph.Change
	for _, d := range docs {
		changes = append(changes, graph.ChangeOf(d.Object))
	}
	return graph.NewBuilder("mesh.local").Apply(7, changes).Snapshot
}

// TestViewsSurviveTheWire: what a plan makes, the codec carries unchanged, and a
// full view can be kept in a state file.
func TestViewsSurviveTheWire(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txtar")
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		s := snapshot(t, file, a.Files[0].Data)
		for n := range s.Workloads {
			roundTrip(t, Full(s, n))
		}
		for n := range s.Gateways {
			roundTrip(t, Full(s, n))
		}
	}
}

func roundTrip(t *testing.T, v *view.View) {
	t.Helper()
	again, err := view.Decode(view.Encode(v))
	if err != nil {
		t.Fatalf("%s: %v", v.Proxy.Name, err)
	}
	want, _ := json.Marshal(v)
	got, _ := json.Marshal(again)
	if d := cmp.Diff(strings.ReplaceAll(string(want), "{}", "null"), strings.ReplaceAll(string(got), "{}", "null")); d != "" {
		t.Errorf("%s:\n%s", v.Proxy.Name, d)
	}
}

func TestKeys(t *testing.T) {
	for _, k := range []mesh.PortKey{{Service: mesh.Name{Namespace: "default", Name: "cart"}, Port: 80}, {Service: mesh.Name{Namespace: "a-b", Name: "c"}, Port: 65535}} {
		if got, ok := ParseKey(Key(k)); !ok || got != k {
			t.Errorf("%v became %v", k, got)
		}
	}
	for _, bad := range []string{"", "cart", "cart:80", "cart.default", "cart.default:", "cart.default:0", "cart.default:65536", "cart.default.x:80", ".default:80", "cart.:80", "cart.default:-1"} {
		if k, ok := ParseKey(bad); ok {
			t.Errorf("%q was read as %v", bad, k)
		}
	}
	if _, ok := Resource(&mesh.Snapshot{}, "default", control.KeyProxy); ok {
		t.Error("the proxy's own resource can be subscribed to")
	}
}
