package http2

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"tulle.dev/tulle/internal/view"
)

// tool finds a client that somebody else wrote.
func tool(t *testing.T, name, where string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed: %s", name, where)
	}
	return path
}

// echo answers with what it was sent.
func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Asked", r.Method+" "+r.URL.Path)
	w.Header().Set("Trailer", "X-Sum")
	n, _ := io.Copy(w, r.Body)
	if n == 0 {
		io.WriteString(w, "hello")
	}
	w.Header().Set("X-Sum", fmt.Sprint(n))
}

func each(t *testing.T, f func(t *testing.T, url string)) {
	for _, p := range []view.Protocol{view.HTTP, view.HTTP2} {
		t.Run(fmt.Sprintf("to protocol %d", p), func(t *testing.T) {
			f(t, "http://"+start(t, program(t, echo), p))
		})
	}
}

func TestCurl(t *testing.T) {
	curl := tool(t, "curl", "apt-get install curl")
	body := filepath.Join(t.TempDir(), "body")
	sent := bytes.Repeat([]byte("0123456789abcdef"), 200_000) // 3.2 MB
	if err := os.WriteFile(body, sent, 0o600); err != nil {
		t.Fatal(err)
	}
	each(t, func(t *testing.T, url string) {
		out, err := exec.Command(curl, "-sS", "-m", "10", "--http2-prior-knowledge", "-w", "|%{http_version} %{http_code}", url+"/x").CombinedOutput()
		if err != nil || string(out) != "hello|2 200" {
			t.Errorf("get: %q %v", out, err)
		}
		out, err = exec.Command(curl, "-sS", "-m", "10", "--http2-prior-knowledge", "--data-binary", "@"+body, url+"/x").Output()
		if err != nil || !bytes.Equal(out, sent) {
			t.Errorf("post: %d of %d bytes, %v", len(out), len(sent), err)
		}
		// An upgrade is politely ignored: the answer is HTTP/1.1's.
		out, err = exec.Command(curl, "-sS", "-m", "10", "--http2", "-w", "|%{http_version} %{http_code}", url+"/x").CombinedOutput()
		if err != nil || string(out) != "hello|1.1 200" {
			t.Errorf("offer of h2c: %q %v", out, err)
		}
	})
}

func TestNghttp(t *testing.T) {
	nghttp := tool(t, "nghttp", "apt-get install nghttp2-client")
	each(t, func(t *testing.T, url string) {
		out, err := exec.Command(nghttp, "-v", "-t", "10", url+"/one", url+"/two", url+"/three").CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if n := strings.Count(string(out), ":status: 200"); n != 3 {
			t.Errorf("%d of 3 answers:\n%s", n, out)
		}
		for _, want := range []string{"x-asked: GET /two", "x-sum: 0"} {
			if !strings.Contains(string(out), want) {
				t.Errorf("no %q in\n%s", want, out)
			}
		}
	})
}

func TestH2load(t *testing.T) {
	h2load := tool(t, "h2load", "apt-get install nghttp2-client")
	body := filepath.Join(t.TempDir(), "body")
	if err := os.WriteFile(body, bytes.Repeat([]byte("x"), 5000), 0o600); err != nil {
		t.Fatal(err)
	}
	each(t, func(t *testing.T, url string) {
		for _, args := range [][]string{{}, {"-d", body}, {"-w", "10", "-W", "12", "-d", body}} {
			out, err := exec.Command(h2load, append(args, "-n", "2000", "-c", "10", "-m", "20", "-T", "20s", url+"/")...).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if !regexp.MustCompile(`2000 succeeded, 0 failed, 0 errored`).Match(out) || !strings.Contains(string(out), "status codes: 2000 2xx") {
				t.Errorf("%v:\n%s", args, out)
			}
		}
	})
}
