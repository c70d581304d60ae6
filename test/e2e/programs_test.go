package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestNginxCurlWrk(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	nginx, curl, wrk := need(t, "nginx", "nginx"), need(t, "curl", "curl"), need(t, "wrk", "wrk")
	m := newMesh(t)
	dir := publicDir(t)
	config := filepath.Join(dir, "nginx.conf")
	page := strings.Repeat("a page of nginx\n", 100)
	write(t, filepath.Join(dir, "index.html"), page)
	write(t, config, fmt.Sprintf(`
daemon off; worker_processes 1; pid %[1]s/pid; error_log stderr warn;
events { worker_connections 256; }
http {
	access_log off; client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi; uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	server { listen 127.0.0.1:80; root %[1]s; }
}`, dir))
	m.serve("--service", "www", "--port", "80", "--", nginx, "-c", config)
	m.ready("www", 1)
	for _, host := range []string{"www", "www.default", "www.default.svc.cluster.local"} {
		if out := m.tulle("run", "-q", "--", curl, "-sS", "http://"+host+"/"); out != page {
			t.Errorf("curl http://%s/: %d bytes, want %d:\n%.200s", host, len(out), len(page), out)
		}
	}
	for _, family := range []string{"-4", "-6"} {
		if out := m.tulle("run", "-q", "--", curl, "-sS", family, "-o", "/dev/null", "-w", "%{http_code}", "http://www/"); out != "200" {
			t.Errorf("curl %s: %q, want 200", family, out)
		}
	}
	out := m.tulle("run", "-q", "--", wrk, "-t1", "-c20", "-d3s", "http://www/")
	if strings.Contains(out, "Non-2xx") || strings.Contains(out, "Socket errors") || !strings.Contains(out, "requests in") {
		t.Errorf("wrk: errors in:\n%s", out)
	}
	t.Log(out)
	// All of it was mutual TLS.
	deadline := time.Now().Add(patience)
	for {
		stat := m.tulle("stat", "www")
		if strings.Contains(stat, "100%") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the figures don't show it:\n%s", stat)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func TestRedis(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	server, cli := need(t, "redis-server", "redis-server"), need(t, "redis-cli", "redis-tools")
	m := newMesh(t)
	m.serve("--service", "cache", "--port", "6379", "--", server, "--save", "", "--bind", "127.0.0.1", "--dir", t.TempDir())
	m.ready("cache", 1)
	for _, step := range []struct{ command, want string }{
		{"PING", "PONG\n"},
		{"SET greeting hello", "OK\n"},
		{"GET greeting", "hello\n"},
	} {
		args := append([]string{"run", "-q", "--", cli, "-h", "cache"}, strings.Fields(step.command)...)
		if out := m.tulle(args...); out != step.want {
			t.Errorf("%s: %q, want %q", step.command, out, step.want)
		}
	}
	// Many at once, and a value larger than any buffer.
	out := m.tulle("run", "-q", "--", "bash", "-c", cli+` -h cache eval "return redis.call('set','big',string.rep('x',3000000))" 0; `+cli+` -h cache get big | wc -c`)
	if want := "OK\n3000001\n"; out != want {
		t.Errorf("a large value: %q, want %q", out, want)
	}
}

// The server answers after the client, and then negotiates TLS of its own.
func TestPostgres(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	psql := need(t, "psql", "postgresql")
	versions, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if len(versions) == 0 {
		t.Skip("no PostgreSQL server: apt-get install postgresql")
	}
	programs := versions[len(versions)-1]
	dir := publicDir(t)
	user, chown := asUser(t, "postgres")
	chown(dir)
	data := filepath.Join(dir, "data")
	initdb := append(user, filepath.Join(programs, "initdb"), "-D", data, "-A", "trust", "-U", "tester", "--no-sync")
	if out, err := exec.Command(initdb[0], initdb[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	// A certificate, so that the client's sslmode=require has something to meet.
	openssl := need(t, "openssl", "openssl")
	key, cert := filepath.Join(dir, "key.pem"), filepath.Join(dir, "cert.pem")
	if out, err := exec.Command(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=db").CombinedOutput(); err != nil {
		t.Fatalf("openssl: %v\n%s", err, out)
	}
	chown(dir)
	m := newMesh(t)
	args := append([]string{"--service", "db", "--port", "5432", "--"}, user...)
	args = append(args, filepath.Join(programs, "postgres"), "-D", data, "-h", "127.0.0.1", "-k", dir, "-c", "ssl=on", "-c", "ssl_cert_file="+cert, "-c", "ssl_key_file="+key, "-c", "fsync=off")
	m.serve(args...)
	m.ready("db", 1)
	for _, mode := range []string{"disable", "require"} {
		out := m.tulle("run", "-q", "--", psql, "-X", "-At", fmt.Sprintf("host=db user=tester dbname=postgres sslmode=%s connect_timeout=10", mode), "-c", "select sum(n), "+
			"(select ssl from pg_stat_ssl where pid = pg_backend_pid()) from generate_series(1, 1000) n")
		want := "500500|f\n"
		if mode == "require" {
			want = "500500|t\n"
		}
		if out != want {
			t.Errorf("sslmode=%s: %q, want %q", mode, out, want)
		}
	}
}

// The server speaks first, and nobody has declared it.
func TestMariaDB(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	client := need(t, "mariadb", "mariadb-client")
	server := mariadb(t, "3306")
	m := newMesh(t)
	m.serve(append([]string{"--service", "orders", "--port", "3306", "--"}, server...)...)
	m.ready("orders", 1)
	for range 2 { // before it is known, and then
		out := m.tulle("run", "-q", "--", client, "--no-defaults", "-h", "orders", "-u", "root", "--connect-timeout=10", "-N", "-e", "select 6*7")
		if out != "42\n" {
			t.Errorf("select 6*7: %q, want 42", out)
		}
	}
}

// An SMTP session from its greeting to the end, and nobody has declared it.
func TestSMTP(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	curl := need(t, "curl", "curl")
	server := exim(t, "25")
	m := newMesh(t)
	m.serve(append([]string{"--service", "mail", "--port", "25", "--"}, server...)...)
	m.ready("mail", 1)
	letter := filepath.Join(publicDir(t), "letter")
	write(t, letter, "Subject: hello\r\n\r\n"+strings.Repeat("a line of the letter\r\n", 1000))
	for range 2 {
		out := m.tulle("run", "-q", "--", curl, "-sS", "-v", "smtp://mail/", "--mail-from", "a@test", "--mail-rcpt", "b@test", "--upload-file", letter)
		if !strings.Contains(out, "250 OK id=") {
			t.Errorf("the letter wasn't taken:\n%s", out)
		}
	}
}

// A program that calls its own service, and its own loopback, is not broken.
func TestCallingItself(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	curl := need(t, "curl", "curl")
	m := newMesh(t)
	script := `E2E_ROLE=server E2E_LISTEN=127.0.0.1:8080 E2E_NAME=one ` + self(t) + ` & server=$!
		until ` + curl + ` -sf -d loopback http://127.0.0.1:8080/; do sleep 0.05; done; echo
		until ` + curl + ` -sf -d itself http://echo:8080/; do sleep 0.05; done; echo
		kill $server`
	p := m.serve("--service", "echo", "--port", "8080", "--", need(t, "bash", "bash"), "-c", script)
	p.wait(patience)
	for _, want := range []string{"loopback\n", "itself\n"} {
		if !strings.Contains(p.out.String(), want) {
			t.Errorf("missing %q in:\n%s", want, p.out)
		}
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
