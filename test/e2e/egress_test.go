package e2e

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestEgress: what a program may call outside the mesh, from a policy to what curl
// says, and what is seen of it.
func TestEgress(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	curl, bash := need(t, "curl", "curl"), need(t, "bash", "bash")
	outside := func(name string) (host, port string) {
		l, err := net.Listen("tcp", net.JoinHostPort(ownAddress(t), "0"))
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, name) })}
		go s.Serve(l)
		t.Cleanup(func() { s.Close() })
		host, port, _ = net.SplitHostPort(l.Addr().String())
		return host, port
	}
	host, good := outside("good")
	_, evil := outside("evil")
	m := newMesh(t, `
apiVersion: tulle.dev/v1alpha1
kind: EgressPolicy
metadata: {name: outside}
spec:
  targetRefs: [{kind: Namespace, name: default}]
  to: [{name: lab, networks: [`+host+`/32], ports: [`+good+`]}, {name: web, hosts: [web.example], ports: [`+evil+`]}]
`)
	prog := m.serve("--name", "prog", "--", bash, "-c", strings.Join([]string{
		curl + ` -sS http://` + host + ":" + good + "/; echo",
		curl + ` -s -o /dev/null -w 'status %{http_code}\n' http://` + host + ":" + evil + "/",
		curl + ` -s -o /dev/null -w 'another name %{http_code}\n' -H 'Host: other.example' http://` + host + ":" + evil + "/",
		curl + ` -sS https://` + host + ":" + evil + "/ 2>&1",
		curl + ` -sS http://evil.example/ 2>&1`,
		`echo x >/dev/udp/` + host + `/443 && echo "UDP sent"`, // QUIC is no way around
		"echo done", "sleep 60",
	}, "\n"))
	prog.await("done")
	out := prog.out.String()
	for _, want := range []string{"good\n", "status 403\n", "another name 403\n", "access denied", "Could not resolve host: evil.example"} {
		if !strings.Contains(out, want) {
			t.Errorf("the program doesn't say %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "UDP sent") || strings.Contains(out, "evil\n") {
		t.Errorf("the program got out:\n%s", out)
	}
	eventually(t, "an edge to what the policy names", func() bool {
		return strings.Contains(m.tulle("edges"), "external/lab")
	})
	m.apply(`
apiVersion: tulle.dev/v1alpha1
kind: EgressPolicy
metadata: {name: outside}
spec: {targetRefs: [{kind: Namespace, name: default}], mode: Audit}
`)
	eventually(t, "a policy that only looks on", func() bool {
		got, _ := m.try("run", "-q", "--", curl, "-sS", "http://"+host+":"+evil+"/")
		return got == "evil"
	})
}
