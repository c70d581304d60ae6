package federation

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	spiffe "github.com/spiffe/go-spiffe/v2/federation"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.uber.org/goleak"

	"tulle.dev/tulle/internal/ca"
	"tulle.dev/tulle/internal/control/jwtsvid"
	"tulle.dev/tulle/internal/control/store"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/mesh"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func authority(t *testing.T, domain identity.TrustDomain) *ca.CA {
	t.Helper()
	a, err := ca.Open(ca.Config{TrustDomain: domain, Keys: &ca.MemoryKeys{}})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func pemOf(roots [][]byte) string {
	var b bytes.Buffer
	for _, der := range roots {
		pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	return b.String()
}

// other is another mesh's control plane, as far as it matters here.
type other struct {
	ca   *ca.CA
	own  *identity.Credentials
	url  string
	down func()
	mu   sync.Mutex
	away bool
}

func newOther(t *testing.T, domain identity.TrustDomain) *other {
	t.Helper()
	o := &other{ca: authority(t, domain), own: new(identity.Credentials)}
	o.renew(t)
	e := &Endpoint{CA: o.ca, Next: http.NotFoundHandler()}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		away := o.away
		o.mu.Unlock()
		if away {
			http.Error(w, "not now", http.StatusServiceUnavailable)
			return
		}
		e.ServeHTTP(w, r)
	}))
	s.Listener = tls.NewListener(s.Listener, o.own.JoinServerConfig("http/1.1", "h2"))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	s.Start()
	t.Cleanup(s.Close)
	o.url = strings.Replace(s.URL, "http:", "https:", 1) + Path
	return o
}

func (o *other) renew(t *testing.T) {
	t.Helper()
	svid, bundle, err := o.ca.Credentials(identity.ControlPlane(o.ca.TrustDomain()), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	o.own.SetBundle(bundle)
	o.own.SetSVID(svid)
}

func (o *other) wanted(bundle string) mesh.Federated {
	d := o.ca.TrustDomain()
	return mesh.Federated{Domain: d, Endpoint: o.url, ID: identity.ControlPlane(d).String(), Bundle: bundle}
}

// running is a Federation under test.
type running struct {
	*Federation
	t    *testing.T
	stop func()
}

func run(t *testing.T, s store.Store) *running {
	t.Helper()
	f := New(Config{Store: s, Changed: func() {}, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { f.Run(ctx); close(done) }()
	r := &running{f, t, sync.OnceFunc(func() { cancel(); <-done })}
	t.Cleanup(r.stop)
	return r
}

// now has everything asked for again at once.
func (r *running) now() {
	r.mu.Lock()
	for _, d := range r.domains {
		d.next = time.Time{}
	}
	r.mu.Unlock()
	select {
	case r.poke <- struct{}{}:
	default:
	}
}

func (r *running) until(what string, cond func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(time.Minute); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("never: %s: %v", what, r.Problems(time.Now()))
		}
	}
}

func (r *running) roots(domain string) int {
	for _, b := range r.Bundles() {
		if b.Name == domain {
			return len(b.Roots)
		}
	}
	return 0
}

func (r *running) fetched() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.domains {
		if !d.Fetched.IsZero() && d.err == nil {
			return true
		}
	}
	return false
}

func (r *running) failed(text string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.domains {
		if d.err != nil && strings.Contains(d.err.Error(), text) {
			return true
		}
	}
	return false
}

func TestDocument(t *testing.T) {
	a := authority(t, "partner.example")
	if err := a.AddRoot(); err != nil {
		t.Fatal(err)
	}
	doc, err := Own(a, nil).Document("partner.example")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"use":"x509-svid"`, `"spiffe_sequence":2`, `"spiffe_refresh_hint":60`} {
		if !strings.Contains(strings.ReplaceAll(string(doc), " ", ""), want) {
			t.Errorf("the document has no %s: %s", want, doc)
		}
	}
	b, err := Parse("partner.example", doc)
	if err != nil || len(b.Roots) != 2 || b.Sequence != 2 || b.Hint != Hint {
		t.Errorf("read back: %+v %v", b, err)
	}
	if b, err = Parse("partner.example", []byte("\n"+pemOf(a.Roots()))); err != nil || len(b.Roots) != 2 {
		t.Errorf("PEM: %+v %v", b, err)
	}
	leafKey, _ := identity.NewKey()
	chain, err := a.Issue(leafKey.Public(), identity.ID{TrustDomain: "partner.example", Namespace: "a", ServiceAccount: "b"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{
		"nothing": "", "not JSON": "hello", "no keys": `{"keys":[]}`, "a JWT key only": `{"keys":[{"kty":"EC","use":"jwt-svid","kid":"a","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}`,
		"a workload's certificate": pemOf(chain[:1]), "something after": pemOf(a.Roots()) + "x", "a key": "-----BEGIN PRIVATE KEY-----\nMA==\n-----END PRIVATE KEY-----\n",
		"too many": strings.Repeat(pemOf(a.Roots()[:1]), maxRoots+1),
	} {
		if b, err := Parse("partner.example", []byte(data)); err == nil {
			t.Errorf("%s was taken: %v", name, b)
		}
	}
}

func tokens(t *testing.T, issuer string) *jwtsvid.Authority {
	t.Helper()
	s := store.NewMemory()
	t.Cleanup(func() { s.Close() })
	a, err := jwtsvid.Open(jwtsvid.Config{TrustDomain: "partner.example", Issuer: issuer, Keys: &ca.MemoryKeys{}, Store: s, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	a.Begin(t.Context())
	return a
}

// The keys of JWT-SVIDs are in the document, and read back from it.
func TestJWTKeys(t *testing.T) {
	a, by := authority(t, "partner.example"), tokens(t, "spiffe://partner.example")
	doc, err := Own(a, by).Document("partner.example")
	if err != nil {
		t.Fatal(err)
	}
	if text := strings.ReplaceAll(string(doc), " ", ""); !strings.Contains(text, `"use":"jwt-svid"`) || strings.Contains(text, `"d":`) {
		t.Errorf("the document: %s", doc)
	}
	b, err := Parse("partner.example", doc)
	list, _ := by.Bundle()
	if err != nil || len(b.JWTKeys) != 1 || !list[0].Public.Equal(b.JWTKeys[list[0].ID]) {
		t.Errorf("read back: %+v, %v", b, err)
	}
	many := &Bundle{Roots: a.Roots(), JWTKeys: map[string]crypto.PublicKey{}}
	for i := range maxJWTKeys + 1 {
		many.JWTKeys[strconv.Itoa(i)] = list[0].Public
	}
	doc, err = many.Document("partner.example")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Parse("partner.example", doc); err == nil {
		t.Error("too many keys are taken")
	}
}

// Secrets and private keys of a careless mesh aren't handed to workloads as keys.
func TestNoSecrets(t *testing.T) {
	a, by := authority(t, "partner.example"), tokens(t, "spiffe://partner.example")
	list, _ := by.Bundle()
	private, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := (&Bundle{Roots: a.Roots(), JWTKeys: map[string]crypto.PublicKey{"good": list[0].Public, "private": private, "secret": []byte("0123456789abcdef0123456789abcdef")}}).Document("partner.example")
	if err != nil || !strings.Contains(string(doc), `"oct"`) {
		t.Fatalf("%v: %s", err, doc)
	}
	b, err := Parse("partner.example", doc)
	if err != nil || len(b.JWTKeys) != 1 || b.JWTKeys["good"] == nil {
		t.Errorf("%v: %+v", err, b)
	}
}

// A verifier that knows OpenID Connect alone takes a token; where the issuer is no URL
// nothing is served for it.
func TestDiscovery(t *testing.T) {
	e := &Endpoint{CA: authority(t, "partner.example"), Next: http.NotFoundHandler()}
	s := httptest.NewTLSServer(e)
	defer s.Close()
	get := func(path string) int {
		resp, err := s.Client().Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	e.Tokens = tokens(t, "spiffe://partner.example")
	if a, b := get(DiscoveryPath), get(KeysPath); a != http.StatusNotFound || b != http.StatusNotFound {
		t.Errorf("for no URL: %d, %d", a, b)
	}
	by := tokens(t, s.URL)
	e.Tokens = by
	ctx := oidc.ClientContext(t.Context(), s.Client())
	provider, err := oidc.NewProvider(ctx, s.URL)
	if err != nil {
		t.Fatal(err)
	}
	id := identity.ID{TrustDomain: "partner.example", Namespace: "shop", ServiceAccount: "web"}
	tok, err := by.Issue(id, []string{"sts.cloud.example"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	got, err := provider.Verifier(&oidc.Config{ClientID: "sts.cloud.example"}).Verify(ctx, tok.Text)
	if err != nil || got.Subject != id.String() || got.Issuer != s.URL {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := provider.Verifier(&oidc.Config{ClientID: "other"}).Verify(ctx, tok.Text); err == nil {
		t.Error("taken for another audience")
	}
}

// go-spiffe reads what we serve, with h2 on offer as it has it.
func TestServedToOthers(t *testing.T) {
	o := newOther(t, "partner.example")
	td := spiffeid.RequireTrustDomainFromString("partner.example")
	bundle := x509bundle.New(td)
	root, err := x509.ParseCertificate(o.ca.Roots()[0])
	if err != nil {
		t.Fatal(err)
	}
	bundle.AddX509Authority(root)
	id := spiffeid.RequireFromString(o.wanted("").ID)
	got, err := spiffe.FetchBundle(t.Context(), td, o.url, spiffe.WithSPIFFEAuth(bundle, id))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.X509Authorities()) != 1 || !got.X509Authorities()[0].Equal(root) {
		t.Errorf("got %v", got)
	}
}

// A bundle is followed over a change of its root, kept while it can't be fetched
// and over a restart, and gone with its name.
func TestFollowed(t *testing.T) {
	s := store.NewMemory()
	defer s.Close()
	o := newOther(t, "partner.example")
	initial := pemOf(o.ca.Roots())
	r := run(t, s)
	r.Want([]mesh.Federated{o.wanted(initial)})
	r.until("a first fetch", r.fetched)
	if err := o.ca.AddRoot(); err != nil {
		t.Fatal(err)
	}
	r.now()
	r.until("both roots", func() bool { return r.roots("partner.example") == 2 })
	if err := errors.Join(o.ca.SwitchRoot(), o.ca.FinishRoot()); err != nil {
		t.Fatal(err)
	}
	o.renew(t)
	r.now()
	r.until("the new root", func() bool {
		b := r.Bundles()
		return len(b) == 1 && len(b[0].Roots) == 1 && bytes.Equal(b[0].Roots[0], o.ca.Roots()[0])
	})
	o.mu.Lock()
	o.away = true
	o.mu.Unlock()
	r.now()
	r.until("a failure", func() bool { return r.failed("503") })
	if p := r.Problems(time.Now()); len(p) != 0 {
		t.Errorf("a failure that is new: %v", p)
	}
	if p := r.Problems(time.Now().Add(2 * stale)); len(p) != 1 || !strings.Contains(p[0], "2h0m0s ago") {
		t.Errorf("one that lasts: %v", p)
	}
	r.stop()
	// Another control plane, and the endpoint is still away: what was fetched holds,
	// not what the object has.
	r = run(t, s)
	r.Want([]mesh.Federated{o.wanted(initial)})
	r.until("the kept bundle", func() bool {
		b := r.Bundles()
		return len(b) == 1 && bytes.Equal(b[0].Roots[0], o.ca.Roots()[0])
	})
	// Unless the object has another.
	stranger := authority(t, "partner.example")
	r.Want([]mesh.Federated{o.wanted(pemOf(stranger.Roots()))})
	r.until("the object's bundle", func() bool {
		b := r.Bundles()
		return len(b) == 1 && bytes.Equal(b[0].Roots[0], stranger.Roots()[0])
	})
	r.Want(nil)
	if b := r.Bundles(); len(b) != 0 {
		t.Errorf("not wanted any more, and still there: %v", b)
	}
	r.until("nothing in the store", func() bool {
		_, err := s.Get(t.Context(), prefix+"partner.example")
		return errors.Is(err, store.ErrNotFound)
	})
}

// An endpoint that doesn't prove who it must be isn't believed.
func TestNotBelieved(t *testing.T) {
	o := newOther(t, "partner.example")
	for name, c := range map[string]struct {
		change func(*mesh.Federated)
		want   string
	}{
		"another root":                 {func(w *mesh.Federated) { w.Bundle = pemOf(authority(t, "partner.example").Roots()) }, "certificate signed by unknown authority"},
		"another id":                   {func(w *mesh.Federated) { w.ID = "spiffe://partner.example/ns/a/sa/b" }, "unexpected ID"},
		"no bundle of the id's domain": {func(w *mesh.Federated) { w.ID = "spiffe://third.example/server" }, "no bundle of third.example"},
		"the public web's roots":       {func(w *mesh.Federated) { w.Web, w.ID, w.Bundle = true, "", "" }, "x509"},
		"another page":                 {func(w *mesh.Federated) { w.Endpoint += "/x" }, "404"},
	} {
		t.Run(name, func(t *testing.T) {
			s := store.NewMemory()
			defer s.Close()
			w := o.wanted(pemOf(o.ca.Roots()))
			c.change(&w)
			r := run(t, s)
			r.Want([]mesh.Federated{w})
			r.until("the refusal", func() bool { return r.failed(c.want) })
			if p := r.Problems(time.Now().Add(2 * first)); len(p) != 1 {
				t.Errorf("problems: %v", p)
			}
			r.stop()
		})
	}
}

// With a certificate of the public web no bundle is needed to begin with; what
// isn't a document, is too large or elsewhere isn't followed.
func TestWeb(t *testing.T) {
	a := authority(t, "partner.example")
	e := &Endpoint{CA: a, Next: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, Path, http.StatusFound)
		case "/large":
			w.Write(make([]byte, maxAnswer+1))
		case "/pem":
			w.Write([]byte(pemOf(a.Roots())))
		}
	})}
	s := httptest.NewTLSServer(e)
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	memory := store.NewMemory()
	defer memory.Close()
	f := New(Config{Store: memory, Changed: func() {}, Roots: roots, Log: slog.New(slog.DiscardHandler)})
	for path, want := range map[string]string{Path: "", "/moved": "302", "/large": "larger", "/pem": "isn't a SPIFFE bundle"} {
		_, b, err := f.fetch(t.Context(), &domain{Federated: mesh.Federated{Domain: "partner.example", Endpoint: s.URL + path, Web: true}})
		if want == "" && (err != nil || len(b.Roots) != 1) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v %v, want %q", path, b, err, want)
		}
	}
	if e.Dwell() < Hint {
		t.Error("whoever follows the bundle isn't given time")
	}
	other := &Endpoint{}
	other.KeysFollowed()
	if other.Dwell() != 0 || other.Notice() < Hint || e.Notice() < Hint {
		t.Error("who follows the keys alone holds a change of the root up, or isn't given time")
	}
	if (&Endpoint{}).Dwell() != 0 {
		t.Error("nobody follows it, and still there is a wait")
	}
	resp := httptest.NewRecorder()
	e.ServeHTTP(resp, httptest.NewRequest(http.MethodPost, Path, nil))
	if resp.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", resp.Code)
	}
}

func FuzzParse(f *testing.F) {
	a, err := ca.Open(ca.Config{TrustDomain: "partner.example", Keys: &ca.MemoryKeys{}})
	if err != nil {
		f.Fatal(err)
	}
	doc, _ := Own(a, nil).Document("partner.example")
	f.Add(doc)
	f.Add([]byte(pemOf(a.Roots())))
	f.Add([]byte(`{"keys":[{"use":"x509-svid"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := Parse("partner.example", data)
		if err != nil {
			return
		}
		if _, err := identity.NewBundle(map[identity.TrustDomain][][]byte{"partner.example": b.Roots}); err != nil || len(b.Roots) == 0 {
			t.Errorf("taken, and proxies would refuse it: %v", err)
		}
	})
}
