package query

import (
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"tulle.dev/tulle/internal/telemetry"
	"tulle.dev/tulle/internal/telemetry/tsdb"
)

// Windows of golden signals: the usual one and what is accepted.
const (
	DefaultWindow = time.Minute
	MinWindow     = 5 * time.Second
	MaxWindow     = 6 * time.Hour
)

// Engine answers questions about a database. It is safe for concurrent use.
type Engine struct {
	config Config
}

// Config says what to ask and what the mesh is made of.
type Config struct {
	DB *tsdb.DB
	// Services lists every service with its endpoints' count, so that one
	// without traffic is in the answers too. It must not block.
	Services func() []Service
	// Now is the clock; time.Now when nil.
	Now func() time.Time
	// Version is what the Prometheus API says is running.
	Version string
}

// Service is a service of the mesh as the control plane knows it.
type Service struct {
	Name, Namespace string
	Meshed          telemetry.Meshed
}

// New makes an engine.
func New(c Config) *Engine {
	if c.Services == nil {
		c.Services = func() []Service { return nil }
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Engine{config: c}
}

// ParseWindow reads a window such as "1m"; "" is DefaultWindow. Errors are
// *telemetry.InvalidError.
func ParseWindow(s string) (time.Duration, error) {
	if s == "" {
		return DefaultWindow, nil
	}
	d, err := tsdb.ParseDuration(s)
	if err != nil {
		return 0, invalid("window %q: want a duration such as 30s, 1m or 1h", s)
	}
	return d, checkWindow(d)
}

func checkWindow(d time.Duration) error {
	if d < MinWindow || d > MaxWindow {
		return invalid("window %s: want %s to %s", tsdb.FormatDuration(d), tsdb.FormatDuration(MinWindow), tsdb.FormatDuration(MaxWindow))
	}
	return nil
}

// Stat computes the golden signals of every service over the window that ends
// now. Services without any traffic come from Config.Services, with null numbers.
func (e *Engine) Stat(ctx context.Context, window time.Duration) (telemetry.Stat, error) {
	facts, err := e.facts(ctx, window)
	if err != nil {
		return telemetry.Stat{}, err
	}
	return e.stat(facts, window), nil
}

func (e *Engine) stat(facts *facts, window time.Duration) telemetry.Stat {
	byService := make(map[telemetry.Peer]telemetry.Service)
	for _, s := range e.config.Services() {
		byService[telemetry.Peer{Name: s.Name, Namespace: s.Namespace}] = telemetry.Service{Name: s.Name, Namespace: s.Namespace, Meshed: s.Meshed}
	}
	for to, seen := range facts.services {
		s := byService[to]
		s.Name, s.Namespace = to.Name, to.Namespace
		s.Signals = seen.signals()
		byService[to] = s
	}
	stat := telemetry.Stat{Window: tsdb.FormatDuration(window), Services: []telemetry.Service{}}
	for _, s := range byService {
		stat.Services = append(stat.Services, s)
	}
	slices.SortFunc(stat.Services, func(a, b telemetry.Service) int {
		return comparePeers(telemetry.Peer{Name: a.Name, Namespace: a.Namespace}, telemetry.Peer{Name: b.Name, Namespace: b.Namespace})
	})
	return stat
}

// Edges computes who called whom over the window that ends now.
func (e *Engine) Edges(ctx context.Context, window time.Duration) (telemetry.Edges, error) {
	facts, err := e.facts(ctx, window)
	if err != nil {
		return telemetry.Edges{}, err
	}
	return edges(facts, window), nil
}

// StatAndEdges computes both of the same moment, for the cost of one.
func (e *Engine) StatAndEdges(ctx context.Context, window time.Duration) (telemetry.Stat, telemetry.Edges, error) {
	facts, err := e.facts(ctx, window)
	if err != nil {
		return telemetry.Stat{}, telemetry.Edges{}, err
	}
	return e.stat(facts, window), edges(facts, window), nil
}

func edges(facts *facts, window time.Duration) telemetry.Edges {
	out := telemetry.Edges{Window: tsdb.FormatDuration(window), Edges: []telemetry.Edge{}}
	for k, t := range facts.edges {
		if t.silent() {
			continue
		}
		protocol := "tcp"
		if t.http {
			protocol = "http"
		}
		edge := telemetry.Edge{From: k.from, To: k.to, Protocol: protocol, Signals: t.signals()}
		if outside(k.to) {
			edge.MutualTLS = nil // the program's own TLS, if any, is not the mesh's to know
		}
		out.Edges = append(out.Edges, edge)
	}
	slices.SortFunc(out.Edges, func(a, b telemetry.Edge) int {
		if c := comparePeers(a.From, b.From); c != 0 {
			return c
		}
		return comparePeers(a.To, b.To)
	})
	return out
}

func comparePeers(a, b telemetry.Peer) int {
	if c := strings.Compare(a.Namespace, b.Namespace); c != 0 {
		return c
	}
	return strings.Compare(a.Name, b.Name)
}

// service is what the server's side and the clients' side know of one service.
type service struct {
	inbound, clients tally
}

// signals joins the two sides: the service's own numbers where it has proxies,
// and calls which failed before they got there.
func (s *service) signals() telemetry.Signals {
	if !s.inbound.seen {
		return s.clients.signals()
	}
	joined := s.inbound
	if lost := s.clients.failures - s.inbound.failures; lost > 0 {
		joined.requests += lost
		joined.failures += lost
	}
	return joined.signals()
}

// tally adds up the counters of one service or edge over the window.
type tally struct {
	seen, http  bool
	requests    float64
	failures    float64
	mutual      float64 // requests not answered with 5xx, over mutual TLS
	connections float64 // opened in the window, opaque TCP
	open        float64 // open now, opaque TCP
	mutualOpen  float64 // of connections and open, over mutual TLS
	received    float64
	sent        float64
	seconds     float64 // of the window that is covered by samples
	latency     telemetry.Latency
}

// silent reports whether nothing happened in the window.
func (t *tally) silent() bool {
	return t.requests == 0 && t.connections == 0 && t.open == 0 && t.received == 0 && t.sent == 0
}

func (t *tally) signals() telemetry.Signals {
	s := telemetry.Signals{Latency: t.latency}
	if !t.seen {
		return s
	}
	tcp := t.open
	s.TCPConnections = &tcp
	if t.seconds > 0 {
		s.ReceivedBytes = number(t.received / t.seconds)
		s.SentBytes = number(t.sent / t.seconds)
		if t.http {
			s.RPS = number(t.requests / t.seconds)
		}
	}
	if t.requests > 0 {
		s.SuccessRate = number((t.requests - t.failures) / t.requests)
		// What failed may have gone nowhere, which is not plaintext.
		if answered := t.requests - t.failures; answered > 0 {
			s.MutualTLS = number(min(1, t.mutual/answered))
		}
	} else if n := t.connections + t.open; n > 0 {
		s.MutualTLS = number(t.mutualOpen / n)
	}
	return s
}

// number is a pointer to a finite number, or nil.
func number(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

// splitService reads the label "NAME.NAMESPACE:PORT" (or without a port).
func splitService(label string) (telemetry.Peer, bool) {
	host, _, _ := strings.Cut(label, ":")
	name, namespace, ok := strings.Cut(host, ".")
	if !ok || name == "" || namespace == "" {
		return telemetry.Peer{}, false
	}
	return telemetry.Peer{Name: name, Namespace: namespace}, true
}
