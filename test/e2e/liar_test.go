package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/proxy/live"
	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/control"
)

// poison is what a terminal would obey: a title, a cleared screen, a colour by a
// single character, text from right to left, and another line.
const poison = "\x1b]0;owned\x07\x1b[2J\u009b31m\u202e\r\n√ all is well\x7f"

// liar is a proxy with a good identity whose admin listener lies.
type liar struct {
	// honest is the directory of a proxy whose answers it takes and poisons.
	honest string
	mode   atomic.Pointer[string] // poison, endless, garbage
}

func (l *liar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch *l.mode.Load() {
	case "endless":
		for line := make([]byte, 64<<10); ; {
			if _, err := w.Write(line); err != nil {
				return
			}
		}
	case "garbage":
		io.WriteString(w, poison+poison)
		return
	}
	if r.URL.Path == "/tap" {
		fmt.Fprintln(w)
		for range 3 {
			told, _ := json.Marshal(map[string]any{"time": time.Now(), "direction": "inbound" + poison, "source": "spiffe://mesh.local/ns/default" + poison + "/sa/a" + poison, "service": "echo" + poison, "protocol": poison,
				"method": "GET" + poison, "path": "/" + poison, "status": 503, "reason": poison, "decision": poison, "access_rule": poison, "tulle_id": poison, "duration_ms": 1e300, "proxy": poison, "error": poison})
			w.Write(append(told, '\n'))
		}
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(l.honest, "admin.sock"))
	}}}
	answer, err := client.Get("http://proxy" + r.URL.RequestURI())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer answer.Body.Close()
	body, _ := io.ReadAll(answer.Body)
	var value any
	if json.Unmarshal(body, &value) == nil {
		body, _ = json.Marshal(poisoned(value))
	} else { // metrics: the values of labels
		body = regexp.MustCompile(`(source|service|route|reason|path|backend)="[^"]+`).ReplaceAll(body, []byte("${0}"+strings.NewReplacer("\n", "", "\r", "").Replace(poison)))
	}
	w.Header().Set("Content-Type", answer.Header.Get("Content-Type"))
	w.Write(body)
}

// poisoned adds poison to each text that needn't be something else to be read.
func poisoned(v any) any {
	switch v := v.(type) {
	case string:
		if _, err := time.Parse(time.RFC3339, v); err == nil {
			return v
		}
		if _, err := netip.ParseAddrPort(v); err == nil {
			return v
		}
		if _, err := netip.ParseAddr(v); err == nil {
			return v
		}
		return v + poison
	case []any:
		for i := range v {
			v[i] = poisoned(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = poisoned(v[k])
		}
	}
	return v
}

// obeyed is the first thing in a text that a terminal would obey.
func obeyed(text string) string {
	for i, r := range text {
		if r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) {
			return strconv.Quote(text[max(0, i-60):min(len(text), i+20)])
		}
	}
	if !utf8.ValidString(text) {
		return "bytes that aren't UTF-8"
	}
	if strings.Contains(text, "\n√ all is well") {
		return "a line of the proxy's"
	}
	return ""
}

// A proxy's admin listener lies: with what a terminal would obey in each text, with
// answers that don't end, and with garbage. Commands print no such thing, end, and
// say what is wrong; the control plane's memory stays bounded; and one that can't
// prove to be that proxy isn't believed at all.
func TestLyingProxy(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	m := newMesh(t, gatewayTo("edge", freePort(t)))
	m.server("one")
	m.ready("echo", 1)
	// Something for the honest proxy to tell of.
	m.apply(`
apiVersion: tulle.dev/v1alpha1
kind: AccessPolicy
metadata: {name: nobody}
spec:
  targetRefs: [{kind: Service, name: echo}]
  rules: [{from: [{callers: [nobody.default]}]}]
`)
	refused := m.stay("stranger", "http://echo:8080/refused", 5).asked()
	if refused.ID == "" {
		t.Fatalf("nothing was refused: %+v", refused)
	}

	l := &liar{honest: filepath.Join(m.dir, "workloads", "one")}
	set := func(mode string) { l.mode.Store(&mode) }
	set("poison")
	said := new(buffer)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the liar:\n%s", said)
		}
	})
	told, err := live.New(live.Config{Log: slog.New(slog.NewTextHandler(said, nil)), Control: "unix:" + filepath.Join(m.dir, "proxy.sock"), DataDir: t.TempDir(), JoinToken: strings.TrimSpace(m.tulle("join-token", "edge")),
		Hello: control.Hello{Name: "edge", Namespace: "default", Version: "liar", Zone: "zone" + poison, Mode: "mode" + poison, Role: view.Gateway, UID: "liar", PID: uint64(os.Getpid())}})
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: l, ErrorLog: log.New(io.Discard, "", 0)}
	own := told.Credentials().ServerConfig(func(identity.ID) error { return nil }, "http/1.1")
	other, err := tls.LoadX509KeyPair(filepath.Join(l.honest, "svid.pem"), filepath.Join(l.honest, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(tls.NewListener(tcp, &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		if *l.mode.Load() == "another identity" {
			return &tls.Config{Certificates: []tls.Certificate{other}, NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS13}, nil
		}
		return own, nil
	}}))
	t.Cleanup(func() { server.Close() })
	told.SetAdmin(tcp.Addr().String())
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- told.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	eventually(t, "the control plane knows the liar", func() bool {
		out, err := m.try("diagnostics", "proxy")
		return err == nil && strings.Contains(out, "edge")
	})

	commands := [][]string{{"why", refused.ID}, {"why", "--last"}, {"diagnostics", "proxy", "edge"}, {"diagnostics", "proxy"}, {"diagnostics", "connections", "edge"}, {"diagnostics", "identity"},
		{"diagnostics", "identity", "edge"}, {"diagnostics", "endpoints", "echo"}, {"diagnostics", "endpoints", "echo", "--from", "edge"}, {"stat"}, {"stat", "echo"}, {"edges"}, {"routes"},
		{"tap", "proxy/edge", "--max", "3", "--for", "1s"}, {"check"}, {"auth", "generate", "--for", "echo"}, {"adopt", "status"}, {"version"}, {"diagnostics", "proxy", "-o", "wide"}, {"get", "workloads", "-o", "wide"}, {"describe", "gateway", "edge"}}
	owned := 0
	for _, mode := range []string{"poison", "garbage", "endless", "another identity"} {
		set(mode)
		time.Sleep(2 * time.Second) // metrics are collected every second
		for _, c := range commands {
			for _, format := range []string{"", "json"} {
				args := c
				if format != "" && slices.Contains(c, "-o") {
					continue
				}
				if format != "" {
					args = append(args[:len(args):len(args)], "-o", format)
				}
				began := time.Now()
				out, err := m.try(args...)
				t.Logf("%s: %v in %v: %v, %d bytes", mode, args, time.Since(began), err, len(out))
				if bad := obeyed(out); bad != "" {
					t.Errorf("%s: tulle %s prints what a terminal obeys: %s", mode, strings.Join(args, " "), bad)
				}
				if strings.Contains(out, "owned") {
					owned++
				}
				if len(c) == 3 && c[1] == "proxy" && c[2] == "edge" && (code(err) == 0) != (mode == "poison") {
					t.Errorf("%s: tulle %s: %v\n%.1000s", mode, strings.Join(args, " "), err, out)
				}
				if code(err) < 0 {
					t.Errorf("%s: tulle %s doesn't end: %v", mode, strings.Join(args, " "), err)
				}
			}
		}
	}
	if owned < 10 {
		t.Errorf("only %d answers had anything of the lies: it isn't tested what happens to them", owned)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.control.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if peak := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status); peak != nil {
		kb, err := strconv.Atoi(string(peak[1]))
		t.Logf("the control plane's peak memory: %d MB", kb>>10)
		if err != nil || kb > 1<<20 { // an answer of 64 MiB, and what reading several leaves behind
			t.Errorf("the control plane took %s kB", peak[1])
		}
	}
}
