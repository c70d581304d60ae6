package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// needGRPCPython is a Python that has grpcio: GRPC_PYTHON, else Debian's or that in
// PATH.
func needGRPCPython(t *testing.T) string {
	t.Helper()
	for _, python := range []string{os.Getenv("GRPC_PYTHON"), "/usr/bin/python3", "python3"} {
		if python != "" && exec.Command(python, "-c", "import grpc").Run() == nil {
			return python
		}
	}
	t.Skip("no Python with grpcio: apt-get install python3-grpcio, or set GRPC_PYTHON to one")
	return ""
}

// TestGRPCPython: gRPC's C core, through Python, as client and as server: all kinds
// of calls, metadata, errors, deadlines, cancellation and large messages. Nothing is
// tried again, so that every call goes well at the first try. It is declared to be
// gRPC, or found to be HTTP/2.
func TestGRPCPython(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	python := needGRPCPython(t)
	script, err := filepath.Abs("testdata/grpc_peer.py")
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	for _, declared := range []string{"grpc", ""} {
		t.Run("declared "+declared, func(t *testing.T) {
			m := newMesh(t)
			own := filepath.Join(publicDir(t), "peer.py")
			write(t, own, string(code))
			args := []string{"--service", "peer", "--port", "50051"}
			if declared != "" {
				args = append(args, "--app-protocol", declared)
			}
			m.serve(append(args, "--", python, own, "serve", "50051")...)
			m.ready("peer", 1)
			m.apply(`
apiVersion: tulle.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: once}
spec:
  targetRefs: [{group: "", kind: Service, name: peer}]
  retry: {attempts: 0}
`)
			out := m.tulle("run", "-q", "--", python, own, "call", "peer:50051")
			t.Log(out)
			if n := strings.Count(out, "ok "); n != 10 || strings.Contains(out, "FAILED") {
				t.Errorf("%d of 10 checks went well:\n%s", n, out)
			}
		})
	}
}
