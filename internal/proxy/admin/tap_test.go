package admin_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tulle.dev/tulle/internal/proxy/admin"
	"tulle.dev/tulle/internal/proxy/record"
)

// TestTap: records come as they happen, what is too much is said, and nothing stays
// when the one who watches is gone.
func TestTap(t *testing.T) {
	recorder := record.New(record.Config{Loops: 1})
	s, _ := proxy(t, func(c *admin.Config) { c.Tap = recorder.Tap })
	path := filepath.Join(t.TempDir(), "admin.sock")
	if err := s.ListenUnix(path); err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", path) }}
	c := &http.Client{Transport: transport}
	defer c.CloseIdleConnections()
	for query, want := range map[string]int{"direction=x": 400, "seconds=0": 400, "seconds=3601": 400, "rate=5000": 400, "a=%zz": 400} {
		if code, body := get(t, c, "http://proxy/tap?"+query); code != want {
			t.Errorf("/tap?%s: %d %q, want %d", query, code, body, want)
		}
	}
	open := func() (*http.Response, *bufio.Reader) {
		t.Helper()
		r, err := c.Get("http://proxy/tap?method=GET&rate=2&seconds=600")
		if err != nil || r.StatusCode != 200 {
			t.Fatalf("%v %v", r, err)
		}
		return r, bufio.NewReader(r.Body)
	}
	pen := recorder.Pen(0)
	answer, lines := open()
	if !pen.Wanted() {
		t.Fatal("the tap has begun and nobody wants records")
	}
	at := time.Now()
	for _, method := range []string{"POST", "GET", "GET", "GET", "GET"} {
		pen.Write(&record.Record{At: at, Method: []byte(method), Path: []byte("/a")}, 0)
	}
	missed := uint64(0)
	for n := 0; n < 2 || missed == 0; {
		l, err := lines.ReadString('\n') // at the latest with the next beat
		if err != nil {
			t.Fatal(err)
		}
		var told struct {
			record.Told
			Missed uint64 `json:"missed"`
		}
		if strings.TrimSpace(l) == "" {
			continue
		}
		if err := json.Unmarshal([]byte(l), &told); err != nil {
			t.Fatalf("%q: %v", l, err)
		}
		if told.Missed > 0 {
			missed = told.Missed
			continue
		}
		if n++; told.Method != "GET" || told.Path != "/a" {
			t.Errorf("%q", l)
		}
	}
	if missed != 2 {
		t.Errorf("%d are missed, want 2", missed)
	}
	answer.Body.Close()
	for end := time.Now().Add(30 * time.Second); pen.Wanted(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the tap stays though nobody watches")
		}
	}
	var all []*http.Response
	for range 4 {
		r, _ := open()
		all = append(all, r)
	}
	if code, body := get(t, c, "http://proxy/tap"); code != 429 {
		t.Errorf("a fifth tap: %d %q", code, body)
	}
	recorder.Stop() // the proxy ends
	for _, r := range all {
		if _, err := bufio.NewReader(r.Body).ReadString('x'); err == nil {
			t.Error("a tap goes on")
		}
		r.Body.Close()
	}
	if code, body := get(t, c, "http://proxy/tap"); code != 503 {
		t.Errorf("a tap at the end: %d %q", code, body)
	}
}
