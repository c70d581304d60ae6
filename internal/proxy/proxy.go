package proxy

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"tulle.dev/tulle/internal/proxy/dial"
	"tulle.dev/tulle/internal/proxy/eject"
	"tulle.dev/tulle/internal/proxy/guard"
	"tulle.dev/tulle/internal/proxy/listen"
	"tulle.dev/tulle/internal/proxy/live"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/proxy/mtls"
	"tulle.dev/tulle/internal/proxy/poll"
	"tulle.dev/tulle/internal/proxy/record"
	"tulle.dev/tulle/internal/view"
)

// Config is what a proxy is made of.
type Config struct {
	// Live is what the proxy has been told, Meter where it counts; Meter must
	// have a shard for each loop.
	Live  *live.Live
	Meter *meter.Registry
	Log   *slog.Logger
	// Loops is the number of event loops.
	Loops int
	// Poller opens the poller of a loop; nil means the operating system's.
	Poller func(loop int) (poll.Poller, error)
	// Seed makes the loops' randomness repeatable; 0 means a random one.
	Seed uint64
	// Sockets, when not nil, makes the sockets that belong to the program's own
	// network namespace.
	Sockets Sockets
	// Inherited, when not nil, has the sockets of a proxy whose place this one takes.
	Inherited Inherited
	// Steps runs the computations of TLS handshakes; nil means goroutines.
	Steps mtls.Runner // also of other computations
	// Slow is how long a request's wait for an answer is slow whatever is usual,
	// so that its story is kept; 0 takes story.DefaultSlow.
	Slow time.Duration
	// AccessLog is where the access log goes; nil has none.
	AccessLog io.Writer
	// Resolver asks the DNS for names outside the mesh; nil means the machine's.
	Resolver Resolver
}

// Sockets makes sockets in the network namespace of the program behind the proxy.
type Sockets interface {
	// Capture returns a listening socket for redirected connections, in the
	// namespace, for one loop.
	Capture(addr netip.AddrPort) (fd int, err error)
	// Dial returns an unconnected socket to reach the program with, without
	// waiting; false when there is none now.
	Dial(six bool) (fd int, ok bool)
}

// Proxy is a running data plane.
type Proxy struct {
	config   Config
	lanes    []*lane
	services *eject.Registry // what the lanes know together
	budgets  dial.Budgets
	bounds   *bounds
	refusals *guard.Log
	records  *record.Recorder
	limit    listen.Limit
	running  sync.WaitGroup
	draining atomic.Bool
	stalled  atomic.Pointer[error]

	mu    sync.Mutex
	bound map[string]netip.AddrPort // listeners that are open, by name
	fault error                     // why some listener isn't

	logged map[string]string // why listeners aren't, as it was logged; follow's own
}

// New makes a proxy. Nothing runs yet.
func New(c Config) (*Proxy, error) {
	if c.Poller == nil {
		c.Poller = func(int) (poll.Poller, error) { return poll.New() }
	}
	if c.Seed == 0 {
		c.Seed = rand.Uint64()
	}
	p := &Proxy{config: c, services: eject.New(), bound: make(map[string]netip.AddrPort), logged: make(map[string]string)}
	p.refusals = guard.NewLog(c.Log)
	p.records = record.New(record.Config{Output: c.AccessLog, Loops: c.Loops, Log: c.Log})
	p.bounds = newBounds(c.Live, c.Meter)
	p.limit.Set(DefaultMaxConnections)
	for i := range c.Loops {
		poller, err := c.Poller(i)
		if err != nil {
			return nil, fmt.Errorf("loop %d: %w", i, err)
		}
		p.lanes = append(p.lanes, newLane(p, poller, i))
	}
	c.Meter.Collect(p.records.Collect)
	c.Meter.Collect(func(w *meter.Writer) { p.services.Collect(w, p.now()) })
	return p, nil
}

// Start opens the listeners and runs the loops. Listeners follow the live table
// from then on. The error says which of the first listeners couldn't be opened.
func (p *Proxy) Start() error {
	p.refusals.Start()
	p.records.Start()
	p.config.Live.OnChange(p.follow)
	for _, n := range p.lanes {
		p.running.Go(n.loop.Run)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fault
}

// Bound returns the listeners that are open, by name, and where.
func (p *Proxy) Bound() map[string]netip.AddrPort {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.bound)
}

// own reports whether an address is a listener of this proxy.
func (p *Proxy) own(addr netip.AddrPort) bool {
	listeners := p.config.Live.Table().Proxy
	if listeners == nil {
		return false
	}
	if p.config.Sockets != nil && p.isApp(addr) {
		return false // the same address, but in another namespace
	}
	for _, l := range listeners.Listeners {
		if l.Kind == view.Names {
			continue
		}
		if l.Address == addr || l.Address.Port() == addr.Port() && l.Address.Addr().IsUnspecified() && addr.Addr().IsLoopback() {
			return true
		}
	}
	return false
}

// isApp reports whether an address is the program's own behind an Inbound listener.
func (p *Proxy) isApp(addr netip.AddrPort) bool {
	t := p.config.Live.Table()
	if t.Proxy == nil {
		return false
	}
	for _, l := range t.Proxy.Listeners {
		if l.Kind == view.Inbound && l.App == addr {
			return true
		}
	}
	return false
}

// Connections is the number of open client connections.
func (p *Proxy) Connections() int { return int(p.limit.Open()) }

// Stop ends the loops and closes everything at once.
func (p *Proxy) Stop() {
	for _, n := range p.lanes {
		n.loop.Stop()
	}
	p.running.Wait()
	p.refusals.Stop()
	for _, n := range p.lanes {
		n.loop.Shut()
	}
	p.records.Stop()
}
