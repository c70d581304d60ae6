package keys

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// set is a JWK set with one new key, private parts and all.
func set(t *testing.T, id string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key, KeyID: id, Algorithm: "ES256", Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// web answers from a map, and counts.
type web struct {
	mu    sync.Mutex
	pages map[string]string // by URL; "!" is a failure
	cache string
	asked map[string]int
}

func (w *web) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked[r.URL.String()]++
	page, ok := w.pages[r.URL.String()]
	if page == "!" {
		return nil, fmt.Errorf("the line is cut")
	}
	resp := &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(page)), Request: r}
	if w.cache != "" {
		resp.Header.Set("Cache-Control", w.cache)
	}
	if to, redirect := strings.CutPrefix(page, ">"); redirect {
		resp.StatusCode = 302
		resp.Header.Set("Location", to)
	} else if !ok {
		resp.StatusCode = 404
	}
	return resp, nil
}

func (w *web) set(url, page string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pages[url] = page
}

func (w *web) count(url string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked[url]
}

// fetcher runs one in a bubble; the last keys that were told are in told.
func fetcher(t *testing.T, w *web, file string) (f *Fetcher, told *map[string][]byte, stop func()) {
	t.Helper()
	told = &map[string][]byte{}
	f = New(Config{File: file, Transport: w, Log: slog.New(slog.DiscardHandler), Changed: func(m map[string][]byte) { *told = m }})
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { f.Run(ctx) })
	return f, told, func() { cancel(); done.Wait() }
}

func TestFetch(t *testing.T) {
	const direct, discovered = "https://a.example/keys", "https://b.example" + Discovery
	synctest.Test(t, func(t *testing.T) {
		w := &web{asked: map[string]int{}, pages: map[string]string{direct: set(t, "1"),
			discovered: `{"issuer":"https://b.example/","jwks_uri":"https://b.example/jwks"}`, "https://b.example/jwks": set(t, "2")}}
		file := filepath.Join(t.TempDir(), "keys.json")
		f, told, stop := fetcher(t, w, file)
		f.Want([]string{direct, discovered})
		synctest.Wait()
		for _, u := range []string{direct, discovered} {
			k := string((*told)[u])
			if !strings.Contains(k, `"x":`) || strings.Contains(k, `"d":`) {
				t.Errorf("%s: want public keys without their private part, got %q", u, k)
			}
		}
		first := string((*told)[direct])

		// Refreshed within five minutes, and told when they changed.
		w.set(direct, set(t, "3"))
		time.Sleep(refresh + time.Second)
		synctest.Wait()
		second := string((*told)[direct])
		if second == first {
			t.Error("keys that changed weren't told within five minutes")
		}
		// An issuer that fails keeps its keys, and is asked ever more seldom.
		w.set(direct, "!")
		asked := w.count(direct)
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := string((*told)[direct]); got != second {
			t.Errorf("an issuer that can't be reached: keys became %q", got)
		}
		if n := w.count(direct) - asked; n < 10 || n > 40 {
			t.Errorf("asked %d times in an hour of failures, want back-off up to five minutes", n)
		}
		stop()

		// A restart begins with what was kept.
		f, told, stop = fetcher(t, w, file)
		defer stop()
		if got := string(f.Known()[direct]); got != second {
			t.Errorf("after a restart the keys are %q", got)
		}
		f.Want([]string{discovered})
		time.Sleep(2 * refresh)
		synctest.Wait()
		if (*told)[direct] != nil {
			t.Error("keys that nobody wants any more are still told")
		}
	})
}

func TestCacheControl(t *testing.T) {
	for text, want := range map[string]time.Duration{"": refresh, "public, max-age=600": 10 * time.Minute, "max-age=1": minRefresh,
		"max-age=999999": maxRefresh, "no-store": minRefresh, "max-age=x": refresh} {
		if got := life(http.Header{"Cache-Control": {text}}); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// TestBad has answers that no keys come of.
func TestBad(t *testing.T) {
	const u = "https://a.example/keys"
	d := "https://a.example" + Discovery
	for name, pages := range map[string]map[string]string{
		"not JSON":                {u: "<html>"},
		"no keys":                 {u: `{"keys":[]}`},
		"a shared secret":         {u: `{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}`},
		"for encryption":          {u: strings.Replace(set(t, "1"), `"sig"`, `"enc"`, 1)},
		"too large":               {u: `{"keys":[` + strings.Repeat(" ", maxAnswer) + `]}`},
		"plaintext redirect":      {u: ">http://a.example/keys"},
		"endless redirects":       {u: ">" + u},
		"another issuer":          {d: `{"issuer":"https://b.example","jwks_uri":"https://a.example/jwks"}`, "https://a.example/jwks": set(t, "1")},
		"discovery to plaintext":  {d: `{"issuer":"https://a.example","jwks_uri":"http://a.example/jwks"}`, "http://a.example/jwks": set(t, "1")},
		"discovery without a URI": {d: `{"issuer":"https://a.example"}`},
		"not there":               {},
	} {
		f := New(Config{Transport: &web{asked: map[string]int{}, pages: pages}, Log: slog.New(slog.DiscardHandler)})
		from := u
		if _, ok := pages[d]; ok {
			from = d
		}
		if keys, _, err := f.fetch(t.Context(), from); err == nil {
			t.Errorf("%s: got keys %s", name, keys)
		}
	}
}

func TestPermitted(t *testing.T) {
	for text, want := range map[string]bool{"https://a.example/k": true, "http://127.0.0.1:8080/k": true, "http://[::1]/k": true, "http://localhost/k": true,
		"http://a.example/k": false, "http://127.0.0.1.example/k": false, "http://localhost.example/": false, "file:///etc/passwd": false, "https://u:p@a.example/": false, "https:///x": false} {
		if got := Permitted(text) == nil; got != want {
			t.Errorf("%s: permitted %v, want %v", text, got, want)
		}
	}
}

// A trust domain's keys come from the mesh itself; those of one that isn't believed any
// more are dropped, those of one that isn't there at the moment stay.
func TestTrustDomain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		have, fail := set(t, "a"), error(nil)
		told := make(chan map[string][]byte, 10)
		f := New(Config{Changed: func(m map[string][]byte) { told <- m }, Log: slog.New(slog.DiscardHandler),
			TrustDomain: func(name string) ([]byte, error) {
				mu.Lock()
				defer mu.Unlock()
				if name != "mesh.local" {
					return nil, ErrUnknown
				}
				return []byte(have), fail
			}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { f.Run(ctx); close(done) }()
		defer func() { cancel(); <-done }()
		const a, b, c = "spiffe://mesh.local", "spiffe://mesh.local" + Discovery, "spiffe://other.example"
		f.Want([]string{a, b, c})
		// Each URL is looked at in its own time.
		await := func(what string, is func(keys []byte) bool) {
			t.Helper()
			for began := time.Now(); ; {
				m := <-told
				if m[c] != nil || strings.Contains(string(m[a])+string(m[b]), `"d"`) {
					t.Fatalf("%s: %q", what, m)
				}
				if is(m[a]) && is(m[b]) {
					return
				}
				if time.Since(began) > 2*refresh {
					t.Fatalf("%s, not yet: %q", what, m)
				}
			}
		}
		kid := func(id string) func([]byte) bool {
			return func(keys []byte) bool { return strings.Contains(string(keys), `"kid":"`+id+`"`) }
		}
		await("at first", kid("a"))
		mu.Lock()
		have = set(t, "b")
		mu.Unlock()
		await("another key", kid("b"))
		mu.Lock()
		fail = fmt.Errorf("not now")
		mu.Unlock()
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(told) > 0 {
			t.Errorf("told of a failure: %q", <-told)
		}
		mu.Lock()
		fail = fmt.Errorf("no more: %w", ErrUnknown)
		mu.Unlock()
		f.Again()
		synctest.Wait() // no time passes
		if len(told) != 1 {
			t.Fatalf("told %d times at once that it is believed no more", len(told))
		}
		if m := <-told; len(m) != 0 {
			t.Errorf("no more: %q", m)
		}
	})
}
