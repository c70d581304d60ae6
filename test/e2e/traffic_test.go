package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"tulle.dev/tulle/internal/control/object"
)

// Every example beside the sample shop: an apply of it changes something, as diff
// says before; then it is in force, which its conditions say, and diff agrees.
func TestExamples(t *testing.T) {
	t.Parallel()
	const shop = "../../examples/shop/mesh.yaml"
	m := newMesh(t)
	m.tulle("apply", "-f", shop)
	var files []string
	for _, dir := range []string{"traffic", "access"} {
		list, err := filepath.Glob("../../examples/" + dir + "/*.yaml")
		if err != nil || len(list) < 6 {
			t.Fatalf("%d examples of %s: %v", len(list), dir, err)
		}
		files = append(files, list...)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			out, err := m.try("diff", "-f", file)
			if code(err) != 1 {
				t.Errorf("diff before it is applied: %v, want exit code 1\n%s", err, out)
			}
			if out, err := m.try("apply", "-f", file); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			m.inForce(t, file)
			if out, err := m.try("diff", "-f", file); code(err) != 0 {
				t.Errorf("diff when it is applied: %v, want exit code 0\n%s", err, out)
			}
			if out, err := m.try("delete", "-f", file); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if out, err := m.try("apply", "-f", shop); err != nil { // some stand in for one of its objects
				t.Fatalf("%v\n%s", err, out)
			}
		})
	}
}

// inForce waits until the conditions of a file's objects are those of this version
// of them, and good.
func (m *mesh) inForce(t *testing.T, file string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	docs, err := object.Decode(file, data)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range docs {
		if d.Kind.Name == "Service" || d.Kind.Name == "Secret" {
			continue
		}
		args := []string{"get", d.Kind.Plural, d.Object.GetName(), "-o", "json"}
		if ns := d.Object.GetNamespace(); ns != "" {
			args = append(args, "-n", ns)
		}
		wrong := ""
		for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
			var o anyObject
			out, err := m.try(args...)
			if err != nil || json.Unmarshal([]byte(out), &o) != nil {
				t.Fatalf("%v: %v\n%s", args, err, out)
			}
			accepted := false
			wrong = ""
			for _, c := range o.conditions() {
				switch {
				case c.ObservedGeneration != o.Metadata.Generation:
					wrong = c.Type + " is of another version"
				case c.Type == "Accepted" && c.Status == "True":
					accepted = true
				case (c.Type == "Accepted" || c.Type == "ResolvedRefs") && c.Status != "True",
					(c.Type == "Conflicted" || c.Type == "PartiallyInvalid") && c.Status == "True":
					wrong = c.Type + " " + c.Status + ": " + c.Reason + ": " + c.Message
				}
			}
			if !accepted && wrong == "" {
				wrong = "nothing says that it is accepted"
			}
			if wrong == "" {
				break
			}
			if time.Now().After(deadline) {
				t.Errorf("%s %s: %s", d.Kind.Name, d.Object.GetName(), wrong)
				break
			}
		}
	}
}

// split is an HTTPRoute of service echo, with more of the rule's fields.
func split(echo, other int, more string) string {
	return `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: echo}
spec:
  parentRefs: [{group: "", kind: Service, name: echo}]
  rules:
  - name: split
    backendRefs:
    - {name: echo, port: 8080, weight: ` + strconv.Itoa(echo) + `}
    - {name: echo-v2, port: 8080, weight: ` + strconv.Itoa(other) + `}
` + more
}

// A split holds over several proxies, its change loses no request, and a mirror to
// something that never answers changes nothing.
func TestSplit(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	m := newMesh(t)
	m.server("one")
	m.serve("--name", "two", "--service", "echo-v2", "--port", "8080", "--app-protocol", "http", "--",
		"env", "E2E_ROLE=server", "E2E_LISTEN=127.0.0.1:8080", "E2E_NAME=two", self(t))
	m.odd("hangs", "hang", "never")
	m.ready("echo", 1)
	m.ready("echo-v2", 1)
	m.ready("hang", 1)
	m.apply(split(90, 10, ""))

	const each = 1250
	a, b := m.asking("a", "http://echo:8080/", 400, "E2E_COUNT="+strconv.Itoa(each)), m.asking("b", "http://echo:8080/", 400, "E2E_COUNT="+strconv.Itoa(each))
	first, second := a.asked(), b.asked()
	first.all(t, "200", each)
	second.all(t, "200", each)
	// Chi-square with one degree of freedom: over 32 comes once in fifty million runs
	// by chance.
	n := float64(first.Servers["two"] + second.Servers["two"])
	all := float64(2 * each)
	expected := all / 10
	if x := (n - expected) * (n - expected) * (1/expected + 1/(all-expected)); x > 32 {
		t.Errorf("%v of %v went to v2, want a tenth: chi-square %.1f", n, all, x)
	}

	// The same clients' mesh, other weights, while requests go on.
	load := m.load(200, 5*time.Second)
	for _, w := range []int{50, 100, 0, 100} {
		time.Sleep(700 * time.Millisecond)
		m.apply(split(100-w, w, ""))
	}
	r := load.result(patience)
	r.noneFailed(t, 900)
	if r.Servers["two"] < 150 || r.Servers["one"] < 50 {
		t.Errorf("answered by %v: the weights had no effect", r.Servers)
	}
	if a := m.ask("c", "http://echo:8080/", 100); a.Servers["two"] != 100 {
		t.Errorf("answered by %v, want v2 alone", a.Servers)
	}

	m.apply(split(100, 0, `    filters: [{type: RequestMirror, requestMirror: {backendRef: {name: hang, port: 8080}}}]
`))
	mirrored := m.ask("d", "http://echo:8080/", 300)
	mirrored.all(t, "200", 300)
	if mirrored.Servers["one"] != 300 || mirrored.Slowest > 8 {
		t.Errorf("with a mirror that never answers: %v, the slowest in %v s", mirrored.Servers, mirrored.Slowest)
	}
}

// One of three instances answers 503. Asked to try again, no client sees it; without
// that, why names it. A fault comes and goes by itself.
func TestTriesAndFaults(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	m := newMesh(t)
	m.server("one")
	m.server("two")
	m.odd("bad", "echo", "503")
	m.ready("echo", 3)
	policy := func(retry string) string {
		return `
apiVersion: tulle.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: echo}
spec:
  targetRefs: [{kind: Service, name: echo}]
  balance: {algorithm: RoundRobin}
  ejection: {off: true}
  retry: ` + retry + "\n"
	}
	m.apply(policy("{attempts: 3, on: [GatewayError], backoff: 1ms, budget: {percent: 100}}"))
	m.ask("tries", "http://echo:8080/", 600).all(t, "200", 600)

	m.apply(policy("{attempts: 0}"))
	a := m.stay("plain", "http://echo:8080/spoilt", 30).asked()
	if a.Statuses["503"] < 5 || a.Statuses["200"] < 15 || a.ID == "" {
		t.Fatalf("without tries: %v, id %q", a.Statuses, a.ID)
	}
	told := m.tulle("why", a.ID)
	for _, want := range []string{"GET http://echo:8080/spoilt", "503", "bad.default"} {
		if !strings.Contains(told, want) {
			t.Errorf("why %s doesn't say %q:\n%s", a.ID, want, told)
		}
	}
	var stories struct {
		Stories []struct {
			ID, Proxy, Kind string
			Status          int
			Tries           []struct{ Workload, Outcome string }
		}
	}
	if err := json.Unmarshal([]byte(m.tulle("why", a.ID, "-o", "json")), &stories); err != nil || len(stories.Stories) == 0 {
		t.Fatalf("why -o json: %v, %+v", err, stories)
	}
	if s := stories.Stories[0]; s.Status != 503 || s.Proxy == "" || len(s.Tries) != 1 {
		t.Errorf("why -o json: %+v", s)
	}

	m.apply(policy("{attempts: 3, on: [GatewayError], budget: {percent: 100}}"))
	m.apply(`
apiVersion: tulle.dev/v1alpha1
kind: FaultPolicy
metadata: {name: echo}
spec:
  targetRefs: [{kind: Service, name: echo}]
  duration: 15s
  faults: [{abort: {status: 418}}]
`)
	created := time.Now()
	m.ask("spoilt", "http://echo:8080/", 20).all(t, "418", 20)
	time.Sleep(time.Until(created.Add(15500 * time.Millisecond)))
	m.ask("healed", "http://echo:8080/", 60).all(t, "200", 60)
}

// A limit over all proxies holds for two of them together, and the other commands
// that tell of traffic answer in JSON what programs read.
func TestGlobalLimit(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	m := newMesh(t)
	m.server("one")
	m.ready("echo", 1)
	const limited = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: echo}
spec:
  parentRefs: [{group: "", kind: Service, name: echo}]
  rules: [{name: all, backendRefs: [{name: echo, port: 8080}]}]
---
apiVersion: tulle.dev/v1alpha1
kind: RateLimitPolicy
metadata: {name: echo}
spec:
  targetRefs: [{kind: HTTPRoute, name: echo}]
  limits: [{requests: 50, burst: 50, scope: Global}]
`
	file := m.write(limited)
	var diff struct {
		Objects []struct{ Kind, Name, Action string }
		Effect  struct {
			Policies []struct{ At, Field, After string }
		}
	}
	out, err := m.try("diff", "-f", file, "-o", "json")
	if code(err) != 1 || json.Unmarshal([]byte(out), &diff) != nil || len(diff.Objects) != 2 || diff.Objects[0].Action != "created" ||
		len(diff.Effect.Policies) != 1 || !strings.Contains(diff.Effect.Policies[0].After, "50 per 1s") {
		t.Errorf("diff: %v, %+v\n%s", err, diff, out)
	}
	m.apply(limited)
	at := "E2E_AT=" + strconv.FormatInt(time.Now().Add(8*time.Second).UnixMilli(), 10) // both count the same seconds
	a := m.asking("a", "http://echo:8080/", 60, at, "E2E_FOR=11s", "E2E_SKIP=5s")
	b := m.asking("b", "http://echo:8080/", 60, at, "E2E_FOR=11s", "E2E_SKIP=5s")

	var asked struct {
		Proxy, Service, Rule, Outcome string
		Policy                        []struct{ Name, Value, Source string }
		Backends                      []struct {
			Service   string
			Share     float64
			Endpoints []struct{ Address, Workload, Identity, State string }
		}
	}
	a.awaitProxy(m, "a")
	out = m.tulle("explain", "request", "--from", "a", "http://echo:8080/x", "-o", "json")
	if err := json.Unmarshal([]byte(out), &asked); err != nil || asked.Rule != "httproute/default/echo#0" || asked.Outcome != "forwarded" ||
		len(asked.Backends) != 1 || len(asked.Backends[0].Endpoints) != 1 || asked.Backends[0].Endpoints[0].Workload != "one.default" {
		t.Errorf("explain: %v\n%s", err, out)
	}
	if out, err := m.try("explain", "request", "--from", "nobody", "http://echo:8080/"); code(err) == 0 || !strings.Contains(out, "nobody") {
		t.Errorf("explain from nobody: %v\n%s", err, out)
	}
	first, second := a.asked(), b.asked()
	passed := float64(first.Statuses["200"]+second.Statuses["200"]) / max(first.Seconds, second.Seconds)
	if passed < 35 || passed > 70 { // two limits of 50 would be 100
		t.Errorf("%.1f requests a second passed, want about 50: %v and %v", passed, first.Statuses, second.Statuses)
	}
	if first.Statuses["429"] == 0 || second.Statuses["429"] == 0 || len(first.Statuses) != 2 || len(second.Statuses) != 2 {
		t.Errorf("answers %v and %v, want 200 and 429", first.Statuses, second.Statuses)
	}
	var routes struct {
		Routes []struct {
			Service, Route, Backend string
			RPS                     float64
			SuccessRate             float64 `json:"success_rate"`
		}
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		out = m.tulle("routes", "echo", "-o", "json")
		if err := json.Unmarshal([]byte(out), &routes); err != nil {
			t.Fatalf("routes: %v\n%s", err, out)
		}
		if len(routes.Routes) > 0 && routes.Routes[0].Route == "httproute/default/echo#0" && routes.Routes[0].RPS > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("routes: %s", out)
		}
	}
}

// awaitProxy waits until the control plane knows a client's proxy.
func (p *process) awaitProxy(m *mesh, name string) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if _, err := m.try("get", "workload", name); err == nil {
			return
		}
	}
	p.t.Fatalf("there is no workload %s", name)
}
