package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// module is cut from package names to keep lines short.
const module = "tulle.dev/tulle/"

// rerunReason is what a skipped test's reason contains when only the race
// detector was in its way.
const rerunReason = "race detector"

func main() {
	race := flag.String("race", "auto", "auto, on or off")
	web := flag.String("web", "web", "the dashboard's `folder`; empty leaves its tests out")
	run := flag.String("run", "", "only tests that match this `regexp`")
	timeout := flag.String("timeout", "15m", "of one package's tests")
	flag.Parse()
	packages := flag.Args()
	if len(packages) == 0 {
		packages = []string{"./..."}
	}
	r := newResults()
	args := []string{"-timeout", *timeout}
	if *run != "" {
		args = append(args, "-run", *run)
	}
	withRace := *race == "on" || *race == "auto" && raceWorks()
	if !withRace {
		fmt.Println("without the race detector: it needs cgo and a C compiler (apt-get install gcc libc6-dev)")
		r.goTest(slices.Concat(args, packages), os.Stdout)
	} else {
		r.goTest(slices.Concat([]string{"-race"}, args, packages), os.Stdout)
		r.withoutRace(*timeout, os.Stdout)
	}
	if *web != "" && *run == "" {
		r.webTest(*web, os.Stdout)
	}
	r.report(os.Stdout)
	if len(r.with(failed)) > 0 {
		os.Exit(1)
	}
}

// raceWorks says whether a program with cgo can be built here.
func raceWorks() bool {
	out, err := exec.Command("go", "env", "CGO_ENABLED", "CC").Output()
	if err != nil {
		return false
	}
	enabled, cc, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if enabled != "1" {
		return false
	}
	_, err = exec.LookPath(strings.Fields(cc + " cc")[0])
	return err == nil
}

// goTest runs `go test -json ARGS`. That it failed with no failing test to
// show for it is a failure too.
func (r *results) goTest(args []string, out io.Writer) {
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	r.run(cmd, "go test", out, r.read)
}

// run starts cmd and gives what it prints to read.
func (r *results) run(cmd *exec.Cmd, name string, out io.Writer, read func(io.Reader, io.Writer) error) {
	before := len(r.with(failed))
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err == nil {
		err = errors.Join(read(pipe, out), cmd.Wait())
	}
	if err != nil && len(r.with(failed)) == before {
		t := test{Package: name}
		r.set(t, failed)
		r.output[t] += err.Error() + "\n"
	}
}

// withoutRace runs the tests again that skipped because of the race detector.
func (r *results) withoutRace(timeout string, out io.Writer) {
	again := map[string][]string{}
	for _, t := range leaves(r.with(skipped)) {
		if strings.Contains(r.reason(t), rerunReason) {
			top, _, _ := strings.Cut(t.Name, "/")
			if !slices.Contains(again[t.Package], top) {
				again[t.Package] = append(again[t.Package], regexp.QuoteMeta(top))
			}
		}
	}
	if len(again) == 0 {
		return
	}
	fmt.Fprintln(out, "again without the race detector:")
	for _, p := range slices.Sorted(maps.Keys(again)) {
		r.goTest([]string{"-timeout", timeout, "-run", "^(" + strings.Join(again[p], "|") + ")$", p}, out)
	}
}

// report prints why tests were skipped, what failed, and the last line.
func (r *results) report(out io.Writer) {
	skips, fails := r.with(skipped), r.with(failed)
	if len(skips) > 0 {
		fmt.Fprintln(out, "\nskipped:")
		for _, t := range leaves(skips) {
			fmt.Fprintf(out, "  %s\n      %s\n", strings.TrimPrefix(t.String(), module), r.reason(t))
		}
	}
	for _, t := range leaves(fails) {
		fmt.Fprintf(out, "\nfailed: %s\n%s", strings.TrimPrefix(t.String(), module), r.output[t])
		// What a test started may have printed to the package's own output.
		if own := (test{Package: t.Package}); t != own {
			fmt.Fprint(out, r.output[own])
		}
	}
	fmt.Fprintf(out, "\n%d passed, %d failed, %d skipped\n", len(r.with(passed)), len(fails), len(skips))
}

// webTest runs the dashboard's tests: `npm test` in dir is Vitest, whose JSON
// reporter says what happened.
func (r *results) webTest(dir string, out io.Writer) {
	t := test{Package: "web", Name: "npm test"}
	skip := func(why string) {
		r.set(t, skipped)
		r.output[t] = why
	}
	if _, err := os.Stat(filepath.Join(dir, "package.json")); err != nil {
		return
	}
	if _, err := exec.LookPath("npm"); err != nil {
		skip("Node is not installed: apt-get install nodejs npm, then npm ci in " + dir)
		return
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules")); err != nil {
		skip("its packages are not installed: npm ci in " + dir)
		return
	}
	report, err := os.CreateTemp("", "web-*.json")
	if err != nil {
		r.set(t, failed)
		r.output[t] = err.Error()
		return
	}
	report.Close()
	defer os.Remove(report.Name())
	cmd := exec.Command("npm", "test", "--silent", "--", "--reporter=default", "--reporter=json", "--outputFile="+report.Name())
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CI=1")
	text, err := cmd.CombinedOutput()
	n, bad := r.readWeb(report.Name())
	status := "ok"
	if err != nil || bad > 0 {
		status = "FAIL"
	}
	fmt.Fprintf(out, "%-4s %-58s %7s  %d tests\n", status, "web", "", n)
	if err != nil && bad == 0 || n == 0 {
		r.set(t, failed)
		r.output[t] = fmt.Sprintf("npm test: %v\n%s", err, text)
	}
}

// readWeb reads what Vitest's JSON reporter wrote.
func (r *results) readWeb(file string) (n, bad int) {
	var doc struct {
		TestResults []struct {
			AssertionResults []struct {
				FullName        string   `json:"fullName"`
				Status          string   `json:"status"`
				FailureMessages []string `json:"failureMessages"`
			} `json:"assertionResults"`
		} `json:"testResults"`
	}
	b, err := os.ReadFile(file)
	if err != nil || json.Unmarshal(b, &doc) != nil {
		return 0, 0
	}
	for _, f := range doc.TestResults {
		for _, a := range f.AssertionResults {
			t := test{Package: "web", Name: a.FullName}
			n++
			switch a.Status {
			case "passed":
				r.set(t, passed)
			case "failed":
				bad++
				r.set(t, failed)
				r.output[t] = strings.Join(a.FailureMessages, "\n") + "\n"
			default:
				r.set(t, skipped)
				r.output[t] = "the dashboard's tests skipped it (" + a.Status + ")"
			}
		}
	}
	return n, bad
}
