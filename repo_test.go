// The tests in this folder are about the repository itself: that every package
// says what it is, that nothing imports what it must not, that what the
// documents point at exists.
package tulle_test

import (
	"bytes"
	"encoding/json"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

const module = "tulle.dev/tulle"

// pkg is what these tests need of `go list -json`.
type pkg struct {
	ImportPath, Dir, Name, Doc           string
	Imports, TestImports, XTestImports   []string
	GoFiles, TestGoFiles, XTestGoFiles   []string
	IgnoredGoFiles, CgoFiles, EmbedFiles []string
}

// packages lists every package of the module, once.
var packages = sync.OnceValues(func() ([]pkg, error) {
	var stderr bytes.Buffer
	cmd := exec.Command("go", "list", "-pgo=off", "-json=ImportPath,Dir,Name,Doc,Imports,TestImports,XTestImports,GoFiles,TestGoFiles,XTestGoFiles,IgnoredGoFiles,CgoFiles", "./...")
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	var all []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); err == io.EOF {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
})

func list(t *testing.T) []pkg {
	t.Helper()
	all, err := packages()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 20 {
		t.Fatalf("go list found %d packages", len(all))
	}
	return all
}

// short is a package's path within the module.
func short(importPath string) string {
	return strings.TrimPrefix(strings.TrimPrefix(importPath, module), "/")
}

// files lists the files of the repository, as git knows them.
var files = sync.OnceValues(func() ([]string, error) {
	out, err := exec.Command("git", "ls-files", "-z", "--cached").Output()
	if err != nil {
		return nil, err
	}
	var all []string
	for _, f := range strings.Split(strings.TrimRight(string(out), "\x00"), "\x00") {
		if info, err := os.Lstat(f); err == nil && info.Mode().IsRegular() {
			all = append(all, f)
		}
	}
	return all, nil
})

func listFiles(t *testing.T) []string {
	t.Helper()
	all, err := files()
	if err != nil {
		t.Skipf("this is no git repository (%v): clone it with git", err)
	}
	return all
}

// TestDocs: each package says in a sentence or more what it is, in doc.go when
// it has more than one file.
func TestDocs(t *testing.T) {
	for _, p := range list(t) {
		if len(p.GoFiles) == 0 {
			continue // tests only
		}
		want := "Package " + p.Name
		if p.Name == "main" {
			want = "Command "
		}
		if !strings.HasPrefix(p.Doc, want) {
			t.Errorf("%s has no comment that begins with %q", short(p.ImportPath), want)
		}
		if len(p.GoFiles) > 1 && p.Name != "main" && !slices.Contains(p.GoFiles, "doc.go") {
			t.Errorf("%s says what it is in some other file than doc.go", short(p.ImportPath))
		}
	}
}

// TestNames: a package is named for what it does.
func TestNames(t *testing.T) {
	drawers := []string{"util", "utils", "common", "helper", "helpers", "misc", "base", "lib", "shared", "types", "pkg"}
	for _, p := range list(t) {
		for _, part := range strings.Split(short(p.ImportPath), "/") {
			if slices.Contains(drawers, part) {
				t.Errorf("%s: %q says nothing; name it for what it does, or keep it with its one user", short(p.ImportPath), part)
			}
		}
		if n := strings.Count(strings.TrimPrefix(short(p.ImportPath), "internal/"), "/"); strings.HasPrefix(short(p.ImportPath), "internal/") && n > 2 {
			t.Errorf("%s is too deep: at most two levels under internal/ (and one for what belongs to one package alone)", short(p.ImportPath))
		}
	}
}

// maxLines bounds a file that people read: one idea fits.
const maxLines = 600

func TestFileLengths(t *testing.T) {
	for _, f := range listFiles(t) {
		if path.Ext(f) != ".go" || generated(t, f) {
			continue
		}
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(b, []byte("\n")); n > maxLines {
			t.Errorf("%s has %d lines: at most %d, one idea a file", f, n, maxLines)
		}
	}
}

func generated(t *testing.T, file string) bool {
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, _, _ := bytes.Cut(b, []byte("\npackage "))
	return bytes.Contains(head, []byte("Code generated "))
}

// TestGoMod: no replace lines (a build with `go install` would not see them).
func TestGoMod(t *testing.T) {
	b, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if regexp.MustCompile(`(?m)^\s*(replace|exclude)\b`).Match(b) {
		t.Error("go.mod has a replace or exclude line")
	}
}

// TestText: what must not be in any file that people read.
func TestText(t *testing.T) {
	// Split so that this file doesn't have them.
	forbidden := map[string]string{
		`\b(TO` + `DO|FIX` + `ME|X` + `XX)\b`:                           "is a promise nobody keeps: do it, or file it as an issue",
		`(?i)\bplace` + `holder implementation`:                         "every part is the real thing",
		`(^|[^a-zA-Z.\w])/wo` + `rk/`:                                   "is a path on somebody's machine",
		`(?i)not (yet |built )?imple` + `mented yet|not bui` + `lt yet`: "is a command that isn't there",
	}
	rules := map[*regexp.Regexp]string{}
	for pattern, why := range forbidden {
		rules[regexp.MustCompile(pattern)] = why
	}
	for _, f := range listFiles(t) {
		switch path.Ext(f) {
		case ".go", ".md", ".yaml", ".yml", ".ts", ".tsx", ".js", ".css", ".html", ".proto", ".txt", "":
		default:
			continue
		}
		if strings.Contains(f, "testdata/") || strings.Contains(f, "dist/") || f == "LICENSE" {
			continue
		}
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for rule, why := range rules {
			if m := rule.FindIndex(b); m != nil {
				t.Errorf("%s:%d: %q %s", f, 1+bytes.Count(b[:m[0]], []byte("\n")), b[m[0]:m[1]], why)
			}
		}
	}
}

// TestSkips: a test that is skipped says why, and how to get what it misses.
func TestSkips(t *testing.T) {
	silent := regexp.MustCompile(`\bt\.(SkipNow\(\)|Skip\(\))`)
	for _, f := range listFiles(t) {
		if !strings.HasSuffix(f, "_test.go") || f == "repo_test.go" {
			continue
		}
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if silent.Match(b) {
			t.Errorf("%s skips without a reason", f)
		}
	}
}

// TestLinks: what a document points at in this repository exists, and a
// heading it names does too.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	fence := regexp.MustCompile("(?ms)^```.*?^```")
	for _, f := range listFiles(t) {
		if path.Ext(f) != ".md" {
			continue
		}
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllSubmatch(fence.ReplaceAll(b, nil), -1) {
			to, anchor, _ := strings.Cut(string(m[1]), "#")
			if strings.Contains(to, "://") || strings.HasPrefix(to, "mailto:") {
				continue
			}
			target := f
			if to != "" {
				target = filepath.Join(path.Dir(f), to)
			}
			text, err := os.ReadFile(target)
			if info, e := os.Stat(target); e == nil && info.IsDir() {
				continue
			}
			if err != nil {
				t.Errorf("%s points at %s, which isn't there", f, m[1])
			} else if anchor != "" && !slices.Contains(anchors(text), anchor) {
				t.Errorf("%s points at %s, and there is no such heading", f, m[1])
			}
		}
	}
}

// anchors lists the names of a document's headings as GitHub makes them.
func anchors(markdown []byte) []string {
	var all []string
	drop := regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	for line := range strings.Lines(string(markdown)) {
		if h := strings.TrimLeft(line, "#"); h != line && strings.HasPrefix(h, " ") {
			all = append(all, strings.ReplaceAll(drop.ReplaceAllString(strings.ToLower(strings.TrimSpace(h)), ""), " ", "-"))
		}
	}
	return all
}

// TestMakefile: the names that are the repository's interface are there.
func TestMakefile(t *testing.T) {
	b, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"demo", "test", "build", "bench", "bench-%", "check", "fuzz", "web"} {
		if !regexp.MustCompile(`(?m)^` + name + `:`).Match(b) {
			t.Errorf("make %s is gone", name)
		}
	}
}

// TestConstraints: a build constraint can be parsed, and no file is left out
// of every build by a mistake in it.
func TestConstraints(t *testing.T) {
	for _, f := range listFiles(t) {
		if path.Ext(f) != ".go" {
			continue
		}
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			line = strings.TrimSpace(line)
			if strings.HasPrefix(line, "package ") {
				break
			}
			if constraint.IsGoBuild(line) {
				if _, err := constraint.Parse(line); err != nil {
					t.Errorf("%s: %v", f, err)
				}
			}
		}
	}
}

// TestMentions: a document that the code points at exists.
func TestMentions(t *testing.T) {
	document := regexp.MustCompile(`\bdocs/[a-z0-9/_-]+\.md\b`)
	for _, f := range listFiles(t) {
		if !slices.Contains([]string{".go", ".proto", ".yaml", ".ts", ".tsx", ".mjs"}, path.Ext(f)) && f != "Makefile" {
			continue
		}
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range document.FindAll(b, -1) {
			if _, err := os.Stat(string(m)); err != nil {
				t.Errorf("%s points at %s, which isn't there", f, m)
			}
		}
	}
}

// TestMetrics: docs/metrics.md names each metric that a proxy writes, and no
// other.
func TestMetrics(t *testing.T) {
	text, err := os.ReadFile("docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	written := regexp.MustCompile(`(?:\.Family\(|name: )"(tulle_[a-z_]+|process_[a-z_]+)"`)
	names := map[string]bool{}
	for _, f := range listFiles(t) {
		if path.Ext(f) != ".go" || !strings.HasPrefix(f, "internal/proxy/") || strings.HasSuffix(f, "_test.go") {
			continue
		}
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range written.FindAllSubmatch(b, -1) {
			if names[string(m[1])] = true; !bytes.Contains(text, []byte("`"+string(m[1])+"`")) {
				t.Errorf("docs/metrics.md doesn't have %s, which %s writes", m[1], f)
			}
		}
	}
	if len(names) < 10 {
		t.Errorf("found %d metrics in the proxy: the pattern is wrong", len(names))
	}
	for _, m := range regexp.MustCompile("`((?:tulle|process)_[a-z_]+)`").FindAllSubmatch(text, -1) {
		if !names[string(m[1])] {
			t.Errorf("docs/metrics.md has %s, which no proxy writes", m[1])
		}
	}
}

// TestDependencies: docs/dependencies.md says what each direct dependency is
// for, and each is used.
func TestDependencies(t *testing.T) {
	text, err := os.ReadFile("docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	imported := map[string]bool{}
	for _, p := range list(t) {
		for _, i := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			imported[i] = true
		}
		// What only a build tag brings in.
		for _, f := range p.IgnoredGoFiles {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, f), nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range file.Imports {
				imported[strings.Trim(i.Path.Value, `"`)] = true
			}
		}
	}
	for line := range strings.Lines(string(mod)) {
		fields := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(fields) != 2 || !strings.HasPrefix(fields[1], "v") {
			continue
		}
		name := fields[0]
		base := regexp.MustCompile(`/v\d+$`).ReplaceAllString(name, "")
		if !bytes.Contains(text, []byte(base)) && !bytes.Contains(text, []byte(path.Base(base)+"/v")) {
			t.Errorf("docs/dependencies.md doesn't say what %s is for", name)
		}
		used := false
		for i := range imported {
			used = used || match(name+"/...", i)
		}
		if !used {
			t.Errorf("go.mod lists %s and nothing imports it: go mod tidy", name)
		}
	}
}
