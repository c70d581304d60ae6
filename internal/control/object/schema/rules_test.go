package schema

import (
	"bytes"
	"cmp"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	diff "github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"
)

// every returns each embedded schema.
func every(t testing.TB) map[string]*Schema {
	t.Helper()
	files, err := compact.ReadDir("compact")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*Schema{}
	for _, f := range files {
		group, plural, _ := strings.Cut(strings.TrimSuffix(f.Name(), ".json"), "_")
		all[plural] = New(group, plural)
	}
	return all
}

// TestSchemas: every embedded schema can be read and is structural. No rule
// compares with the object that was there before (Validate has none to give it),
// and none is hidden where rules doesn't look: in anyOf, allOf and the like.
func TestSchemas(t *testing.T) {
	for plural, s := range every(t) {
		s.prepare()
		if s.rules == nil && plural != "referencegrants" {
			t.Errorf("%s has no rules", plural)
		}
		data, err := compact.ReadFile("compact/" + s.file)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(data, []byte("oldSelf")) {
			t.Errorf("%s has a rule about updates", plural)
		}
		written := bytes.Count(data, []byte(`"rule":`))
		if found := count(s.rules); found != written {
			t.Errorf("%s: %d rules are written, %d are looked at", plural, written, found)
		}
	}
}

func count(r *rules) int {
	if r == nil {
		return 0
	}
	n := count(r.items) + count(r.values)
	if r.here != nil {
		n += len(r.here.XValidations)
	}
	for _, f := range r.fields {
		n += count(f)
	}
	return n
}

// TestLikeAPIServer: on every example and every mistake, published and ours, rules
// says what the library says when it has compiled the whole schema, and spends as
// much of the budget.
func TestLikeAPIServer(t *testing.T) {
	var roots []string
	for source := range sources(t) {
		if strings.Contains(source, "gateways.yaml") {
			module := filepath.Join(filepath.Dir(source), "../../..")
			roots = []string{filepath.Join(module, "examples"), filepath.Join(module, "hack/invalid-examples"), "../testdata"}
		}
	}
	schemas := map[string]*Schema{}
	whole := map[string]*cel.Validator{}
	for plural, s := range every(t) {
		s.prepare()
		schemas[plural] = s
		whole[plural] = cel.NewValidator(s.tree, true, celconfig.PerCallLimit)
	}
	objects, wrong := 0, 0
	for _, root := range roots {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if a := txtar.Parse(data); len(a.Files) > 0 {
				data = a.Files[0].Data
			}
			for doc := range bytes.SplitSeq(data, []byte("\n---")) {
				o := object(doc)
				kind, _ := o["kind"].(string)
				plural := strings.Replace(strings.ToLower(kind)+"s", "policys", "policies", 1)
				s := schemas[plural]
				if s == nil {
					continue
				}
				s.Default(o)
				if len(validation.ValidateCustomResource(nil, o, s.openapi)) > 0 {
					continue // the rules aren't reached, mostly
				}
				objects++
				want, wantLeft := whole[plural].Validate(t.Context(), nil, s.tree, o, nil, celconfig.RuntimeCELCostBudget)
				got, left := s.rules.check(nil, o, celconfig.RuntimeCELCostBudget)
				if d := diff.Diff(texts(want), texts(got)); d != "" {
					t.Errorf("%s: %s: -library +ours\n%s", path, kind, d)
				}
				if whole[plural] != nil && left != wantLeft {
					t.Errorf("%s: %s: the library has %d left, we have %d", path, kind, wantLeft, left)
				}
				if len(got) > 0 {
					wrong++
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if objects < 120 || wrong < 20 {
		t.Errorf("compared %d objects, %d of them wrong", objects, wrong)
	}
}

// object reads a document, or nothing.
func object(text []byte) map[string]any {
	var o map[string]any
	data, err := yaml.YAMLToJSON(text)
	if err != nil || utiljson.Unmarshal(data, &o) != nil {
		return nil
	}
	return o
}

func texts(errs field.ErrorList) []string {
	var all []string
	for _, e := range errs {
		all = append(all, e.Error())
	}
	slices.SortFunc(all, cmp.Compare[string])
	return all
}

// TestBudget: an object that costs too much is refused and not evaluated on.
func TestBudget(t *testing.T) {
	s := New("gateway.networking.k8s.io", "tcproutes")
	s.prepare()
	o := object([]byte(`{"spec": {"rules": [{"backendRefs": [{"group": "", "kind": "Service", "name": "a"}, {"group": "", "kind": "Service", "name": "b"}]}]}}`))
	errs, left := s.rules.check(nil, o, 5)
	if left >= 0 || len(errs) != 1 || !strings.Contains(errs[0].Error(), "budget") {
		t.Errorf("left %d, %v", left, errs)
	}
}
