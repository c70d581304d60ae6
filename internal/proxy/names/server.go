package names

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"tulle.dev/tulle/internal/proxy/live"
	"tulle.dev/tulle/internal/proxy/meter"
)

const (
	// maxInFlight bounds queries that wait for the control plane or a resolver.
	maxInFlight = 256
	// maxConnections bounds TCP connections of programs.
	maxConnections = 64
	// idleTimeout bounds how long a TCP connection waits for its next query
	// (RFC 7766, 6.2.3), writeTimeout the writing of an answer.
	idleTimeout  = 10 * time.Second
	writeTimeout = 5 * time.Second
	// maxUDP is the largest query read from a datagram.
	maxUDP = 4096
	// maxTCP is the largest message there is (RFC 1035, 4.2.2).
	maxTCP = 65535
)

// Config says what a server answers from.
type Config struct {
	Live *live.Live
	// Resolv is a resolv.conf; empty means /etc/resolv.conf.
	Resolv string
	// Open makes the sockets of listeners that Follow finds; nil makes them
	// in the proxy's own network namespace.
	Open  Open
	Meter *meter.Registry // may be nil
	Log   *slog.Logger    // may be nil
}

// Server answers queries on any number of sockets.
type Server struct {
	live     *live.Live
	upstream *upstream
	log      *slog.Logger
	open     Open
	follows  map[string]followed // Follow's alone
	inFlight chan struct{}
	counts   [results]atomic.Uint64

	mu      sync.Mutex
	closed  bool
	closers map[io.Closer]struct{}
	running sync.WaitGroup
}

// result is how a query was answered, for the metric.
type result int

const (
	fromMesh result = iota
	nxDomain
	forwarded
	failed
	malformed
	withheld // the egress policy lets nothing call it
	audited  // or would not, but only looks on; it was counted as forwarded too
	results
)

var resultNames = [results]string{"mesh", "nxdomain", "forwarded", "failed", "malformed", "denied", "audit"}

// New makes a server; nothing listens yet.
func New(c Config) *Server {
	if c.Resolv == "" {
		c.Resolv = "/etc/resolv.conf"
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Open == nil {
		c.Open = OpenSockets
	}
	s := &Server{
		open:     c.Open,
		follows:  make(map[string]followed),
		live:     c.Live,
		log:      c.Log,
		inFlight: make(chan struct{}, maxInFlight),
		closers:  make(map[io.Closer]struct{}),
	}
	s.upstream = &upstream{path: c.Resolv}
	if c.Meter != nil {
		c.Meter.Collect(func(w *meter.Writer) {
			w.Family("tulle_names_queries_total", meter.CounterKind, "DNS queries, by how they were answered.")
			for i, name := range resultNames {
				w.Count(s.counts[i].Load(), "result", name)
			}
		})
	}
	return s
}

// Listen serves UDP and TCP at an address. Closing what it returns ends that
// again. With port 0 both get the same free port.
func (s *Server) Listen(at netip.AddrPort) (io.Closer, netip.AddrPort, error) {
	udp, tcp, err := OpenSockets(at)
	for range freePortTries {
		if err == nil || at.Port() != 0 {
			break
		}
		udp, tcp, err = OpenSockets(at) // the port was free for one of them only
	}
	if err != nil {
		return nil, at, fmt.Errorf("names listener: %w", err)
	}
	return s.Serve(udp, tcp), tcp.Addr().(*net.TCPAddr).AddrPort(), nil
}

// freePortTries is how often a port that is free for both is looked for.
const freePortTries = 10

// Serve serves sockets that somebody else made; each may be nil. It takes them
// over: closing what it returns closes them.
func (s *Server) Serve(udp net.PacketConn, tcp net.Listener) io.Closer {
	return s.serve(udp, tcp, netip.AddrPort{})
}

func (s *Server) serve(udp net.PacketConn, tcp net.Listener, at netip.AddrPort) io.Closer {
	p := &pair{server: s, udp: udp, tcp: tcp, at: at}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		p.closeSockets()
		return p
	}
	s.closers[p] = struct{}{}
	if udp != nil {
		s.upstream.avoid(udp.LocalAddr())
		p.running.Go(func() { s.serveUDP(udp) })
	}
	if tcp != nil {
		p.running.Go(func() { s.serveTCP(tcp) })
	}
	return p
}

// pair is the two sockets of one listener.
type pair struct {
	server  *Server
	udp     net.PacketConn
	tcp     net.Listener
	at      netip.AddrPort // what Follow was told; invalid for others
	running sync.WaitGroup
}

func (p *pair) closeSockets() error {
	var errs []error
	if p.udp != nil {
		errs = append(errs, p.udp.Close())
	}
	if p.tcp != nil {
		errs = append(errs, p.tcp.Close())
	}
	return errors.Join(errs...)
}

// Close closes the sockets and waits until nothing is read from them.
func (p *pair) Close() error {
	err := p.closeSockets()
	p.running.Wait()
	p.server.forget(p)
	return err
}

func (s *Server) forget(c io.Closer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.closers, c)
}

// Close closes all sockets and connections and waits for the server's
// goroutines; queries that wait for a resolver end within its time limit.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	all := make([]io.Closer, 0, len(s.closers))
	for c := range s.closers {
		all = append(all, c)
	}
	s.mu.Unlock()
	s.upstream.close()
	for _, c := range all {
		c.Close()
	}
	s.running.Wait()
}

func (s *Server) serveUDP(c net.PacketConn) {
	buf := make([]byte, maxUDP)
	for {
		n, from, err := c.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // ICMP errors of answers nobody waited for
		}
		q := parse(buf[:n])
		if q == nil {
			s.counts[malformed].Add(1)
			continue
		}
		if b, r, ok := s.answerNow(q, udpLimit); ok {
			s.counts[r].Add(1)
			c.WriteTo(b, from)
			continue
		}
		select {
		case s.inFlight <- struct{}{}:
		default:
			s.counts[failed].Add(1)
			c.WriteTo(q.failure(serverFailure), from)
			continue
		}
		q.raw = append([]byte(nil), q.raw...)
		s.running.Go(func() {
			defer func() { <-s.inFlight }()
			b, r := s.answer(q, "udp", udpLimit)
			s.counts[r].Add(1)
			c.WriteTo(b, from)
		})
	}
}

func (s *Server) serveTCP(l net.Listener) {
	slots := make(chan struct{}, maxConnections)
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			s.log.Warn("names: accept", "error", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			c.Close()
			continue
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			c.Close()
			return
		}
		s.closers[c] = struct{}{}
		s.running.Go(func() {
			defer func() { <-slots }()
			defer s.forget(c)
			defer c.Close()
			s.serveConn(c)
		})
		s.mu.Unlock()
	}
}

// serveConn answers the queries of a TCP connection in turn.
func (s *Server) serveConn(c net.Conn) {
	var buf []byte
	for {
		c.SetReadDeadline(time.Now().Add(idleTimeout))
		var length [2]byte
		if _, err := io.ReadFull(c, length[:]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint16(length[:]))
		if cap(buf) < n {
			buf = make([]byte, n)
		}
		if _, err := io.ReadFull(c, buf[:n]); err != nil {
			return
		}
		q := parse(buf[:n])
		if q == nil {
			s.counts[malformed].Add(1)
			return
		}
		b, r := s.answer(q, "tcp", maxTCP)
		s.counts[r].Add(1)
		c.SetWriteDeadline(time.Now().Add(writeTimeout))
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)); err != nil {
			return
		}
	}
}
