package imports

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"tulle.dev/tulle/internal/control/object"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestGolden: documents in, objects and a report out; and the objects are such as
// the control plane takes.
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
			r, err := Translate("in.yaml", a.Files[0].Data, Options{Accounts: map[string]string{"shop/till": "payment"}})
			if err != nil {
				t.Fatal(err)
			}
			var objects, report bytes.Buffer
			if err := Write(&objects, r); err != nil {
				t.Fatal(err)
			}
			for _, n := range r.Notes {
				report.WriteString(n.String() + "\n")
			}
			if _, err := object.Decode("out.yaml", objects.Bytes()); err != nil {
				t.Errorf("the control plane wouldn't take it:\n%v", err)
			}
			got := &txtar.Archive{Comment: a.Comment, Files: []txtar.File{a.Files[0], {Name: "out.yaml", Data: objects.Bytes()}, {Name: "report", Data: report.Bytes()}}}
			if *update {
				if err := os.WriteFile(file, txtar.Format(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(txtar.Format(a)), string(txtar.Format(got))); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func FuzzTranslate(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.txtar")
	for _, file := range files {
		if a, err := txtar.ParseFile(file); err == nil {
			f.Add(a.Files[0].Data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Translate("in.yaml", data, Options{})
		if err == nil {
			if err := Write(&bytes.Buffer{}, r); err != nil {
				t.Error(err)
			}
		}
	})
}
