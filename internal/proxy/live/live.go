package live

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/control"
)

// LookupWait bounds how long a look-up waits for the control plane's answer.
// After it the caller goes on with what the table has.
const LookupWait = 500 * time.Millisecond

// Live holds the current Table and keeps it up to date. Table and Lookup are
// safe for the loops; one goroutine, Run's, changes the table.
type Live struct {
	table       atomic.Pointer[Table]
	credentials identity.Credentials
	log         *slog.Logger
	meter       *meter.Registry // nil in tests

	mu       sync.Mutex
	onChange []func(*Table)
	static   bool
	interest map[string]*interest
	// news wakes Run when subscriptions changed.
	news chan struct{}
	add  []string // subscriptions not sent yet
}

// interest is a resource that is subscribed to. l.mu guards it.
type interest struct {
	used     *usage
	lastUsed time.Time
	version  uint64
	// answered: the table has the control plane's answer.
	answered bool
	// late: a look-up waited in vain; the next ones don't wait.
	late    bool
	waiters []*waiter
}

// waiter is one look-up that waits. l.mu guards it.
type waiter struct {
	left  int // answers still missing
	done  func()
	timer *time.Timer
}

// finish says that the wait is over; the caller calls the returned function,
// if any, after it has unlocked l.mu.
func (w *waiter) finish() func() {
	done := w.done
	w.done = nil
	w.timer.Stop()
	return done
}

// Static makes a Live that never changes, from a state file's view. Everything
// that isn't in the view is unknown, and a look-up ends at once. identityDir
// overrides the view's own; with neither there is no SVID.
func Static(v *view.View, identityDir string, log *slog.Logger, m *meter.Registry) (*Live, error) {
	l := &Live{static: true, log: log, meter: m, interest: make(map[string]*interest)}
	t, bundle, err := compileView(v, func(string) *usage { return nil })
	if err != nil {
		return nil, fmt.Errorf("the view makes no sense: %w", err)
	}
	l.table.Store(t)
	l.credentials.SetBundle(bundle)
	if identityDir == "" {
		identityDir = v.Proxy.IdentityDir
	}
	if identityDir != "" {
		if err := l.readIdentity(v, identityDir); err != nil {
			return nil, fmt.Errorf("read the proxy's identity: %w", err)
		}
	}
	if m != nil {
		m.SetViewVersion(t.Version)
	}
	return l, nil
}

// readIdentity takes the SVID, and the roots unless the view has some, from an
// identity directory.
func (l *Live) readIdentity(v *view.View, dir string) error {
	svid, bundle, err := identity.ReadDir(dir, v.Proxy.Name)
	if err != nil {
		return err
	}
	if v.Proxy.Identity != "" && svid.ID.String() != v.Proxy.Identity {
		return fmt.Errorf("%s is for %s, the view wants %s",
			filepath.Join(dir, identity.ChainFile(v.Proxy.Name)), svid.ID, v.Proxy.Identity)
	}
	l.credentials.SetSVID(svid)
	if len(v.Bundle.Domains) == 0 {
		l.credentials.SetBundle(bundle)
	}
	if l.meter != nil {
		l.meter.SetIdentityExpiry(svid.Leaf.NotAfter)
	}
	return nil
}

// Table returns what is known now; never nil.
func (l *Live) Table() *Table { return l.table.Load() }

// Credentials returns the proxy's own certificate and the roots of its peers.
func (l *Live) Credentials() *identity.Credentials { return &l.credentials }

// OnChange adds a function that is called after each change of the table, one
// call at a time, from the goroutine that made the change; it must not block.
// It is called once at once with the table of now.
func (l *Live) OnChange(f func(*Table)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.onChange = append(l.onChange, f)
	f(l.Table())
}

// HostKey is the resource key of a look-up: a DNS name in lower case without
// the final dot, or an IP address.
func HostKey(nameOrAddr string) string { return control.KeyHostPart + nameOrAddr }

// DestinationKey is the resource key of a destination "SERVICE.NAMESPACE:PORT".
func DestinationKey(key string) string { return control.KeyDestinationPart + key }

// EndpointsKey is the resource key of a destination's endpoints.
func EndpointsKey(key string) string { return control.KeyEndpointsPart + key }

// Lookup asks for resources by their keys (HostKey, DestinationKey,
// EndpointsKey) and keeps them up to date from then on. It returns true when
// there is nothing to wait for: read the table and go on. Otherwise done is
// called exactly once, from another goroutine, when the last answer has come or
// LookupWait is over; read the table then. A resource that is still missing in
// it is treated as unknown. Lookups of the same key share one question.
//
// Asking for a destination asks for the endpoints of its route's backends too.
func (l *Live) Lookup(done func(), keys ...string) bool {
	if l.static {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	w := &waiter{done: done}
	for _, key := range keys {
		l.await(w, key)
	}
	if w.left == 0 {
		return true
	}
	w.timer = time.AfterFunc(LookupWait, func() { l.giveUp(w) })
	return false
}

// await lets w wait for key if it isn't answered yet. l.mu is held.
func (l *Live) await(w *waiter, key string) {
	i := l.want(key)
	if !i.answered && !i.late {
		w.left++
		i.waiters = append(i.waiters, w)
	}
}

// giveUp ends w's wait. Nobody waits again for what it waited for.
func (l *Live) giveUp(w *waiter) {
	l.mu.Lock()
	for _, i := range l.interest {
		if slices.Contains(i.waiters, w) {
			i.late = true
			i.waiters = slices.DeleteFunc(i.waiters, func(o *waiter) bool { return o == w })
		}
	}
	done := w.finish()
	l.mu.Unlock()
	if done != nil {
		done()
	}
}

// want returns the interest in key, subscribing on first use. l.mu is held.
func (l *Live) want(key string) *interest {
	i := l.interest[key]
	if i == nil {
		i = &interest{used: &usage{}, lastUsed: time.Now()}
		l.interest[key] = i
		l.add = append(l.add, key)
		select {
		case l.news <- struct{}{}:
		default:
		}
	}
	return i
}

// compileView makes a table of a whole view.
func compileView(v *view.View, used func(key string) *usage) (*Table, *identity.Bundle, error) {
	bundle, err := compileBundle(&v.Bundle)
	if err != nil {
		return nil, nil, fmt.Errorf("bundle: %w", err)
	}
	t := &Table{Version: v.Version}
	set := func(r control.Resource) error { return t.apply(&r, used(r.Key)) }
	if err := set(control.Resource{Key: control.KeyProxy, Proxy: &v.Proxy}); err != nil {
		return nil, nil, err
	}
	for key, d := range v.Destinations {
		if err := set(control.Resource{Key: DestinationKey(key), Destination: d}); err != nil {
			return nil, nil, err
		}
	}
	for key, e := range v.Endpoints {
		if err := set(control.Resource{Key: EndpointsKey(key), Endpoints: e}); err != nil {
			return nil, nil, err
		}
	}
	for name, h := range v.Hosts {
		if err := set(control.Resource{Key: HostKey(name), Host: h}); err != nil {
			return nil, nil, err
		}
	}
	for key, version := range v.Versions {
		if t.has(key) || !strings.Contains(key, "/") {
			continue
		}
		if err := set(control.Resource{Key: key, Version: version, Absent: true}); err != nil {
			return nil, nil, err
		}
	}
	return t, bundle, nil
}

// has reports whether the table has an answer for a resource.
func (t *Table) has(key string) bool {
	switch kind, name := splitResource(key); kind {
	case control.KeyDestinationPart:
		_, ok := t.destinations.get(name)
		return ok
	case control.KeyEndpointsPart:
		_, ok := t.endpoints.get(name)
		return ok
	case control.KeyHostPart:
		if addr, err := parseAddr(name); err == nil {
			_, ok := t.addrs.get(addr)
			return ok
		}
		_, ok := t.hosts.get(name)
		return ok
	}
	return false
}
