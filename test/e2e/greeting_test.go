package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// firstGreeting is what a client may wait longer than without a mesh for a
	// server that speaks first, when nobody knows yet that it does; laterGreeting
	// when it is known.
	firstGreeting = 150 * time.Millisecond
	laterGreeting = 5 * time.Millisecond
	// greetingTries is how often a figure is taken before it counts: the machine
	// may be busy with something else.
	greetingTries = 5
)

// greetMain connects to E2E_TO, E2E_COUNT times, and prints how long the server's
// first bytes took, in nanoseconds.
func greetMain() int {
	n, err := strconv.Atoi(os.Getenv("E2E_COUNT"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	var took []time.Duration
	for range n {
		t, err := greeting(os.Getenv("E2E_TO"))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		took = append(took, t)
	}
	json.NewEncoder(os.Stdout).Encode(took)
	return 0
}

// greeting is the time from a connection's beginning to the server's first byte.
func greeting(to string) (time.Duration, error) {
	began := time.Now()
	c, err := net.DialTimeout("tcp", to, patience)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	c.SetDeadline(began.Add(patience))
	b := make([]byte, 512)
	if n, err := c.Read(b); err != nil || n < 4 {
		return 0, fmt.Errorf("%s said %q: %w", to, b[:n], err)
	}
	return time.Since(began), nil
}

func median(list []time.Duration) time.Duration {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}

// greetings are how long service's greeting takes in a new client, one time
// after the other.
func (m *mesh) greetings(to string, n int) []time.Duration {
	m.t.Helper()
	out := m.tulle("run", "-q", "--", "env", "E2E_ROLE=greet", "E2E_TO="+to, "E2E_COUNT="+strconv.Itoa(n), self(m.t))
	var took []time.Duration
	if err := json.Unmarshal([]byte(out), &took); err != nil || len(took) != n {
		m.t.Fatalf("greetings of %s: %v:\n%s", to, err, out)
	}
	return took
}

// direct is the median of greetings without a mesh.
func direct(t *testing.T, to string) time.Duration {
	t.Helper()
	var took []time.Duration
	for deadline := time.Now().Add(patience); len(took) < 20; {
		d, err := greeting(to)
		if err != nil && time.Now().After(deadline) {
			t.Fatal(err)
		}
		if err != nil { // it has only just begun
			time.Sleep(20 * time.Millisecond)
			continue
		}
		took = append(took, d)
	}
	return median(took)
}

// A server that speaks first needs no declaration, and hardly any time.
func TestServerSpeaksFirst(t *testing.T) {
	needNamespaces(t)
	for _, c := range []struct {
		name, port string
		// server is the command line of a server on a loopback port.
		server func(t *testing.T, port string) []string
	}{
		{"mariadb", "3306", mariadb},
		{"smtp", "25", exim},
	} {
		t.Run(c.name, func(t *testing.T) { // not in parallel: times are taken
			outside := freePort(t)
			start(t, c.server(t, outside))
			bare := direct(t, "127.0.0.1:"+outside)
			inside := c.server(t, c.port)
			to := c.name + ":" + c.port
			var first, later time.Duration
			for try := range greetingTries {
				// A new mesh, that has never heard of it.
				m := newMesh(t)
				slow := m.slowness()
				firstGreeting, laterGreeting := time.Duration(slow*float64(firstGreeting)), time.Duration(slow*float64(laterGreeting))
				m.serve(append([]string{"--service", c.name, "--port", c.port, "--"}, inside...)...)
				m.ready(c.name, 1)
				took := m.greetings(to, 1)
				first = took[0]
				// Another client is told by the control plane.
				told := patience
				for range greetingTries {
					if took = m.greetings(to, 40); took[0] < told {
						told = took[0]
					}
					if later = median(took); told < bare+firstGreeting/2 && later <= bare+laterGreeting {
						break
					}
				}
				t.Logf("try %d: %v without a mesh; through it %v the first time, %v as another client's first, then %v", try+1, bare, first, told, later)
				shown := m.detections(c.name, c.port)
				m.stop()
				if !strings.Contains(shown, "learnt") {
					t.Errorf("nobody has learnt it:\n%s", shown)
				}
				if first <= bare+firstGreeting && told < bare+firstGreeting/2 && later <= bare+laterGreeting {
					return
				}
			}
			t.Errorf("the greeting takes %v without a mesh; through it %v the first time, want at most %v more; %v afterwards, want at most %v more",
				bare, first, firstGreeting, later, laterGreeting)
		})
	}
}

// detections keeps a connection of a client open, and says what its proxy says
// of that.
func (m *mesh) detections(name, port string) string {
	m.t.Helper()
	p := m.serve("--name", "looker", "--", "bash", "-c", fmt.Sprintf("exec 3<>/dev/tcp/%s/%s; head -c 4 <&3 | wc -c; exec sleep 1000", name, port))
	p.await("4\n")
	defer p.stop()
	return m.tulle("diagnostics", "connections", "looker")
}

// start runs a program outside of any mesh until the test's end.
func start(t *testing.T, command []string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = patience
	out := new(buffer)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", command[0], out)
		}
	})
}

// mariadb is a database of its own on a loopback port.
func mariadb(t *testing.T, port string) []string {
	t.Helper()
	server, install := need(t, "mariadbd", "mariadb-server"), need(t, "mariadb-install-db", "mariadb-server")
	dir := publicDir(t)
	user, chown := asUser(t, "mysql")
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o755); err != nil {
		t.Fatal(err)
	}
	chown(dir)
	setup := append(user, install, "--no-defaults", "--datadir="+data, "--auth-root-authentication-method=normal", "--skip-test-db")
	if out, err := exec.Command(setup[0], setup[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("mariadb-install-db: %v\n%s", err, out)
	}
	return append(user, server, "--no-defaults", "--datadir="+data, "--bind-address=127.0.0.1", "--port="+port, "--socket="+filepath.Join(dir, "socket"),
		"--skip-grant-tables", "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=0", "--max-connect-errors=1000000")
}

// exim is an SMTP server on a loopback port that throws all mail away.
func exim(t *testing.T, port string) []string {
	t.Helper()
	server := need(t, "exim4", "exim4-daemon-light")
	dir := publicDir(t)
	if err := os.Chmod(dir, 0o777); err != nil { // it gives root up for a user of its own
		t.Fatal(err)
	}
	config := filepath.Join(dir, "exim.conf")
	write(t, config, fmt.Sprintf(`
primary_hostname = mail.test
spool_directory = %[1]s/spool
log_file_path = %[1]s/%%slog
pid_file_path = %[1]s/pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = %[2]s
host_lookup =
tls_advertise_hosts =
smtp_accept_max = 0
acl_smtp_rcpt = accept
domainlist local_domains = *
begin acl
begin routers
everything:
	driver = redirect
	data = :blackhole:
`, dir, port))
	return []string{server, "-C", config, "-bdf"}
}

// piecesMain sends E2E_TO what a program may send in pieces, and says what comes
// of it: a request whose method comes first, or with E2E_NAME a ClientHello.
func piecesMain() int {
	c, err := net.DialTimeout("tcp", os.Getenv("E2E_TO"), patience)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	const request = "GET / HTTP/1.1\r\nHost: pieces\r\nConnection: close\r\n\r\n"
	if name := os.Getenv("E2E_NAME"); name != "" {
		s := tls.Client(pieces{c}, &tls.Config{InsecureSkipVerify: true})
		if err := s.Handshake(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		fmt.Println("the certificate is", s.ConnectionState().PeerCertificates[0].Subject.CommonName)
		return 0
	}
	io.WriteString(c, request[:4])
	time.Sleep(200 * time.Millisecond)
	io.WriteString(c, request[4:])
	if _, err := io.Copy(os.Stdout, c); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// pieces writes in four pieces, with a rest after each.
type pieces struct{ net.Conn }

func (c pieces) Write(b []byte) (int, error) {
	at := 0
	for _, end := range []int{min(1, len(b)), min(5, len(b)), len(b) / 2, len(b)} {
		if end <= at {
			continue
		}
		if _, err := c.Conn.Write(b[at:end]); err != nil {
			return at, err
		}
		at = end
		time.Sleep(100 * time.Millisecond)
	}
	return len(b), nil
}

// What comes in pieces is what it is all the same.
func TestPieces(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	openssl := need(t, "openssl", "openssl")
	dir := t.TempDir()
	key, cert := filepath.Join(dir, "key.pem"), filepath.Join(dir, "cert.pem")
	if out, err := exec.Command(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=the program").CombinedOutput(); err != nil {
		t.Fatalf("openssl: %v\n%s", err, out)
	}
	m := newMesh(t)
	m.serve("--service", "plain", "--port", "8080", "--", "env", "E2E_ROLE=server", "E2E_LISTEN=127.0.0.1:8080", "E2E_NAME=plain", self(t))
	m.serve("--service", "secret", "--port", "443", "--", openssl, "s_server", "-accept", "127.0.0.1:443", "-key", key, "-cert", cert, "-www")
	m.ready("plain", 1)
	m.ready("secret", 1)
	out := m.tulle("run", "-q", "--", "env", "E2E_ROLE=pieces", "E2E_TO=plain:8080", self(t))
	if !strings.HasPrefix(out, "HTTP/1.1 200 ") || !strings.Contains(out, "\r\nVia: ") {
		t.Errorf("a request in two pieces: %q, want an answer that came through as HTTP", out)
	}
	out = m.tulle("run", "-q", "--", "env", "E2E_ROLE=pieces", "E2E_TO=secret:443", "E2E_NAME=secret", self(t))
	if want := "the certificate is the program\n"; out != want {
		t.Errorf("a ClientHello in pieces: %q, want %q", out, want)
	}
}
