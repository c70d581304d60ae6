package live

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/proxy/rpc"
	"tulle.dev/tulle/internal/wire/control"
)

const (
	// minBackoff and maxBackoff bound the pause before the next attempt to
	// reach the control plane; each pause is a random part of its bound.
	minBackoff = 100 * time.Millisecond
	maxBackoff = 5 * time.Second
	// dialTimeout bounds one attempt to connect, TLS included.
	dialTimeout = 5 * time.Second
	// drainAlone is how long a drain waits for a control plane that is away.
	drainAlone = 2 * time.Second
	// steady is how long a conversation must last before the next failure
	// starts again from minBackoff.
	steady = 10 * time.Second
	// defaultIdleLookup is how long an unused look-up is kept up to date.
	defaultIdleLookup = 10 * time.Minute
)

// Config says who the proxy is and where its control plane is.
type Config struct {
	// Control is "unix:PATH" or "HOST:PORT".
	Control string
	// DataDir holds the state, the key and the certificate; it is made when it
	// isn't there. Empty keeps nothing.
	DataDir string
	// EphemeralKey keeps the key and the certificate in memory only.
	EphemeralKey bool
	// JoinToken is the text of a join token; needed when there is no
	// certificate yet.
	JoinToken string
	// Hello is what the proxy says about itself; Held is filled in here.
	Hello control.Hello
	// ProbeApp reports whether the program at addr takes connections; nil
	// dials it over TCP.
	ProbeApp func(ctx context.Context, addr netip.AddrPort) error
	// IdleLookup is how long an unused look-up is kept; 0 means ten minutes.
	IdleLookup time.Duration
	Log        *slog.Logger
	Meter      *meter.Registry // may be nil

	// dial connects to the control plane and now is the wall clock; tests
	// replace them.
	dial func(ctx context.Context) (net.Conn, error)
	now  func() time.Time
}

func (c *Config) fill() error {
	if c.Hello.Name == "" || c.Hello.Namespace == "" {
		return errors.New("the proxy needs a name and a namespace")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.IdleLookup == 0 {
		c.IdleLookup = defaultIdleLookup
	}
	if c.ProbeApp == nil {
		c.ProbeApp = probeTCP
	}
	if c.now == nil {
		c.now = time.Now
	}
	if c.dial == nil {
		network, address, err := splitControl(c.Control)
		if err != nil {
			return err
		}
		c.dial = func(ctx context.Context) (net.Conn, error) {
			d := net.Dialer{
				KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3},
				Control:         controlSocket,
			}
			return d.DialContext(ctx, network, address)
		}
	}
	if c.DataDir != "" {
		if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
			return fmt.Errorf("make the data directory: %w", err)
		}
		if err := os.Chmod(c.DataDir, 0o700); err != nil {
			return fmt.Errorf("close the data directory to others: %w", err)
		}
	}
	return nil
}

func splitControl(s string) (network, address string, err error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok && path != "" {
		return "unix", path, nil
	}
	if _, _, err := net.SplitHostPort(s); err != nil {
		return "", "", fmt.Errorf("control plane %q: want unix:PATH or HOST:PORT", s)
	}
	return "tcp", s, nil
}

// Link is the state of the conversation with the control plane, for people.
type Link struct {
	Address   string
	Connected bool
	// Since is when Connected last changed.
	Since time.Time
	// Error says why the last attempt failed; empty when connected.
	Error string
	// IdentityError says why the certificate couldn't be renewed last time.
	IdentityError string
	// Renewal is when the certificate is renewed next, unless the signing root
	// changes before; zero when nobody renews it.
	Renewal time.Time
	// Roots is the version of the trust bundle in force; 0 when none was told.
	Roots uint64
	// SaveError says why the state couldn't be written last time.
	SaveError string
	// Rejected says why the last update was rejected; empty once one was accepted.
	Rejected string
	// Lookups is the number of resources subscribed to.
	Lookups int
	Status  control.Status
}

// New makes a Live that follows a control plane. What was saved in the data
// directory is in force at once; Run does the rest.
func New(c Config) (*Live, error) {
	if err := c.fill(); err != nil {
		return nil, err
	}
	l := &Live{
		config:        c,
		log:           c.Log,
		meter:         c.Meter,
		wait:          LookupWait,
		interest:      make(map[string]*interest),
		own:           make(map[string]uint64),
		once:          make(map[string]bool),
		link:          Link{Address: c.Control, Since: time.Now()},
		role:          c.Hello.Role,
		registrations: slices.Clone(c.Hello.Registrations),
		reprobe:       make(chan struct{}, 1),
		suspect:       make(chan struct{}, 1),
		drained:       make(chan struct{}),
		news:          make(chan struct{}, 1),
		dirty:         make(chan struct{}, 1),
		shared:        make(chan struct{}, 1),
		resign:        make(chan struct{}, 1),
	}
	l.credentials.Now = c.now
	if err := l.load(); err != nil {
		return nil, err
	}
	if t := l.Table(); t.Proxy != nil {
		l.role = t.Proxy.Role
	}
	if err := l.loadSVID(); err != nil {
		return nil, err
	}
	if l.meter != nil {
		l.meter.SetViewVersion(l.Table().Version)
		l.meter.Collect(func(w *meter.Writer) {
			w.Family("tulle_state_save_errors_total", meter.CounterKind, "Writes of the state file that failed.")
			w.Count(l.saveErrors.Load())
		})
	}
	return l, nil
}

// Link returns the state of the conversation with the control plane. For a
// Static Live it is empty.
func (l *Live) Link() Link {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.link
	k.Lookups = len(l.interest)
	if l.bundle != nil {
		k.Roots = l.bundle.Version
	}
	k.Status = l.status
	return k
}

// Run follows the control plane until the context ends: it gets and renews the
// certificate, holds the conversation, saves the state and watches the
// proxy's program. It returns after all of that has stopped; the error is nil
// unless the proxy can never get a certificate.
func (l *Live) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	wg.Go(func() { l.keep(ctx) })
	wg.Go(func() { l.probe(ctx) })
	certified := make(chan struct{})
	wg.Go(func() {
		if err := l.certify(ctx, certified); err != nil {
			cancel(err)
		}
	})
	select {
	case <-certified:
		l.converse(ctx)
	case <-ctx.Done():
	}
	wg.Wait()
	if err := context.Cause(ctx); errors.Is(err, errNoIdentity) {
		return err
	}
	return nil
}

// connect opens an HTTP/2 connection to the control plane.
func (l *Live) connect(ctx context.Context, config *tls.Config) (*rpc.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	raw, err := l.config.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to the control plane: %w", err)
	}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, fmt.Errorf("TLS with the control plane: %w", err)
	}
	if p := conn.ConnectionState().NegotiatedProtocol; p != "h2" {
		conn.Close()
		return nil, fmt.Errorf("TLS with the control plane: it chose protocol %q, want h2", p)
	}
	return rpc.NewConn(conn, rpc.Options{Authority: "control-plane", Agent: "tulle-proxy/" + l.config.Hello.Version})
}

// backoff is a growing, jittered pause.
type backoff struct{ bound time.Duration }

// pause waits; it reports false when the context ended.
func (b *backoff) pause(ctx context.Context, limit time.Duration) bool {
	b.bound = min(max(2*b.bound, minBackoff), limit)
	return sleep(ctx, b.bound/2+rand.N(b.bound/2+1))
}

// converse holds the conversation, and begins it again when it breaks.
func (l *Live) converse(ctx context.Context) {
	var b backoff
	for ctx.Err() == nil {
		start := time.Now()
		err := l.session(ctx)
		if ctx.Err() != nil {
			l.setConnected(false, nil)
			return
		}
		if errors.Is(err, errAgain) {
			continue
		}
		if time.Since(start) > steady {
			b = backoff{}
			if errors.Is(err, errEnded) {
				err = nil // it does so now and then, to spread its proxies
			}
		}
		l.setConnected(false, err)
		if !b.pause(ctx, maxBackoff) {
			return
		}
	}
}

// setConnected notes whether the conversation is up.
func (l *Live) setConnected(up bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.link.Connected
	if was != up {
		l.link.Connected, l.link.Since = up, time.Now()
	}
	l.link.Error = ""
	if err != nil {
		l.link.Error = err.Error()
	}
	if l.meter != nil {
		l.meter.SetControlConnected(up)
	}
	// Once for each outage and reason, not for each attempt.
	switch {
	case up && l.logged != "":
		return // it may refuse again; keep logs it once the session is steady
	case up && !was:
		l.log.Info("connected to the control plane", "address", l.config.Control)
	case err != nil && (l.logged == "" || errors.As(err, new(refusedError)) && err.Error() != l.logged):
		l.logged = err.Error()
		l.log.Warn("the control plane is away; going on with what is known", "error", err)
	}
}

// setSteady notes that a conversation works: the control plane said something.
func (l *Live) setSteady() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.logged != "" {
		l.logged = ""
		l.log.Info("connected to the control plane again", "address", l.config.Control)
	}
}

// refusedError is the control plane's own word that it won't talk with this
// proxy as it is.
type refusedError struct{ reason string }

func (e refusedError) Error() string { return "the control plane refused this proxy: " + e.reason }

var (
	// errAgain ends a conversation that begins again at once.
	errAgain = errors.New("begin again")
	// errEnded is a conversation that the control plane ended in good order.
	errEnded = errors.New("the control plane ended the conversation")
)

// Register says which service ports the proxy's program serves, once their
// listeners accept. It replaces what Config.Hello or an earlier call said; when
// it differs, the conversation begins again.
func (l *Live) Register(registrations []control.Registration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if slices.Equal(l.registrations, registrations) {
		return
	}
	l.registrations = slices.Clone(registrations)
	wake(l.reprobe)
	if l.endSession != nil {
		l.endSession(errAgain)
	}
}

// SetAdmin says where the admin listener is; call it before Run.
func (l *Live) SetAdmin(addr string) { l.config.Hello.Admin = addr }

// Drain tells the control plane that the proxy takes no new work, and waits
// until all peers know it. It fails when the context ends first, or when the
// control plane is away and doesn't come back at once: nobody can be told then.
func (l *Live) Drain(ctx context.Context) error {
	if l.static || l.credentials.SVID() == nil {
		return nil // no peer has ever heard of this proxy
	}
	l.setStatus(func(s *control.Status) { s.Draining = true })
	look := time.NewTicker(drainAlone / 10)
	defer look.Stop()
	alone := time.Now()
	for {
		select {
		case <-l.drained:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("the control plane did not say that all peers know of the drain: %w", context.Cause(ctx))
		case now := <-look.C:
			if l.Link().Connected {
				alone = now
			} else if now.Sub(alone) > drainAlone {
				return errors.New("the control plane is away: peers can't be told of the drain")
			}
		}
	}
}

func (l *Live) setStatus(change func(*control.Status)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.status
	change(&l.status)
	if l.status != old {
		wake(l.news)
	}
}
