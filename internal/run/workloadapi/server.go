package workloadapi

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"tulle.dev/tulle/internal/identity"
)

const (
	// maxCallers bounds the streams that are served at once.
	maxCallers = 64
	// maxMessage bounds what a caller sends, in bytes.
	maxMessage = 64 << 10
	// issueTimeout bounds one request for a certificate.
	issueTimeout = 15 * time.Second
	// lookEvery is how often the trust bundle is asked for.
	lookEvery = 5 * time.Second
	// retry is the pause after a failure, while the SVID from before is still good.
	retry = 2 * time.Second
)

// Issuer gets certificates for the workload's identity.
type Issuer interface {
	// Issue signs a certificate for the key of a request (PKCS #10, DER) and
	// returns its chain, DER, leaf first.
	Issue(ctx context.Context, csr []byte) (chain [][]byte, err error)
	// IssueJWT returns a token for audiences, or an error that is ErrRefused when
	// there is none for this workload.
	IssueJWT(ctx context.Context, audience []string) (*Token, error)
	// Bundles returns what identities are believed by.
	Bundles(ctx context.Context) (*Bundles, error)
}

// Server is the Workload API of one workload.
type Server struct {
	workload.UnimplementedSpiffeWorkloadAPIServer
	id     identity.ID
	issuer Issuer
	log    *slog.Logger
	grpc   *grpc.Server

	minting chan struct{} // held while a token is issued
	asking  chan struct{} // held while bundles are asked for; it guards the next two
	asked   time.Time
	// askError is what went wrong then.
	askError error

	mu      sync.Mutex
	callers int
	tokens  map[string]*kept // by their audiences
	known   *trusted         // last; nil at first
}

// New makes a server for an identity.
func New(id identity.ID, issuer Issuer, log *slog.Logger) *Server {
	s := &Server{id: id, issuer: issuer, log: log, minting: make(chan struct{}, 1), asking: make(chan struct{}, 1), tokens: map[string]*kept{}}
	s.grpc = grpc.NewServer(grpc.Creds(userOnly{}), grpc.MaxConcurrentStreams(maxCallers), grpc.MaxRecvMsgSize(maxMessage), grpc.ConnectionTimeout(issueTimeout))
	workload.RegisterSpiffeWorkloadAPIServer(s.grpc, s)
	return s
}

// Serve answers on a Unix socket until the context ends; it closes the listener.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, s.grpc.Stop)
	defer stop()
	if err := s.grpc.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("the Workload API: %w", err)
	}
	return nil
}

// securityHeader is what every call must carry, so that no program can be tricked
// into one (SPIFFE Workload Endpoint, 4).
const securityHeader = "workload.spiffe.io"

// admit checks a call and counts it; done gives its place back.
func (s *Server) admit(ctx context.Context) (done func(), err error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if v := md.Get(securityHeader); len(v) != 1 || v[0] != "true" {
		return nil, status.Errorf(codes.InvalidArgument, "the metadata %s: true is missing", securityHeader)
	}
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil, status.Error(codes.PermissionDenied, "who is calling isn't known")
	}
	if a, ok := p.AuthInfo.(caller); !ok || !a.allowed {
		return nil, status.Error(codes.PermissionDenied, "the Workload API is for the user who runs this workload")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.callers >= maxCallers {
		return nil, status.Errorf(codes.ResourceExhausted, "%d callers are served at once", maxCallers)
	}
	s.callers++
	return func() {
		s.mu.Lock()
		s.callers--
		s.mu.Unlock()
	}, nil
}

// FetchX509SVID sends an SVID with its key and the trust bundle, and again
// whenever either changes.
func (s *Server) FetchX509SVID(_ *workload.X509SVIDRequest, out grpc.ServerStreamingServer[workload.X509SVIDResponse]) error {
	ctx := out.Context()
	done, err := s.admit(ctx)
	if err != nil {
		return err
	}
	defer done()
	var held *held
	var sent *trusted
	for {
		next, err := s.update(ctx, held, sent)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && (held == nil || time.Now().After(held.leaf.NotAfter)):
			return status.Errorf(codes.Unavailable, "no certificate for %s: %s", s.id, err)
		case err != nil:
			s.log.Warn("the Workload API's certificate can't be renewed yet", "identity", s.id.String(), "error", err)
			if !sleep(ctx, retry) {
				return ctx.Err()
			}
			continue
		}
		if next.held != held || !next.trusts.sameRoots(sent) {
			held, sent = next.held, next.trusts
			if err := out.Send(&workload.X509SVIDResponse{FederatedBundles: sent.foreign, Svids: []*workload.X509SVID{{
				SpiffeId: s.id.String(), X509Svid: held.chain, X509SvidKey: held.key, Bundle: sent.roots[sent.domain]}}}); err != nil {
				return err
			}
		}
		if !sleep(ctx, lookEvery) {
			return ctx.Err()
		}
	}
}

// held is an SVID that a caller has.
type held struct {
	chain, key []byte // DER, as the Workload API wants them
	leaf       *x509.Certificate
	renew      time.Time
	roots      []byte // that were trusted when it was issued
}

type update struct {
	held   *held
	trusts *trusted
}

// update returns what a caller should have now: what it has, when that is good.
func (s *Server) update(ctx context.Context, have *held, known *trusted) (update, error) {
	ctx, cancel := context.WithTimeout(ctx, issueTimeout)
	defer cancel()
	t, err := s.bundles(ctx)
	if err != nil {
		if have != nil && time.Now().Before(have.renew) {
			return update{have, known}, nil // the control plane may be away
		}
		return update{}, err
	}
	roots := t.roots[t.domain]
	if have != nil && time.Now().Before(have.renew) && bytes.Equal(have.roots, roots) {
		return update{have, t}, nil
	}
	next, err := s.issue(ctx)
	if err != nil {
		return update{}, err
	}
	next.roots = roots
	return update{next, t}, nil
}

// issue makes a key and gets a certificate for it.
func (s *Server) issue(ctx context.Context) (*held, error) {
	key, err := identity.NewKey()
	if err != nil {
		return nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, err
	}
	chain, err := s.issuer.Issue(ctx, csr)
	if err != nil {
		return nil, err
	}
	svid, err := identity.NewSVID(chain, key)
	if err != nil {
		return nil, err
	}
	if svid.ID != s.id {
		return nil, fmt.Errorf("the certificate is for %s, want %s", svid.ID, s.id)
	}
	der, err := x509.MarshalPKCS8PrivateKey(crypto.PrivateKey(key))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &held{chain: bytes.Join(chain, nil), key: der, leaf: svid.Leaf, renew: now.Add(svid.Leaf.NotAfter.Sub(now) / 2)}, nil
}

// FetchX509Bundles sends the roots that X.509-SVIDs are verified with, and again
// whenever they change.
func (s *Server) FetchX509Bundles(_ *workload.X509BundlesRequest, out grpc.ServerStreamingServer[workload.X509BundlesResponse]) error {
	return s.follow(out.Context(), (*trusted).sameRoots, func(t *trusted) error {
		return out.Send(&workload.X509BundlesResponse{Bundles: t.roots})
	})
}

// follow sends the trust bundles, and again whenever they aren't the same any more.
func (s *Server) follow(ctx context.Context, same func(t, o *trusted) bool, send func(*trusted) error) error {
	done, err := s.admit(ctx)
	if err != nil {
		return err
	}
	defer done()
	var sent *trusted
	for {
		t, err := s.bundles(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case t == nil:
			return status.Errorf(codes.Unavailable, "the trust bundle: %s", err)
		case !same(t, sent):
			sent = t
			if err := send(t); err != nil {
				return err
			}
		}
		if !sleep(ctx, lookEvery) {
			return ctx.Err()
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
