package dashboard

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	screenshots = flag.String("screenshots", "", "keep the browser's screenshots in this folder")
	hold        = flag.Duration("hold", 0, "keep serving the fake mesh for this long, for people and `npm run dev`")
	against     = flag.String("dashboard", "", "click through the dashboard at this address instead, such as http://127.0.0.1:9441")
)

// TestDashboardBrowser clicks through every page in a real browser, with a fake
// mesh behind the pages (or a real one, with -dashboard), and asserts what they
// say. The steps are in web/test/browser.mjs.
func TestDashboardBrowser(t *testing.T) {
	chromium := need(t, "chromium", "chromium-browser", "google-chrome")
	node := need(t, "node")
	web := webFolder(t)
	folder := *screenshots
	if folder == "" {
		folder = t.TempDir()
	}
	folder, err := filepath.Abs(folder)
	if err != nil {
		t.Fatal(err)
	}

	address, args := *against, []string{"real"}
	mesh, silence := newFakeMesh(), func(bool) {}
	if address == "" {
		address, silence = serve(t, mesh)
		args = []string{"fake"}
		t.Log("serving the fake mesh at", address)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, node, append([]string{filepath.Join(web, "test", "browser.mjs"), address, folder, chromium}, args...)...)
	command.Stderr = os.Stderr
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = 10 * time.Second
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	// The script says one line a step, "ok STEP" or "failed STEP: WHY", and asks
	// for another state of the fake mesh with "mesh STATE".
	steps := 0
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		verb, rest, _ := strings.Cut(lines.Text(), " ")
		switch verb {
		case "ok":
			steps++
		case "failed":
			t.Error(rest)
		case "mesh":
			silence(rest == "silent")
			mesh.set(rest == "empty", map[bool]error{true: errors.New("the store does not answer")}[rest == "down"])
			if _, err := in.Write([]byte("done\n")); err != nil {
				t.Error(err)
			}
		default:
			t.Log(lines.Text())
		}
	}
	if err := command.Wait(); err != nil {
		t.Errorf("browser script: %v", err)
	}
	if steps < 20 && !t.Failed() {
		t.Errorf("only %d steps were made", steps)
	}
	t.Logf("%d steps", steps)
}

// TestLoginBrowser logs in to a dashboard with operators. The steps are in
// web/test/login.mjs.
func TestLoginBrowser(t *testing.T) {
	chromium := need(t, "chromium", "chromium-browser", "google-chrome")
	node := need(t, "node")
	web := webFolder(t)
	folder := *screenshots
	if folder == "" {
		folder = t.TempDir()
	}
	folder, err := filepath.Abs(folder)
	if err != nil {
		t.Fatal(err)
	}
	h := newHouse(t, withToken("ben", "View", "token-of-ben", "billing"))
	h.door.LoggedIn = nil // its clock stands still: nothing ends on a slow machine
	who, err := h.door.Book.Token(t.Context(), "token-of-ben")
	if err != nil {
		t.Fatal(err)
	}
	address, _ := serveDashboard(t, h.d)
	code, _ := h.door.Sessions.Invite(who)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, node, filepath.Join(web, "test", "login.mjs"), address, folder, chromium, code, "token-of-ben")
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = 10 * time.Second
	out, err := command.CombinedOutput()
	if err != nil || strings.Count(string(out), "ok ") < 10 {
		t.Errorf("%v\n%s", err, out)
	}
}

// serve serves a dashboard over the fake mesh. The function it returns makes the
// server cut every connection and take no new one, or be well again.
func serve(t *testing.T, mesh *fakeMesh) (address string, silence func(bool)) {
	t.Helper()
	return serveDashboard(t, New(Config{Mesh: mesh, Signals: fakeSignals{mesh}, Refresh: 500 * time.Millisecond}))
}

func serveDashboard(t *testing.T, d *Dashboard) (address string, silence func(bool)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.Run(ctx)
	}()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var silent atomic.Bool
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	server := &http.Server{Handler: d, ReadHeaderTimeout: 5 * time.Second, ConnState: func(c net.Conn, state http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		open[c] = state != http.StateClosed
		if silent.Load() {
			_ = c.Close()
		}
	}}
	go func() { _ = server.Serve(listener) }()
	address = "http://" + listener.Addr().String()
	t.Cleanup(func() {
		if *hold > 0 {
			t.Logf("serving at %s for %s", address, *hold)
			os.Stderr.WriteString("serving at " + address + "\n")
			time.Sleep(*hold)
		}
		cancel()
		<-done
		_ = server.Close()
	})
	return address, func(on bool) {
		silent.Store(on)
		mu.Lock()
		defer mu.Unlock()
		for c, alive := range open {
			if on && alive {
				_ = c.Close()
			}
		}
	}
}

// need finds a program, or skips and says how to get it.
func need(t *testing.T, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	packages := map[string]string{"node": "nodejs npm"}
	if packages[names[0]] == "" {
		packages[names[0]] = names[0]
	}
	t.Skipf("%s is missing: apt-get install %s", names[0], packages[names[0]])
	return ""
}
