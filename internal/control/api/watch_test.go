package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/control/operator"
	"tulle.dev/tulle/internal/control/store"
)

// watched is an API on a store in memory that one caller asks.
type watched struct {
	t       *testing.T
	api     *API
	memory  *store.Memory
	objects *store.Objects
	url     string
}

var admin = &operator.Who{Name: "admin", Role: v1alpha1.OperatorAdmin}

func newWatched(t *testing.T, who *operator.Who) *watched {
	w := &watched{t: t, memory: store.NewMemory()}
	w.objects = store.NewObjects(w.memory)
	w.api = New(Config{Objects: w.objects, Log: slog.New(slog.DiscardHandler)})
	h := w.api.Handler()
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(rw, r.WithContext(operator.With(r.Context(), who)))
	}))
	t.Cleanup(s.Close)
	t.Cleanup(w.api.Stop)
	w.url = s.URL
	return w
}

// apply writes a Service and returns its resourceVersion.
func (w *watched) apply(namespace, name string, port int) string {
	w.t.Helper()
	docs, err := object.Decode("test", fmt.Appendf(nil, "apiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: %s}\nspec: {ports: [{port: %d}]}\n", name, namespace, port))
	if err != nil {
		w.t.Fatal(err)
	}
	o, _, err := w.objects.Apply(w.t.Context(), docs[0].Object, false)
	if err != nil {
		w.t.Fatal(err)
	}
	return o.GetResourceVersion()
}

// watch asks, and returns a function that reads an event as "TYPE NAMESPACE/NAME",
// or "end".
func (w *watched) watch(path string) (next func() string, code int) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	w.t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, "GET", w.url+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { resp.Body.Close() })
	if media := resp.Header.Get("Content-Type"); media != "application/json" {
		w.t.Errorf("%s is %q", path, media)
	}
	lines := bufio.NewScanner(resp.Body)
	return func() string {
		if !lines.Scan() {
			if err := lines.Err(); err != nil && err != io.ErrUnexpectedEOF {
				return err.Error()
			}
			return "end"
		}
		var e struct {
			Type   string
			Object struct {
				Kind, APIVersion, Reason string
				Metadata                 struct{ Name, Namespace, ResourceVersion string }
			}
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return err.Error()
		}
		if e.Type != "ERROR" && (e.Object.Kind != "Service" || e.Object.APIVersion != "v1" || e.Object.Metadata.ResourceVersion == "") {
			w.t.Errorf("%s", lines.Text())
		}
		return e.Type + " " + e.Object.Metadata.Namespace + "/" + e.Object.Metadata.Name + e.Object.Reason
	}, resp.StatusCode
}

func (w *watched) wants(next func() string, want ...string) {
	w.t.Helper()
	for _, want := range want {
		if got := next(); got != want {
			w.t.Fatalf("event %q, want %q", got, want)
		}
	}
}

func TestWatch(t *testing.T) {
	w := newWatched(t, admin)
	w.apply("shop", "cart", 80)
	from := w.apply("bank", "till", 80)
	all, _ := w.watch("/api/v1/services?watch=1")
	w.wants(all, "ADDED bank/till", "ADDED shop/cart")
	shop, _ := w.watch("/api/v1/namespaces/shop/services?watch=true&allowWatchBookmarks=true")
	w.wants(shop, "ADDED shop/cart", "BOOKMARK /")
	w.apply("shop", "cart", 81)
	w.wants(all, "MODIFIED shop/cart")
	w.wants(shop, "MODIFIED shop/cart")
	w.apply("bank", "vault", 80)
	if _, err := w.objects.Remove(t.Context(), object.Service, "shop", "cart", "", false); err != nil {
		t.Fatal(err)
	}
	w.wants(all, "ADDED bank/vault", "DELETED shop/cart")
	w.wants(shop, "DELETED shop/cart")
	last := w.apply("shop", "cart", 82)
	w.wants(all, "ADDED shop/cart")
	// From a version on nothing is told twice, and nothing left out.
	since, _ := w.watch("/api/v1/services?watch=1&resourceVersion=" + from)
	w.wants(since, "ADDED shop/cart", "ADDED bank/vault", "DELETED shop/cart", "ADDED shop/cart")
	now, _ := w.watch("/api/v1/services?watch=1&resourceVersion=" + last)
	w.apply("shop", "cart", 83)
	w.wants(now, "MODIFIED shop/cart")
	w.wants(all, "MODIFIED shop/cart")
	w.api.Stop()
	w.wants(all, "end")
	w.wants(now, "end")
}

func TestWatchRefused(t *testing.T) {
	w := newWatched(t, admin)
	w.apply("shop", "cart", 80)
	for path, want := range map[string]int{
		"/api/v1/services?watch=2":                                 400,
		"/api/v1/services?watch=1&resourceVersion=x":               400,
		"/api/v1/services?watch=1&resourceVersion=-1":              400,
		"/api/v1/services?watch=1&timeoutSeconds=0":                400,
		"/api/v1/services?watch=1&resourceVersion=99999":           410,
		"/api/v1/cheeses?watch=1":                                  404,
		"/apis/tulle.dev/v1alpha1/meshes?watch=1&timeoutSeconds=1": 200,
	} {
		if _, code := w.watch(path); code != want {
			t.Errorf("%s: %d, want %d", path, code, want)
		}
	}
	// Who may not list may not watch.
	w = newWatched(t, &operator.Who{Name: "view in shop", Role: v1alpha1.OperatorView, Namespaces: []string{"shop"}})
	for path, want := range map[string]int{
		"/api/v1/namespaces/shop/services?watch=1":   200,
		"/api/v1/namespaces/bank/services?watch=1":   403,
		"/api/v1/services?watch=1":                   403,
		"/api/v1/namespaces/shop/secrets?watch=1":    403,
		"/apis/tulle.dev/v1alpha1/operators?watch=1": 403,
	} {
		if _, code := w.watch(path); code != want {
			t.Errorf("%s: %d, want %d", path, code, want)
		}
	}
}

// TestWatchBound: there are so many at a time, and each ends by itself.
func TestWatchBound(t *testing.T) {
	w := newWatched(t, admin)
	for range maxWatches {
		w.api.watches <- struct{}{}
	}
	if _, code := w.watch("/api/v1/services?watch=1"); code != 429 {
		t.Errorf("one too many is answered %d", code)
	}
	<-w.api.watches
	next, code := w.watch("/api/v1/services?watch=1&timeoutSeconds=1")
	if code != 200 {
		t.Errorf("the last one is answered %d", code)
	}
	began := time.Now()
	w.wants(next, "end")
	if d := time.Since(began); d > 30*time.Second {
		t.Errorf("it ended after %s", d)
	}
}
