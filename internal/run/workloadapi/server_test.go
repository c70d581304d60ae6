package workloadapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	spiffe "github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"tulle.dev/tulle/internal/ca"
	"tulle.dev/tulle/internal/control/federation"
	"tulle.dev/tulle/internal/control/jwtsvid"
	"tulle.dev/tulle/internal/control/store"
	"tulle.dev/tulle/internal/identity"
)

var web = identity.ID{TrustDomain: "mesh.local", Namespace: "shop", ServiceAccount: "web"}

// direct issues from a CA in the same process.
type direct struct {
	*ca.CA
	tokens *jwtsvid.Authority
	ttl    time.Duration
	jwtTTL time.Duration
	issued atomic.Int32 // certificates
	minted atomic.Int32 // tokens
	away   atomic.Bool
	denied atomic.Bool

	mu      sync.Mutex
	foreign map[string]*federation.Bundle
}

var errAway = errors.New("away")

func (d *direct) Issue(_ context.Context, csr []byte) ([][]byte, error) {
	if d.away.Load() {
		return nil, errAway
	}
	d.issued.Add(1)
	req, err := ca.ParseCSR(csr)
	if err != nil {
		return nil, err
	}
	return d.CA.Issue(req.PublicKey, web, d.ttl)
}

func (d *direct) IssueJWT(_ context.Context, audience []string) (*Token, error) {
	switch {
	case d.away.Load():
		return nil, errAway
	case d.denied.Load():
		return nil, fmt.Errorf("%w: it is denied", ErrRefused)
	}
	d.minted.Add(1)
	t, err := d.tokens.Issue(web, audience, d.jwtTTL)
	if err != nil {
		return nil, err
	}
	return &Token{t.Text, t.Expires}, nil
}

func (d *direct) Bundles(context.Context) (*Bundles, error) {
	if d.away.Load() {
		return nil, errAway
	}
	out := &Bundles{Documents: map[string][]byte{}}
	if d.denied.Load() {
		out.Denied = []string{web.String()}
	}
	all := map[string]*federation.Bundle{"mesh.local": federation.Own(d.CA, d.tokens)}
	d.mu.Lock()
	maps.Copy(all, d.foreign)
	d.mu.Unlock()
	for name, b := range all {
		doc, err := b.Document(identity.TrustDomain(name))
		if err != nil {
			return nil, err
		}
		out.Documents[name] = doc
	}
	return out, nil
}

// mesh is a CA and what issues tokens, of a trust domain.
func mesh(t *testing.T, domain identity.TrustDomain) (*ca.CA, *jwtsvid.Authority) {
	t.Helper()
	keys := &ca.MemoryKeys{}
	authority, err := ca.Open(ca.Config{Keys: keys, TrustDomain: domain})
	if err != nil {
		t.Fatal(err)
	}
	s := store.NewMemory()
	t.Cleanup(func() { s.Close() })
	tokens, err := jwtsvid.Open(jwtsvid.Config{TrustDomain: domain, Issuer: "spiffe://" + string(domain), Keys: keys, Store: s, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	tokens.Begin(t.Context())
	return authority, tokens
}

func serve(t *testing.T) (socket string, issuer *direct) {
	t.Helper()
	issuer = &direct{ttl: time.Hour, foreign: map[string]*federation.Bundle{}}
	issuer.CA, issuer.tokens = mesh(t, "mesh.local")
	path := filepath.Join(t.TempDir(), "w.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- New(web, issuer, slog.New(slog.DiscardHandler)).Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return "unix://" + path, issuer
}

// Two programs that use the SPIFFE library talk to each other with mutual TLS, each
// with a key of its own.
func TestLibrary(t *testing.T) {
	socket, issuer := serve(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	open := func() *spiffe.X509Source {
		s, err := spiffe.NewX509Source(ctx, spiffe.WithClientOptions(spiffe.WithAddr(socket)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	server, client := open(), open()
	a, err := server.GetX509SVID()
	if err != nil {
		t.Fatal(err)
	}
	b, err := client.GetX509SVID()
	if err != nil {
		t.Fatal(err)
	}
	if a.ID.String() != web.String() || a.Certificates[0].Equal(b.Certificates[0]) || issuer.issued.Load() != 2 {
		t.Errorf("identities %s and %s of %d certificates, want one for each caller", a.ID, b.ID, issuer.issued.Load())
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", tlsconfig.MTLSServerConfig(server, server, tlsconfig.AuthorizeID(a.ID)))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		io.Copy(c, c)
		c.Close()
	}()
	c, err := tls.Dial("tcp", l.Addr().String(), tlsconfig.MTLSClientConfig(client, client, tlsconfig.AuthorizeID(a.ID)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
}

// A change of the roots reaches the programs, with a certificate of the new one.
func TestRootsChange(t *testing.T) {
	socket, issuer := serve(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := spiffe.NewX509Source(ctx, spiffe.WithClientOptions(spiffe.WithAddr(socket)))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := issuer.AddRoot(); err != nil {
		t.Fatal(err)
	}
	if err := s.WaitUntilUpdated(ctx); err != nil {
		t.Fatal(err)
	}
	svid, err := s.GetX509SVID()
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := s.GetX509BundleForTrustDomain(svid.ID.TrustDomain())
	if err != nil || len(bundle.X509Authorities()) != 2 {
		t.Errorf("bundle %v, %v, want two roots", bundle, err)
	}
}

func TestRefused(t *testing.T) {
	socket, issuer := serve(t)
	conn, err := grpc.NewClient(socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stream, err := workload.NewSpiffeWorkloadAPIClient(conn).FetchX509SVID(t.Context(), &workload.X509SVIDRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("without the security header: %v, want InvalidArgument", err)
	}
	issuer.away.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := spiffe.FetchX509SVID(ctx, spiffe.WithAddr(socket)); err == nil {
		t.Error("an SVID from nowhere")
	}
}
