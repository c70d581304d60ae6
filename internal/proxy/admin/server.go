package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/proxy/live"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/proxy/record"
	"tulle.dev/tulle/internal/proxy/story"
	"tulle.dev/tulle/internal/wire/h1"
)

const (
	// maxConnections bounds the open connections of one listener.
	maxConnections = 32
	// maxHead bounds a request's head, in bytes.
	maxHead = 8 << 10
	// headTimeout bounds a request's head from its first byte, the TLS
	// handshake, and the writing of an answer.
	headTimeout = 10 * time.Second
	// idleTimeout is how long a connection may wait for its next request.
	idleTimeout = 2 * time.Minute
)

// Config says what the server tells.
type Config struct {
	Live    *live.Live
	Meter   *meter.Registry
	Version string
	Log     *slog.Logger
	// Ready says why the proxy shouldn't get traffic; nil: it should. A nil
	// function means that Live decides alone.
	Ready func() error
	// Alive says that some loop makes no progress any more. It may be nil.
	Alive func() error
	// Connections returns what /connections shows, as a JSON value. It may be
	// nil.
	Connections func() any
	// Stories returns the requests that went badly, for /why. It may be nil.
	Stories func(story.Query) []story.Told
	// Tap begins to watch requests, for /tap. It may be nil.
	Tap func(record.Filter) (*record.Tap, error)
	// Drain tells the mesh that nothing new should come and waits until it
	// knows; what is open, and what the program sends, goes on. POST /drain on
	// the Unix socket calls it. It may be nil.
	Drain func(context.Context) error
}

// Server answers requests on any number of listeners.
type Server struct {
	config  Config
	started time.Time

	mu        sync.Mutex
	sections  []section
	listeners map[net.Listener]struct{}
	conns     map[net.Conn]struct{}
	closed    bool
	running   sync.WaitGroup
}

type section struct {
	name string
	f    func() any
}

// New makes a server; nothing listens yet.
func New(c Config) *Server {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{
		config:    c,
		started:   time.Now(),
		listeners: make(map[net.Listener]struct{}),
		conns:     make(map[net.Conn]struct{}),
	}
}

// Section adds a part to the dump: f returns a JSON value (a map, a slice, a
// struct) and is called from the server's goroutines, at any time.
func (s *Server) Section(name string, f func() any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sections = append(s.sections, section{name, f})
}

// ListenUnix serves on a Unix socket that only this user can connect to. A
// socket that a dead proxy left behind is replaced.
func (s *Server) ListenUnix(path string) error {
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return fmt.Errorf("admin socket %s: another proxy answers there; give each proxy a data directory of its own", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("admin socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("admin socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return fmt.Errorf("admin socket: %w", err)
	}
	s.serve(l, func(c net.Conn) (net.Conn, error) { return c, nil }, nil)
	return nil
}

// maxDrain bounds one POST /drain.
const maxDrain = 16 * time.Second

// drain answers POST /drain, which only the proxy's own user can send.
func (s *Server) drain() answer {
	ctx, cancel := context.WithTimeout(context.Background(), maxDrain)
	defer cancel()
	if err := s.config.Drain(ctx); err != nil {
		return text(504, err.Error()+"\n")
	}
	return text(200, "every peer knows\n")
}

// ListenPlain serves plain HTTP on a loopback address, for a proxy that runs
// from a state file alone. It returns the address.
func (s *Server) ListenPlain(address string) (netip.AddrPort, error) {
	l, addr, err := listenTCP(address)
	if err != nil {
		return addr, err
	}
	if !addr.Addr().IsLoopback() {
		l.Close()
		return addr, fmt.Errorf("admin listener %s: plain HTTP is for loopback addresses only, such as 127.0.0.1", address)
	}
	s.serve(l, func(c net.Conn) (net.Conn, error) { return c, nil }, checkHost)
	return addr, nil
}

// ListenTLS serves HTTPS to the control plane of the proxy's own trust domain
// and to nobody else. It returns the address.
func (s *Server) ListenTLS(address string) (netip.AddrPort, error) {
	l, addr, err := listenTCP(address)
	if err != nil {
		return addr, err
	}
	credentials := s.config.Live.Credentials()
	config := credentials.ServerConfig(func(peer identity.ID) error {
		own := credentials.SVID()
		if own == nil || peer != identity.ControlPlane(own.ID.TrustDomain) {
			return fmt.Errorf("%s may not use the admin listener", peer)
		}
		return nil
	}, "http/1.1")
	s.serve(l, func(c net.Conn) (net.Conn, error) {
		t := tls.Server(c, config)
		ctx, cancel := context.WithTimeout(context.Background(), headTimeout)
		defer cancel()
		return t, t.HandshakeContext(ctx)
	}, nil)
	return addr, nil
}

func listenTCP(address string) (net.Listener, netip.AddrPort, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, netip.AddrPort{}, fmt.Errorf("admin listener: %w", err)
	}
	return l, l.Addr().(*net.TCPAddr).AddrPort(), nil
}

// checkHost refuses requests that a browser was tricked into (DNS rebinding):
// the authority must be an address or localhost.
func checkHost(authority string) error {
	host, _, err := net.SplitHostPort(authority)
	if err != nil {
		host = authority
	}
	host = strings.Trim(host, "[]")
	if _, err := netip.ParseAddr(host); err == nil || host == "localhost" || host == "" {
		return nil
	}
	return errors.New("the Host must be an IP address or localhost")
}

// Close ends all listeners and connections and waits for their goroutines.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	for l := range s.listeners {
		l.Close()
	}
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.running.Wait()
}

func (s *Server) serve(l net.Listener, shake func(net.Conn) (net.Conn, error), check func(string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		l.Close()
		return
	}
	s.listeners[l] = struct{}{}
	s.running.Go(func() { s.accept(l, shake, check) })
}

func (s *Server) accept(l net.Listener, shake func(net.Conn) (net.Conn, error), check func(string) error) {
	slots := make(chan struct{}, maxConnections)
	for {
		slots <- struct{}{}
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Out of descriptors, most likely: wait for better times.
			s.config.Log.Warn("admin: accept", "error", err)
			time.Sleep(100 * time.Millisecond)
			<-slots
			continue
		}
		s.running.Go(func() {
			defer func() { <-slots }()
			s.connection(c, shake, check)
		})
	}
}

func (s *Server) connection(raw net.Conn, shake func(net.Conn) (net.Conn, error), check func(string) error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		raw.Close()
		return
	}
	s.conns[raw] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.conns, raw)
		s.mu.Unlock()
		raw.Close()
	}()
	c, err := shake(raw)
	if err != nil {
		s.config.Log.Debug("admin: TLS", "peer", raw.RemoteAddr(), "error", err)
		return
	}
	var r h1.Request
	var buf []byte
	for {
		r.Reset()
		n, failed, err := readHead(c, &buf, &r)
		if err != nil {
			return
		}
		a := answer{status: 200}
		switch {
		case failed != nil:
			a = text(failed.Status, failed.Text+"\n")
			a.close = true
		case check != nil && check(string(r.Authority)) != nil:
			a = text(403, check(string(r.Authority)).Error()+"\n")
		case r.Method == h1.POST && string(r.Path) == "/drain" && s.config.Drain != nil && raw.LocalAddr().Network() == "unix":
			a = s.drain()
		case r.Method == h1.GET && s.config.Tap != nil && isTap(r.Path):
			var streamed bool
			_, query, _ := strings.Cut(string(r.Path), "?")
			if a, streamed = s.tap(c, query); streamed {
				return
			}
		default:
			a = s.answer(&r)
		}
		// No request here has content; one that has is not read on.
		if r.Framing != h1.NoBody && !(r.Framing == h1.Length && r.Length == 0) || !r.KeepAlive {
			a.close = true
		}
		buf = append(buf[:0], buf[n:]...)
		if !a.write(c, r.Method == h1.HEAD) || a.close {
			return
		}
	}
}

// readHead reads a request's head into the front of buf and returns its length.
func readHead(c net.Conn, buf *[]byte, r *h1.Request) (n int, failed *h1.Error, err error) {
	limits := h1.Limits{MaxHead: maxHead}
	c.SetReadDeadline(time.Now().Add(idleTimeout))
	if len(*buf) > 0 {
		c.SetReadDeadline(time.Now().Add(headTimeout))
	}
	for {
		if n, failed = r.Parse(*buf, &limits); n > 0 || failed != nil {
			return n, failed, nil
		}
		chunk := make([]byte, 1024)
		got, err := c.Read(chunk)
		if got == 0 {
			if err == nil {
				err = io.ErrNoProgress
			}
			return 0, nil, err
		}
		if len(*buf) == 0 {
			c.SetReadDeadline(time.Now().Add(headTimeout))
		}
		*buf = append(*buf, chunk[:got]...)
	}
}

// answer is one response.
type answer struct {
	status int
	media  string
	body   []byte
	close  bool
}

func text(status int, body string) answer {
	return answer{status: status, media: "text/plain; charset=utf-8", body: []byte(body)}
}

func (a *answer) write(c net.Conn, headOnly bool) bool {
	b := h1.AppendStatusLine(nil, a.status)
	b = h1.AppendField(b, "Content-Type", a.media)
	b = h1.AppendField(b, "Content-Length", fmt.Sprint(len(a.body)))
	b = h1.AppendField(b, "X-Content-Type-Options", "nosniff")
	if a.status == 405 {
		b = h1.AppendField(b, "Allow", "GET, HEAD")
	}
	if a.close {
		b = h1.AppendField(b, "Connection", "close")
	}
	b = append(b, "\r\n"...)
	if !headOnly {
		b = append(b, a.body...)
	}
	c.SetWriteDeadline(time.Now().Add(headTimeout))
	_, err := c.Write(b)
	return err == nil
}

// answer routes a request.
func (s *Server) answer(r *h1.Request) answer {
	path, query, _ := strings.Cut(string(r.Path), "?")
	if r.Method != h1.GET && r.Method != h1.HEAD {
		return text(405, "only GET and HEAD\n")
	}
	switch path {
	case "/ready":
		return verdict("ready", s.ready())
	case "/live":
		var err error
		if s.config.Alive != nil {
			err = s.config.Alive()
		}
		return verdict("alive", err)
	case "/metrics":
		return s.metrics(r)
	case "/dump":
		return s.json(s.dump())
	case "/connections":
		var v any = []any{}
		if s.config.Connections != nil {
			v = s.config.Connections()
		}
		return s.json(v)
	case "/why":
		return s.why(query)
	case "/version":
		return text(200, s.config.Version+"\n")
	}
	return text(404, "no such page; there are /ready /live /metrics /dump /connections /why /tap /version\n")
}

func verdict(word string, err error) answer {
	if err != nil {
		return text(503, "not "+word+": "+err.Error()+"\n")
	}
	return text(200, word+"\n")
}

func (s *Server) ready() error {
	if !s.config.Live.Ready() {
		link := s.config.Live.Link()
		if why := link.IdentityError + link.Error; why != "" {
			return errors.New("the control plane hasn't told what this proxy is: " + why)
		}
		return errors.New("the control plane hasn't told what this proxy is yet")
	}
	if s.config.Ready != nil {
		return s.config.Ready()
	}
	return nil
}
