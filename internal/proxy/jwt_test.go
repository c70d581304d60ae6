package proxy_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"tulle.dev/tulle/internal/access"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy"
	"tulle.dev/tulle/internal/proxy/story"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/view"
)

// tokens is an issuer of tokens.
type tokens struct {
	name string
	key  crypto.Signer
	alg  jose.SignatureAlgorithm
}

func newTokens(t testing.TB, name string, c elliptic.Curve, alg jose.SignatureAlgorithm) *tokens {
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &tokens{name, k, alg}
}

// policy believes the issuer.
func (i *tokens) policy(t testing.TB) policy.Issuer {
	b, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: i.key.Public(), KeyID: "1", Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	return policy.Issuer{Name: i.name, Keys: b, Audiences: []string{"shop"}, Claims: []policy.ClaimHeader{
		{Claim: "sub", Header: "X-User"}, {Claim: "realm.roles", Header: "X-Roles"}}}
}

// issue makes a token for a while.
func (i *tokens) issue(t testing.TB, life time.Duration, more string) string {
	t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: i.alg, Key: jose.JSONWebKey{Key: i.key, KeyID: "1"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	j, err := s.Sign(fmt.Appendf(nil, `{"iss":%q,"aud":"shop","exp":%d%s}`, i.name, time.Now().Add(life).Unix(), more))
	if err != nil {
		t.Fatal(err)
	}
	c, err := j.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// received tells which of the fields in question the program got.
func received(w http.ResponseWriter, r *http.Request) {
	for _, name := range []string{"X-User", "X_user", "X-Roles", "Authorization", "X-Token", "X-Checked", "X-Gone", "X-Many", "Tulle-Client-Identity"} {
		if v, ok := r.Header[http.CanonicalHeaderKey(name)]; ok {
			fmt.Fprintf(w, "%s=%s;", name, strings.Join(v, "+"))
		}
	}
}

// askWith asks with fields, "Name: value" each.
func askWith(t testing.TB, c *http.Client, url string, fields ...string) (int, http.Header, string) {
	t.Helper()
	r, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "cart"
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		r.Header[name] = append(r.Header[name], value)
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

// bearing runs a proxy that looks for tokens: an edge, or cart's sidecar behind
// web's. url is where clients go.
func bearing(t *testing.T, where string, app netip.AddrPort, g *policy.Guard, loops int) (p *running, url string) {
	t.Helper()
	if where == "edge" {
		v := edgeView(app)
		v.Proxy.Listeners[0].Inbound = &policy.Inbound{Guard: g}
		p = start(t, v, loops)
		return p, "http://" + p.addr(t, "http")
	}
	v := serverView(app)
	v.Proxy.Listeners[0].Inbound = &policy.Inbound{Guard: g}
	p = start(t, v, loops)
	web := start(t, callerView(webID, p.addr(t, "in"), view.Detect, view.PeerHTTP2), 1)
	return p, "http://" + web.addr(t, "out")
}

// TestJWT: who bears a token that holds is known to rules and to the program, who
// bears another is refused, and nobody else can tell the program who they are.
func TestJWT(t *testing.T) {
	is := newTokens(t, "https://issuer.example", elliptic.P256(), jose.ES256)
	other := newTokens(t, is.name, elliptic.P256(), jose.ES256)
	admins := &access.Spec{Default: access.Allow, Rules: []access.Rule{{Name: "r", Action: access.Allow, To: []access.Operation{{Paths: paths("/open")}}},
		{Name: "admins", Action: access.Allow, To: []access.Operation{{Paths: paths("/admin")}}, When: []access.Claim{{Name: "realm.roles", Values: []string{"admin"}}}}}}
	admins.Default = access.Deny
	for _, where := range []string{"edge", "inbound"} {
		for _, two := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/http2=%v", where, two), func(t *testing.T) {
				eachLoops(t, func(t *testing.T, loops int) {
					p, url := bearing(t, where, program(t, received), &policy.Guard{JWT: &policy.JWT{Issuers: []policy.Issuer{is.policy(t)}}, Access: admins}, loops)
					c := client(t, two)
					admin := "Authorization: Bearer " + is.issue(t, time.Hour, `,"sub":"anna","realm":{"roles":["buyer","admin"]}`)
					buyer := "Authorization: bearer " + is.issue(t, time.Hour, `,"sub":"bert","realm":{"roles":["buyer"]}`)
					spoof := []string{"X-User: root", "X_user: root", "x-roles: admin"}
					for _, test := range []struct {
						name, path string
						fields     []string
						code       int
						want       string // of the body, or of WWW-Authenticate
					}{
						{"nobody", "/open", nil, 200, ""},
						{"nobody who says so", "/open", spoof, 200, ""},
						{"nobody", "/admin", spoof, 403, ""},
						{"an admin", "/admin", append([]string{admin}, spoof...), 200, "X-User=anna;X-Roles=buyer,admin;"},
						{"an admin again", "/admin", []string{admin}, 200, "X-User=anna;X-Roles=buyer,admin;"},
						{"a buyer", "/open", []string{buyer}, 200, "X-User=bert;X-Roles=buyer;"},
						{"a buyer", "/admin", []string{buyer}, 403, ""},
						{"another scheme", "/open", []string{"Authorization: Basic eDp5"}, 200, "Authorization=Basic eDp5;"},
						{"forged", "/open", []string{"Authorization: Bearer " + other.issue(t, time.Hour, "")}, 401, `Bearer error="invalid_token", error_description="its signature does not match"`},
						{"expired", "/open", []string{"Authorization: Bearer " + is.issue(t, -2*time.Minute, "")}, 401, `Bearer error="invalid_token", error_description="it has expired"`},
						{"opaque", "/open", []string{"Authorization: Bearer abc"}, 401, `Bearer error="invalid_token", error_description="it is no signed JSON Web Token"`},
						{"too long", "/open", []string{"Authorization: Bearer " + strings.Repeat("a", 17<<10)}, 401, `Bearer error="invalid_token", error_description="it is too long"`},
						{"two", "/open", []string{admin, "Authorization: Bearer junk"}, 200, "X-User=anna;X-Roles=buyer,admin;"},
					} {
						code, h, body := askWith(t, c, url+test.path, test.fields...)
						body = strings.TrimSuffix(body, "Tulle-Client-Identity="+webID+";")
						if got := body; code == 401 {
							got = h.Get("WWW-Authenticate")
							if got != test.want || !strings.Contains(h.Get("Proxy-Status"), "http_request_denied") || h.Get("Tulle-Id") == "" {
								t.Errorf("%s: %s %v", test.name, body, h)
							}
						} else if code == 200 && got != test.want {
							t.Errorf("%s: the program got %q, want %q", test.name, got, test.want)
						}
						if code != test.code {
							t.Errorf("%s at %s: %d, want %d", test.name, test.path, code, test.code)
						}
					}
					m := p.metrics(t)
					service := map[string]string{"edge": "", "inbound": cart}[where]
					for outcome, n := range map[string]int{`issuer="",outcome="missing"`: 4, `issuer="https://issuer.example",outcome="valid"`: 5,
						`issuer="https://issuer.example",outcome="bad_signature"`: 1, `issuer="https://issuer.example",outcome="expired"`: 1, `issuer="",outcome="malformed"`: 2} {
						want := fmt.Sprintf("tulle_jwt_total{direction=%q,service=%q,%s} %d\n", where, service, outcome, n)
						if !strings.Contains(m, want) {
							t.Errorf("no %s in\n%s", want, m)
						}
					}
					if told := fmt.Sprintf("%+v", p.Stories(story.Query{Last: 20})); !strings.Contains(told, "its signature does not match") {
						t.Errorf("no story of it: %s", told)
					}
				})
			})
		}
	}
}

// TestJWTRequired: where a token is needed, redirects need one too; a rule's policy
// goes before the listener's; tokens that are forwarded stay, others don't.
func TestJWTRequired(t *testing.T) {
	is := newTokens(t, "https://issuer.example", elliptic.P384(), jose.ES384)
	second := newTokens(t, "https://second.example", elliptic.P521(), jose.ES512)
	forwarded, elsewhere := is.policy(t), second.policy(t)
	forwarded.Forward = true
	elsewhere.Headers = []policy.TokenHeader{{Name: "x-token"}, {Name: "X-Other", Prefix: "JWT="}}
	v := edgeView(program(t, received))
	l := &v.Proxy.Listeners[0]
	l.Inbound = &policy.Inbound{Guard: &policy.Guard{JWT: &policy.JWT{Required: true, Issuers: []policy.Issuer{forwarded}}}}
	rules := l.Routes.Hosts[0].Rules
	l.Routes.Hosts[0].Rules = append([]route.Rule{
		{Name: "moved", Matches: prefix("/moved"), Filters: route.Filters{Redirect: &route.Redirect{Status: 301, Host: "new.example"}}},
		{Name: "second", Matches: prefix("/second"), Backends: rules[0].Backends,
			Policy: &policy.Request{Guard: &policy.Guard{JWT: &policy.JWT{Required: true, Issuers: []policy.Issuer{elsewhere}}}}},
	}, rules...)
	p := start(t, v, 2)
	url := "http://" + p.addr(t, "http")
	c := client(t, false)
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	token, another := is.issue(t, time.Hour, `,"sub":"anna"`), second.issue(t, time.Hour, `,"sub":"bert"`)
	for _, test := range []struct {
		path  string
		field string
		code  int
		want  string
	}{
		{"/", "A: b", 401, "A token is needed.\n"},
		{"/", "Authorization: Bearer " + token, 200, "X-User=anna;Authorization=Bearer " + token + ";"},
		{"/", "Authorization: Bearer " + another, 401, "The token is not valid: its issuer is not known.\n"},
		{"/moved", "A: b", 401, "A token is needed.\n"},
		{"/moved", "Authorization: Bearer junk", 401, ""},
		{"/moved", "Authorization: Bearer " + token, 301, ""},
		{"/moved", "Authorization: Bearer " + is.issue(t, time.Hour, `,"sub":"new"`), 301, ""},
		{"/second", "Authorization: Bearer " + token, 401, "A token is needed.\n"},
		{"/second", "X-Token: " + another, 200, "X-User=bert;"},
		{"/second", "X-Other: jwt=" + another, 200, "X-User=bert;"},
		{"/second", "X-Other: " + another, 401, "A token is needed.\n"},
	} {
		code, h, body := askWith(t, c, url+test.path, test.field)
		if code != test.code || test.want != "" && body != test.want {
			t.Errorf("%s with %.40s: %d %q", test.path, test.field, code, body)
		}
		if got := h.Values("Location"); code == 301 && len(got) != 1 || code == 401 && len(got) != 0 {
			t.Errorf("%s with %.40s: Location %q", test.path, test.field, got)
		}
	}
}

// TestJWTDenied: a JWT-SVID isn't believed any more once its identity is denied, also
// where it was verified before.
func TestJWTDenied(t *testing.T) {
	is := newTokens(t, "spiffe://mesh.local", elliptic.P256(), jose.ES256)
	believed := is.policy(t)
	believed.Domain = "mesh.local"
	p, url := bearing(t, "sidecar", program(t, received), &policy.Guard{JWT: &policy.JWT{Issuers: []policy.Issuer{believed}}}, 1)
	id, err := identity.Parse("spiffe://mesh.local/ns/shop/sa/batch")
	if err != nil {
		t.Fatal(err)
	}
	c := client(t, false)
	field := func(sub string) string { return "Authorization: Bearer " + is.issue(t, time.Hour, `,"sub":"`+sub+`"`) }
	batch, cart := field(id.String()), field("spiffe://mesh.local/ns/shop/sa/cart")
	expect := func(field string, want int, text string) {
		t.Helper()
		if code, _, body := askWith(t, c, url, field); code != want || !strings.Contains(body, text) {
			t.Errorf("%d %q, want %d %q", code, body, want, text)
		}
	}
	expect(batch, 200, "X-User="+id.String())
	expect(cart, 200, "X-User=")
	expect(field("spiffe://partner.example/ns/shop/sa/cart"), 401, "not of its issuer's trust domain")
	p.credentials.SetBundle(p.credentials.Bundle().Deny([]identity.ID{id}))
	expect(batch, 401, "its subject is denied")
	expect(cart, 200, "X-User=")
	for _, outcome := range []string{"denied", "wrong_subject"} {
		if !strings.Contains(p.metrics(t), `outcome="`+outcome+`"`) {
			t.Errorf("%s isn't counted", outcome)
		}
	}
}

func TestJWTGRPC(t *testing.T) {
	is := newTokens(t, "https://issuer.example", elliptic.P256(), jose.ES256)
	_, url := bearing(t, "edge", grpcProgram(t, "app"), &policy.Guard{JWT: &policy.JWT{Required: true, Issuers: []policy.Issuer{is.policy(t)}}}, 2)
	c := grpcClient(t, strings.TrimPrefix(url, "http://"))
	for token, want := range map[string]codes.Code{"": codes.Unauthenticated, "junk": codes.Unauthenticated, is.issue(t, time.Hour, ""): codes.OK} {
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		defer cancel()
		if token != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
		}
		in, out := []byte("x"), []byte(nil)
		if err := c.Invoke(ctx, "/test.Echo/Unary", &in, &out); status.Code(err) != want {
			t.Errorf("%.10q: %v, want %s", token, err, want)
		}
	}
}

// TestJWTBurst: requests that come while their token is being verified wait for it,
// and those whose clients leave meanwhile do no harm.
func TestJWTBurst(t *testing.T) {
	is := newTokens(t, "https://issuer.example", elliptic.P521(), jose.ES512) // slow
	eachLoops(t, func(t *testing.T, loops int) {
		p, url := bearing(t, "edge", program(t, received), &policy.Guard{JWT: &policy.JWT{Required: true, Issuers: []policy.Issuer{is.policy(t)}}}, loops)
		c := client(t, true)
		var all sync.WaitGroup
		for i := range 200 {
			token := is.issue(t, time.Hour, fmt.Sprintf(`,"sub":"u%d"`, i%4))
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), wait)
				defer cancel()
				if i%10 == 9 {
					time.AfterFunc(time.Duration(i)*10*time.Microsecond, cancel)
				}
				r, _ := http.NewRequestWithContext(ctx, "GET", url, nil)
				r.Header.Set("Authorization", "Bearer "+token)
				resp, err := c.Do(r)
				if err != nil {
					if i%10 != 9 {
						t.Error(err)
					}
					return
				}
				defer resp.Body.Close()
				b, err := io.ReadAll(resp.Body)
				if want := fmt.Sprintf("X-User=u%d;", i%4); i%10 != 9 && (err != nil || resp.StatusCode != 200 || string(b) != want) {
					t.Errorf("%d: %d %q %v, want %q", i, resp.StatusCode, b, err, want)
				}
			})
		}
		all.Wait()
		if m := p.metrics(t); strings.Contains(m, `outcome="overload"`) {
			t.Error("too few at once")
		}
	})
}

// TestJWTAllocations: a token that was verified, its claims in rules and in fields
// cost no memory.
func TestJWTAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates: make test runs this again without it")
	}
	is := newTokens(t, "https://issuer.example", elliptic.P256(), jose.ES256)
	v := edgeView(serve(t, fixedBackend(benchAnswer)))
	v.Proxy.Listeners[0].Inbound = &policy.Inbound{Guard: &policy.Guard{JWT: &policy.JWT{Required: true, Issuers: []policy.Issuer{is.policy(t)}},
		Access: &access.Spec{Rules: []access.Rule{{Name: "r", Action: access.Allow, When: []access.Claim{{Name: "realm.roles", Values: []string{"admin"}}}}}}}}
	addr := start(t, v, 1).addr(t, "http")
	request := strings.Replace(benchRequest, "Accept:", "Authorization: Bearer "+is.issue(t, time.Hour, `,"sub":"anna","realm":{"roles":["buyer","admin"]}`)+"\r\nAccept:", 1)
	const n = 2000
	exchangeOf(t, addr, request, 1) // warm
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	exchangeOf(t, addr, request, n)
	runtime.ReadMemStats(&after)
	if per := float64(after.Mallocs-before.Mallocs) / n; per > 0.5 { // opening the client's connection allocates too
		t.Errorf("%.2f allocations a request", per)
	}
}

// held runs computations when it is told to.
type held struct {
	mu   sync.Mutex
	open bool
	list []func()
}

func (h *held) Run(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open {
		go f()
		return
	}
	h.list = append(h.list, f)
}

func (h *held) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open = true
	for _, f := range h.list {
		go f()
	}
}

// TestJWTMany: more tokens than may wait to be verified are refused at once; the
// log says what was refused, a few times a second.
func TestJWTMany(t *testing.T) {
	const room, more = 1 + 1024, 30 // one is being verified, the others wait
	is := newTokens(t, "https://issuer.example", elliptic.P256(), jose.ES256)
	v := edgeView(program(t, received))
	v.Proxy.Listeners[0].Inbound = &policy.Inbound{Guard: &policy.Guard{JWT: &policy.JWT{Issuers: []policy.Issuer{is.policy(t)}}}}
	steps, log := &held{}, &written{}
	p := startWith(t, v, proxy.Config{Loops: 1, Steps: steps, Log: slog.New(slog.NewTextHandler(log, nil))})
	c := client(t, true)
	var all sync.WaitGroup
	var refused, wrong atomic.Int64
	for i := range room + more {
		all.Go(func() {
			r, _ := http.NewRequest("GET", "http://"+p.addr(t, "http")+"/x?secret", nil)
			r.Header.Set("Authorization", fmt.Sprintf("Bearer a.b.%d", i))
			resp, err := c.Do(r)
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
			switch resp.StatusCode {
			case 401:
				wrong.Add(1)
			case 503:
				if resp.Header.Get("Retry-After") == "" {
					t.Error("no Retry-After")
				}
				if refused.Add(1) == more {
					steps.release()
				}
			default:
				t.Errorf("status %d", resp.StatusCode)
			}
		})
	}
	all.Wait()
	if wrong.Load() != room || refused.Load() != more {
		t.Errorf("%d were looked at, %d refused", wrong.Load(), refused.Load())
	}
	for outcome, n := range map[string]int{"malformed": room, "overload": more} {
		if m, want := p.metrics(t), fmt.Sprintf(`tulle_jwt_total{direction="edge",service="",issuer="",outcome=%q} %d`, outcome, n); !strings.Contains(m, want) {
			t.Errorf("no %s in\n%s", want, m)
		}
	}
	comes(t, "a line in the log", func() bool { return strings.Contains(log.String(), "token refused") })
	if got := log.String(); !strings.Contains(got, "outcome=malformed") || !strings.Contains(got, "path=/x ") || strings.Contains(got, "secret") || strings.Contains(got, "a.b.") || strings.Count(got, "\n") > 40 {
		t.Errorf("%s", got)
	}
}

// TestJWTTrailers: what only the proxy may say isn't believed behind the content
// either.
func TestJWTTrailers(t *testing.T) {
	is := newTokens(t, "https://issuer.example", elliptic.P256(), jose.ES256)
	_, url := bearing(t, "edge", program(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, r.Trailer)
	}), &policy.Guard{JWT: &policy.JWT{Issuers: []policy.Issuer{is.policy(t)}}}, 1)
	for _, two := range []bool{false, true} {
		r, err := http.NewRequest("POST", url, io.MultiReader(strings.NewReader("x")))
		if err != nil {
			t.Fatal(err)
		}
		r.Trailer = http.Header{"X-User": {"root"}, "X_roles": {"admin"}, "X-Mark": {"1"}}
		resp, err := client(t, two).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if got := string(b); err != nil || strings.Contains(got, "root") || strings.Contains(got, "admin") || !strings.Contains(got, "X-Mark:[1]") {
			t.Errorf("http2=%v: the program got %q, %v", two, got, err)
		}
	}
}
