package live

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/control"
)

const domain identity.TrustDomain = "mesh.local"

var webID = identity.ID{TrustDomain: domain, Namespace: "default", ServiceAccount: "web"}

// fakeControl is a control plane that does as the test says: grpc-go on
// in-memory connections, so that it runs under synctest.
type fakeControl struct {
	t       *testing.T
	root    *x509.Certificate
	rootKey crypto.Signer
	token   identity.JoinToken
	life    time.Duration

	mu       sync.Mutex
	listener *pipeListener // nil while it is away
	server   *grpc.Server
	served   chan struct{}
	certify  error // what Certify fails with
	methods  []string
	sessions chan *session
}

// session is one conversation, as the control plane sees it.
type session struct {
	stream grpc.ServerStream
	in     chan *control.ProxyMessage
	end    chan error
}

func newFakeControl(t *testing.T) *fakeControl {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		URIs: []*url.URL{{Scheme: "spiffe", Host: string(domain)}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	c := &fakeControl{
		t: t, root: root, rootKey: key, token: identity.NewJoinToken(der), life: 24 * time.Hour,
		sessions: make(chan *session, 1024),
	}
	c.start()
	return c
}

// issue makes an SVID's chain.
func (c *fakeControl) issue(id identity.ID, public any) [][]byte {
	u, _ := url.Parse(id.String())
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		// Set back for clocks that are behind, as the real CA does.
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(c.life),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		URIs:        []*url.URL{u},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.root, public, c.rootKey)
	if err != nil {
		panic(err)
	}
	return [][]byte{der}
}

func (c *fakeControl) bundle() view.Bundle {
	return view.Bundle{Version: 1, Domains: []view.TrustDomain{{Name: string(domain), Roots: [][]byte{c.root.Raw}}}}
}

func (c *fakeControl) start() {
	key, err := identity.NewKey()
	if err != nil {
		c.t.Fatal(err)
	}
	life := c.life
	c.life = 1000 * time.Hour
	svid, err := identity.NewSVID(c.issue(identity.ControlPlane(domain), key.Public()), key)
	c.life = life
	if err != nil {
		c.t.Fatal(err)
	}
	var own identity.Credentials
	own.SetSVID(svid)
	b := c.bundle()
	compiled, err := compileBundle(&b)
	if err != nil {
		c.t.Fatal(err)
	}
	own.SetBundle(compiled)
	server := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(own.JoinServerConfig("h2"))),
		grpc.ForceServerCodecV2(rawCodec{}),
		grpc.UnknownServiceHandler(c.handle),
	)
	l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	served := make(chan struct{})
	go func() {
		defer close(served)
		server.Serve(l)
	}()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.listener, c.server, c.served = l, server, served
}

// stop is kill -9: every connection breaks.
func (c *fakeControl) stop() {
	c.mu.Lock()
	server, served := c.server, c.served
	c.listener, c.server = nil, nil
	c.mu.Unlock()
	if server != nil {
		server.Stop()
		<-served
	}
}

func (c *fakeControl) dial(ctx context.Context) (net.Conn, error) {
	c.mu.Lock()
	l := c.listener
	c.mu.Unlock()
	if l == nil {
		return nil, errors.New("connection refused")
	}
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
	case <-ctx.Done():
	}
	return nil, errors.New("connection refused")
}

func (c *fakeControl) handle(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	switch method {
	case control.MethodCertify:
		return c.handleCertify(stream)
	case control.MethodDiscover:
		s := &session{stream: stream, in: make(chan *control.ProxyMessage, 1024), end: make(chan error, 1)}
		go func() {
			defer close(s.in)
			for {
				var b []byte
				if stream.RecvMsg(&b) != nil {
					return
				}
				m, err := control.DecodeProxyMessage(b)
				if err != nil {
					c.t.Errorf("the proxy sent what can't be read: %v", err)
					return
				}
				s.in <- m
			}
		}()
		c.sessions <- s
		select {
		case err := <-s.end:
			return err
		case <-stream.Context().Done():
			return nil
		}
	}
	return status.Error(codes.Unimplemented, method)
}

func (c *fakeControl) handleCertify(stream grpc.ServerStream) error {
	var b []byte
	if err := stream.RecvMsg(&b); err != nil {
		return err
	}
	r, err := control.DecodeCertifyRequest(b)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	csr, err := x509.ParseCertificateRequest(r.CSR)
	if err != nil || csr.CheckSignature() != nil {
		return status.Error(codes.InvalidArgument, "bad request")
	}
	p, _ := peer.FromContext(stream.Context())
	how := ""
	id := identity.Peer(p.AuthInfo.(credentials.TLSInfo).State)
	c.mu.Lock()
	refuse := c.certify
	c.mu.Unlock()
	switch {
	case refuse != nil:
		return refuse
	case r.JoinToken != "":
		if r.JoinToken != c.token.Reveal() {
			return status.Error(codes.Unauthenticated, "unknown token")
		}
		how, id = "join", webID
	case len(r.ExpiredChain) > 0:
		leaf, err := x509.ParseCertificate(r.ExpiredChain[0])
		if err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
		sum := sha256.Sum256(append([]byte("tulle-recover"), r.CSR...))
		if !ecdsa.VerifyASN1(leaf.PublicKey.(*ecdsa.PublicKey), sum[:], r.RecoverySignature) {
			return status.Error(codes.Unauthenticated, "bad signature")
		}
		how, id = "recover", webID
	case !id.IsZero():
		how = "renew"
	default:
		return status.Error(codes.Unauthenticated, "who are you?")
	}
	c.mu.Lock()
	c.methods = append(c.methods, how)
	c.mu.Unlock()
	answer := control.EncodeCertifyResponse(&control.CertifyResponse{
		Chain: c.issue(id, csr.PublicKey), Bundle: c.bundle(), Identity: id.String(),
	})
	return stream.SendMsg(&answer)
}

func (c *fakeControl) certified() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.methods...)
}

// accept waits for the next conversation and returns its Hello.
func (c *fakeControl) accept() (*session, *control.Hello) {
	c.t.Helper()
	s := <-c.sessions
	m := <-s.in
	if m == nil || m.Hello == nil {
		c.t.Fatalf("the first message is %+v, want a Hello", m)
	}
	return s, m.Hello
}

func (s *session) send(t *testing.T, m *control.ControlMessage) {
	t.Helper()
	b := control.EncodeControlMessage(m)
	if err := s.stream.SendMsg(&b); err != nil {
		t.Fatalf("send: %v", err)
	}
}

// next returns the next message that isn't a Status.
func (s *session) next() *control.ProxyMessage {
	for m := range s.in {
		if m.Status == nil {
			return m
		}
	}
	return nil
}

// rawCodec is a grpc-go codec of opaque bytes.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }
func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}
func (rawCodec) Unmarshal(b mem.BufferSlice, v any) error {
	*v.(*[]byte) = b.Materialize()
	return nil
}

type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, io.EOF
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }
