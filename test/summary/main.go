package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// rerunReason is what a skipped test's reason contains when only the race
// detector was in its way.
const rerunReason = "race detector"

func main() {
	race := flag.String("race", "auto", "auto, on or off")
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
	if withRace {
		args = append([]string{"-race"}, args...)
	} else {
		fmt.Println("without the race detector: it needs cgo and a C compiler (apt-get install gcc libc6-dev)")
	}
	together, alone, err := divide(packages)
	if err != nil {
		fmt.Println(err)
		fmt.Println("0 passed, 1 failed, 0 skipped")
		os.Exit(1)
	}
	r.goTest(args, together, os.Stdout)
	r.goTest(append([]string{"-p", "1"}, args...), alone, os.Stdout)
	if withRace {
		r.withoutRace(*timeout, os.Stdout)
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

// divide lists the packages that the patterns name: those whose tests run beside
// each other, and those that run one after the other because real programs and
// real time are in them.
func divide(patterns []string) (together, alone []string, err error) {
	cmd := exec.Command("go", append([]string{"list"}, patterns...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, nil, fmt.Errorf("go list: %w", err)
	}
	for _, p := range strings.Fields(string(out)) {
		if p == module+"/internal/proxy" || p == module+"/internal/control" || strings.HasPrefix(p, module+"/test/") {
			alone = append(alone, p)
		} else {
			together = append(together, p)
		}
	}
	return together, alone, nil
}

// goTest runs `go test -json ARGS PACKAGES`. That it failed with no failing test to
// show for it is a failure too. No package is compiled a second time by the profile
// of the proxy: the programs that are started have been built by it.
func (r *results) goTest(args, packages []string, out io.Writer) {
	if len(packages) == 0 {
		return
	}
	cmd := exec.Command("go", slices.Concat([]string{"test", "-json", "-pgo=off"}, args, packages)...)
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
		r.goTest([]string{"-timeout", timeout, "-run", "^(" + strings.Join(again[p], "|") + ")$"}, []string{p}, out)
	}
}

// report prints why tests were skipped, what failed, and the last line.
func (r *results) report(out io.Writer) {
	skips, fails := r.with(skipped), r.with(failed)
	if len(skips) > 0 {
		fmt.Fprintln(out, "\nskipped:")
		for _, t := range leaves(skips) {
			fmt.Fprintf(out, "  %s\n      %s\n", t, r.reason(t))
		}
	}
	for _, t := range leaves(fails) {
		fmt.Fprintf(out, "\nfailed: %s\n%s", t, r.output[t])
		// What a test started may have printed to the package's own output.
		if own := (test{Package: t.Package}); t != own {
			fmt.Fprint(out, r.output[own])
		}
	}
	fmt.Fprintf(out, "\n%d passed, %d failed, %d skipped\n", len(r.with(passed)), len(fails), len(skips))
}
