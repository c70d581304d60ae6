package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// logLine is what is looked at of a line of an access log, or of an event of a tap.
type logLine struct {
	Proxy, Direction, Service, Source, Protocol, Method, Path, Decision, Reason string
	Status                                                                      int
	Policy                                                                      string
	ID                                                                          string `json:"tulle_id"`
	Peer                                                                        string `json:"peer_tulle_id"`
	Received                                                                    int    `json:"received_bytes"`
	Sent                                                                        int    `json:"sent_bytes"`
}

// logged waits for a line that f wants, of what read returns.
func logged(t *testing.T, what string, read func() string, f func(*logLine) bool) logLine {
	t.Helper()
	text := ""
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		text = read()
		for _, l := range strings.SplitAfter(text, "\n") {
			var line logLine
			if strings.HasPrefix(l, "{") && strings.HasSuffix(l, "\n") {
				if err := json.Unmarshal([]byte(l), &line); err != nil {
					t.Fatalf("%q: %v", l, err)
				}
				if f(&line) {
					return line
				}
			}
		}
	}
	t.Fatalf("%s isn't in\n%s", what, text)
	return logLine{}
}

// Allowed and denied requests and an opaque connection are in the access logs of both
// proxies, and whoever taps the service sees them as they happen.
func TestAccessLogAndTap(t *testing.T) {
	needNamespaces(t)
	curl := need(t, "curl", "curl")
	t.Parallel()
	m := newMesh(t, `
apiVersion: tulle.dev/v1alpha1
kind: Mesh
metadata: {name: mesh}
spec:
  accessLog:
    mode: All
    overrides: [{namespace: default, workload: quiet, mode: Off}]
`)
	m.server("one")
	m.serve("--name", "pipe", "--service", "pipe", "--port", "9090", "--app-protocol", "tcp", "--", "env", "E2E_ROLE=server", "E2E_LISTEN=127.0.0.1:9090", "E2E_NAME=pipe", self(t))
	m.ready("echo", 1)
	m.ready("pipe", 1)
	m.apply(`
apiVersion: tulle.dev/v1alpha1
kind: AccessPolicy
metadata: {name: friends}
spec:
  targetRefs: [{kind: Service, name: echo}]
  rules: [{from: [{callers: [friend.default, quiet.default]}]}]
`)
	all := m.start("tap", filepath.Join(bin, "tulle"), "tap", "echo", "--direction", "inbound", "-o", "json")
	all.await("watching 1 proxy of echo")
	denied := m.start("tap for people", filepath.Join(bin, "tulle"), "tap", "proxy/one", "--denied", "--path", "/hello", "--max", "1")
	denied.await("watching 1 proxy of proxy/one")
	// The policy is in force once a stranger is refused.
	asks := curl + ` -s -o /dev/null -w '%{http_code}\n' -H 'Authorization: Bearer top-secret' 'http://echo:8080/hello?token=top-secret'`
	stranger := m.serve("--name", "stranger", "--", "sh", "-c", "for i in $(seq 300); do ["+" $("+asks+") = 403 ] && echo refused && exec sleep 1000; sleep 0.1; done")
	stranger.await("refused")
	friend := m.serve("--name", "friend", "--", "sh", "-c", asks+"; "+curl+" -s -o /dev/null -w 'pipe %{http_code}\\n' http://pipe:9090/; exec sleep 1000")
	friend.await("200\npipe 200\n")
	quiet := m.serve("--name", "quiet", "--", "sh", "-c", asks+"; exec sleep 1000")
	quiet.await("200\n")

	file := func(workload string) func() string {
		return func() string {
			data, err := os.ReadFile(filepath.Join(m.dir, "workloads", workload, "access.log"))
			if err != nil {
				t.Fatal(err)
			}
			return string(data)
		}
	}
	is := func(direction, source, decision string) func(*logLine) bool {
		return func(l *logLine) bool {
			return l.Direction == direction && l.Path == "/hello" && strings.HasSuffix(l.Source, source) && l.Decision == decision
		}
	}
	for name, read := range map[string]func() string{"the access log": file("one"), "the tap": all.out.String} {
		ok := logged(t, "the allowed request in "+name, read, is("inbound", "/sa/friend", "allowed"))
		if ok.Status != 200 || ok.Method != "GET" || ok.Service != "echo.default:8080" || ok.Reason != "" {
			t.Errorf("%s: %+v", name, ok)
		}
		no := logged(t, "the denied request in "+name, read, is("inbound", "/sa/stranger", "denied"))
		if no.Status != 403 || no.Reason != "http_request_denied" || no.Policy != "accesspolicy/default/friends#0" || no.ID == "" {
			t.Errorf("%s: %+v", name, no)
		}
		outer := logged(t, "the same in the caller's access log", file("stranger"), func(l *logLine) bool { return l.Peer == no.ID })
		if outer.Direction != "outbound" || outer.Status != 403 {
			t.Errorf("%+v", outer)
		}
	}
	for _, workload := range []string{"pipe", "friend"} {
		tcp := logged(t, "the connection in the access log of "+workload, file(workload), func(l *logLine) bool { return l.Protocol == "tcp" })
		if tcp.Service != "pipe.default:9090" || tcp.Received == 0 || tcp.Sent == 0 || tcp.Reason != "" {
			t.Errorf("%+v", tcp)
		}
	}
	for _, workload := range []string{"one", "pipe", "friend", "stranger"} {
		if text := file(workload)(); strings.Contains(text, "top-secret") {
			t.Errorf("the access log of %s has a secret:\n%s", workload, text)
		}
	}
	if text := file("quiet")(); text != "" {
		t.Errorf("a proxy whose access log is off wrote\n%s", text)
	}
	denied.wait(patience)
	if out := denied.out.String(); !strings.Contains(out, "stranger.default") || !strings.Contains(out, "GET /hello") || !strings.Contains(out, "denied by the default, http_request_denied") {
		t.Errorf("the tap for people says\n%s", out)
	}
	if out, err := m.try("tap", "nothing"); code(err) != 1 || !strings.Contains(out, "no Service nothing") {
		t.Errorf("tap of nothing: %v\n%s", err, out)
	}
	if out, err := m.try("tap", "echo", "--status", "600"); code(err) != 2 {
		t.Errorf("tap with a status that can't be: %v\n%s", err, out)
	}
	if out := m.tulle("audit"); strings.Count(out, "tap") < 2 {
		t.Errorf("the audit log has no taps:\n%s", out)
	}
	if n := m.metric("one", `tulle_taps`); n != 1 {
		t.Errorf("%v taps are counted, want 1", n)
	}
	if n := m.metric("one", `tulle_access_log_lines_total\{result="written"`); n < 3 {
		t.Errorf("%v lines are counted", n)
	}
}
