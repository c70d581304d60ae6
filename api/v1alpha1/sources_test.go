package v1alpha1

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "note that api/crds was made from these sources")

// TestSources: api/crds was made from the types as they are now. controller-gen
// isn't part of the module, so what it was run on is noted beside what it made.
func TestSources(t *testing.T) {
	const note = "../crds/sources.sum"
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var sums strings.Builder
	for _, f := range files { // sorted
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(data), f)
	}
	if *update {
		if err := os.WriteFile(note, []byte(sums.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(note)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != sums.String() {
		t.Errorf("the types of this folder are not those that api/crds was made from: run make crds\nnow:\n%snoted:\n%s", sums.String(), have)
	}
}
