package examples

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"tulle.dev/tulle/examples/shop"
	"tulle.dev/tulle/internal/control/object"
)

// TestObjects: every object in the examples is one that Tulle accepts.
func TestObjects(t *testing.T) {
	files, err := filepath.Glob("*/mesh.yaml")
	if err != nil || len(files) != 3 {
		t.Fatalf("found %v, %v: want the objects of shop, edge and pair", files, err)
	}
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			docs, err := object.Decode(file, data)
			if err != nil {
				t.Fatal(err)
			}
			if len(docs) < 3 {
				t.Errorf("%d objects: a document went missing", len(docs))
			}
		})
	}
}

// TestFiles: every example of traffic and access is accepted, says in a comment
// what it does, and is listed in the document of its subject.
func TestFiles(t *testing.T) {
	for dir, document := range map[string]string{"traffic": "../docs/traffic.md", "access": "../docs/security.md"} {
		files, err := filepath.Glob(dir + "/*")
		if err != nil || len(files) < 8 {
			t.Fatalf("%d examples of %s: %v", len(files), dir, err)
		}
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if docs, err := object.Decode(file, data); err != nil || len(docs) == 0 {
				t.Errorf("%s: %d objects: %v", file, len(docs), err)
			}
			if !bytes.HasPrefix(data, []byte("# ")) {
				t.Errorf("%s doesn't begin with what it does", file)
			}
			if !bytes.Contains(text, []byte("(../examples/"+file+")")) {
				t.Errorf("%s isn't listed in %s", file, document)
			}
		}
	}
}

// TestDocuments: the objects that the documents show are ones that Tulle
// accepts too.
func TestDocuments(t *testing.T) {
	files, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?ms)^```yaml\\n(.*?)^```")
	n := 0
	for _, file := range append(files, "../README.md") {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range block.FindAllSubmatchIndex(data, -1) {
			at := fmt.Sprintf("%s, the block in line %d", file, 1+bytes.Count(data[:m[2]], []byte("\n")))
			if docs, err := object.Decode(at, data[m[2]:m[3]]); err != nil || len(docs) == 0 {
				t.Errorf("%d objects: %v", len(docs), err)
			}
			n++
		}
	}
	if n < 5 {
		t.Errorf("the documents have %d blocks of YAML: the pattern is wrong", n)
	}
}

// TestPrograms: the table of the shop's programs and its objects say the same.
func TestPrograms(t *testing.T) {
	docs, err := object.Decode("shop/mesh.yaml", shop.Mesh)
	if err != nil {
		t.Fatal(err)
	}
	services := map[string]*corev1.Service{}
	for _, d := range docs {
		if s, ok := d.Object.(*corev1.Service); ok {
			services[s.Name] = s
		}
	}
	ports := map[uint16]string{}
	served := map[string]bool{}
	for _, p := range shop.Programs() {
		if p.Service == "" {
			continue
		}
		if other := ports[p.Port]; other != "" {
			t.Errorf("%s and %s both listen on %d", other, p.Name, p.Port)
		}
		ports[p.Port], served[p.Service] = p.Name, true
		s := services[p.Service]
		if s == nil {
			t.Errorf("%s serves %s, which mesh.yaml doesn't have", p.Name, p.Service)
			continue
		}
		port := s.Spec.Ports[0]
		if port.Port != int32(p.ServicePort) || port.TargetPort.IntValue() != int(p.Port) {
			t.Errorf("%s listens on %d for port %d; mesh.yaml says %v for %d", p.Name, p.Port, p.ServicePort, port.TargetPort, port.Port)
		}
		for k, v := range s.Spec.Selector {
			if p.Labels[k] != v {
				t.Errorf("service %s selects %s=%s; %s has labels %v", p.Service, k, v, p.Name, maps.Clone(p.Labels))
			}
		}
	}
	for name, s := range services {
		if len(s.Spec.Selector) > 0 && !served[name] {
			t.Errorf("nothing serves %s", name)
		}
	}
}
