package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const stream = `
{"Action":"start","Package":"tulle.dev/tulle/a"}
{"Action":"run","Package":"tulle.dev/tulle/a","Test":"TestGood"}
{"Action":"output","Package":"tulle.dev/tulle/a","Test":"TestGood","Output":"=== RUN   TestGood\n"}
{"Action":"pass","Package":"tulle.dev/tulle/a","Test":"TestGood","Elapsed":0}
{"Action":"output","Package":"tulle.dev/tulle/a","Test":"TestSkips/redis","Output":"    a_test.go:9: redis-server is missing: apt-get install redis-server\n"}
{"Action":"output","Package":"tulle.dev/tulle/a","Test":"TestSkips/redis","Output":"--- SKIP: TestSkips/redis (0.00s)\n"}
{"Action":"skip","Package":"tulle.dev/tulle/a","Test":"TestSkips/redis","Elapsed":0}
{"Action":"pass","Package":"tulle.dev/tulle/a","Test":"TestSkips","Elapsed":0}
{"Action":"output","Package":"tulle.dev/tulle/a","Test":"TestBad/deep","Output":"    a_test.go:12: no\n"}
{"Action":"fail","Package":"tulle.dev/tulle/a","Test":"TestBad/deep","Elapsed":0}
{"Action":"fail","Package":"tulle.dev/tulle/a","Test":"TestBad","Elapsed":0}
{"Action":"fail","Package":"tulle.dev/tulle/a","Elapsed":1.5}
{"ImportPath":"tulle.dev/tulle/b","Action":"build-output","Output":"b.go:1:1: expected 'package'\n"}
{"ImportPath":"tulle.dev/tulle/b","Action":"build-fail"}
{"Action":"start","Package":"tulle.dev/tulle/b"}
{"Action":"fail","Package":"tulle.dev/tulle/b","Elapsed":0,"FailedBuild":"tulle.dev/tulle/b"}
{"Action":"skip","Package":"tulle.dev/tulle/none","Elapsed":0}
`

func TestResults(t *testing.T) {
	r := newResults()
	var lines, end bytes.Buffer
	if err := r.read(strings.NewReader(strings.TrimSpace(stream)), &lines); err != nil {
		t.Fatal(err)
	}
	wantLines := strings.Join([]string{
		"FAIL a                                                             1.5s  2 tests, 2 failed, 1 skipped",
		"FAIL b                                                             0.0s  0 tests",
		""}, "\n")
	if diff := cmp.Diff(wantLines, lines.String()); diff != "" {
		t.Errorf("package lines (-want +got):\n%s", diff)
	}
	r.report(&end)
	want := `
skipped:
  a TestSkips/redis
      redis-server is missing: apt-get install redis-server

failed: a TestBad/deep
    a_test.go:12: no

failed: b
b.go:1:1: expected 'package'

2 passed, 3 failed, 1 skipped
`
	if diff := cmp.Diff(want, end.String()); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

// TestAgain: a result that comes later, without the race detector, counts.
func TestAgain(t *testing.T) {
	r := newResults()
	k := test{"p", "TestAllocs"}
	r.add(event{Action: "output", Package: k.Package, Test: k.Name, Output: "    a_test.go:3: allocations can't be counted under the race detector\n"}, &bytes.Buffer{})
	r.add(event{Action: "skip", Package: k.Package, Test: k.Name}, &bytes.Buffer{})
	if got := r.reason(k); !strings.Contains(got, rerunReason) {
		t.Errorf("reason %q isn't one to run again for", got)
	}
	r.add(event{Action: "pass", Package: k.Package, Test: k.Name}, &bytes.Buffer{})
	if len(r.with(skipped)) != 0 || len(r.with(passed)) != 1 {
		t.Errorf("outcomes %v: want one passed", r.outcomes)
	}
}
