package dashboard

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func get(t *testing.T, d http.Handler, path string, fields ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest("GET", path, nil)
	r.Host = "localhost"
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w
}

func TestAPI(t *testing.T) {
	mesh := newFakeMesh()
	d := New(Config{Mesh: mesh, Signals: fakeSignals{mesh}})
	tests := []struct {
		path string
		code int
		has  []string
	}{
		{"/api/stat", 200, []string{`"window":"1m"`, `"name":"cart"`, `"success_rate":0.9984`}},
		{"/api/stat?window=yesterday", 400, []string{`window \"yesterday\": want a duration such as 30s, 1m or 1h`}},
		{"/api/edges", 200, []string{`"from":{"name":"web-1","namespace":"default"}`}},
		{"/api/check", 200, []string{`"status":{"version":"v0.1.0"`, `"category":"Control plane"`}},
		{"/api/services/default/cart", 200, []string{`"service":"cart.default"`, `"identity":"spiffe://mesh.local/ns/default/sa/cart"`}},
		{"/api/services/default/nonesuch", 404, []string{`{"error":"service nonesuch.default not found"}`}},
		{"/api/proxies/default/cart-1", 200, []string{`"proxy":{"name":"cart-1"`, `"view_version":42`}},
		{"/api/proxies/billing/invoices-1", 200, []string{`"problem":"invoices-1.billing is not connected`}},
		{"/api/proxies/default/nonesuch", 404, []string{`no proxy nonesuch in namespace default has registered`}},
		{"/api/chart?subject=service&chart=latency&namespace=default&name=cart&range=5m", 200, []string{`"name":"p99"`}},
		{"/api/chart?subject=service&chart=nonesuch", 400, []string{`chart nonesuch is not known`}},
		{"/api/nonesuch", 404, []string{`GET /api/nonesuch is not part of the dashboard's API`}},
		{"/api/v1/query", 404, []string{"not part of"}}, // none was configured
	}
	for _, test := range tests {
		w := get(t, d, test.path)
		if w.Code != test.code {
			t.Errorf("GET %s: %d, want %d\n%s", test.path, w.Code, test.code, w.Body)
		}
		for _, part := range test.has {
			if !strings.Contains(w.Body.String(), part) {
				t.Errorf("GET %s: no %s in\n%s", test.path, part, w.Body)
			}
		}
		if got := w.Header().Get("Content-Type"); got != "application/json" {
			t.Errorf("GET %s: Content-Type %q", test.path, got)
		}
	}
}

func TestOverviewJoinsServices(t *testing.T) {
	mesh := newFakeMesh()
	d := New(Config{Mesh: mesh, Signals: fakeSignals{mesh}})
	o := d.overview(context.Background())
	if len(o.Problems) != 0 {
		t.Errorf("problems: %q", o.Problems)
	}
	byName := map[string]service{}
	for _, s := range o.Services {
		byName[s.Name] = s
	}
	want := map[string]service{
		"payment": {
			Name: "payment", Namespace: "default", Ports: []port{{"main", 8080, "http"}}, Addresses: []string{"240.240.0.4", "fd74:756c:6c65::4"},
			Workloads: []string{"payment-1.default", "payment-2.default", "payment-3.default"}, Ready: 2, Total: 3, Routes: []split{},
		},
		"recommendations": {
			Name: "recommendations", Namespace: "default", Ports: []port{{"main", 8080, "http"}}, Addresses: []string{"240.240.0.5", "fd74:756c:6c65::5"},
			Workloads: []string{}, Routes: []split{
				{Route: "httproute/default/recommendations", To: "recommendations-v1.default", Weight: 80},
				{Route: "httproute/default/recommendations", To: "recommendations-v2.default", Weight: 20},
			},
		},
	}
	for name, s := range want {
		if diff := cmp.Diff(s, byName[name]); diff != "" {
			t.Errorf("service %s (-want +got):\n%s", name, diff)
		}
	}
	if diff := cmp.Diff(&verdict{Result: "error", Total: 10, Errors: 1, Warnings: 2}, o.Check); diff != "" {
		t.Errorf("check (-want +got):\n%s", diff)
	}
}

// A part that can't be had is named; the page still gets the others.
func TestOverviewInTrouble(t *testing.T) {
	mesh := newFakeMesh()
	d := New(Config{Mesh: mesh, Signals: fakeSignals{mesh}})
	mesh.set(false, errors.New("the store does not answer"))
	o := d.overview(context.Background())
	want := []string{"check: the store does not answer", "control plane: the store does not answer", "metrics: the store does not answer", "proxies: the store does not answer", "services: the store does not answer"}
	if diff := cmp.Diff(want, o.Problems); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	w := get(t, d, "/api/overview")
	var got struct {
		Services []any `json:"services"`
		Proxies  []any `json:"proxies"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got.Services == nil || got.Proxies == nil {
		t.Errorf("lists must be there, though empty: %v\n%s", err, w.Body)
	}
}

func TestRuleInWords(t *testing.T) {
	tests := []struct{ json, want string }{
		{`{}`, ""},
		{`{"matches":[{"path":{"type":"PathPrefix","value":"/"}}]}`, ""},
		{`{"matches":[{"path":{"type":"Exact","value":"/"}}]}`, "/"},
		{`{"matches":[{"path":{"type":"PathPrefix","value":"/api"}}]}`, "/api/…"},
		{`{"matches":[{"method":"POST","path":{"type":"Exact","value":"/buy"},"headers":[{"name":"beta","value":"yes"}]}]}`, "POST /buy beta: yes"},
		{`{"matches":[{"method":"GET"},{"method":"HEAD"}]}`, "GET or HEAD"},
		{`{"matches":[{"method":"GET"},{}]}`, ""},
		{`{"matches":[{"path":{"type":"RegularExpression","value":"/v[0-9]/.*"}}]}`, "~ /v[0-9]/.*"},
		{`{"matches":[{"queryParams":[{"name":"v","value":"2"}],"headers":[{"type":"RegularExpression","name":"ua","value":"x.*"}]}]}`, "?v=2 ua ~ x.*"},
		{`{"matches":[{"method":{"type":"Exact","service":"shop.Cart"}},{"method":{"type":"RegularExpression","method":"A.*"}}]}`, "shop.Cart/… or ~ .*/A.*"},
	}
	for _, test := range tests {
		var r rule
		if err := json.Unmarshal([]byte(test.json), &r); err != nil {
			t.Fatal(err)
		}
		if got := r.words(); got != test.want {
			t.Errorf("%s: %q, want %q", test.json, got, test.want)
		}
	}
}

func TestAssets(t *testing.T) {
	d := New(Config{})
	page := get(t, d, "/")
	if page.Code != 200 || !strings.Contains(page.Body.String(), `<div id="app">`) {
		t.Fatalf("GET /: %d\n%s", page.Code, page.Body)
	}
	if strings.Contains(page.Body.String(), "http://") || strings.Contains(page.Body.String(), "https://") {
		t.Error("the page names another site")
	}
	_, rest, _ := strings.Cut(page.Body.String(), `src="/assets/`)
	name, _, _ := strings.Cut(rest, `"`)
	tests := []struct {
		path, encoding string
		code           int
		contentType    string
		cache          string
	}{
		{"/services/default/cart", "", 200, "text/html; charset=utf-8", "no-cache"}, // a page of the application
		{"/", "gzip", 200, "text/html; charset=utf-8", "no-cache"},
		{"/assets/" + name, "", 200, "text/javascript; charset=utf-8", "public, max-age=31536000, immutable"},
		{"/assets/" + name, "br, gzip;q=0.8", 200, "text/javascript; charset=utf-8", "public, max-age=31536000, immutable"},
		{"/assets/" + name, "gzip;q=0", 200, "text/javascript; charset=utf-8", "public, max-age=31536000, immutable"},
		{"/assets/" + name + ".gz", "", 404, "text/plain; charset=utf-8", ""},
		{"/assets/nonesuch.js", "", 404, "text/plain; charset=utf-8", ""},
		{"/icon.svg", "", 200, "image/svg+xml", "no-cache"},
	}
	for _, test := range tests {
		w := get(t, d, test.path, "Accept-Encoding", test.encoding)
		got := []string{w.Header().Get("Content-Type"), w.Header().Get("Cache-Control")}
		if w.Code != test.code || !cmp.Equal(got, []string{test.contentType, test.cache}) {
			t.Errorf("GET %s: %d %q, want %d %q %q", test.path, w.Code, got, test.code, test.contentType, test.cache)
		}
		packed := strings.HasPrefix(strings.TrimPrefix(test.encoding, "br, "), "gzip") && test.encoding != "gzip;q=0"
		if (w.Header().Get("Content-Encoding") == "gzip") != packed {
			t.Errorf("GET %s, accepting %q: Content-Encoding %q", test.path, test.encoding, w.Header().Get("Content-Encoding"))
		}
	}
	r := httptest.NewRequest("POST", "/services", nil)
	r.Host = "localhost"
	w := httptest.NewRecorder()
	if d.ServeHTTP(w, r); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST /services: %d, want 405", w.Code)
	}
}

// Every packed file is the file beside it: zlib may pack otherwise elsewhere,
// but never something else.
func TestPackedAssets(t *testing.T) {
	n := 0
	err := fs.WalkDir(dist, "dist", func(path string, _ fs.DirEntry, err error) error {
		name, packed := strings.CutSuffix(path, ".gz")
		if err != nil || !packed {
			return err
		}
		n++
		file, err := dist.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		unpack, err := gzip.NewReader(file)
		if err != nil {
			return err
		}
		got, err := io.ReadAll(unpack)
		if err != nil {
			return err
		}
		want, err := fs.ReadFile(dist, name)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not %s, packed: run `make web`", path, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n < 5 {
		t.Errorf("%d packed files: run `make web`", n)
	}
}

func TestLiveUpdates(t *testing.T) {
	mesh := newFakeMesh()
	d := New(Config{Mesh: mesh, Signals: fakeSignals{mesh}, Refresh: 5 * time.Millisecond})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.Run(ctx)
	}()
	server := httptest.NewServer(d)
	defer server.Close()
	response, err := http.Get(server.URL + "/api/events")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if got := response.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Fatalf("Content-Type %q", got)
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	next := func() overview {
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				var o overview
				if err := json.Unmarshal([]byte(data), &o); err != nil {
					t.Fatal(err)
				}
				return o
			}
		}
		t.Fatalf("the stream ended: %v", lines.Err())
		return overview{}
	}
	if o := next(); len(o.Services) != len(fakeServices) {
		t.Errorf("%d services, want %d", len(o.Services), len(fakeServices))
	}
	mesh.set(true, nil)
	for o := next(); len(o.Services) != 0; o = next() { // soon
	}
	cancel()
	<-done
	for lines.Scan() { // the stream ends with the dashboard
	}
	if w := get(t, d, "/api/events"); w.Code != http.StatusServiceUnavailable {
		t.Errorf("after the end: %d, want 503", w.Code)
	}
}

// A viewer who doesn't read gets the newest event when it does, and delays nobody.
func TestLiveSlowViewer(t *testing.T) {
	l := newLive(time.Hour, nil)
	slow := l.join()
	for at := range int64(3) {
		l.send(&event{whole: &overview{At: at + 1}})
	}
	if got := (<-slow).whole.At; got != 3 {
		t.Errorf("got event %d, want 3", got)
	}
	for range maxViewers - 1 {
		if l.join() == nil {
			t.Fatal("refused too early")
		}
	}
	if l.join() != nil {
		t.Errorf("more than %d viewers", maxViewers)
	}
	l.leave(slow)
	if late := l.join(); late == nil || (<-late).whole.At != 3 {
		t.Error("who comes late gets the last event at once")
	}
}
