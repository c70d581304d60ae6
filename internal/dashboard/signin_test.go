package dashboard

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"tulle.dev/tulle/api/v1alpha1"
)

const (
	redirect = "http://localhost:9441" + SignInReturn
	clientID = "tulle-dashboard"
	secret   = "the client's secret"
)

// provider is an OpenID Connect provider where everybody is sub.
type provider struct {
	*httptest.Server
	t   *testing.T
	key *rsa.PrivateKey

	mu    sync.Mutex
	sub   string
	codes map[string]url.Values // what was asked with, by the code that was given
	spoil func(claims map[string]any)
	more  map[string]any // in the discovery document
	fails string         // instead of it
	swaps int            // codes that were taken back
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{t: t, key: key, sub: "ada@example.com", codes: map[string]url.Values{}, spoil: func(map[string]any) {}}
	mux := http.NewServeMux()
	say := func(w http.ResponseWriter, code int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		json.NewEncoder(w).Encode(v)
	}
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		if p.fails != "" {
			http.Error(w, p.fails, http.StatusBadGateway)
			return
		}
		doc := map[string]any{"issuer": p.URL, "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/keys",
			"id_token_signing_alg_values_supported": []string{"RS256"}}
		maps.Copy(doc, p.more)
		say(w, 200, doc)
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		say(w, 200, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "1", Algorithm: "RS256", Use: "sig"}}})
	})
	mux.HandleFunc("GET /authorize", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if q.Get("client_id") != clientID || q.Get("redirect_uri") != redirect || q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" ||
			len(q.Get("code_challenge")) != 43 || len(q.Get("state")) < 22 || len(q.Get("nonce")) < 22 || q.Get("scope") != "openid groups" {
			http.Error(w, "not to be answered: "+r.URL.RawQuery, http.StatusBadRequest)
			return
		}
		code := rand.Text()
		p.mu.Lock()
		p.codes[code] = q
		p.mu.Unlock()
		http.Redirect(w, r, redirect+"?"+url.Values{"code": {code}, "state": {q.Get("state")}, "iss": {p.URL}}.Encode(), http.StatusFound)
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		q, ok := p.codes[r.FormValue("code")]
		delete(p.codes, r.FormValue("code"))
		id, pass, basic := r.BasicAuth()
		sum := sha256.Sum256([]byte(r.FormValue("code_verifier")))
		switch {
		case !basic || id != clientID || pass != url.QueryEscape(secret):
			say(w, 401, map[string]string{"error": "invalid_client"})
		case !ok || r.FormValue("grant_type") != "authorization_code" || r.FormValue("redirect_uri") != redirect ||
			base64.RawURLEncoding.EncodeToString(sum[:]) != q.Get("code_challenge"):
			say(w, 400, map[string]string{"error": "invalid_grant"})
		default:
			p.swaps++
			now := time.Now()
			claims := map[string]any{"iss": p.URL, "aud": clientID, "sub": p.sub, "nonce": q.Get("nonce"), "iat": now.Unix(), "exp": now.Add(time.Hour).Unix()}
			p.spoil(claims)
			signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: "1"}}, nil)
			if err != nil {
				p.t.Error(err)
			}
			text, err := jwt.Signed(signer).Claims(claims).Serialize()
			if err != nil {
				p.t.Error(err)
			}
			say(w, 200, map[string]any{"access_token": "a", "token_type": "Bearer", "id_token": text})
		}
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

// signedUp is a house with a provider at its door, which knows ada.
func signedUp(t *testing.T) (*house, *provider) {
	p := newProvider(t)
	h := newHouse(t, &v1alpha1.Operator{ObjectMeta: metav1.ObjectMeta{Name: "ada"},
		Spec: v1alpha1.OperatorSpec{Role: "Admin", OIDC: []v1alpha1.OperatorOIDC{{Issuer: p.URL, Audience: clientID, Values: []string{"ada@example.com"}}}}})
	h.door.SignIn = &SignIn{Issuer: p.URL, ClientID: clientID, ClientSecret: secret, Redirect: redirect, Scopes: []string{"groups"},
		Now: h.door.Book.Now, Client: p.Client()}
	config := h.d.config
	h.d = New(config)
	return h, p
}

// away sends a browser off, and returns its cookie and where it is sent.
func (h *house) away() (cookie, to string) {
	h.t.Helper()
	w := h.ask("GET", SignInPath, "", "Sec-Fetch-Site", "same-origin")
	cookies := w.Result().Cookies()
	if w.Code != http.StatusSeeOther || len(cookies) != 1 {
		h.t.Fatalf("sent off: %d %s", w.Code, w.Body)
	}
	if c := cookies[0]; !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/login" || c.MaxAge != 600 || c.Name != "tulle-9441-login" {
		h.t.Errorf("the cookie: %+v", c)
	}
	return cookies[0].Name + "=" + cookies[0].Value, w.Header().Get("Location")
}

// visit is the provider's page: the answer that a browser brings back.
func (p *provider) visit(at string) *url.URL {
	p.t.Helper()
	c := *p.Client()
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := c.Get(at)
	if err != nil {
		p.t.Fatal(err)
	}
	resp.Body.Close()
	back, err := resp.Location()
	if err != nil {
		p.t.Fatalf("the provider answers %s to %s", resp.Status, at)
	}
	return back
}

// back brings an answer, as a browser does that comes from another site.
func (h *house) back(u *url.URL, cookie string) *httptest.ResponseRecorder {
	fields := []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}
	if cookie != "" {
		fields = append(fields, "Cookie", cookie)
	}
	return h.ask("GET", u.RequestURI(), "", fields...)
}

func TestSignIn(t *testing.T) {
	h, p := signedUp(t)
	if w := h.ask("GET", "/api/ways", ""); w.Code != 200 || !strings.Contains(w.Body.String(), `"at":"`+SignInPath+`"`) {
		t.Errorf("the ways: %d %s", w.Code, w.Body)
	}
	trip, to := h.away()
	answer := p.visit(to)
	w := h.back(answer, trip)
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/" {
		t.Fatalf("back: %d %s", w.Code, w.Body)
	}
	session, ended := "", false
	for _, c := range w.Result().Cookies() {
		switch c.Name {
		case "tulle-9441":
			session = c.Name + "=" + c.Value
			if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode {
				t.Errorf("the session's cookie: %+v", c)
			}
		case "tulle-9441-login":
			ended = c.MaxAge < 0
		}
	}
	if !ended {
		t.Error("the cookie of the way isn't taken back")
	}
	me := h.ask("GET", "/api/me", "", "Cookie", session)
	if me.Code != 200 || !strings.Contains(me.Body.String(), "ada@example.com") || !strings.Contains(me.Body.String(), "Admin") {
		t.Errorf("who it is: %d %s", me.Code, me.Body)
	}
	if len(h.logins) != 1 || !strings.Contains(h.logins[0], "by oidc from 127.0.0.1") {
		t.Errorf("logins: %q", h.logins)
	}
	// The same answer again is worth nothing, with the cookie or without.
	if w := h.back(answer, trip); w.Code != http.StatusForbidden {
		t.Errorf("a second time: %d", w.Code)
	}
	// The session ends with the token.
	h.set(func() { h.now = h.now.Add(61 * time.Minute) })
	if w := h.ask("GET", "/api/me", "", "Cookie", session); w.Code != http.StatusUnauthorized {
		t.Errorf("after the token's end: %d", w.Code)
	}
}

// Nobody comes in who isn't the browser that went, with the answer to what it asked.
func TestSignInRefused(t *testing.T) {
	h, p := signedUp(t)
	set := func(u *url.URL, name, value string) *url.URL {
		q := u.Query()
		q.Set(name, value)
		if value == "" {
			q.Del(name)
		}
		v := *u
		v.RawQuery = q.Encode()
		return &v
	}
	for name, c := range map[string]struct {
		change func(u *url.URL, cookie string) (*url.URL, string)
		spoil  func(claims map[string]any)
		want   string
	}{
		"another browser's":    {func(u *url.URL, _ string) (*url.URL, string) { return u, "" }, nil, "didn't begin"},
		"another way's cookie": {func(u *url.URL, _ string) (*url.URL, string) { other, _ := h.away(); return u, other }, nil, "isn't the answer"},
		"an invented cookie":   {func(u *url.URL, _ string) (*url.URL, string) { return u, "tulle-9441-login=99999999999.AAAA" }, nil, "isn't the answer"},
		"a cookie made longer": {func(u *url.URL, c string) (*url.URL, string) { return u, strings.Replace(c, "=1", "=2", 1) }, nil, "isn't the answer"},
		"no state":             {func(u *url.URL, c string) (*url.URL, string) { return set(u, "state", ""), c }, nil, "isn't the answer"},
		"another state":        {func(u *url.URL, c string) (*url.URL, string) { return set(u, "state", "x"), c }, nil, "isn't the answer"},
		"another provider":     {func(u *url.URL, c string) (*url.URL, string) { return set(u, "iss", "https://evil.example"), c }, nil, "another provider"},
		"a refusal":            {func(u *url.URL, c string) (*url.URL, string) { return set(u, "error", "access_denied"), c }, nil, "access_denied"},
		"no code":              {func(u *url.URL, c string) (*url.URL, string) { return set(u, "code", ""), c }, nil, "no code"},
		"an invented code":     {func(u *url.URL, c string) (*url.URL, string) { return set(u, "code", "x"), c }, nil, "invalid_grant"},
		"another's code (PKCE)": {func(u *url.URL, c string) (*url.URL, string) {
			_, to := h.away()
			return set(u, "code", p.visit(to).Query().Get("code")), c
		}, nil, "invalid_grant"},
		"a long answer": {func(u *url.URL, c string) (*url.URL, string) {
			return set(u, "more", strings.Repeat("x", maxReturn)), c
		}, nil, "too long"},
		"too late": {func(u *url.URL, c string) (*url.URL, string) {
			h.set(func() { h.now = h.now.Add(signInLife) })
			return u, c
		}, nil, "ten minutes"},
		"another nonce":    {nil, func(m map[string]any) { m["nonce"] = "x" }, "nonce"},
		"no nonce":         {nil, func(m map[string]any) { delete(m, "nonce") }, "nonce"},
		"another audience": {nil, func(m map[string]any) { m["aud"] = "other" }, "audience"},
		"an old token":     {nil, func(m map[string]any) { m["exp"] = time.Now().Add(-time.Hour).Unix() }, "expired"},
		"another issuer":   {nil, func(m map[string]any) { m["iss"] = "https://evil.example" }, "issue"},
		"nobody's":         {nil, func(m map[string]any) { m["sub"] = "eve@example.com" }, "no Operator"},
	} {
		cookie, to := h.away()
		u := p.visit(to)
		if c.change != nil {
			u, cookie = c.change(u, cookie)
		}
		p.mu.Lock()
		if p.spoil = c.spoil; p.spoil == nil {
			p.spoil = func(map[string]any) {}
		}
		p.mu.Unlock()
		w := h.back(u, cookie)
		if w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s: %d %s, want %q", name, w.Code, w.Body, c.want)
		}
		for _, k := range w.Result().Cookies() {
			if k.Name == "tulle-9441" {
				t.Errorf("%s: a session", name)
			}
		}
	}
	if len(h.logins) > 0 {
		t.Errorf("logins: %q", h.logins)
	}
}

// Another process' ways lead nowhere; a provider that is away is asked again.
func TestSignInProvider(t *testing.T) {
	h, p := signedUp(t)
	cookie, to := h.away()
	u := p.visit(to)
	h.door.SignIn = &SignIn{Issuer: p.URL, ClientID: clientID, ClientSecret: secret, Redirect: redirect, Now: h.door.Book.Now}
	if w := h.back(u, cookie); w.Code != http.StatusForbidden {
		t.Errorf("another process' state: %d", w.Code)
	}
	h.door.SignIn = &SignIn{Issuer: "http://127.0.0.1:1", ClientID: clientID, Redirect: redirect, Now: h.door.Book.Now}
	for range 2 {
		if w := h.ask("GET", SignInPath, ""); w.Code != http.StatusServiceUnavailable || len(w.Result().Cookies()) > 0 {
			t.Errorf("nobody there: %d", w.Code)
		}
	}
	h = newHouse(t)
	if w := h.ask("GET", "/api/ways", ""); strings.TrimSpace(w.Body.String()) != "{}" {
		t.Errorf("the ways without a provider: %s", w.Body)
	}
	if w := h.ask("GET", SignInReturn, ""); w.Code != 200 || !strings.Contains(w.Body.String(), "<html") {
		t.Errorf("without a provider it is a page: %d", w.Code)
	}
	for text, ok := range map[string]bool{"https://mesh.example/login/callback": true, "http://localhost:9441/login/callback": true, "http://mesh.example/login/callback": false,
		"https://mesh.example/": false, "https://mesh.example/login/callback?x": false, "ftp://mesh.example/login/callback": false, "": false} {
		if err := CheckRedirect(text); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// Neither a code nor the client's secret goes where somebody could listen in, and no
// redirect takes them along.
func TestSignInEndpoints(t *testing.T) {
	for _, name := range []string{"authorization_endpoint", "token_endpoint", "jwks_uri"} {
		for _, at := range []string{"http://login.example/x", "javascript:alert(1)", "/x", ""} {
			h, p := signedUp(t)
			p.more = map[string]any{name: at}
			if w := h.ask("GET", SignInPath, ""); w.Code != http.StatusServiceUnavailable || len(w.Result().Cookies()) > 0 {
				t.Errorf("%s %q: %d", name, at, w.Code)
			}
		}
	}
	ask := func(method, to string) error {
		r := httptest.NewRequest(method, to, nil)
		return checkProviderRedirect(r, []*http.Request{httptest.NewRequest(method, "https://login.example/", nil)})
	}
	for _, c := range []struct {
		method, to string
		ok         bool
	}{{"GET", "https://login.example/x", true}, {"GET", "http://localhost:1/x", true}, {"GET", "http://login.example/x", false}, {"POST", "https://login.example/x", false}} {
		if err := ask(c.method, c.to); (err == nil) != c.ok {
			t.Errorf("%s redirected to %s: %v", c.method, c.to, err)
		}
	}
}

// A provider that names itself in its answers (RFC 9207) does so in all of them.
func TestSignInNamed(t *testing.T) {
	h, p := signedUp(t)
	p.more = map[string]any{"authorization_response_iss_parameter_supported": true}
	trip, to := h.away()
	u := p.visit(to)
	q := u.Query()
	q.Del("iss")
	u.RawQuery = q.Encode()
	if w := h.back(u, trip); w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "which provider") || p.swaps != 0 {
		t.Errorf("%d %s, %d codes taken back", w.Code, w.Body, p.swaps)
	}
}

// Who isn't logged in learns nothing of the provider's trouble, and can't fill the log
// with its answers.
func TestSignInTrouble(t *testing.T) {
	h, p := signedUp(t)
	var log strings.Builder
	config := h.d.config
	config.Logger = slog.New(slog.NewTextHandler(&log, nil))
	h.d = New(config)
	p.fails = strings.Repeat("inner trouble ", 10_000)
	w := h.ask("GET", SignInPath, "")
	if w.Code != http.StatusServiceUnavailable || strings.Contains(w.Body.String(), "trouble") {
		t.Errorf("%d %.300s", w.Code, w.Body)
	}
	if !strings.Contains(log.String(), "trouble") || log.Len() > 2*maxSaid {
		t.Errorf("%d bytes of log: %.300s", log.Len(), log.String())
	}
}

// Cookies are for TLS where the browser comes back over it, whatever the reverse proxy
// in front says.
func TestSignInSecure(t *testing.T) {
	h, p := signedUp(t)
	for want, to := range map[bool]string{true: "https://mesh.example" + SignInReturn, false: redirect} {
		h.door.SignIn = &SignIn{Issuer: p.URL, ClientID: clientID, Redirect: to, Now: h.door.Book.Now, Client: p.Client()}
		off := h.ask("GET", SignInPath, "", "host", "mesh.example").Result().Cookies()
		back := h.ask("GET", SignInReturn+"?code=x", "", "host", "mesh.example").Result().Cookies()
		for _, c := range append(off, back...) {
			if c.Secure != want {
				t.Errorf("back to %s: %+v", to, c)
			}
		}
		if len(off) != 1 || len(back) != 1 {
			t.Errorf("%d and %d cookies", len(off), len(back))
		}
	}
}
