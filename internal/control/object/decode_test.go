package object

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "rewrite the expected output of golden tests")

// TestGolden decodes the "in.yaml" or "in.json" of each archive and compares
// the errors with "errors" and the objects, as YAML, with "objects".
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
			in := a.Files[0]
			docs, err := Decode(in.Name, in.Data)
			out := &txtar.Archive{Comment: a.Comment, Files: []txtar.File{in}}
			if err != nil {
				out.Files = append(out.Files, txtar.File{Name: "errors", Data: []byte(err.Error() + "\n")})
			}
			var objects []string
			for _, d := range docs {
				b, err := yaml.Marshal(d.Object)
				if err != nil {
					t.Fatal(err)
				}
				objects = append(objects, string(b))
			}
			if len(objects) > 0 {
				out.Files = append(out.Files, txtar.File{Name: "objects", Data: []byte(strings.Join(objects, "---\n"))})
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

// TestRoundTrip checks that what Encode writes, Decode takes without a change.
func TestRoundTrip(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txtar")
	seen := map[*Kind]bool{}
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		docs, _ := Decode("", a.Files[0].Data)
		for _, d := range docs {
			seen[d.Kind] = true
			data, err := Encode(d.Object)
			if err != nil {
				t.Fatal(err)
			}
			again, err := DecodeOne(d.Kind, data)
			if err != nil {
				t.Errorf("%s: %s/%s: %v", file, d.Kind.Name, d.Object.GetName(), err)
				continue
			}
			if diff := cmp.Diff(d.Object, again); diff != "" {
				t.Errorf("%s: %s/%s changed:\n%s", file, d.Kind.Name, d.Object.GetName(), diff)
			}
			if diff := cmp.Diff(d.Object, Clone(d.Object)); diff != "" {
				t.Errorf("clone differs: %s", diff)
			}
		}
	}
	for _, k := range Kinds() {
		if !seen[k] {
			t.Errorf("no golden test holds a valid %s", k.Name)
		}
	}
}

func TestLookupName(t *testing.T) {
	for name, want := range map[string]*Kind{
		"svc": Service, "Services": Service, "httproute": HTTPRoute, "wl": Workload,
		"workloads.tulle.dev": Workload, "mesh": Mesh,
	} {
		if k, err := LookupName(name); err != nil || k != want {
			t.Errorf("LookupName(%q) = %v, %v", name, k, err)
		}
	}
	if _, err := LookupName("servces"); err == nil || !strings.Contains(err.Error(), "did you mean services") {
		t.Errorf("near name: %v", err)
	}
}

func TestBounds(t *testing.T) {
	for name, in := range map[string]string{
		"too big":  strings.Repeat("#", MaxInput+1),
		"deep":     strings.Repeat("[", 10_000),
		"deep map": "{\"a\":" + strings.Repeat("[", 200) + strings.Repeat("]", 200) + "}",
		"aliases": "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n" +
			"d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]\n",
	} {
		if _, err := Decode(name, []byte(in)); err == nil {
			t.Errorf("%s: no error", name)
		} else if len(err.Error()) > 4096 {
			t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
		}
	}
}

func FuzzDecode(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.txtar")
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(a.Files[0].Data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<14 {
			return
		}
		docs, _ := Decode("f", data)
		for _, d := range docs {
			enc, err := Encode(d.Object)
			if err != nil {
				t.Fatalf("accepted, but has no encoding: %v", err)
			}
			if _, err := DecodeOne(d.Kind, enc); err != nil {
				t.Fatalf("accepted, but its own encoding is not: %v\n%s", err, enc)
			}
		}
	})
}
