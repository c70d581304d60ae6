package schema

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "make the embedded schemas anew")

// sources are where the embedded schemas come from: the Gateway API module in the
// version of go.mod, and api/crds.
func sources(t *testing.T) map[string]string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api").Output()
	if err != nil {
		t.Fatal(err)
	}
	published := filepath.Join(strings.TrimSpace(string(out)), "config/crd/experimental")
	all := map[string]string{}
	for _, plural := range []string{"gateways", "httproutes", "grpcroutes", "tlsroutes", "tcproutes", "referencegrants"} {
		all[filepath.Join(published, "gateway.networking.k8s.io_"+plural+".yaml")] = "v1"
	}
	for _, plural := range []string{"trafficpolicies", "ratelimitpolicies", "faultpolicies", "accesspolicies", "authenticationpolicies", "egresspolicies", "operators"} {
		all["../../../../api/crds/tulle.dev_"+plural+".yaml"] = "v1alpha1"
	}
	return all
}

func readCRD(t *testing.T, file string) *apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	crd := new(apiextensionsv1.CustomResourceDefinition)
	if err := yaml.UnmarshalStrict(data, crd); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return crd
}

// TestCompact: what is embedded is what was published, in short.
func TestCompact(t *testing.T) {
	want := map[string]bool{}
	for file, version := range sources(t) {
		crd := readCRD(t, file)
		var found *apiextensionsv1.JSONSchemaProps
		for _, v := range crd.Spec.Versions {
			if v.Name == version && v.Served {
				found = v.Schema.OpenAPIV3Schema
			}
		}
		if found == nil {
			t.Fatalf("%s has no version %s", file, version)
		}
		delete(found.Properties, "status") // only the control plane writes it
		strip(found)
		var out bytes.Buffer
		e := json.NewEncoder(&out)
		e.SetEscapeHTML(false)
		if err := e.Encode(found); err != nil {
			t.Fatal(err)
		}
		name := fileName(crd.Spec.Group, crd.Spec.Names.Plural)
		want[name] = true
		at := filepath.Join("compact", name)
		if *update {
			if err := os.WriteFile(at, out.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		have, err := os.ReadFile(at)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(have, out.Bytes()) {
			t.Errorf("%s is not what %s says: run make crds", at, filepath.Base(file))
		}
	}
	if *update {
		return // what is embedded is still the old
	}
	files, err := compact.ReadDir("compact")
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, f := range files {
		have[f.Name()] = true
	}
	if d := cmp.Diff(want, have); d != "" {
		t.Errorf("embedded files, -want +have (run make crds):\n%s", d)
	}
}

// strip removes what is for readers.
func strip(s *apiextensionsv1.JSONSchemaProps) {
	if s == nil {
		return
	}
	s.Description, s.Example, s.ExternalDocs = "", nil, nil
	for _, m := range []map[string]apiextensionsv1.JSONSchemaProps{s.Properties, s.PatternProperties, s.Definitions} {
		for k, v := range m {
			strip(&v)
			m[k] = v
		}
	}
	if s.Items != nil {
		strip(s.Items.Schema)
	}
	if s.AdditionalProperties != nil {
		strip(s.AdditionalProperties.Schema)
	}
	strip(s.Not)
	for _, l := range [][]apiextensionsv1.JSONSchemaProps{s.AllOf, s.AnyOf, s.OneOf} {
		for i := range l {
			strip(&l[i])
		}
	}
}
