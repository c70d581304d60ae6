package federation

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"golang.org/x/sync/errgroup"

	"tulle.dev/tulle/internal/control/store"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/mesh"
	"tulle.dev/tulle/internal/view"
)

const (
	prefix = "/tulle/federation/"
	// maxAnswer bounds a document, in bytes.
	maxAnswer = 512 << 10
	timeout   = 10 * time.Second
	parallel  = 4
	// refresh is how soon a bundle is asked for again that gives no hint; hints
	// are kept within minRefresh and maxRefresh. A failure is tried again after
	// minBackoff, doubled each time up to maxBackoff.
	refresh    = 5 * time.Minute
	minRefresh = 10 * time.Second
	maxRefresh = time.Hour
	minBackoff = time.Second
	maxBackoff = time.Minute
	// stale is when it is worth a warning that a bundle couldn't be fetched.
	stale = time.Hour
	// first is the same for one that never could.
	first = time.Minute
)

// Config says what a Federation works with.
type Config struct {
	Store store.Store
	// Changed is called after Bundles became others. It may call Bundles.
	Changed func()
	// Roots are those of the public web; nil takes the system's.
	Roots *x509.CertPool
	Log   *slog.Logger
}

// Federation knows the bundles of other trust domains. Safe for concurrent use.
type Federation struct {
	config Config
	poke   chan struct{}

	mu      sync.Mutex
	wanted  []mesh.Federated
	domains map[identity.TrustDomain]*domain
}

// domain is one other trust domain. Its fields are guarded by the Federation's mu;
// only Run's goroutine writes to them.
type domain struct {
	mesh.Federated
	record
	bundle   *Bundle // of record
	loaded   bool    // the store was asked
	since    time.Time
	next     time.Time
	failures int
	err      error
}

// record is what the store keeps of a domain.
type record struct {
	// From is the sum of what the Mesh object had as bundle when Document came:
	// another one there takes its place.
	From     string    `json:"from"`
	Document []byte    `json:"document"`
	Fetched  time.Time `json:"fetched,omitzero"`
}

// New makes a Federation with nobody.
func New(c Config) *Federation {
	return &Federation{config: c, poke: make(chan struct{}, 1), domains: map[identity.TrustDomain]*domain{}}
}

// Want says with whom from now on. Those that aren't named any more have no
// bundle at once.
func (f *Federation) Want(list []mesh.Federated) {
	f.mu.Lock()
	same := slices.Equal(f.wanted, list)
	f.wanted = list
	f.mu.Unlock()
	if same {
		return
	}
	select {
	case f.poke <- struct{}{}:
	default:
	}
}

// Bundles are the roots of each wanted domain that is known, by name.
func (f *Federation) Bundles() []view.TrustDomain {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []view.TrustDomain
	for _, w := range f.wanted {
		if d := f.domains[w.Domain]; d != nil && d.bundle != nil {
			out = append(out, view.TrustDomain{Name: string(w.Domain), Roots: d.bundle.Roots})
		}
	}
	slices.SortFunc(out, func(a, b view.TrustDomain) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Known are the bundles of each wanted domain that is known. Callers must not write to
// them.
func (f *Federation) Known() map[identity.TrustDomain]*Bundle {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[identity.TrustDomain]*Bundle{}
	for _, w := range f.wanted {
		if d := f.domains[w.Domain]; d != nil && d.bundle != nil {
			out[w.Domain] = d.bundle
		}
	}
	return out
}

// Wanted says whether there is to be a bundle of a domain.
func (f *Federation) Wanted(domain identity.TrustDomain) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.ContainsFunc(f.wanted, func(w mesh.Federated) bool { return w.Domain == domain })
}

// Problems says which domains can't be followed, for people.
func (f *Federation) Problems(now time.Time) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for _, d := range f.domains {
		reason := "it wasn't asked yet"
		if d.err != nil {
			reason = d.err.Error()
		}
		switch {
		case d.Endpoint == "" && d.err == nil:
		case d.bundle == nil:
			out = append(out, fmt.Sprintf("%s has no bundle: %s", d.Domain, reason))
		case d.Fetched.IsZero() && now.Sub(d.since) > first:
			out = append(out, fmt.Sprintf("the bundle of %s was never fetched, the one in the Mesh object is used: %s", d.Domain, reason))
		case !d.Fetched.IsZero() && now.Sub(d.Fetched) > stale:
			out = append(out, fmt.Sprintf("the bundle of %s is as it was %s ago: %s", d.Domain, now.Sub(d.Fetched).Round(time.Minute), reason))
		}
	}
	slices.Sort(out)
	return out
}

// Run fetches until the context ends.
func (f *Federation) Run(ctx context.Context) {
	for {
		t := time.NewTimer(f.round(ctx))
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		case <-f.poke:
			t.Stop()
		}
	}
}

func sum(bundle string) string {
	s := sha256.Sum256([]byte(bundle))
	return hex.EncodeToString(s[:])
}

// round takes in what is wanted, fetches what is due, and returns when to look
// again.
func (f *Federation) round(ctx context.Context) time.Duration {
	f.take(ctx)
	now := time.Now()
	f.mu.Lock()
	var due []*domain
	for _, d := range f.domains {
		if d.Endpoint != "" && !d.next.After(now) {
			due = append(due, d)
		}
	}
	f.mu.Unlock()
	var group errgroup.Group
	group.SetLimit(parallel)
	var changed sync.Map
	for _, d := range due {
		group.Go(func() error {
			document, b, err := f.fetch(ctx, d)
			if ctx.Err() == nil && f.took(ctx, d, document, b, err) {
				changed.Store(d.Domain, true)
			}
			return nil
		})
	}
	_ = group.Wait()
	changed.Range(func(any, any) bool { f.config.Changed(); return false })
	f.mu.Lock()
	defer f.mu.Unlock()
	wait := maxRefresh
	for _, d := range f.domains {
		if d.Endpoint != "" {
			wait = min(wait, max(time.Until(d.next), 0))
		}
		if !d.loaded {
			wait = min(wait, minBackoff)
		}
	}
	return wait
}

// take makes domains of what is wanted: of the store's record, or of the bundle in
// the Mesh object where that is another one than then.
func (f *Federation) take(ctx context.Context) {
	f.mu.Lock()
	old, wanted := f.domains, f.wanted
	f.mu.Unlock()
	next := map[identity.TrustDomain]*domain{}
	changed := len(old) != len(wanted)
	for _, w := range wanted {
		if d := old[w.Domain]; d != nil && d.Federated == w && d.loaded {
			next[w.Domain] = d
			continue
		}
		changed = true
		next[w.Domain] = f.load(ctx, w)
	}
	if !changed {
		return
	}
	for name, d := range old {
		if next[name] != nil {
			continue
		}
		if _, err := f.config.Store.Delete(ctx, prefix+string(name), store.AnyRevision); err != nil && !errors.Is(err, store.ErrNotFound) {
			f.config.Log.Warn("a bundle that isn't wanted any more can't be deleted", "trustDomain", string(name), "error", err)
		}
		f.config.Log.Info("a trust domain is trusted no more", "trustDomain", string(name), "roots", len(rootsOf(d)))
	}
	f.mu.Lock()
	f.domains = next
	f.mu.Unlock()
	f.config.Changed()
}

func rootsOf(d *domain) [][]byte {
	if d.bundle == nil {
		return nil
	}
	return d.bundle.Roots
}

func (f *Federation) load(ctx context.Context, w mesh.Federated) *domain {
	d := &domain{Federated: w, record: record{From: sum(w.Bundle)}, since: time.Now(), loaded: true}
	it, err := f.config.Store.Get(ctx, prefix+string(w.Domain))
	var kept record
	switch {
	case err == nil && json.Unmarshal(it.Value, &kept) == nil && kept.From == d.From:
		d.record = kept
		if d.bundle, d.err = Parse(w.Domain, kept.Document); d.err == nil {
			return d
		}
	case err != nil && !errors.Is(err, store.ErrNotFound):
		d.loaded, d.err = false, err // looked at again soon
	}
	d.record = record{From: sum(w.Bundle)}
	if strings.TrimSpace(w.Bundle) != "" {
		var err error
		if d.bundle, err = Parse(w.Domain, []byte(w.Bundle)); err != nil {
			d.err = fmt.Errorf("the bundle in the Mesh object: %w", err)
			f.config.Log.Error("a federated trust domain's bundle makes no sense", "trustDomain", string(w.Domain), "error", err)
		}
	}
	return d
}

// took notes how a fetch went, and reports whether the roots are others now.
func (f *Federation) took(ctx context.Context, d *domain, document []byte, b *Bundle, err error) bool {
	if err != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		if d.failures == 0 || d.err == nil || d.err.Error() != err.Error() {
			f.config.Log.Warn("a trust bundle can't be fetched; the last one is used", "trustDomain", string(d.Domain), "endpoint", d.Endpoint, "error", err)
		}
		d.failures++
		d.err, d.next = err, time.Now().Add(jitter(min(minBackoff<<min(d.failures-1, 16), maxBackoff)))
		return false
	}
	hint := b.Hint
	if hint == 0 {
		hint = refresh
	}
	f.mu.Lock()
	changed := d.bundle == nil || !slices.EqualFunc(d.bundle.Roots, b.Roots, slices.Equal[[]byte])
	d.record = record{From: d.From, Document: document, Fetched: time.Now().UTC()}
	d.bundle, d.err, d.failures = b, nil, 0
	d.next = time.Now().Add(jitter(min(max(hint, minRefresh), maxRefresh)))
	kept := d.record
	f.mu.Unlock()
	if changed {
		f.config.Log.Info("a trust domain's roots changed", "trustDomain", string(d.Domain), "sequence", b.Sequence, "roots", len(b.Roots))
	}
	data, err := json.Marshal(kept)
	if err == nil {
		_, err = f.config.Store.Put(ctx, prefix+string(d.Domain), data, store.AnyRevision, 0)
	}
	if err != nil && ctx.Err() == nil {
		f.config.Log.Warn("a trust bundle can't be kept for a restart", "trustDomain", string(d.Domain), "error", err)
	}
	return changed
}

// jitter keeps many from asking at once.
func jitter(d time.Duration) time.Duration { return d - rand.N(d/10+1) }

// fetch asks an endpoint.
func (f *Federation) fetch(ctx context.Context, d *domain) ([]byte, *Bundle, error) {
	config, err := f.tls(d)
	if err != nil {
		return nil, nil, err
	}
	t := &http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: timeout}).DialContext, TLSClientConfig: config,
		TLSHandshakeTimeout: timeout, ResponseHeaderTimeout: timeout, MaxResponseHeaderBytes: 64 << 10, DisableKeepAlives: true}
	defer t.CloseIdleConnections()
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	client := &http.Client{Transport: t, Timeout: timeout, CheckRedirect: stay}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, d.Endpoint, nil)
	if err != nil {
		return nil, nil, err
	}
	resp, err := client.Do(r)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return nil, nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("it answered %s", resp.Status)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, nil, err
	}
	if len(data) > maxAnswer {
		return nil, nil, fmt.Errorf("its answer is larger than %d bytes", maxAnswer)
	}
	if strings.HasPrefix(strings.TrimSpace(string(data)), "-") {
		return nil, nil, errors.New("it isn't a SPIFFE bundle document")
	}
	b, err := Parse(d.Domain, data)
	return data, b, err
}

// tls is how an endpoint is believed.
func (f *Federation) tls(d *domain) (*tls.Config, error) {
	if d.Web {
		return &tls.Config{RootCAs: f.config.Roots, MinVersion: tls.VersionTLS12}, nil
	}
	id, err := spiffeid.FromString(d.ID)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	of := f.domains[identity.TrustDomain(id.TrustDomain().Name())] // usually d
	var roots [][]byte
	if of != nil {
		roots = rootsOf(of)
	}
	f.mu.Unlock()
	if len(roots) == 0 {
		return nil, fmt.Errorf("the endpoint is to be %s, and there is no bundle of %s to believe that by", id, id.TrustDomain().Name())
	}
	bundle := x509bundle.New(id.TrustDomain())
	for _, der := range roots {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		bundle.AddX509Authority(c)
	}
	return tlsconfig.TLSClientConfig(bundle, tlsconfig.AuthorizeID(id)), nil
}
