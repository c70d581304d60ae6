package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// event is one line of `go test -json` (see `go doc test2json`), and of
// `go build -json`, which it may be mixed with.
type event struct {
	Action      string
	Package     string
	ImportPath  string
	Test        string
	Output      string
	Elapsed     float64
	FailedBuild string
}

// test names one test of one package; Name is empty for the package itself.
type test struct{ Package, Name string }

func (t test) String() string {
	if t.Name == "" {
		return short(t.Package)
	}
	return short(t.Package) + " " + t.Name
}

// module is cut from package names to keep lines short.
const module = "tulle.dev/tulle"

func short(pkg string) string {
	if pkg == module {
		return "(root)"
	}
	return strings.TrimPrefix(pkg, module+"/")
}

// outcome is how a test ended.
type outcome string

const (
	passed  outcome = "pass"
	failed  outcome = "fail"
	skipped outcome = "skip"
)

// maxOutput bounds what is kept of one test's output, in bytes: the end is
// kept, since it says why.
const maxOutput = 64 << 10

// results collects the outcomes of tests.
type results struct {
	outcomes map[test]outcome
	order    []test
	output   map[test]string
	builds   map[string]string // import path -> what the compiler said
}

func newResults() *results {
	return &results{outcomes: map[test]outcome{}, output: map[test]string{}, builds: map[string]string{}}
}

// read takes the events of one `go test -json` and writes a line per package.
// Lines that aren't JSON are passed through.
func (r *results) read(in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Fprintln(out, lines.Text())
			continue
		}
		r.add(e, out)
	}
	return lines.Err()
}

func (r *results) add(e event, out io.Writer) {
	t := test{e.Package, e.Test}
	switch e.Action {
	case "output":
		s := r.output[t] + e.Output
		if len(s) > maxOutput {
			s = s[len(s)-maxOutput:]
		}
		r.output[t] = s
	case "build-output":
		r.builds[e.ImportPath] += e.Output
	case "pass", "fail", "skip":
		if t.Name == "" {
			r.endPackage(t, e, out)
			return
		}
		r.set(t, outcome(e.Action))
		if e.Action == "pass" {
			delete(r.output, t)
		}
	}
}

// endPackage prints a package's line. A package counts itself only when it
// failed and none of its tests did: a build that broke, a panic, a TestMain.
func (r *results) endPackage(t test, e event, out io.Writer) {
	if e.Action == "skip" { // no test files
		return
	}
	n := map[outcome]int{}
	for k, o := range r.outcomes {
		if k.Package == t.Package {
			n[o]++
		}
	}
	line := fmt.Sprintf("%-4s %-58s %6.1fs  %d tests", map[string]string{"pass": "ok", "fail": "FAIL"}[e.Action], short(t.Package), e.Elapsed, n[passed])
	if n[failed] > 0 {
		line += fmt.Sprintf(", %d failed", n[failed])
	}
	if n[skipped] > 0 {
		line += fmt.Sprintf(", %d skipped", n[skipped])
	}
	fmt.Fprintln(out, line)
	if e.Action == "fail" && n[failed] == 0 {
		r.set(t, failed)
		if e.FailedBuild != "" {
			r.output[t] = r.builds[e.FailedBuild] + r.output[t]
		}
	}
}

func (r *results) set(t test, o outcome) {
	if _, ok := r.outcomes[t]; !ok {
		r.order = append(r.order, t)
	}
	r.outcomes[t] = o
}

// with lists the tests that ended so, in the order in which they ended.
func (r *results) with(o outcome) []test {
	var list []test
	for _, t := range r.order {
		if r.outcomes[t] == o {
			list = append(list, t)
		}
	}
	return list
}

// leaves drops a test from the list when one of its subtests is in it too: the
// subtest says why.
func leaves(list []test) []test {
	return slices.DeleteFunc(slices.Clone(list), func(t test) bool {
		return slices.ContainsFunc(list, func(u test) bool {
			return u.Package == t.Package && strings.HasPrefix(u.Name, t.Name+"/")
		})
	})
}

// reason is what a test said when it skipped.
func (r *results) reason(t test) string {
	var said []string
	for line := range strings.Lines(r.output[t]) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "=== ") || strings.HasPrefix(line, "--- ") {
			continue
		}
		// "file_test.go:12: text"
		if _, rest, ok := strings.Cut(line, ".go:"); ok {
			if _, text, ok := strings.Cut(rest, ": "); ok {
				line = text
			}
		}
		said = append(said, line)
	}
	if len(said) == 0 {
		return "no reason given"
	}
	return strings.Join(said, " ")
}
