package dashboard

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/control/operator"
)

// house is a dashboard with operators at its door, and a clock.
type house struct {
	t    *testing.T
	d    *Dashboard
	door *Door

	mu        sync.Mutex
	now       time.Time
	operators []*v1alpha1.Operator
	broken    error
	logins    []string
}

func newHouse(t *testing.T, operators ...*v1alpha1.Operator) *house {
	h := &house{t: t, now: time.Now(), operators: operators}
	book := &operator.Book{
		Now: func() time.Time { h.mu.Lock(); defer h.mu.Unlock(); return h.now },
		Operators: func(context.Context) ([]*v1alpha1.Operator, error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			return h.operators, h.broken
		},
		Holder: sha256.Sum256([]byte("the control plane's")),
	}
	h.door = &Door{Book: book, Sessions: &operator.Sessions{Book: book}, LoggedIn: func(r *http.Request) {
		w := operator.Of(r.Context())
		h.logins = append(h.logins, w.Name+" by "+w.How+" from "+w.From)
	}}
	mesh := newFakeMesh()
	h.d = New(Config{Mesh: mesh, Signals: fakeSignals{mesh}, Door: h.door, Hosts: []string{"mesh.example"}, Refresh: 20 * time.Millisecond,
		Prometheus: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })})
	return h
}

func (h *house) set(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
}

func withToken(name string, role v1alpha1.OperatorRole, token string, namespaces ...string) *v1alpha1.Operator {
	sum := sha256.Sum256([]byte(token))
	return &v1alpha1.Operator{ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.OperatorSpec{Role: role, Namespaces: namespaces, Tokens: []v1alpha1.OperatorToken{{SHA256: hex.EncodeToString(sum[:])}}}}
}

// ask asks from loopback; fields may change that ("from").
func (h *house) ask(method, path, body string, fields ...string) *httptest.ResponseRecorder {
	h.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host, r.RemoteAddr = "localhost:9441", "127.0.0.1:50000"
	for i := 0; i < len(fields); i += 2 {
		switch fields[i] {
		case "from":
			r.RemoteAddr = fields[i+1]
		case "host":
			r.Host = fields[i+1]
		default:
			r.Header.Set(fields[i], fields[i+1])
		}
	}
	w := httptest.NewRecorder()
	h.d.ServeHTTP(w, r)
	return w
}

const jsonType = "application/json"

// logIn returns the session's cookie field.
func (h *house) logIn(body string, fields ...string) string {
	h.t.Helper()
	w := h.ask("POST", "/api/login", body, append([]string{"Content-Type", jsonType}, fields...)...)
	if w.Code != http.StatusOK || len(w.Result().Cookies()) != 1 {
		h.t.Fatalf("login: %d %s", w.Code, w.Body)
	}
	c := w.Result().Cookies()[0]
	return c.Name + "=" + c.Value
}

func TestDoor(t *testing.T) {
	admin := withToken("ada", "Admin", "ada's token")
	bounded := withToken("ben", "View", "ben's token", "billing")
	far := "192.0.2.9:50000"
	for _, c := range []struct {
		name      string
		operators []*v1alpha1.Operator
		path      string
		fields    []string
		want      int
	}{
		{"a laptop: loopback is open", nil, "/api/overview", nil, 200},
		{"a laptop, over IPv6", nil, "/api/overview", []string{"from", "[::1]:50000"}, 200},
		{"a laptop: the query API too", nil, "/api/v1/query", nil, 200},
		{"from elsewhere one logs in, operators or not", nil, "/api/overview", []string{"from", far}, 401},
		{"operators: on loopback too", []*v1alpha1.Operator{admin}, "/api/overview", nil, 401},
		{"the live stream", []*v1alpha1.Operator{admin}, "/api/events", nil, 401},
		{"the query API", []*v1alpha1.Operator{admin}, "/api/v1/query", nil, 401},
		{"what isn't there", []*v1alpha1.Operator{admin}, "/api/nonesuch", nil, 401},
		{"the pages are for everybody", []*v1alpha1.Operator{admin}, "/services", []string{"from", far}, 200},
		{"a token", []*v1alpha1.Operator{admin}, "/api/v1/query", []string{"Authorization", "Bearer ada's token", "from", far}, 200},
		{"the control plane's own token", []*v1alpha1.Operator{admin}, "/api/overview", []string{"Authorization", "Bearer the control plane's"}, 200},
		{"a wrong token", []*v1alpha1.Operator{admin}, "/api/overview", []string{"Authorization", "Bearer guess"}, 401},
		{"a wrong token where nobody had to say", nil, "/api/overview", []string{"Authorization", "Bearer guess"}, 401},
		{"an invented session", []*v1alpha1.Operator{admin}, "/api/overview", []string{"Cookie", "tulle-9441=AAAA"}, 401},
		{"some namespaces: the overview", []*v1alpha1.Operator{bounded}, "/api/overview", []string{"Authorization", "Bearer ben's token"}, 200},
		{"a service of theirs", []*v1alpha1.Operator{bounded}, "/api/services/billing/ledger", []string{"Authorization", "Bearer ben's token"}, 200},
		{"a service of others", []*v1alpha1.Operator{bounded}, "/api/services/default/cart", []string{"Authorization", "Bearer ben's token"}, 403},
		{"a proxy of others", []*v1alpha1.Operator{bounded}, "/api/proxies/default/cart-1", []string{"Authorization", "Bearer ben's token"}, 403},
		{"a chart of theirs", []*v1alpha1.Operator{bounded}, "/api/chart?subject=service&chart=latency&namespace=billing&name=ledger&range=5m", []string{"Authorization", "Bearer ben's token"}, 200},
		{"a chart of others", []*v1alpha1.Operator{bounded}, "/api/chart?subject=service&chart=latency&namespace=default&name=cart&range=5m", []string{"Authorization", "Bearer ben's token"}, 403},
		{"the chart of all, of which they see theirs", []*v1alpha1.Operator{bounded}, "/api/chart?subject=services&chart=requests", []string{"Authorization", "Bearer ben's token"}, 200},
		{"queries of all", []*v1alpha1.Operator{bounded}, "/api/v1/query", []string{"Authorization", "Bearer ben's token"}, 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t, c.operators...)
			if w := h.ask("GET", c.path, "", c.fields...); w.Code != c.want {
				t.Errorf("%d, want %d: %s", w.Code, c.want, w.Body)
			}
		})
	}
	h := newHouse(t)
	h.broken = errors.New("the store doesn't answer")
	if w := h.ask("GET", "/api/overview", ""); w.Code != 503 {
		t.Errorf("nobody knows whether there are operators: %d, want 503", w.Code)
	}
}

// An operator of some namespaces sees those, in every answer.
func TestScope(t *testing.T) {
	h := newHouse(t, withToken("ben", "View", "ben's token", "billing"))
	for _, path := range []string{"/api/overview", "/api/stat", "/api/check", "/api/chart?subject=services&chart=requests"} {
		w := h.ask("GET", path, "", "Authorization", "Bearer ben's token")
		if w.Code != 200 {
			t.Fatalf("%s: %d", path, w.Code)
		}
		for _, secret := range []string{"cart", "recommendations", "payment", "tulle run"} {
			if path == "/api/overview" && secret != "tulle run" {
				continue // edges name who calls; looked at below
			}
			if strings.Contains(w.Body.String(), secret) {
				t.Errorf("%s tells of %s: %s", path, secret, w.Body)
			}
		}
	}
	w := h.ask("GET", "/api/chart?subject=services&chart=requests", "", "Authorization", "Bearer ben's token")
	if !strings.Contains(w.Body.String(), "ledger.billing") {
		t.Errorf("the chart lacks what is theirs: %s", w.Body)
	}
	w = h.ask("GET", "/api/overview", "", "Authorization", "Bearer ben's token")
	var o overview
	if err := json.Unmarshal(w.Body.Bytes(), &o); err != nil {
		t.Fatal(err)
	}
	if len(o.Services) != 3 || len(o.Proxies) != 3 || len(o.Stat.Services) != 3 || len(o.Edges.Edges) == 0 {
		t.Errorf("%d services, %d proxies, %d figures, %d edges", len(o.Services), len(o.Proxies), len(o.Stat.Services), len(o.Edges.Edges))
	}
	for _, e := range o.Edges.Edges {
		if e.From.Namespace != "billing" && e.To.Namespace != "billing" {
			t.Errorf("edge %v to %v", e.From, e.To)
		}
	}
}

// A login link works once, for a while; what it begins is a session of its
// operator, who may be changed or taken away at any time.
func TestLoginLink(t *testing.T) {
	ada := withToken("ada", "Edit", "ada's token", "billing", "default")
	h := newHouse(t, ada)
	who, err := h.door.Book.Token(t.Context(), "ada's token")
	if err != nil {
		t.Fatal(err)
	}
	code, _ := h.door.Sessions.Invite(who)
	cookie := h.logIn(`{"code":"` + code + `"}`)
	if !slices.Equal(h.logins, []string{"ada by token from 127.0.0.1"}) {
		t.Errorf("told of %q", h.logins)
	}
	if w := h.ask("POST", "/api/login", `{"code":"`+code+`"}`, "Content-Type", jsonType); w.Code != 401 || len(w.Result().Cookies()) != 0 {
		t.Errorf("the link a second time: %d %s", w.Code, w.Body)
	}
	w := h.ask("GET", "/api/me", "", "Cookie", cookie)
	if want := `{"name":"ada","how":"token","role":"Edit","namespaces":["billing","default"],"session":true}`; w.Body.String() != want {
		t.Errorf("me: %s, want %s", w.Body, want)
	}
	// What the operator may is as it is now, not as it was at the login.
	h.set(func() { h.operators = []*v1alpha1.Operator{withToken("ada", "View", "ada's token", "billing")} })
	if w := h.ask("GET", "/api/services/default/cart", "", "Cookie", cookie); w.Code != 403 {
		t.Errorf("a namespace that was taken away: %d", w.Code)
	}
	h.set(func() { h.operators = []*v1alpha1.Operator{withToken("ada", "View", "another token", "billing")} })
	if w := h.ask("GET", "/api/me", "", "Cookie", cookie); w.Code != 401 {
		t.Errorf("the token was taken away: %d", w.Code)
	}
	h.set(func() { h.operators = []*v1alpha1.Operator{ada} })
	if w := h.ask("GET", "/api/me", "", "Cookie", cookie); w.Code != 401 {
		t.Errorf("the session is back: %d", w.Code)
	}

	code, _ = h.door.Sessions.Invite(who)
	h.set(func() { h.now = h.now.Add(operator.CodeLife) })
	if w := h.ask("POST", "/api/login", `{"code":"`+code+`"}`, "Content-Type", jsonType); w.Code != 401 {
		t.Errorf("a link that is old: %d", w.Code)
	}
	code, _ = h.door.Sessions.Invite(who)
	h.set(func() { h.operators = []*v1alpha1.Operator{withToken("eve", "View", "x")} })
	if w := h.ask("POST", "/api/login", `{"code":"`+code+`"}`, "Content-Type", jsonType); w.Code != 401 {
		t.Errorf("a link of an operator who isn't there: %d", w.Code)
	}
}

func TestSessionEnds(t *testing.T) {
	ended := withToken("ada", "View", "short")
	h := newHouse(t, withToken("ada", "View", "ada's token"), ended)
	end := metav1.NewTime(h.now.Add(30 * time.Minute))
	ended.Spec.Tokens[0].Expires = &end
	status := func(cookie string) int { return h.ask("GET", "/api/me", "", "Cookie", cookie).Code }
	pass := func(d time.Duration) { h.set(func() { h.now = h.now.Add(d) }) }

	long, idle, short := h.logIn(`{"token":"ada's token"}`), h.logIn(`{"token":"ada's token"}`), h.logIn(`{"token":"short"}`)
	pass(29 * time.Minute)
	if status(long) != 200 || status(short) != 200 {
		t.Error("ended too early")
	}
	pass(time.Minute)
	if status(short) != 401 {
		t.Error("a session outlives the token that began it")
	}
	pass(time.Minute * 30)
	if status(long) != 200 || status(idle) != 401 {
		t.Error("want an unused session over after an hour, and only that")
	}
	for range 14 {
		pass(30 * time.Minute)
		status(long)
	}
	if status(long) != 401 {
		t.Error("a session that is used lasts for ever")
	}

	out := h.logIn(`{"token":"ada's token"}`)
	w := h.ask("POST", "/api/logout", "", "Cookie", out)
	if w.Code != 204 || w.Result().Cookies()[0].MaxAge >= 0 || status(out) != 401 {
		t.Errorf("logged out: %d %v, then %d", w.Code, w.Result().Cookies(), status(out))
	}
}

// Nobody can choose or keep another's session.
func TestSessionFixation(t *testing.T) {
	h := newHouse(t, withToken("ada", "View", "ada's token"), withToken("eve", "View", "eve's token"))
	planted := "tulle-9441=PLANTEDPLANTEDPLANTEDPLANT"
	got := h.logIn(`{"token":"ada's token"}`, "Cookie", planted)
	if got == planted {
		t.Error("the planted session was taken over")
	}
	if w := h.ask("GET", "/api/me", "", "Cookie", planted); w.Code != 401 {
		t.Errorf("the planted session: %d", w.Code)
	}
	// Eve plants a good session of her own: Ada's login ends it.
	eves := h.logIn(`{"token":"eve's token"}`)
	h.logIn(`{"token":"ada's token"}`, "Cookie", eves)
	if w := h.ask("GET", "/api/me", "", "Cookie", eves); w.Code != 401 {
		t.Errorf("Eve's session: %d", w.Code)
	}
}

func TestCookie(t *testing.T) {
	h := newHouse(t, withToken("ada", "View", "ada's token"))
	for _, c := range []struct {
		fields []string
		name   string
		secure bool
	}{
		{nil, "tulle-9441", false},
		{[]string{"host", "localhost:7000"}, "tulle-7000", false},
		{[]string{"host", "mesh.example", "X-Forwarded-Proto", "https"}, "tulle-default", true},
	} {
		w := h.ask("POST", "/api/login", `{"token":"ada's token"}`, append([]string{"Content-Type", jsonType}, c.fields...)...)
		got := w.Result().Cookies()[0]
		if got.Name != c.name || got.Secure != c.secure || !got.HttpOnly || got.SameSite != http.SameSiteStrictMode || got.Path != "/api" || got.MaxAge != 8*3600 || len(got.Value) < 26 {
			t.Errorf("%v: %v", c.fields, got)
		}
		if w.Header().Get("Cache-Control") != "no-store" {
			t.Error("a login may be cached")
		}
	}
}

// Another site can neither log somebody in nor out, nor use their session.
func TestCrossSite(t *testing.T) {
	h := newHouse(t, withToken("ada", "View", "ada's token"))
	cookie := h.logIn(`{"token":"ada's token"}`)
	for _, c := range []struct {
		name, method, path string
		fields             []string
		want               int
	}{
		{"log in", "POST", "/api/login", []string{"Content-Type", jsonType, "Origin", "https://evil.example"}, 403},
		{"log in with a form", "POST", "/api/login", []string{"Content-Type", "text/plain", "Sec-Fetch-Site", "same-origin"}, 415},
		{"log in with nothing said", "POST", "/api/login", nil, 415},
		{"log in without Origin", "POST", "/api/login", []string{"Content-Type", jsonType, "Sec-Fetch-Site", "cross-site"}, 403},
		{"another port of the machine", "POST", "/api/login", []string{"Content-Type", jsonType, "Sec-Fetch-Site", "same-site"}, 403},
		{"log out", "POST", "/api/logout", []string{"Origin", "https://evil.example"}, 403},
		{"read", "GET", "/api/overview", []string{"Origin", "https://evil.example"}, 403},
		{"query", "POST", "/api/v1/query", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"with another name", "GET", "/api/overview", []string{"host", "evil.example:9441"}, 421},
		{"login by GET", "GET", "/api/login?token=ada's+token", nil, 404},
	} {
		if w := h.ask(c.method, strings.ReplaceAll(c.path, " ", "+"), `{"token":"ada's token"}`, append([]string{"Cookie", cookie}, c.fields...)...); w.Code != c.want || len(w.Result().Cookies()) != 0 {
			t.Errorf("%s: %d, want %d: %s", c.name, w.Code, c.want, w.Body)
		}
	}
	if w := h.ask("GET", "/api/me", "", "Cookie", cookie); w.Code != 200 {
		t.Errorf("the session: %d", w.Code)
	}
}

func TestBadLogins(t *testing.T) {
	h := newHouse(t, withToken("ada", "View", "ada's token"))
	for body, want := range map[string]int{
		`{}`: 400, `x`: 400, ``: 400, `{"code":"a","token":"b"}`: 400, `{"token":"guess"}`: 401, `{"code":"guess"}`: 401, `{"token":"a.b.c"}`: 401,
		`{"token":"` + strings.Repeat("x", maxLogin) + `"}`: 400,
	} {
		if w := h.ask("POST", "/api/login", body, "Content-Type", jsonType); w.Code != want || len(w.Result().Cookies()) != 0 {
			t.Errorf("%.40s: %d, want %d", body, w.Code, want)
		}
	}
	if len(h.logins) != 0 {
		t.Errorf("told of %q", h.logins)
	}
}

// An open stream ends with its session.
func TestStreamEndsWithSession(t *testing.T) {
	h := newHouse(t, withToken("ben", "View", "ben's token", "billing"))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.d.Run(ctx)
	}()
	defer func() { cancel(); <-done }()
	server := httptest.NewServer(h.d)
	defer server.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "http://"), ":")
	cookie := h.logIn(`{"token":"ben's token"}`, "host", "127.0.0.1:"+port)
	r, err := http.NewRequest("GET", server.URL+"/api/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Cookie", cookie)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			var o overview
			if err := json.Unmarshal([]byte(data), &o); err != nil || len(o.Services) != 3 {
				t.Fatalf("%d services, %v", len(o.Services), err)
			}
			break
		}
	}
	h.set(func() { h.now = h.now.Add(operator.SessionLife) })
	for lines.Scan() { // until it ends, which the test's own limit bounds
	}
}
