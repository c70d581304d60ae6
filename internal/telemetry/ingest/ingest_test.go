package ingest

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tulle.dev/tulle/internal/telemetry/tsdb"
)

// rig is a database, a clock and targets that the test may change.
type rig struct {
	t       *testing.T
	db      *tsdb.DB
	scraper *Scraper

	mu      sync.Mutex
	now     time.Time
	targets []Target
}

func newRig(t *testing.T) *rig {
	t.Helper()
	db, err := tsdb.Open(tsdb.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, db: db, now: time.UnixMilli(1_800_000_000_000)}
	r.scraper = New(Config{DB: db, Targets: func() []Target { return r.targets }, Now: func() time.Time {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.now
	}})
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// round scrapes once, two seconds after the round before.
func (r *rig) round() {
	r.mu.Lock()
	r.now = r.now.Add(2 * time.Second)
	r.mu.Unlock()
	r.scraper.Round(context.Background())
}

func (r *rig) ask(expr string) string {
	r.t.Helper()
	v, err := r.db.Instant(context.Background(), expr, r.now)
	if err != nil {
		r.t.Fatal(err)
	}
	var lines []string
	for _, s := range v.Series {
		lines = append(lines, fmt.Sprintf("%v %v", s.Labels, s.Points[0].V))
	}
	return strings.Join(lines, "\n")
}

func TestTargetsComeAndGo(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.Header.Get("Accept"), "text/plain;version=0.0.4") {
			t.Errorf("Accept: %s", r.Header.Get("Accept"))
		}
		fmt.Fprintf(w, "a{path=%q} 1\n", r.URL.Path)
	}))
	defer server.Close()
	r := newRig(t)
	r.targets = []Target{{Proxy: "web", Namespace: "default", URL: server.URL + "/web"}, {Proxy: "cart", Namespace: "shop", URL: server.URL + "/cart"}}
	r.round()
	if got, want := r.ask("sort_by_label(a, \"proxy\")"), "map[__name__:a namespace:shop path:/cart proxy:cart] 1\nmap[__name__:a namespace:default path:/web proxy:web] 1"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	r.targets = r.targets[:1]
	r.round()
	if got, want := r.ask(`{__name__=~"a|up"}`), "map[__name__:a namespace:default path:/web proxy:web] 1\nmap[__name__:up namespace:default proxy:web] 1"; got != want {
		t.Errorf("after one went, got\n%s\nwant\n%s", got, want)
	}
	if health := r.scraper.Health(); len(health) != 1 || health[0].Proxy != "web" || health[0].Samples != 1 || health[0].Err != nil || !health[0].At.Equal(r.now) {
		t.Errorf("health %+v", health)
	}
}

func TestBadTargets(t *testing.T) {
	tests := []struct {
		name   string
		answer func(w http.ResponseWriter)
		want   string
	}{
		{"not found", func(w http.ResponseWriter) { w.WriteHeader(404) }, "answered 404 Not Found, want 200 OK"},
		{"too long", func(w http.ResponseWriter) {
			line := []byte(strings.Repeat("# "+strings.Repeat("x", 1020)+"\n", 1024))
			for range MaxBody/len(line) + 1 {
				_, _ = w.Write(line)
			}
		}, "more than 8388608 bytes of metrics"},
		{"not metrics", func(w http.ResponseWriter) { _, _ = w.Write([]byte("<html>")) }, "metrics: "},
		{"cut short", func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("a 1\n"))
		}, "unexpected EOF"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { test.answer(w) }))
			defer server.Close()
			r := newRig(t)
			r.targets = []Target{{Proxy: "web", Namespace: "default", URL: server.URL}}
			r.round()
			health := r.scraper.Health()
			if len(health) != 1 || health[0].Err == nil || !strings.Contains(health[0].Err.Error(), test.want) {
				t.Errorf("health %+v, want an error with %q", health, test.want)
			}
			if got, want := r.ask(`{__name__!~"scrape.*",proxy="web"}`), "map[__name__:up namespace:default proxy:web] 0"; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

func TestGoneTarget(t *testing.T) {
	r := newRig(t)
	r.targets = []Target{{Proxy: "web", Namespace: "default", URL: "http://127.0.0.1:1/metrics"}}
	r.round()
	if h := r.scraper.Health(); len(h) != 1 || h[0].Err == nil {
		t.Errorf("health %+v", h)
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "a 1") }), ReadHeaderTimeout: time.Second}
	go func() { _ = server.Serve(listener) }()
	defer server.Close()
	r := newRig(t)
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	defer client.CloseIdleConnections()
	r.targets = []Target{{Proxy: "web", Namespace: "default", URL: "http://admin/metrics", Client: client}}
	r.round()
	if got, want := r.ask("a"), "map[__name__:a namespace:default proxy:web] 1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestScrapesAreBounded(t *testing.T) {
	var running, most atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n := running.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		time.Sleep(2 * time.Millisecond)
		running.Add(-1)
		fmt.Fprintln(w, "a 1")
	}))
	defer server.Close()
	r := newRig(t)
	for i := range 5 * concurrent {
		r.targets = append(r.targets, Target{Proxy: fmt.Sprint("p", i), Namespace: "default", URL: server.URL})
	}
	r.round()
	if most.Load() > concurrent {
		t.Errorf("%d scrapes at once, want at most %d", most.Load(), concurrent)
	}
	if got, want := r.ask("count(a)"), fmt.Sprintf("map[] %d", 5*concurrent); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestPace(t *testing.T) {
	s := New(Config{})
	for n, want := range map[int]time.Duration{0: 2 * time.Second, 100: 2 * time.Second, 101: 4 * time.Second, 500: 10 * time.Second, 5000: 30 * time.Second} {
		if got := s.pace(n); got != want {
			t.Errorf("%d targets: every %s, want %s", n, got, want)
		}
	}
}

// Run begins at once and ends with its context.
func TestRun(t *testing.T) {
	asked := make(chan struct{}, 100)
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked <- struct{}{} }))
	defer server.Close()
	r := newRig(t)
	r.targets = []Target{{Proxy: "web", Namespace: "default", URL: server.URL}}
	r.scraper.config.Interval = time.Millisecond
	r.scraper.config.Now = time.Now
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.scraper.Run(ctx)
	}()
	for range 3 {
		<-asked
	}
	cancel()
	<-done
}
