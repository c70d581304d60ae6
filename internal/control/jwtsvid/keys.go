package jwtsvid

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"tulle.dev/tulle/internal/ca"
	"tulle.dev/tulle/internal/control/store"
	"tulle.dev/tulle/internal/identity"
)

// This file is the life of keys: made, published, signing, published still, gone.

const (
	// prefix is where public keys are in the store, one item for each control plane.
	prefix = "/tulle/jwt-keys/"
	// KeyName begins the names of private keys, here and with a signer.
	KeyName = "jwt"
	// maxOwn bounds the keys of one control plane: with one a day there are three, and
	// those that an operator asks for in between.
	maxOwn = 16
)

// key is one of our own keys. Immutable.
type key struct {
	record
	public *ecdsa.PublicKey
	signer jose.Signer // nil when the private key isn't there
}

// record is a key as it is written down.
type record struct {
	Name string `json:"name"`
	ID   string `json:"id"`
	// Public is its SubjectPublicKeyInfo, DER.
	Public []byte    `json:"public"`
	From   time.Time `json:"from"`
	// Notice is for how long it must have been published before it signs.
	Notice    time.Duration `json:"notice,omitempty"`
	Published time.Time     `json:"published,omitzero"`
	// Gone is when its private key was found to be missing.
	Gone time.Time `json:"gone,omitzero"`
}

// note is what the file has.
type note struct {
	Instance string   `json:"instance"`
	Number   int      `json:"number"`
	Keys     []record `json:"keys"`
}

// published is a key as other control planes are told.
type published struct {
	ID     string    `json:"id"`
	Public []byte    `json:"public"`
	From   time.Time `json:"from"`
	Until  time.Time `json:"until"`
}

// until is when a key isn't published any more: Trail after the next one signs; zero
// while there is none.
func until(keys []*key, i int) time.Time {
	if k := keys[i]; !k.Gone.IsZero() {
		return k.Gone.Add(Trail)
	}
	for _, k := range keys[i+1:] {
		if k.Gone.IsZero() && !k.Published.IsZero() {
			return k.From.Add(Trail)
		}
	}
	return time.Time{}
}

// thumbprint is a public key's kid (RFC 7638).
func thumbprint(public *ecdsa.PublicKey) (string, error) {
	sum, err := (&jose.JSONWebKey{Key: public}).Thumbprint(crypto.SHA256)
	return base64.RawURLEncoding.EncodeToString(sum), err
}

func readPublic(der []byte) (*ecdsa.PublicKey, error) {
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, err
	}
	k, ok := parsed.(*ecdsa.PublicKey)
	if !ok || k.Curve != elliptic.P256() {
		return nil, errors.New("it is no P-256 key")
	}
	return k, nil
}

// newKey makes what is known of a private key. The signer is nil without one.
func newKey(r record, private crypto.Signer) (*key, error) {
	k := &key{record: r}
	var err error
	if private != nil {
		public, ok := private.Public().(*ecdsa.PublicKey)
		if !ok || public.Curve != elliptic.P256() {
			return nil, fmt.Errorf("the key %s is a %T: JWT-SVIDs are signed with ECDSA P-256 (ES256)", r.Name, private.Public())
		}
		if k.ID, err = thumbprint(public); err != nil {
			return nil, err
		}
		if r.ID != "" && r.ID != k.ID {
			return nil, fmt.Errorf("the key %s is another one than is written down", r.Name)
		}
		if k.Public, err = x509.MarshalPKIXPublicKey(public); err != nil {
			return nil, err
		}
		if k.signer, err = signerOf(private, k.ID); err != nil {
			return nil, err
		}
	}
	if k.public, err = readPublic(k.Public); err != nil {
		return nil, fmt.Errorf("the key %s: %w", r.Name, err)
	}
	return k, nil
}

// Open makes an Authority with the keys that there are; Run makes the first one.
func Open(c Config) (*Authority, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Notice == nil {
		c.Notice = func() time.Duration { return 0 }
	}
	a := &Authority{config: c, wake: make(chan struct{}, 1), others: map[string][]Key{}, limits: ca.Limits{Burst: issueBurst, Every: issueEvery}}
	return a, a.load()
}

func (a *Authority) load() error {
	var n note
	data, err := os.ReadFile(a.config.File)
	if err == nil {
		err = json.Unmarshal(data, &n)
	}
	if err != nil && a.config.File != "" && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the list of the keys of JWT-SVIDs: %s: %w", a.config.File, err)
	}
	if a.instance, a.number = n.Instance, n.Number; a.instance == "" {
		a.instance = strings.ToLower(rand.Text()[:12])
	}
	for _, r := range n.Keys[:min(len(n.Keys), maxOwn)] {
		var private crypto.Signer
		if a.config.Held == nil && r.Gone.IsZero() {
			private, _, err = a.config.Keys.Load(r.Name)
			if errors.Is(err, fs.ErrNotExist) {
				a.config.Log.Warn("a key of JWT-SVIDs isn't there any more; what it signed is good still", "name", r.Name)
				r.Gone = a.config.Now()
			} else if err != nil {
				return fmt.Errorf("the keys of JWT-SVIDs: %w", err)
			}
		}
		k, err := newKey(r, private)
		if err != nil {
			return fmt.Errorf("the keys of JWT-SVIDs: %s: %w", a.config.File, err)
		}
		a.keys = append(a.keys, k)
	}
	return nil
}

// Run makes, publishes and drops keys, and follows those of other control planes,
// until the context ends.
func (a *Authority) Run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { _ = store.Follow(ctx, a.config.Store, prefix, a.follow) }) // ends with the context
	t := time.NewTicker(look)
	defer t.Stop()
	for {
		a.tend(ctx)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-a.wake:
		}
	}
}

// tend does what is due, and says once what it couldn't.
func (a *Authority) tend(ctx context.Context) {
	a.step.Lock()
	defer a.step.Unlock()
	err := a.turn(ctx)
	if ctx.Err() != nil {
		return
	}
	a.mu.Lock()
	before := a.failure
	a.failure = err
	a.mu.Unlock()
	if err != nil && (before == nil || before.Error() != err.Error()) {
		a.config.Log.Error("the keys of JWT-SVIDs can't be renewed", "error", err)
	}
}

// turn is one step. The caller holds step.
func (a *Authority) turn(ctx context.Context) error {
	var err error
	if a.config.Held != nil {
		err = a.list(ctx)
	} else if now := a.config.Now(); len(a.keys) == 0 || a.newest() == nil || !now.Before(a.newest().From.Add(Life-Lead)) {
		notice, from := Lead, now
		if n := a.newest(); n != nil {
			from = n.From.Add(Life)
		} else if notice, err = a.first(ctx); err != nil {
			return err
		}
		err = a.add(from, notice)
	}
	a.drop()
	a.forget(ctx)
	return errors.Join(err, a.publish(ctx))
}

// Begin makes the first key where there is none yet, so that tokens can be had at
// once. Run goes on from there.
func (a *Authority) Begin(ctx context.Context) { a.tend(ctx) }

// forget clears away what control planes published that are no more.
func (a *Authority) forget(ctx context.Context) {
	now := a.config.Now()
	var ended []string
	a.mu.Lock()
	for instance, list := range a.others {
		if !slices.ContainsFunc(list, func(k Key) bool { return now.Before(k.Until) }) {
			ended = append(ended, instance)
		}
	}
	a.mu.Unlock()
	for _, instance := range ended {
		_, _ = a.config.Store.Delete(ctx, prefix+instance, store.AnyRevision) // tried again
	}
}

// newest is the newest key that can sign, now or later.
func (a *Authority) newest() *key {
	for _, k := range slices.Backward(a.keys) {
		if k.Gone.IsZero() {
			return k
		}
	}
	return nil
}

// first is for how long the first key is published before it signs: nobody must wait
// for it in a new mesh.
func (a *Authority) first(ctx context.Context) (time.Duration, error) {
	items, _, err := a.config.Store.List(ctx, prefix)
	for _, it := range items {
		if list, err := readPublished(it.Value); err != nil || len(list) > 0 {
			return newcomer, nil
		}
	}
	return 0, err
}

// add makes a key that signs no sooner than from.
func (a *Authority) add(from time.Time, notice time.Duration) error {
	if len(a.keys) >= maxOwn {
		return fmt.Errorf("there are %d keys already; the oldest goes %s after the next one signs", len(a.keys), Trail)
	}
	private, err := identity.NewKey()
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%s-%d", KeyName, a.number+1)
	k, err := newKey(record{Name: name, From: from.UTC(), Notice: notice}, private)
	if err != nil {
		return err
	}
	// A key lies there with a certificate, as all of the CA's do. Nobody trusts this one.
	now := a.config.Now()
	t := &x509.Certificate{Subject: pkix.Name{CommonName: "Tulle JWT-SVIDs of " + string(a.config.TrustDomain)}, SerialNumber: big.NewInt(1), NotBefore: now, NotAfter: now.Add(Life)}
	der, err := x509.CreateCertificate(rand.Reader, t, t, private.Public(), private)
	if err == nil {
		err = a.config.Keys.Save(name, private, [][]byte{der})
	}
	if err != nil {
		return fmt.Errorf("a new key can't be kept: %w", err)
	}
	a.number++
	return a.set(append(slices.Clone(a.keys), k))
}

// list takes in which keys a signer has.
func (a *Authority) list(ctx context.Context) error {
	held, err := a.config.Held(ctx)
	if err != nil {
		return err
	}
	now := a.config.Now()
	next := slices.Clone(a.keys)
	for i, k := range next {
		at := slices.IndexFunc(held, func(h Held) bool { return h.Name == k.Name })
		if at < 0 {
			if k.Gone.IsZero() {
				other := *k
				other.Gone = now.UTC()
				next[i] = &other
			}
			continue
		}
		if r := k.record; k.signer == nil || !k.Gone.IsZero() {
			r.Gone = time.Time{}
			if next[i], err = newKey(r, held[at].Signer); err != nil {
				return err
			}
		}
	}
	for _, h := range held {
		if slices.ContainsFunc(next, func(k *key) bool { return k.Name == h.Name }) {
			continue
		}
		notice := Lead
		if len(next) == 0 {
			if notice, err = a.first(ctx); err != nil {
				return err
			}
		}
		k, err := newKey(record{Name: h.Name, From: now.UTC(), Notice: notice}, h.Signer)
		if err != nil {
			return err
		}
		if next = append(next, k); len(next) > maxOwn {
			return fmt.Errorf("the signer has more than %d keys named %s…", maxOwn, KeyName)
		}
	}
	if !slices.ContainsFunc(next, func(k *key) bool { return k.Gone.IsZero() }) {
		err = fmt.Errorf("the signer has no key whose name begins with %q: make one there, ECDSA P-256, to have JWT-SVIDs", KeyName)
	}
	if slices.Equal(next, a.keys) {
		return err
	}
	return errors.Join(err, a.set(next))
}

// drop forgets keys of which everything has ended that they signed. First it is
// written down, then the key goes: one that is written down must be whole after a
// crash in between.
func (a *Authority) drop() {
	now := a.config.Now()
	var keep, gone []*key
	for i, k := range a.keys {
		if end := until(a.keys, i); end.IsZero() || now.Before(end) {
			keep = append(keep, k)
		} else {
			gone = append(gone, k)
		}
	}
	if len(gone) == 0 {
		return
	}
	if err := a.set(keep); err != nil {
		a.config.Log.Warn("it can't be written down that an old key of JWT-SVIDs is gone", "error", err)
		return
	}
	if a.config.Held != nil {
		return
	}
	for _, k := range gone {
		if err := a.config.Keys.Remove(k.Name); err != nil {
			a.config.Log.Warn("an old key of JWT-SVIDs can't be deleted", "name", k.Name, "error", err)
		}
	}
}

// set writes down which keys there are, and has them hold. The caller holds step.
func (a *Authority) set(keys []*key) error {
	n := note{Instance: a.instance, Number: a.number}
	for _, k := range keys {
		n.Keys = append(n.Keys, k.record)
	}
	if a.config.File != "" {
		data, err := json.Marshal(n)
		if err == nil {
			err = identity.WriteFile(a.config.File, data, 0o600)
		}
		if err != nil {
			return fmt.Errorf("it can't be written down which keys there are: %w", err)
		}
	}
	a.mu.Lock()
	a.keys = keys
	a.mu.Unlock()
	return nil
}

// publish puts our public keys into the store, and has the time of those that are
// new there begin. The caller holds step.
func (a *Authority) publish(ctx context.Context) error {
	now := a.config.Now().UTC()
	next, fresh := slices.Clone(a.keys), false
	for i, k := range next {
		if k.Published.IsZero() {
			other := *k
			other.Published = now
			if at := now.Add(k.Notice); other.From.Before(at) {
				other.From = at
			}
			next[i], fresh = &other, true
		}
	}
	// A control plane that is no more mustn't be believed for ever: what it said holds
	// for two days, and is said again before.
	horizon := now.Truncate(Life / 2).Add(2 * Life)
	list := []published{}
	for i, k := range next {
		end := until(next, i)
		if end.IsZero() {
			end = horizon
		}
		list = append(list, published{k.ID, k.Public, k.From, end})
	}
	data, err := json.Marshal(list)
	if err != nil || !fresh && bytes.Equal(data, a.told) {
		return err
	}
	if _, err := a.config.Store.Put(ctx, prefix+a.instance, data, store.AnyRevision, 0); err != nil {
		return fmt.Errorf("the public keys can't be published: %w", err)
	}
	a.told = data
	if !fresh {
		return nil
	}
	if err := a.set(next); err != nil {
		return err
	}
	n := next[len(next)-1]
	a.config.Log.Info("JWT-SVIDs have another key", "kid", n.ID, "signsFrom", n.From)
	return nil
}

// Rotate has another key sign as soon as everybody can know it; the present one is
// published for as long as something that it signed is good. Where a signer has the
// keys, nothing is done.
func (a *Authority) Rotate(ctx context.Context) error {
	if a.config.Held != nil {
		return nil
	}
	a.step.Lock()
	defer a.step.Unlock()
	now, notice := a.config.Now(), max(soon, a.config.Notice())
	n := a.newest()
	switch {
	case n == nil || n.Published.IsZero() || now.Before(n.From) && n.From.Sub(now) <= notice:
		return nil // one is on its way
	case now.Before(n.From):
		// The next one was published a while ago.
		other := *n
		other.From = now.UTC()
		if at := n.Published.Add(notice); at.After(other.From) {
			other.From = at
		}
		next := slices.Clone(a.keys)
		next[slices.Index(next, n)] = &other
		if err := a.set(next); err != nil {
			return err
		}
	default:
		if err := a.add(now, notice); err != nil {
			return err
		}
	}
	return a.publish(ctx)
}

// follow takes in what other control planes publish.
func (a *Authority) follow(reset bool, c store.Changes) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if reset {
		a.others = map[string][]Key{}
	}
	for _, e := range c.Events {
		a.sequence = max(a.sequence, e.Revision)
		instance := strings.TrimPrefix(e.Key, prefix)
		if instance == a.instance {
			continue
		}
		if e.Deleted {
			delete(a.others, instance)
			continue
		}
		list, err := readPublished(e.Value)
		if err != nil {
			a.config.Log.Error("another control plane's keys of JWT-SVIDs can't be read", "key", e.Key, "error", err)
			continue
		}
		a.others[instance] = list
	}
}

func readPublished(data []byte) ([]Key, error) {
	var list []published
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, err
	}
	if len(list) > maxOwn {
		return nil, fmt.Errorf("%d keys: want at most %d", len(list), maxOwn)
	}
	var out []Key
	for i, p := range list {
		public, err := readPublic(p.Public)
		if err != nil {
			return nil, fmt.Errorf("[%d]: %w", i, err)
		}
		id, err := thumbprint(public)
		if err != nil || id != p.ID {
			return nil, fmt.Errorf("[%d]: the id %q isn't the key's", i, p.ID)
		}
		out = append(out, Key{ID: p.ID, Public: public, From: p.From, Until: p.Until})
	}
	return out, nil
}
