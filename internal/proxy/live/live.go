package live

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/control"
)

const (
	// LookupWait bounds how long a look-up waits for the control plane's answer.
	// After it the caller goes on with what the table has.
	LookupWait = 500 * time.Millisecond
	// maxInterests bounds what a proxy asks for; more is answered "unknown".
	// Some room is left for what the control plane hasn't forgotten yet.
	maxInterests = control.MaxSubscriptions - 1<<10
)

// Live holds the current Table and keeps it up to date. Its methods are safe
// for concurrent use; only Run's goroutines change the table.
type Live struct {
	config      Config // zero for Static
	static      bool
	table       atomic.Pointer[Table]
	credentials identity.Credentials
	log         *slog.Logger
	meter       *meter.Registry // nil in tests
	wait        time.Duration   // LookupWait

	updating sync.Mutex // held while the table is changed, taken before mu

	storing sync.Mutex // held while the certificate's files are written

	mu       sync.Mutex
	onChange []func(*Table)
	interest map[string]*interest
	// removed are keys to unsubscribe from, once a session is up.
	removed []string
	// added are keys to subscribe to, once a session is up.
	added         []string
	bundle        *view.Bundle      // as it came
	bundleChanged bool              // since it was saved
	unsaved       *identity.SVID    // in use, and not on disk yet
	own           map[string]uint64 // versions of "proxy" and "bundle"
	status        control.Status
	saving        sync.Mutex // one writes at a time
	link          Link
	logged        string    // the last outage's reason that was logged
	role          view.Role // what Hello says
	registrations []control.Registration
	greets        map[string]time.Time    // ports whose program spoke first, and when it was heard
	greeted       []string                // those to report
	sharer        Sharer                  // nil: no limit is shared
	understood    bool                    // this conversation's control plane understands Demand
	endSession    context.CancelCauseFunc // nil without a session
	fault         string                  // why the proxy itself isn't ready
	reprobe       chan struct{}           // wakes the probe: registrations or fault changed
	suspect       chan struct{}           // wakes the probe: a request to the program failed
	drained       chan struct{}           // closed when the control plane acknowledged a drain
	news          chan struct{}           // wakes the sender: added, removed or status changed
	dirty         chan struct{}           // wakes the keeper: there is something to save
	parts         map[string]uint64       // of limits that all proxies share, as told last, in millionths
	partsSaved    map[string]uint64       // the same as they are on disk
	shared        chan struct{}           // wakes the keeper: parts have changed
	resign        chan struct{}           // wakes the renewal: another root signs now
	saveErrors    atomic.Uint64
	once          map[string]bool // log lines that are written once until they change
}

// interest is a resource that is subscribed to. l.mu guards it.
type interest struct {
	used     *usage
	lastUsed time.Time
	version  uint64
	// answered: the table has the control plane's answer.
	answered bool
	absent   bool
	// late: a look-up waited in vain; the next ones don't wait.
	late    bool
	waiters []*waiter
}

// waiter is one look-up that waits. l.mu guards it.
type waiter struct {
	keys  []string
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
	l := &Live{static: true, log: log, meter: m}
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
	if len(v.Bundle.Domains) == 0 {
		l.credentials.SetBundle(bundle)
	}
	l.useSVID(svid)
	return nil
}

// useSVID makes s the proxy's certificate.
func (l *Live) useSVID(s *identity.SVID) {
	l.credentials.SetSVID(s)
	if l.meter != nil {
		l.meter.SetIdentityExpiry(s.Leaf.NotAfter)
	}
}

// Table returns what is known now; never nil.
func (l *Live) Table() *Table { return l.table.Load() }

// Credentials returns the proxy's own certificate and the roots of its peers.
func (l *Live) Credentials() *identity.Credentials { return &l.credentials }

// Ready reports whether the proxy knows what it is: it has its listeners and,
// if it should have one, a certificate.
func (l *Live) Ready() bool {
	t := l.Table()
	return t.Proxy != nil && (t.Proxy.Identity == "" || l.credentials.SVID() != nil)
}

// OnChange adds a function that is called after each change of the table, one
// call at a time, from the goroutine that made the change; it must not block
// and not call OnChange. It is called once at once with the table of now.
func (l *Live) OnChange(f func(*Table)) {
	l.updating.Lock()
	defer l.updating.Unlock()
	l.mu.Lock()
	l.onChange = append(l.onChange, f)
	l.mu.Unlock()
	f(l.Table())
}

// Again calls the functions of OnChange with the table of now: what one of them
// couldn't do then, such as listen on a port that was taken, may work now.
func (l *Live) Again() {
	l.updating.Lock()
	defer l.updating.Unlock()
	l.mu.Lock()
	onChange := l.onChange
	l.mu.Unlock()
	t := l.Table()
	for _, f := range onChange {
		f(t)
	}
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
// it is treated as unknown. Look-ups of the same key share one question.
//
// Asking for a destination asks for the endpoints of its route's backends too,
// and waits for them.
func (l *Live) Lookup(done func(), keys ...string) bool {
	if l.static {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	w := &waiter{keys: keys, done: done}
	for _, key := range keys {
		l.await(w, key)
	}
	if w.left == 0 {
		return true
	}
	w.timer = time.AfterFunc(l.wait, func() { l.giveUp(w) })
	return false
}

// await lets w wait for key if it isn't answered yet. l.mu is held.
func (l *Live) await(w *waiter, key string) {
	i := l.want(key)
	if i != nil && !i.answered && !i.late {
		w.left++
		i.waiters = append(i.waiters, w)
	}
}

// giveUp ends w's wait. Nobody waits again for what it waited for.
func (l *Live) giveUp(w *waiter) {
	l.mu.Lock()
	for _, key := range w.keys {
		if i := l.interest[key]; i != nil && slices.Contains(i.waiters, w) {
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

// want returns the interest in key, subscribing on first use, or nil when there
// are too many. l.mu is held.
func (l *Live) want(key string) *interest {
	i := l.interest[key]
	if i != nil {
		return i
	}
	if len(l.interest) >= maxInterests {
		l.warnOnce("too many look-ups", "limit", maxInterests)
		return nil
	}
	i = &interest{used: &usage{}, lastUsed: time.Now()}
	l.interest[key] = i
	l.added = append(l.added, key)
	wake(l.news)
	return i
}

// warnOnce logs a line the first time. l.mu is held.
func (l *Live) warnOnce(message string, args ...any) {
	if !l.once[message] {
		l.once[message] = true
		l.log.Warn(message, args...)
	}
}

// wake puts a token into a channel of capacity one.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Static reports whether what is known never changes.
func (l *Live) Static() bool { return l.static }
