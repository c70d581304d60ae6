package e2e

import (
	"encoding/pem"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Nothing that is secret is in what anybody may see: the logs of every process,
// what proxies say of themselves, command lines, the record of changes, the API's
// answers about objects that aren't Secrets.
func TestSecretsStaySecret(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	const marker = "correct-horse-battery-staple"
	m := newMesh(t, `
apiVersion: v1
kind: Secret
metadata: {name: hidden}
stringData: {password: `+marker+`}
`)
	one := m.server("one")
	m.ready("echo", 1)
	joinToken := strings.TrimSpace(m.tulle("join-token", "cart", "--service", "echo"))
	operatorToken := strings.TrimSpace(m.tulle("operator", "token", "alice", "--role", "View"))
	load := m.load(20, 2*time.Second)
	seen := map[string]string{
		"the proxy's dump": m.tulle("diagnostics", "proxy", "one", "-o", "json"),
		"check":            m.tulle("check", "-o", "json"),
		"the audit log":    m.tulle("audit", "-o", "json"),
		"the operators":    m.tulle("get", "operators", "-o", "yaml"),
		"the workloads":    m.tulle("get", "workloads", "-o", "yaml"),
		"identity":         m.tulle("identity", "one", "-o", "json"),
		"the roots":        m.tulle("trust", "-o", "json"),
		"the last stories": m.tulle("why", "--last", "20", "-o", "json"),
	}
	cmdline, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(m.proxyPID("one")), "cmdline"))
	if err != nil {
		t.Fatal(err)
	}
	seen["the proxy's command line"] = string(cmdline)
	load.result(patience).noneFailed(t, 20)

	secrets := map[string]string{"a Secret's content": marker, "a join token": joinToken, "an operator's token": operatorToken}
	token, err := os.ReadFile(filepath.Join(m.dir, "api-token"))
	if err != nil {
		t.Fatal(err)
	}
	secrets["the API's token"] = strings.TrimSpace(string(token))
	// Of keys a line of their PEM form; whoever writes one out writes that.
	keys, err := filepath.Glob(filepath.Join(m.dir, "ca", "*-key.pem"))
	if err != nil || len(keys) < 2 {
		t.Fatalf("the CA's keys: %v, %v", keys, err)
	}
	for _, k := range append(keys, filepath.Join(m.dir, "workloads", "one", "key.pem")) {
		data, err := os.ReadFile(k)
		if err != nil {
			t.Fatal(err)
		}
		if block, _ := pem.Decode(data); block == nil {
			t.Fatalf("%s holds no key", k)
		}
		secrets["the key "+filepath.Base(k)] = strings.Split(string(data), "\n")[1]
	}

	one.stop()
	m.control.stop()
	for _, p := range m.started {
		seen["what "+p.name+" said"] = p.out.String()
	}
	logs, err := filepath.Glob(filepath.Join(m.dir, "workloads", "*", "proxy.log"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("the proxies' logs: %v, %v", logs, err)
	}
	for _, file := range logs {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		seen["the log of "+filepath.Base(filepath.Dir(file))] = string(data)
	}
	for where, text := range seen {
		for what, secret := range secrets {
			if len(secret) < 16 {
				t.Fatalf("%s is %q, too short to look for", what, secret)
			}
			if strings.Contains(text, secret) {
				t.Errorf("%s holds %s", where, what)
			}
		}
		if strings.Contains(text, "PRIVATE KEY") {
			t.Errorf("%s holds a private key", where)
		}
	}
}
