package e2e

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// metric sums the series of a workload's proxy that a pattern is met by.
func (m *mesh) metric(workload, pattern string) float64 {
	m.t.Helper()
	return m.metricAt(filepath.Join(m.dir, "workloads", workload), pattern)
}

// metricAt is metric of the proxy with that directory.
func (m *mesh) metricAt(dir, pattern string) float64 {
	m.t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(dir, "admin.sock"))
	}}}
	answer, err := client.Get("http://proxy/metrics")
	if err != nil {
		m.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	sum := 0.0
	for _, line := range regexp.MustCompile("(?m)^"+pattern+`.*$`).FindAllString(string(text), -1) {
		n, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			m.t.Fatal(err)
		}
		sum += n
	}
	return sum
}

// Who isn't allowed is refused, a dry run counts it only, and a new Deny ends what
// is under way.
func TestAccess(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	m := newMesh(t)
	m.odd("one", "echo", "200")
	m.ready("echo", 1)
	policy := func(name, rest string) string {
		return `
apiVersion: tulle.dev/v1alpha1
kind: AccessPolicy
metadata: {name: ` + name + `}
spec:
  targetRefs: [{kind: Service, name: echo}]
` + rest
	}
	const friends = "  rules: [{from: [{callers: [friend.default]}]}]\n"
	m.apply(policy("friends", "  mode: Audit\n"+friends))
	m.ask("stranger", "http://echo:8080/", 20).all(t, "200", 20)
	if n := m.metric("one", `tulle_access_total\{.*peer="stranger\.default".*decision="audit"`); n != 20 {
		t.Errorf("the dry run counted %v, want 20", n)
	}

	m.apply(policy("friends", friends))
	stranger := m.stay("stranger", "http://echo:8080/", 20) // its proxy knows what it was answered
	refused := stranger.asked()
	refused.all(t, "403", 20)
	if refused.ID == "" || strings.Contains(refused.Text, "friends") {
		t.Errorf("a refusal has id %q and says %q: it tells of the rule without being asked to", refused.ID, refused.Text)
	}
	m.ask("friend", "http://echo:8080/", 20).all(t, "200", 20)
	if n := m.metric("one", `tulle_access_total\{.*peer="stranger\.default".*decision="denied"`); n != 20 {
		t.Errorf("%v refusals are counted, want 20", n)
	}
	if told := m.tulle("why", refused.ID); !strings.Contains(told, "accesspolicy/default/friends#0") {
		t.Errorf("why doesn't name the nearest rule:\n%s", told)
	}
	for from, want := range map[string]int{"friend": 0, "stranger": 1} {
		if out, err := m.try("auth", "can-i", "--from", from, "--to", "echo", "GET", "/"); code(err) != want {
			t.Errorf("may %s: %v, want exit code %d\n%s", from, err, want, out)
		}
	}

	// A stream ends when it is denied, and not before.
	curl := need(t, "curl", "curl")
	stream := m.serve("--name", "friend", "--", "sh", "-c", curl+" -sN http://echo:8080/stream; echo ended $?")
	stream.await("more\nmore\n")
	time.Sleep(500 * time.Millisecond)
	if strings.Contains(stream.out.String(), "ended") {
		t.Fatalf("the stream ended by itself:\n%s", stream.out)
	}
	m.apply(policy("nobody", "  action: Deny\n  rules: [{to: [{paths: [{value: /stream}]}]}]\n"))
	denied := time.Now()
	stream.await("ended")
	if took := time.Since(denied); took > patience || strings.Contains(stream.out.String(), "ended 0\n") {
		t.Errorf("the stream ended after %v: %q", took, stream.out.String()[strings.Index(stream.out.String(), "ended"):])
	}
	if n := m.metric("one", `tulle_access_total\{.*peer="friend\.default".*decision="ended"`); n != 1 {
		t.Errorf("%v ended streams are counted, want 1", n)
	}
	m.ask("friend", "http://echo:8080/", 20).all(t, "200", 20)
}
