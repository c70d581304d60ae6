package object

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

// gatewayAPI is the folder of the Gateway API module in the version of go.mod.
func gatewayAPI(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func yamlFiles(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, ".yaml") {
			all = append(all, path)
		}
		return err
	})
	if err != nil || len(all) == 0 {
		t.Fatalf("%s: %d files, %v", dir, len(all), err)
	}
	return all
}

// foreign are the kinds of the published examples that aren't ours, and the
// version that is deprecated and differs.
var foreign = []string{`"GatewayClass"`, `"ListenerSet"`, `"BackendTLSPolicy"`, `"UDPRoute"`, "v1alpha2"}

// TestPublishedExamples: the specification's own examples are accepted.
func TestPublishedExamples(t *testing.T) {
	root := filepath.Join(gatewayAPI(t), "examples")
	accepted := map[*Kind]int{}
	for _, file := range yamlFiles(t, root) {
		name, _ := filepath.Rel(root, file)
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		docs, err := Decode(name, data)
		var errs Errors
		if err != nil && !errors.As(err, &errs) {
			t.Fatal(err)
		}
		for _, e := range errs {
			if !slices.ContainsFunc(foreign, func(k string) bool { return e.Field == "kind" && strings.Contains(e.Problem, k) }) {
				t.Error(e)
			}
		}
		for _, d := range docs {
			accepted[d.Kind]++
		}
	}
	for _, k := range []*Kind{Gateway, HTTPRoute, GRPCRoute, TLSRoute, TCPRoute, ReferenceGrant, Namespace} {
		if accepted[k] < 2 {
			t.Errorf("%d examples of %s were read", accepted[k], k.Name)
		}
	}
}

// TestPublishedMistakes: the specification's examples of what is wrong are
// refused, each with the field; the golden file has what a person reads.
func TestPublishedMistakes(t *testing.T) {
	root := filepath.Join(gatewayAPI(t), "hack/invalid-examples")
	var all strings.Builder
	for _, file := range yamlFiles(t, root) {
		name, _ := filepath.Rel(root, file)
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Decode(name, data)
		var errs Errors
		if !errors.As(err, &errs) {
			t.Errorf("%s was accepted", name)
			continue
		}
		for _, e := range errs {
			if e.Field == "" || e.Line == 0 {
				t.Errorf("an error without a place: %v", e)
			}
			all.WriteString(e.Error() + "\n")
		}
	}
	const golden = "testdata/published-mistakes.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(all.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), all.String()); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

// TestVersions: documents may name the other versions that are served and have
// the same schema, and no others.
func TestVersions(t *testing.T) {
	dir := filepath.Join(gatewayAPI(t), "config/crd/experimental")
	for _, k := range Kinds() {
		if k.Group != Gateway.Group {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, k.Group+"_"+k.Plural+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		var crd apiextensionsv1.CustomResourceDefinition
		if err := yaml.Unmarshal(data, &crd); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(crd.Spec.Names.ShortNames, k.Short); d != "" {
			t.Errorf("%s: short names: %s", k.Name, d)
		}
		specs := map[string]string{}
		for _, v := range crd.Spec.Versions {
			spec := v.Schema.OpenAPIV3Schema.Properties["spec"]
			b, err := spec.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			if v.Served {
				specs[v.Name] = string(b)
			}
		}
		for name, spec := range specs {
			got, err := Lookup(k.Group+"/"+name, k.Name)
			if same := spec == specs[k.Version]; same != (err == nil) || err == nil && got != k {
				t.Errorf("%s %s: same schema %v, error %v", k.Name, name, same, err)
			}
		}
	}
}

// TestFields: every field of a Go type is in the schema, with the same shape, and
// the other way round. What the schema lacks would be lost in a cluster; what the
// type lacks could not be written outside.
func TestFields(t *testing.T) {
	for _, k := range Kinds() {
		if k.schema == nil {
			continue
		}
		data, err := os.ReadFile("schema/compact/" + k.Group + "_" + k.Plural + ".json")
		if err != nil {
			t.Fatal(err)
		}
		var props apiextensionsv1.JSONSchemaProps
		if err := json.Unmarshal(data, &props); err != nil {
			t.Fatal(err)
		}
		spec, ok := fieldsOf(reflect.TypeOf(k.New()).Elem()).types["spec"]
		if !ok {
			t.Fatalf("%s has no spec", k.Name)
		}
		compareFields(t, k.Name+".spec", spec, props.Properties["spec"])
	}
}

func compareFields(t *testing.T, at string, typ reflect.Type, s apiextensionsv1.JSONSchemaProps) {
	t.Helper()
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	want := ""
	switch {
	case reflect.PointerTo(typ).Implements(unmarshaler):
		want = "string" // a time
	case typ.Kind() == reflect.Struct:
		want = "object"
		fields := fieldsOf(typ)
		for _, name := range fields.names {
			p, ok := s.Properties[name]
			if !ok {
				t.Errorf("%s.%s is not in the schema", at, name)
				continue
			}
			compareFields(t, at+"."+name, fields.types[name], p)
		}
		for name := range s.Properties {
			if fields.types[name] == nil {
				t.Errorf("%s.%s is in the schema alone", at, name)
			}
		}
	case typ.Kind() == reflect.Map:
		want = "object"
		compareFields(t, at+"[]", typ.Elem(), *s.AdditionalProperties.Schema)
	case typ.Kind() == reflect.Slice:
		want = "array"
		compareFields(t, at+"[]", typ.Elem(), *s.Items.Schema)
	case typ.Kind() == reflect.String:
		want = "string"
	case typ.Kind() == reflect.Bool:
		want = "boolean"
	case typ.Kind() == reflect.Int32, typ.Kind() == reflect.Int64, typ.Kind() == reflect.Int, typ.Kind() == reflect.Uint16:
		want = "integer"
	}
	if s.Type != want {
		t.Errorf("%s is %s in Go and %q in the schema", at, typ, s.Type)
	}
}

// TestOwnRules: golden files break every rule of our own schemas, so that each is
// known to say no to something.
func TestOwnRules(t *testing.T) {
	var said []byte
	for _, f := range []string{"trafficpolicy", "policies"} {
		data, err := os.ReadFile("testdata/" + f + ".txtar")
		if err != nil {
			t.Fatal(err)
		}
		said = append(append(said, data...), "in.yaml:"...)
	}
	rules := 0
	for _, k := range []*Kind{TrafficPolicy, RateLimitPolicy, FaultPolicy} {
		data, err := os.ReadFile("schema/compact/" + k.Group + "_" + k.Plural + ".json")
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`"message":("(?:[^"\\]|\\.)*")`).FindAllSubmatch(data, -1) {
			var message string
			if err := json.Unmarshal(m[1], &message); err != nil {
				t.Fatal(err)
			}
			rules++
			// A TargetRef is of all kinds of policies.
			if !bytes.Contains(said, []byte(": "+message+"\nin.yaml:")) {
				t.Errorf("no error says %q", message)
			}
		}
	}
	if rules < 25 {
		t.Errorf("found %d rules", rules)
	}
}
