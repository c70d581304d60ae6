package plan

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
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
				data := readable(t, v)
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

// readable is a value as JSON without what is empty.
func readable(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var tree any
	if err := json.Unmarshal(data, &tree); err != nil {
		t.Fatal(err)
	}
	data, err = json.MarshalIndent(pruned(tree), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func pruned(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, item := range v {
			if item = pruned(item); item != nil {
				out[k] = item
			}
		}
		if len(out) == 0 {
			return nil
		}
		return out
	case []any:
		out := []any{}
		for _, item := range v {
			if item = pruned(item); item == nil {
				item = map[string]any{}
			}
			out = append(out, item)
		}
		if len(out) == 0 {
			return nil
		}
		return out
	case string:
		if v == "" || v == "0001-01-01T00:00:00Z" {
			return nil
		}
	case float64:
		if v == 0 {
			return nil
		}
	case bool:
		if !v {
			return nil
		}
	}
	return v
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

// TestCertificates: what a port shows whose listeners differ by name.
func TestCertificates(t *testing.T) {
	cert := func(name string) mesh.Certificate {
		return mesh.Certificate{Hostnames: []string{name}, Chain: []byte("chain of " + name), Key: []byte("key of " + name)}
	}
	at := netip.MustParseAddrPort("10.0.0.1:443")
	secure := func(name, host string, certs ...mesh.Certificate) mesh.GatewayListener {
		return mesh.GatewayListener{Name: name, Listen: at, Hostname: host, Certificates: certs}
	}
	through := mesh.GatewayListener{Name: "through", Listen: at, Hostname: "t.example", TCP: true}
	for _, test := range []struct {
		name      string
		listeners []mesh.GatewayListener
		want      []string // listener, names, chain; the default first
	}{
		{"one of its own is shown to everybody", []mesh.GatewayListener{secure("a", "a.example", cert("a.example"))},
			[]string{"- chain of a.example"}},
		{"several of one listener", []mesh.GatewayListener{secure("a", "*.example", cert("*.example"), cert("b.example"))},
			[]string{"-", "a [] chain of *.example", "a [b.example] chain of b.example"}},
		{"several listeners", []mesh.GatewayListener{secure("a", "*", cert("*")), secure("b", "b.example", cert("b.example"))},
			[]string{"-", "a [*] chain of *", "b [b.example] chain of b.example"}},
		{"some pass through", []mesh.GatewayListener{secure("a", "*.example", cert("*.example")), through},
			[]string{"-", "a [*.example] chain of *.example", "through [t.example]"}},
		{"all pass through", []mesh.GatewayListener{through}, []string{"-"}},
	} {
		l := edge(&mesh.Gateway{Listeners: test.listeners})
		if len(l) != 1 {
			t.Fatalf("%s: %d listeners", test.name, len(l))
		}
		got := []string{strings.TrimSpace("- " + string(l[0].Certificate))}
		for _, c := range l[0].Certificates {
			got = append(got, strings.TrimSpace(fmt.Sprintf("%s %v %s", c.Listener, c.Hostnames, c.Certificate)))
		}
		if d := cmp.Diff(test.want, got); d != "" {
			t.Errorf("%s: -want +got:\n%s", test.name, d)
		}
	}
}
