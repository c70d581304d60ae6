package jwtsvid

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"go.uber.org/goleak"

	"tulle.dev/tulle/internal/ca"
	"tulle.dev/tulle/internal/control/store"
	"tulle.dev/tulle/internal/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var web = identity.ID{TrustDomain: "mesh.local", Namespace: "shop", ServiceAccount: "web"}

// world is a control plane's surroundings with a clock of its own.
type world struct {
	t     *testing.T
	mu    sync.Mutex
	now   time.Time
	dir   string
	keys  ca.Keys
	store store.Store
	held  []Held
}

func newWorld(t *testing.T) *world {
	s := store.NewMemory()
	t.Cleanup(func() { s.Close() })
	dir := t.TempDir()
	return &world{t: t, now: time.Now().UTC().Truncate(time.Second), dir: dir, keys: ca.Files{Dir: filepath.Join(dir, "ca")}, store: s}
}

// another is another control plane of the same mesh.
func (w *world) another() *world {
	dir := w.t.TempDir()
	return &world{t: w.t, now: w.now, dir: dir, keys: ca.Files{Dir: filepath.Join(dir, "ca")}, store: w.store}
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) config() Config {
	c := Config{TrustDomain: "mesh.local", Issuer: "spiffe://mesh.local", Keys: w.keys, Store: w.store,
		File: filepath.Join(w.dir, "jwt-keys.json"), Now: w.clock, Log: slog.New(slog.DiscardHandler)}
	if w.held != nil {
		c.Keys, c.Held = nil, func(context.Context) ([]Held, error) { return w.held, nil }
	}
	return c
}

func (w *world) open() *Authority {
	w.t.Helper()
	a, err := Open(w.config())
	if err != nil {
		w.t.Fatal(err)
	}
	w.turn(a)
	return a
}

// turn does a step, with what others published known.
func (w *world) turn(a *Authority) {
	w.t.Helper()
	items, revision, err := w.store.List(w.t.Context(), prefix)
	if err != nil {
		w.t.Fatal(err)
	}
	c := store.Changes{Revision: revision}
	for _, it := range items {
		c.Events = append(c.Events, store.Event{Item: it})
	}
	a.follow(true, c)
	a.tend(w.t.Context())
}

// pass lets time pass in steps of at most ten minutes.
func (w *world) pass(a *Authority, d time.Duration) {
	w.t.Helper()
	for d > 0 {
		step := min(d, 10*time.Minute)
		w.mu.Lock()
		w.now = w.now.Add(step)
		w.mu.Unlock()
		d -= step
		w.turn(a)
	}
}

func issue(t *testing.T, a *Authority) *Token {
	t.Helper()
	tok, err := a.Issue(web, []string{"payment"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// published says whether the mesh's keys have one.
func has(a *Authority, kid string) bool {
	list, _ := a.Bundle()
	for _, k := range list {
		if k.ID == kid {
			return true
		}
	}
	return false
}

// The SPIFFE library takes a token; what of it is said is right.
func TestToken(t *testing.T) {
	w := newWorld(t)
	a := w.open()
	tok, err := a.Issue(web, []string{"payment", "stock"}, 2*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	td := spiffeid.RequireTrustDomainFromString("mesh.local")
	bundle := jwtbundle.New(td)
	list, _ := a.Bundle()
	if len(list) != 1 || !list[0].Signs || !list[0].Own || list[0].ID != tok.KeyID || !list[0].Until.IsZero() {
		t.Fatalf("keys: %+v", list)
	}
	if err := bundle.AddJWTAuthority(list[0].ID, list[0].Public); err != nil {
		t.Fatal(err)
	}
	got, err := jwtsvid.ParseAndValidate(tok.Text, bundle, []string{"stock"})
	if err != nil {
		t.Fatal(err)
	}
	if got.ID.String() != web.String() || !got.Expiry.Equal(tok.Expires) || tok.Expires.Sub(w.now) != 2*time.Minute || len(got.Claims) != 5 {
		t.Errorf("%s until %s: %v", got.ID, got.Expiry, got.Claims)
	}
	jws, err := jose.ParseSigned(tok.Text, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	h := jws.Signatures[0].Protected
	if h.KeyID != tok.KeyID || h.Algorithm != "ES256" || h.ExtraHeaders["typ"] != "JWT" || len(h.ExtraHeaders) != 1 {
		t.Errorf("header %+v", h)
	}
	for _, c := range []struct{ asked, want time.Duration }{{0, DefaultTTL}, {time.Second, MinTTL}, {48 * time.Hour, MaxTTL}} {
		tok, err := a.Issue(web, []string{"a"}, c.asked)
		if err != nil || tok.Expires.Sub(w.now) != c.want {
			t.Errorf("for %s: until %v, %v; want %s", c.asked, tok, err, c.want)
		}
	}
	if a.Issued() != 4 {
		t.Errorf("%d issued", a.Issued())
	}
}

func TestRefused(t *testing.T) {
	w := newWorld(t)
	a := w.open()
	foreign := identity.ID{TrustDomain: "partner.example", Namespace: "a", ServiceAccount: "b"}
	for name, c := range map[string]struct {
		id       identity.ID
		audience []string
	}{
		"no audience":         {web, nil},
		"an empty one":        {web, []string{"a", " "}},
		"a long one":          {web, []string{strings.Repeat("a", MaxAudience+1)}},
		"no text":             {web, []string{"\xff"}},
		"too many":            {web, make([]string, MaxAudiences+1)},
		"a foreign identity":  {foreign, []string{"a"}},
		"the control plane's": {identity.ControlPlane("mesh.local"), []string{"a"}},
	} {
		if tok, err := a.Issue(c.id, c.audience, 0); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v, %v", name, tok, err)
		}
	}
	for range issueBurst {
		issue(t, a)
	}
	if _, err := a.Issue(web, []string{"a"}, 0); !errors.Is(err, ErrTooMany) {
		t.Errorf("one more than the burst: %v", err)
	}
	cart := web
	cart.ServiceAccount = "cart"
	if _, err := a.Issue(cart, []string{"a"}, 0); err != nil {
		t.Errorf("another identity: %v", err)
	}
}

// Over a week every token is verified by keys that were known long before it was made
// and are until it ends; old keys and their files go.
func TestSchedule(t *testing.T) {
	w := newWorld(t)
	a := w.open()
	type made struct {
		kid  string
		ends time.Time
	}
	var live []made
	seen, kids := map[string]time.Time{}, map[string]bool{}
	for range 7 * 24 * 6 {
		list, _ := a.Bundle()
		for _, k := range list {
			if _, ok := seen[k.ID]; !ok {
				seen[k.ID] = w.now
			}
		}
		tok, err := a.Issue(web, []string{"a"}, MaxTTL)
		if err != nil {
			t.Fatal(err)
		}
		if len(kids) > 0 && !kids[tok.KeyID] && w.now.Sub(seen[tok.KeyID]) < Lead {
			t.Fatalf("a key signs that was published only %s ago", w.now.Sub(seen[tok.KeyID]))
		}
		kids[tok.KeyID] = true
		live = append(live, made{tok.KeyID, tok.Expires})
		w.pass(a, 10*time.Minute)
		for len(live) > 0 && live[0].ends.Before(w.now) {
			live = live[1:]
		}
		for _, m := range live {
			if !has(a, m.kid) {
				t.Fatalf("a token that is good until %s is believed no more", m.ends)
			}
		}
		if list, _ = a.Bundle(); len(list) > 3 {
			t.Fatalf("%d keys", len(list))
		}
	}
	if len(kids) < 6 || len(kids) > 8 {
		t.Errorf("%d keys signed in a week", len(kids))
	}
	files, _ := filepath.Glob(filepath.Join(w.dir, "ca", "*"))
	if len(files) > 6 {
		t.Errorf("old keys lie about: %v", files)
	}
}

// A restart, also one after a long time, goes on with the key that is known.
func TestRestart(t *testing.T) {
	w := newWorld(t)
	a := w.open()
	before := issue(t, a)
	if again := issue(t, w.open()); again.KeyID != before.KeyID {
		t.Error("another key after a restart")
	}
	w.now = w.now.Add(30 * 24 * time.Hour)
	a = w.open()
	if tok := issue(t, a); tok.KeyID != before.KeyID {
		t.Error("a key signs that nobody knows")
	}
	w.pass(a, Lead)
	if tok := issue(t, a); tok.KeyID == before.KeyID || !has(a, before.KeyID) {
		t.Error("the old key signs, or isn't known")
	}
	w.pass(a, Trail+time.Minute)
	if has(a, before.KeyID) {
		t.Error("the old key is still known")
	}
	// Its private key is deleted, by accident: another one takes over.
	files, _ := filepath.Glob(filepath.Join(w.dir, "ca", "*"))
	for _, f := range files {
		os.Remove(f)
	}
	gone := issue(t, a)
	a = w.open()
	if _, err := a.Issue(web, []string{"a"}, 0); !errors.Is(err, ErrNotReady) {
		t.Errorf("signed with nothing: %v", err)
	}
	w.pass(a, newcomer)
	if tok := issue(t, a); tok.KeyID == gone.KeyID || !has(a, gone.KeyID) {
		t.Error("no other key, or what was signed before isn't believed")
	}
	if err := os.WriteFile(filepath.Join(w.dir, "jwt-keys.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(w.config()); err == nil || !strings.Contains(err.Error(), "jwt-keys.json") {
		t.Errorf("a broken list: %v", err)
	}
}

// Keys lie encrypted where the CA's do.
func TestEncrypted(t *testing.T) {
	w := newWorld(t)
	path := filepath.Join(w.dir, "wrapping")
	if err := os.WriteFile(path, []byte(strings.Repeat("x", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	wrapping, err := ca.ReadWrapping(path)
	if err != nil {
		t.Fatal(err)
	}
	clear := ca.Files{Dir: filepath.Join(w.dir, "ca")}
	w.keys = ca.WrappedFiles{Files: clear, Wrapping: wrapping}
	kid := issue(t, w.open()).KeyID
	data, err := os.ReadFile(filepath.Join(clear.Dir, "jwt-1-key.pem"))
	if err != nil || strings.Contains(string(data), "BEGIN PRIVATE KEY") {
		t.Errorf("in the clear: %v", err)
	}
	if issue(t, w.open()).KeyID != kid {
		t.Error("another key after a restart")
	}
	if is, err := ca.Encrypted(clear.Dir); !is || err != nil {
		t.Errorf("encrypted: %v, %v", is, err)
	}
	w.keys = clear
	if _, err := Open(w.config()); err == nil {
		t.Error("opened without the wrapping key")
	}
	note, err := os.ReadFile(filepath.Join(w.dir, "jwt-keys.json"))
	if err != nil || strings.Contains(string(note), "PRIVATE") {
		t.Errorf("the list: %s, %v", note, err)
	}
}

// An operator has the keys changed at once: the new one signs when it can be known,
// the old one is known for as long as what it signed is good.
func TestRotate(t *testing.T) {
	w := newWorld(t)
	a := w.open()
	old := issue(t, a)
	for range 3 { // asking again changes nothing
		if err := a.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if list, _ := a.Bundle(); len(list) != 2 || issue(t, a).KeyID != old.KeyID {
		t.Fatalf("%d keys", len(list))
	}
	w.pass(a, soon)
	tok := issue(t, a)
	if tok.KeyID == old.KeyID || !has(a, old.KeyID) {
		t.Error("the old key signs, or isn't known")
	}
	w.pass(a, Trail)
	if has(a, old.KeyID) {
		t.Error("the old key is still known")
	}
	// The next one that is there already is taken.
	w.pass(a, Life-Lead-Trail)
	if list, _ := a.Bundle(); len(list) != 2 {
		t.Fatalf("%d keys, want the next one too", len(list))
	}
	w.pass(a, time.Minute)
	if err := a.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if list, _ := a.Bundle(); len(list) != 2 || issue(t, a).KeyID == tok.KeyID {
		t.Errorf("the next one doesn't sign, of %d", len(list))
	}
	for range 2 * maxOwn {
		if err := a.Rotate(t.Context()); err != nil {
			if !strings.Contains(err.Error(), "keys already") {
				t.Fatal(err)
			}
			return
		}
		w.pass(a, soon)
	}
	t.Error("keys without bounds")
}

// Those who follow our bundle are given time.
func TestNotice(t *testing.T) {
	w := newWorld(t)
	c := w.config()
	c.Notice = func() time.Duration { return 5 * time.Minute }
	a, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	w.turn(a)
	old := issue(t, a).KeyID
	if err := a.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.pass(a, 4*time.Minute)
	if issue(t, a).KeyID != old {
		t.Error("too early")
	}
	w.pass(a, time.Minute)
	if issue(t, a).KeyID == old {
		t.Error("too late")
	}
}

// Several control planes have keys of their own, and each believes the others'.
func TestSeveral(t *testing.T) {
	w := newWorld(t)
	v := w.another()
	a := w.open()
	b := v.open()
	if _, err := b.Issue(web, []string{"a"}, 0); !errors.Is(err, ErrNotReady) {
		t.Errorf("a key signs that the other one's programs can't know: %v", err)
	}
	w.pass(a, newcomer)
	v.pass(b, newcomer)
	x, y := issue(t, a), issue(t, b)
	if x.KeyID == y.KeyID || !has(a, y.KeyID) || !has(b, x.KeyID) {
		t.Error("they don't know each other's keys")
	}
	_, m := a.Bundle()
	_, n := b.Bundle()
	if m != n || m == 0 {
		t.Errorf("sequences %d and %d", m, n)
	}
	for range 6 * 24 { // both go on
		w.pass(a, 10*time.Minute)
		v.pass(b, 10*time.Minute)
	}
	if y = issue(t, b); !has(a, y.KeyID) {
		t.Error("a day later one doesn't know the other's key")
	}
	if _, more := a.Bundle(); more <= m {
		t.Errorf("sequence %d, was %d", more, m)
	}
	// One that is no more is forgotten.
	w.pass(a, 3*Life)
	if list, _ := a.Bundle(); has(a, y.KeyID) || len(list) > 3 {
		t.Errorf("%d keys", len(list))
	}
	if items, _, _ := w.store.List(t.Context(), prefix); len(items) != 1 {
		t.Errorf("%d control planes in the store", len(items))
	}
	// What can't be an honest list isn't believed.
	for name, text := range map[string]string{"nonsense": "x", "another's id": `[{"id":"a","public":"` + publicText(t) + `","until":"2100-01-01T00:00:00Z"}]`, "no key": `[{"id":"a","public":"AA=="}]`} {
		if list, err := readPublished([]byte(text)); err == nil {
			t.Errorf("%s: %v", name, list)
		}
	}
}

func publicText(t *testing.T) string {
	k, err := newKey(record{}, held(t, "x").Signer)
	if err != nil {
		t.Fatal(err)
	}
	data, _ := json.Marshal(k.Public)
	return strings.Trim(string(data), `"`)
}

// Nothing signs before it is published.
func TestStoreAway(t *testing.T) {
	w := newWorld(t)
	away := &broken{Store: w.store}
	away.down(true)
	c := w.config()
	c.Store = away
	a, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	a.tend(t.Context())
	if _, err := a.Issue(web, []string{"a"}, 0); !errors.Is(err, ErrNotReady) || a.Problem() == nil {
		t.Errorf("%v, %v", err, a.Problem())
	}
	away.down(false)
	a.tend(t.Context())
	kid := issue(t, a).KeyID
	away.down(true)
	if err := a.Rotate(t.Context()); err == nil {
		t.Error("no word of it")
	}
	w.now = w.now.Add(time.Hour)
	if issue(t, a).KeyID != kid {
		t.Error("a key signs that nobody knows")
	}
	away.down(false)
	a.tend(t.Context())
	w.now = w.now.Add(soon)
	if issue(t, a).KeyID == kid || a.Problem() != nil {
		t.Errorf("the new key doesn't sign: %v", a.Problem())
	}
}

type broken struct {
	store.Store
	mu  sync.Mutex
	off bool
}

func (b *broken) down(is bool) { b.mu.Lock(); b.off = is; b.mu.Unlock() }

func (b *broken) Put(ctx context.Context, key string, value []byte, revision int64, lease store.Lease) (int64, error) {
	b.mu.Lock()
	off := b.off
	b.mu.Unlock()
	if off {
		return 0, store.ErrUnavailable
	}
	return b.Store.Put(ctx, key, value, revision, lease)
}

func held(t *testing.T, name string) Held {
	t.Helper()
	k, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return Held{Name: name, Signer: k}
}

// With a signer its keys sign: a new one takes over by itself, nothing is kept here.
func TestSigner(t *testing.T) {
	w := newWorld(t)
	w.held = []Held{}
	a := w.open()
	if _, err := a.Issue(web, []string{"a"}, 0); !errors.Is(err, ErrNotReady) || !strings.Contains(err.Error(), "no key whose name begins") {
		t.Errorf("without a key: %v", err)
	}
	w.held = []Held{held(t, "jwt-1")}
	w.turn(a)
	old := issue(t, a)
	if err := a.Rotate(t.Context()); err != nil || len(a.keys) != 1 {
		t.Errorf("%v, %d keys", err, len(a.keys))
	}
	w.pass(a, 3*Life)
	if issue(t, a).KeyID != old.KeyID {
		t.Error("another key")
	}
	w.held = append(w.held, held(t, "jwt-2"))
	w.turn(a)
	if issue(t, a).KeyID != old.KeyID {
		t.Error("the new one signs before it is known")
	}
	w.pass(a, Lead)
	if issue(t, a).KeyID == old.KeyID || !has(a, old.KeyID) {
		t.Error("the new one doesn't sign, or the old one isn't known")
	}
	w.held = w.held[1:]
	w.turn(a)
	a = w.open()
	if issue(t, a).KeyID == old.KeyID || !has(a, old.KeyID) {
		t.Error("after a restart: the old one signs, or isn't known")
	}
	w.pass(a, Trail+time.Minute)
	if has(a, old.KeyID) {
		t.Error("the old one is still known")
	}
	if files, _ := filepath.Glob(filepath.Join(w.dir, "ca", "*")); len(files) > 0 {
		t.Errorf("keys lie here: %v", files)
	}
	other, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w.held = append(w.held, Held{"jwt-3", crypto.Signer(other)})
	w.turn(a)
	if a.Problem() == nil || !strings.Contains(a.Problem().Error(), "P-256") {
		t.Errorf("a key of another kind: %v", a.Problem())
	}
	issue(t, a)
}

// Run does all that by itself.
func TestRun(t *testing.T) {
	w := newWorld(t)
	a, err := Open(w.config())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { a.Run(ctx); close(done) }()
	defer func() { cancel(); <-done }()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		_, sequence := a.Bundle()
		if _, err := a.Issue(web, []string{"a"}, 0); err == nil && sequence > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("no token")
		}
	}
}
