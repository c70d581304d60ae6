package shop_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"tulle.dev/tulle/examples/shop/cart"
	"tulle.dev/tulle/examples/shop/catalogue"
	"tulle.dev/tulle/examples/shop/load"
	"tulle.dev/tulle/examples/shop/payment"
	"tulle.dev/tulle/examples/shop/recommendations"
	"tulle.dev/tulle/examples/shop/store"
	"tulle.dev/tulle/examples/shop/web"
)

// open opens the whole shop in this process and returns its address.
func open(t *testing.T, c recommendations.Config) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- new(store.Server).Serve(t.Context(), ln) }()
	t.Cleanup(func() { <-done })
	kept := store.Dial(ln.Addr().String())
	t.Cleanup(kept.Close)
	recommend, err := recommendations.Handler(c)
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	var page string
	for name, h := range map[string]http.Handler{
		"catalogue": catalogue.Handler(), "payment": payment.Handler(), "recommendations": recommend,
		"cart": cart.Handler(kept), "web": web.Handler(quiet),
	} {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		u, _ := url.Parse(s.URL)
		t.Setenv(strings.ToUpper(name)+"_SERVICE_HOST", u.Hostname())
		t.Setenv(strings.ToUpper(name)+"_SERVICE_PORT", u.Port())
		if name == "web" {
			page = s.URL
		}
	}
	return page
}

// browser is one customer with their cookies.
func browser(t *testing.T) *http.Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &http.Client{Jar: jar, Timeout: 5 * time.Second, Transport: &http.Transport{}}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func read(t *testing.T, resp *http.Response, err error) (int, string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// TestCustomer buys something.
func TestCustomer(t *testing.T) {
	page, c := open(t, recommendations.Config{Version: "v1"}), browser(t)
	get := func(path string) (int, string) {
		resp, err := c.Get(page + path)
		return read(t, resp, err)
	}
	post := func(path string, form url.Values) (int, string) {
		resp, err := c.PostForm(page+path, form)
		return read(t, resp, err)
	}
	contains := func(what string, code int, body string, want ...string) {
		t.Helper()
		if code != 200 {
			t.Errorf("%s: %d", what, code)
		}
		for _, w := range want {
			if !strings.Contains(body, w) {
				t.Errorf("%s has no %q", what, w)
			}
		}
	}
	code, body := get("/")
	contains("the first page", code, body, "Silk tulle", "42.00 €", "recommendations v1")
	code, body = get("/products/denim")
	contains("a product", code, body, "Indigo denim", "29.00 €")
	code, body = post("/cart/items", url.Values{"product": {"denim"}, "count": {"2"}})
	contains("the cart", code, body, "Indigo denim", "58.00 €")
	code, body = post("/cart/items", url.Values{"product": {"denim"}, "count": {"-1"}})
	contains("the cart with one fewer", code, body, "29.00 €")
	code, body = post("/checkout", nil)
	contains("the receipt", code, body, "Thank you", "29.00 €")
	if !regexp.MustCompile(`id="receipt">[A-Z2-7]{12}<`).MatchString(body) {
		t.Error("no number on the receipt")
	}
	if code, body = post("/checkout", nil); code != http.StatusConflict || !strings.Contains(body, "empty") {
		t.Errorf("paying for nothing: %d", code)
	}
	for range 3 {
		post("/cart/items", url.Values{"product": {"blanket"}, "count": {"9"}})
	}
	if code, body = post("/checkout", nil); code != http.StatusPaymentRequired || !strings.Contains(body, "declined") {
		t.Errorf("paying more than anybody may: %d", code)
	}
	if code, _ = get("/products/no"); code != http.StatusNotFound {
		t.Errorf("a product that isn't there: %d", code)
	}
	if code, _ = post("/cart/items", url.Values{"product": {"no"}, "count": {"1"}}); code != http.StatusNotFound {
		t.Errorf("buying what isn't there: %d", code)
	}
	// What the script on the page does.
	req, _ := http.NewRequest("POST", page+"/cart/items", strings.NewReader("product=tulle&count=1"))
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := c.Do(req)
	code, body = read(t, resp, err)
	var in cart.Cart
	if err := json.Unmarshal([]byte(body), &in); err != nil || code != 200 || in.Count != 28 {
		t.Errorf("the script got %d %s, %v: want a cart of 28", code, body, err)
	}
}

// TestFlaky: bad recommendations don't spoil a page.
func TestFlaky(t *testing.T) {
	for name, c := range map[string]recommendations.Config{
		"errors": {Version: "v2", Errors: 1},
		"slow":   {Version: "v2", Slow: 1, SlowBy: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			resp, err := browser(t).Get(open(t, c) + "/products/wool")
			if code, _ := read(t, resp, err); code != http.StatusNotFound {
				t.Errorf("no such product: %d", code)
			}
			resp, err = browser(t).Get(open(t, c) + "/")
			code, body := read(t, resp, err)
			if code != 200 || !strings.Contains(body, "Silk tulle") || strings.Contains(body, "class=\"recommend\"") {
				t.Errorf("the page: %d, and the recommendations are there: %v", code, strings.Contains(body, "class=\"recommend\""))
			}
		})
	}
	if _, err := recommendations.Handler(recommendations.Config{Version: "v3"}); err == nil {
		t.Error("there is a v3")
	}
}

// TestLoad: the customers that the load generator makes are served.
func TestLoad(t *testing.T) {
	page := open(t, recommendations.Config{Version: "v1"})
	ctx, cancel := context.WithCancel(t.Context())
	said := &lines{done: make(chan struct{})}
	log := slog.New(slog.NewTextHandler(said, nil))
	failed := make(chan error, 1)
	go func() {
		failed <- load.Run(ctx, log, load.Config{Target: page, Rate: 100, Customers: 3, Every: 300 * time.Millisecond})
	}()
	select {
	case <-said.done:
		if !strings.Contains(said.line, "failed=0 dropped=0") || strings.Contains(said.line, "ok=0") {
			t.Errorf("the load said %s", said.line)
		}
		cancel()
		if err := <-failed; err != nil {
			t.Error(err)
		}
	case err := <-failed:
		cancel()
		t.Fatal(err)
	}
}

// lines waits for the first line that is logged.
type lines struct {
	line string
	done chan struct{}
}

func (l *lines) Write(p []byte) (int, error) {
	if l.line == "" {
		l.line = string(p)
		close(l.done)
	}
	return len(p), nil
}
