package keys

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/sync/errgroup"
)

const (
	// Discovery ends the URL of a document that says where an issuer's keys are
	// (OpenID Connect Discovery 1.0, section 4).
	Discovery = "/.well-known/openid-configuration"

	// Domain begins the URL of a trust domain's keys, which nobody is asked for.
	Domain = "spiffe://"

	// MaxURLs bounds what is fetched; MaxKeys one issuer's keys, in bytes, and
	// maxAnswer what is read of one answer.
	MaxURLs   = 256
	MaxKeys   = 64 << 10
	maxAnswer = 512 << 10
	maxFile   = MaxURLs * (MaxKeys + 4096)

	timeout      = 5 * time.Second
	parallel     = 4
	maxRedirects = 3
	// refresh is how long keys are taken for fresh that don't say so themselves, and
	// between what that is kept; a failure is tried again after minBackoff, doubled
	// each time up to refresh.
	refresh    = 5 * time.Minute
	minRefresh = time.Minute
	maxRefresh = time.Hour
	minBackoff = time.Second
)

// Config says where keys go.
type Config struct {
	// File keeps the last good keys over a restart; empty keeps none.
	File string
	// Changed is called with all keys that are known, by URL, when they change. It
	// must not write to the map.
	Changed func(map[string][]byte)
	// TrustDomain returns the keys of a trust domain's JWT-SVIDs, a JWK set, for URLs
	// spiffe://DOMAIN. ErrUnknown says that it isn't believed. Nil knows none.
	TrustDomain func(name string) ([]byte, error)
	// Transport is http.DefaultTransport's like when nil.
	Transport http.RoundTripper
	Log       *slog.Logger
}

// ErrUnknown says that nobody's keys are at a URL any more.
var ErrUnknown = errors.New("no such trust domain is believed")

// Fetcher fetches keys. Safe for concurrent use.
type Fetcher struct {
	config Config
	http   *http.Client
	poke   chan struct{}

	mu     sync.Mutex // guards the next two
	wanted map[string]bool
	again  bool // trust domains' keys are due

	entries map[string]*entry // Run's
	kept    map[string][]byte // of the file, at first
}

// entry is one URL.
type entry struct {
	next     time.Time
	failures int
	keys     []byte
}

// New makes a fetcher, with what its file holds.
func New(c Config) *Fetcher {
	f := &Fetcher{config: c, poke: make(chan struct{}, 1), wanted: map[string]bool{}, entries: map[string]*entry{}, kept: map[string][]byte{}}
	t := c.Transport
	if t == nil {
		t = &http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: timeout}).DialContext,
			TLSHandshakeTimeout: timeout, ResponseHeaderTimeout: timeout, MaxIdleConns: parallel, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 64 << 10}
	}
	f.http = &http.Client{Transport: t, Timeout: timeout, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects {
			return errors.New("too many redirects")
		}
		return Permitted(r.URL.String())
	}}
	f.load()
	return f
}

// Permitted says why keys may not be fetched from a URL, nil when they may: over
// TLS, or from this machine.
func Permitted(text string) error {
	u, err := url.Parse(text)
	if err != nil {
		return errors.New("it isn't a URL")
	}
	host := u.Hostname()
	ip := net.ParseIP(host)
	switch {
	case u.User != nil || host == "":
		return fmt.Errorf("%s: want https://HOST/PATH", u.Redacted())
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && (host == "localhost" || ip != nil && ip.IsLoopback()):
		return nil
	}
	return fmt.Errorf("%s: want https, for the keys that tokens are judged by come from there", u.Redacted())
}

// Known are the keys that the file had at the start.
func (f *Fetcher) Known() map[string][]byte { return f.kept }

// Want says which URLs are of interest from now on.
func (f *Fetcher) Want(urls []string) {
	f.mu.Lock()
	f.wanted = map[string]bool{}
	for _, u := range urls[:min(len(urls), MaxURLs)] {
		f.wanted[u] = true
	}
	f.mu.Unlock()
	if len(urls) > MaxURLs {
		f.config.Log.Error("there are more issuers than keys are fetched of: the tokens of the others are refused", "issuers", len(urls), "bound", MaxURLs)
	}
	select {
	case f.poke <- struct{}{}:
	default:
	}
}

// Again has trust domains' keys looked at now: others may be believed than before.
func (f *Fetcher) Again() {
	f.mu.Lock()
	f.again = true
	f.mu.Unlock()
	select {
	case f.poke <- struct{}{}:
	default:
	}
}

// Run fetches until the context ends.
func (f *Fetcher) Run(ctx context.Context) {
	defer f.http.CloseIdleConnections()
	for {
		wait := f.round(ctx)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-f.poke:
			timer.Stop()
		}
	}
}

// round fetches what is due and returns when to look again.
func (f *Fetcher) round(ctx context.Context) time.Duration {
	f.mu.Lock()
	wanted, again := maps.Clone(f.wanted), f.again
	f.again = false
	f.mu.Unlock()
	changed := false
	for u, e := range f.entries {
		if !wanted[u] {
			changed = changed || e.keys != nil
			delete(f.entries, u)
		}
	}
	now := time.Now()
	var due []string
	for u := range wanted {
		if f.entries[u] == nil {
			f.entries[u] = &entry{keys: f.kept[u]}
		}
		if !f.entries[u].next.After(now) || again && strings.HasPrefix(u, Domain) {
			due = append(due, u)
		}
	}
	slices.Sort(due)
	type answer struct {
		keys []byte
		life time.Duration
		err  error
	}
	answers := make([]answer, len(due))
	var group errgroup.Group
	group.SetLimit(parallel)
	for i, u := range due {
		group.Go(func() error {
			answers[i].keys, answers[i].life, answers[i].err = f.fetch(ctx, u)
			return nil
		})
	}
	_ = group.Wait()
	if ctx.Err() != nil {
		return refresh
	}
	for i, u := range due {
		e, a := f.entries[u], answers[i]
		if a.err != nil {
			if errors.Is(a.err, ErrUnknown) && e.keys != nil {
				e.keys, changed = nil, true
			}
			e.failures++
			e.next = time.Now().Add(jitter(min(minBackoff<<min(e.failures-1, 16), refresh)))
			f.config.Log.Warn("an issuer's keys can't be fetched; the last ones are kept", "url", u, "error", a.err, "have", e.keys != nil)
			continue
		}
		e.failures, e.next = 0, time.Now().Add(jitter(a.life))
		if string(e.keys) != string(a.keys) {
			e.keys, changed = a.keys, true
		}
	}
	if changed {
		f.tell()
	}
	wait := refresh
	for _, e := range f.entries {
		wait = min(wait, max(time.Until(e.next), 0))
	}
	return wait
}

// jitter keeps many from asking at once.
func jitter(d time.Duration) time.Duration { return d - rand.N(d/10+1) }

// tell says what is known now, and keeps it.
func (f *Fetcher) tell() {
	all := map[string][]byte{}
	for u, e := range f.entries {
		if e.keys != nil {
			all[u] = e.keys
		}
	}
	if err := f.save(all); err != nil {
		f.config.Log.Error("the issuers' keys can't be kept for a restart", "file", f.config.File, "error", err)
	}
	f.config.Changed(all)
}

// fetch returns the keys that a URL leads to, and for how long they are fresh.
func (f *Fetcher) fetch(ctx context.Context, u string) ([]byte, time.Duration, error) {
	if domain, ok := strings.CutPrefix(u, Domain); ok {
		if f.config.TrustDomain == nil {
			return nil, 0, ErrUnknown
		}
		name, _, _ := strings.Cut(domain, "/")
		keys, err := f.config.TrustDomain(name)
		if err == nil {
			keys, err = Public(keys)
		}
		return keys, minRefresh, err
	}
	if issuer, ok := strings.CutSuffix(u, Discovery); ok {
		data, _, err := f.get(ctx, u)
		if err != nil {
			return nil, 0, err
		}
		var doc struct {
			Issuer  string `json:"issuer"`
			JWKSURI string `json:"jwks_uri"`
		}
		switch err := json.Unmarshal(data, &doc); {
		case err != nil:
			return nil, 0, errors.New("the discovery document isn't JSON")
		case strings.TrimSuffix(doc.Issuer, "/") != issuer:
			return nil, 0, fmt.Errorf("the discovery document is of another issuer, %.200q", doc.Issuer)
		case doc.JWKSURI == "":
			return nil, 0, errors.New("the discovery document has no jwks_uri")
		}
		u = doc.JWKSURI
	}
	data, life, err := f.get(ctx, u)
	if err != nil {
		return nil, 0, err
	}
	keys, err := Public(data)
	return keys, life, err
}

func (f *Fetcher) get(ctx context.Context, u string) ([]byte, time.Duration, error) {
	if err := Permitted(u); err != nil {
		return nil, 0, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, 0, err
	}
	r.Header.Set("Accept", "application/json, application/jwk-set+json")
	resp, err := f.http.Do(r)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return nil, 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("answered %d", resp.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, 0, err
	}
	if len(data) > maxAnswer {
		return nil, 0, fmt.Errorf("the answer is larger than %d bytes", maxAnswer)
	}
	return data, life(resp.Header), nil
}

// life is how long an answer is fresh (RFC 9111, 5.2.2.1), within bounds.
func life(h http.Header) time.Duration {
	for _, d := range strings.Split(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(d), "=")
		switch strings.ToLower(name) {
		case "no-store", "no-cache":
			return minRefresh
		case "max-age":
			if n, err := strconv.ParseInt(strings.Trim(value, `"`), 10, 32); err == nil && n >= 0 {
				return min(max(time.Duration(n)*time.Second, minRefresh), maxRefresh)
			}
		}
	}
	return refresh
}

// Public reads a JWK set and returns its public keys as one; keys that nobody could
// verify with are left out, and so are secrets.
func Public(data []byte) ([]byte, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, errors.New("it isn't a JWK set (RFC 7517)")
	}
	var out jose.JSONWebKeySet
	for _, raw := range set.Keys {
		var k jose.JSONWebKey
		if json.Unmarshal(raw, &k) != nil || k.Use != "" && k.Use != "sig" && k.Use != "jwt-svid" {
			continue
		}
		if k.Use == "jwt-svid" { // of a SPIFFE bundle document
			k.Use = "sig"
		}
		if k = k.Public(); k.Valid() && k.IsPublic() {
			k.Certificates = nil
			out.Keys = append(out.Keys, k)
		}
	}
	if len(out.Keys) == 0 {
		return nil, errors.New("the JWK set has no public key to verify with")
	}
	keys, err := json.Marshal(out)
	if err == nil && len(keys) > MaxKeys {
		err = fmt.Errorf("the keys are larger than %d bytes", MaxKeys)
	}
	return keys, err
}

// load reads the file. What can't be read is as if it weren't there.
func (f *Fetcher) load() {
	if f.config.File == "" {
		return
	}
	info, err := os.Stat(f.config.File)
	if err != nil {
		return
	}
	var all map[string]json.RawMessage
	data, err := os.ReadFile(f.config.File)
	if err == nil && info.Size() <= maxFile {
		err = json.Unmarshal(data, &all)
	}
	if err != nil {
		f.config.Log.Warn("the issuers' keys that were kept can't be read", "file", f.config.File, "error", err)
	}
	for u, raw := range all {
		if keys, err := Public(raw); err == nil {
			f.kept[u] = keys
		}
	}
}

func (f *Fetcher) save(all map[string][]byte) error {
	if f.config.File == "" {
		return nil
	}
	out := map[string]json.RawMessage{}
	for u, k := range all {
		out[u] = k
	}
	data, err := json.Marshal(out)
	if err != nil {
		return err
	}
	t, err := os.CreateTemp(filepath.Dir(f.config.File), filepath.Base(f.config.File)+"-") // mode 0600
	if err != nil {
		return err
	}
	_, err = t.Write(data)
	if err := errors.Join(err, t.Close()); err != nil {
		os.Remove(t.Name())
		return err
	}
	return os.Rename(t.Name(), f.config.File)
}
