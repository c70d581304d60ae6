package e2e

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

var answeredID = regexp.MustCompile(`(?i)\r?\ntulle-id: ([0-9a-f]{16})`)

// One request is refused by the serving program's proxy: the client is told an id,
// and with that, or the id that it sent itself, the story of both proxies. What an
// apply would do, and what a request would meet, is told before.
func TestWhy(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	m := newMesh(t)
	m.server("one")
	m.ready("echo", 1)
	const policy = `
apiVersion: tulle.dev/v1alpha1
kind: RateLimitPolicy
metadata: {name: few}
spec:
  targetRefs: [{group: "", kind: Service, name: echo}]
  limits: [{requests: 1, per: 1h}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: echo}
spec:
  parentRefs: [{group: "", kind: Service, name: echo}]
  rules: [{name: all, matches: [{path: {type: PathPrefix, value: /}}], backendRefs: [{name: echo, port: 8080}]}]
`
	diff := m.write(policy)
	out, err := m.try("diff", "-f", diff)
	if code(err) != 1 || !strings.Contains(out, "limits[0]") || !strings.Contains(out, "1 per 1h") {
		t.Errorf("diff: %v\n%s", err, out)
	}
	m.tulle("apply", "-f", diff)
	if out, err := m.try("diff", "-f", diff); code(err) != 0 || !strings.Contains(out, "Nothing changes") {
		t.Errorf("diff of what is applied: %v\n%s", err, out)
	}
	curl := need(t, "curl", "curl")
	client := m.start("client", bin+"/tulle", "run", "-q", "--name", "client", "--", "sh", "-c",
		curl+" -sS -D - -o /dev/null http://echo:8080/first; "+curl+" -sS -D - -o /dev/null -H 'X-Request-ID: second-1' 'http://echo:8080/second?secret=x'; echo asked; exec sleep 60")
	client.await("asked")
	answer := client.out.String()
	id := answeredID.FindStringSubmatch(answer)
	if id == nil || !strings.Contains(answer, " 429 ") {
		t.Fatalf("no id in\n%s", answer)
	}
	for _, ask := range []string{id[1], "second-1"} {
		told := m.tulle("why", ask)
		for _, want := range []string{"GET http://echo:8080/second was refused with 429", "client.default (the caller's proxy", "one.default (the serving program's proxy",
			"httproute/default/echo#0", "passed on what the next proxy answered, 429", "ratelimitpolicy/default/few#0 is reached"} {
			if !strings.Contains(told, want) {
				t.Errorf("why %s doesn't say %q:\n%s", ask, want, told)
			}
		}
		if strings.Contains(told, "secret") {
			t.Errorf("the query is told:\n%s", told)
		}
	}
	if told := m.tulle("why", "--last", "--service", "echo"); strings.Count(told, "GET /second") != 2 {
		t.Errorf("the last ones:\n%s", told)
	}
	if out, err := m.try("why", "0123456789abcdef"); code(err) != 1 {
		t.Errorf("an unknown id: %v\n%s", err, out)
	}
	out = m.tulle("explain", "request", "--from", "client", "http://echo/any")
	for _, want := range []string{"sent on by httproute/default/echo#0", "ratelimitpolicy/default/few", "one.default", "spiffe://mesh.local/ns/default/sa/echo"} {
		if !strings.Contains(out, want) {
			t.Errorf("explain doesn't say %q:\n%s", want, out)
		}
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		out = m.tulle("routes", "echo")
		if strings.Contains(out, "httproute/default/echo#0") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no figures of the route:\n%s", out)
		}
	}
}

// code is a command's exit code.
func code(err error) int {
	if err == nil {
		return 0
	}
	if e, ok := err.(*exec.ExitError); ok {
		return e.ExitCode()
	}
	return -1
}
