package control

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc/credentials"

	"tulle.dev/tulle/internal/control/api"
)

const (
	handshakeTimeout = 10 * time.Second
	// maxHandshakes bounds TLS handshakes under way on one listener.
	maxHandshakes = 512
	// The protocols of the TLS port: proxies speak gRPC, CLIs plain HTTP.
	protocolGRPC = "h2"
	protocolHTTP = "http/1.1"
)

// listenTCP takes an address, or says who may have it.
func listenTCP(flag, address string) (net.Listener, error) {
	if address == None {
		return nil, nil
	}
	l, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s %s: the port is taken, perhaps by another control plane: stop it, or choose another address (port 0 takes a free one)", flag, address)
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", flag, address, err)
	}
	return l, nil
}

// listenUnix takes a socket path. The data directory is locked, so a file that
// is there is a dead process'.
func listenUnix(path string) (net.Listener, error) {
	if len(path) > 103 {
		return nil, fmt.Errorf("the data directory's path is too long for a Unix socket: %s has %d bytes, 103 are possible; choose a shorter --data-dir", path, len(path))
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove the old socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// split is a TLS listener that does the handshakes and hands each connection to
// one of two servers by the protocol the client chose. The goroutines of
// handshakes end with Close.
type split struct {
	inner  net.Listener
	config *tls.Config
	log    *slog.Logger
	grpc   *queue
	http   *queue
	slots  chan struct{}
	ctx    context.Context
	cancel context.CancelFunc
	all    sync.WaitGroup
}

func newSplit(l net.Listener, config *tls.Config, log *slog.Logger) *split {
	ctx, cancel := context.WithCancel(context.Background())
	s := &split{inner: l, config: config, log: log, slots: make(chan struct{}, maxHandshakes), ctx: ctx, cancel: cancel}
	s.grpc, s.http = newQueue(l.Addr(), ctx), newQueue(l.Addr(), ctx)
	s.all.Go(s.accept)
	return s
}

func (s *split) accept() {
	for {
		c, err := s.inner.Accept()
		if err != nil {
			if s.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			s.log.Warn("a connection can't be accepted", "error", err)
			select {
			case <-time.After(50 * time.Millisecond):
			case <-s.ctx.Done():
				return
			}
			continue
		}
		select {
		case s.slots <- struct{}{}:
		case <-s.ctx.Done():
			c.Close()
			return
		}
		s.all.Go(func() {
			defer func() { <-s.slots }()
			s.handshake(c)
		})
	}
}

func (s *split) handshake(c net.Conn) {
	ctx, cancel := context.WithTimeout(s.ctx, handshakeTimeout)
	defer cancel()
	t := tls.Server(c, s.config)
	if err := t.HandshakeContext(ctx); err != nil {
		s.log.Debug("a TLS handshake failed", "from", c.RemoteAddr(), "error", err)
		c.Close()
		return
	}
	q := s.http
	if t.ConnectionState().NegotiatedProtocol == protocolGRPC {
		q = s.grpc
	}
	select {
	case q.conns <- t:
	case <-ctx.Done():
		t.Close()
	}
}

func (s *split) close() {
	s.cancel()
	s.inner.Close()
	s.all.Wait()
}

// queue is a net.Listener of connections that are there already.
type queue struct {
	addr  net.Addr
	conns chan net.Conn
	ctx   context.Context
	stop  context.CancelFunc
}

func newQueue(a net.Addr, ctx context.Context) *queue {
	ctx, stop := context.WithCancel(ctx)
	return &queue{a, make(chan net.Conn), ctx, stop}
}

func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.ctx.Done():
		return nil, net.ErrClosed
	}
}

func (q *queue) Close() error   { q.stop(); return nil }
func (q *queue) Addr() net.Addr { return q.addr }

// done is gRPC's transport credentials for connections whose handshake is over.
type done struct{}

func (done) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	t, ok := c.(*tls.Conn)
	if !ok {
		return nil, nil, errors.New("not a TLS connection")
	}
	return c, credentials.TLSInfo{State: t.ConnectionState(), CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}, nil
}

func (done) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("for servers only")
}

func (done) Info() credentials.ProtocolInfo          { return credentials.ProtocolInfo{SecurityProtocol: "tls"} }
func (done) Clone() credentials.TransportCredentials { return done{} }
func (done) OverrideServerName(string) error         { return nil }

// httpServer makes a server with the bounds that every one of ours has.
func httpServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: api.HeadTimeout,
		IdleTimeout:       api.IdleTimeout,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}
