package push

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"maps"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"tulle.dev/tulle/internal/ca"
	"tulle.dev/tulle/internal/control/attest"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/wire/control"
)

// proven is what a caller's verified certificate says.
type proven struct {
	id     identity.ID // zero without a certificate
	unique string      // the workload's unique id; "" in certificates of before there were any
	ends   time.Time
	root   []byte // key id of the root that it is of
}

// peerOf returns what the caller has proven.
func peerOf(ctx context.Context) (by proven) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return by
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return by
	}
	if by.id = identity.Peer(info.State); by.id.IsZero() {
		return by
	}
	chain := info.State.PeerCertificates
	by.unique, by.ends, by.root = identity.UniqueID(chain[0]), chain[0].NotAfter, chain[len(chain)-1].AuthorityKeyId
	return by
}

// certify answers Certify: who the caller is comes from a join token, from an
// old certificate and its key, or from the connection.
func (s *Server) certify(caller context.Context, in []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(caller, certifyTime)
	defer cancel()
	req, err := control.DecodeCertifyRequest(in)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	csr, err := ca.ParseCSR(req.CSR)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	by := peerOf(ctx)
	id, unique, how := by.id, by.unique, "renewal"
	switch {
	case req.JoinToken != "":
		how = "join token"
		var chain [][]byte
		id, err = s.redeem(caller, req.JoinToken, func(id identity.ID) (err error) {
			chain, err = s.issue(csr.PublicKey, id, "", how)
			return err
		})
		return s.certified(id, chain, err)
	case req.KubernetesToken != "":
		how, unique = "service account token", ""
		if s.config.Attestor == nil {
			return nil, status.Error(codes.PermissionDenied, "service account tokens are not taken here: the control plane is started without --kubernetes-api")
		}
		switch id, err = s.config.Attestor.Attest(ctx, req.KubernetesToken); {
		case errors.Is(err, attest.ErrRefused):
			return nil, status.Error(codes.PermissionDenied, err.Error())
		case err != nil:
			return nil, status.Error(codes.Unavailable, err.Error())
		}
	case len(req.ExpiredChain) > 0:
		how = "recovery"
		if id, err = s.config.CA.Recover(req.ExpiredChain, req.CSR, req.RecoverySignature); err != nil {
			return nil, status.Error(codes.PermissionDenied, err.Error())
		}
		if leaf, err := x509.ParseCertificate(req.ExpiredChain[0]); err == nil { // Recover has looked at it
			unique = identity.UniqueID(leaf)
		}
	case id.IsZero():
		return nil, status.Error(codes.Unauthenticated, "nothing says who is asking: bring a join token, or a certificate of this mesh")
	}
	chain, err := s.issue(csr.PublicKey, id, unique, how)
	return s.certified(id, chain, err)
}

// certified is the answer to who got a certificate.
func (s *Server) certified(id identity.ID, chain [][]byte, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return control.EncodeCertifyResponse(&control.CertifyResponse{Chain: chain, Bundle: *s.bundle(s.snapshot.Load()), Identity: id.String()}), nil
}

// issue signs a certificate for who has proven to be id, how says by what. A
// workload keeps the unique id that it has proven; one that has none yet gets one.
func (s *Server) issue(public crypto.PublicKey, id identity.ID, unique, how string) ([][]byte, error) {
	if denied(s.snapshot.Load(), id) {
		return nil, status.Errorf(codes.PermissionDenied, "%s is denied: it is in the Mesh object's deniedIdentities", id)
	}
	if id.TrustDomain != s.config.CA.TrustDomain() || id == identity.ControlPlane(id.TrustDomain) {
		return nil, status.Errorf(codes.PermissionDenied, "%s gets no certificate here", id)
	}
	ttl := ca.MaxTTL
	if snap := s.snapshot.Load(); snap != nil && snap.Settings.CertificateTTL > 0 {
		ttl = snap.Settings.CertificateTTL
	}
	if unique == "" {
		unique = identity.NewUniqueID()
	}
	chain, err := s.config.CA.IssueWorkload(public, id, unique, ttl)
	if errors.Is(err, ca.ErrTooMany) {
		return nil, status.Error(codes.ResourceExhausted, err.Error())
	}
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	s.issued(id, chain[0])
	s.config.Log.Debug("issued a certificate", "identity", id.String(), "by", how)
	return chain, nil
}

// redeem spends a join token, when it is its turn and once something was issued
// for it, and says whom it is for.
func (s *Server) redeem(ctx context.Context, token string, issue func(identity.ID) error) (identity.ID, error) {
	select {
	case s.joins <- struct{}{}:
		defer func() { <-s.joins }()
	case <-ctx.Done():
	}
	// Who has left keeps the token for the next try.
	if ctx.Err() != nil {
		return identity.ID{}, status.FromContextError(ctx.Err()).Err()
	}
	ctx, cancel := context.WithTimeout(ctx, certifyTime)
	defer cancel()
	found, err := s.config.Tokens.Find(ctx, token)
	if err != nil {
		return identity.ID{}, storeStatus(err, codes.PermissionDenied)
	}
	// Only who has something for it pays: where nothing can be issued now the token
	// is good for the next try.
	id := found.Grant.Identity
	if err := issue(id); err != nil {
		return id, err
	}
	if err := found.Use(ctx); err != nil {
		return id, storeStatus(err, codes.PermissionDenied)
	}
	return id, nil
}

// issued notes when an identity's newest certificate ends: a proxy that renews
// keeps the conversation it began with an older one.
func (s *Server) issued(id identity.ID, leaf []byte) {
	c, err := x509.ParseCertificate(leaf)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ends) >= maxStreams {
		now := s.config.Now()
		maps.DeleteFunc(s.ends, func(_ identity.ID, t time.Time) bool { return t.Before(now) })
	}
	if len(s.ends) < maxStreams {
		s.ends[id] = c.NotAfter
	}
}
