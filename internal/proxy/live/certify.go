package live

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	mathrand "math/rand/v2"
	"os"
	"time"

	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/proxy/rpc"
	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/control"
)

const (
	// certifyTimeout bounds one request for a certificate.
	certifyTimeout = 15 * time.Second
	// clockCheck is how often the wall clock is compared with the
	// certificate's end: timers don't see it jump.
	clockCheck = time.Minute
	// renewTries is how many attempts at least fit into what is left of a
	// certificate's life after its half.
	renewTries = 10
	// minRenewal is the least time between two renewals, whatever a clock or an
	// issuer says.
	minRenewal = 5 * time.Second
	// recoverLabel begins what the old key signs after a gap.
	recoverLabel = "tulle-recover"
)

// errNoIdentity says that waiting won't bring a certificate.
var errNoIdentity = errors.New("no certificate")

// loadRoots takes the roots that lie beside the certificate when the state file
// had none: it was broken, or is not written yet.
func (l *Live) loadRoots(domain identity.TrustDomain) error {
	if len(l.credentials.Bundle().Domains()) > 0 {
		return nil
	}
	roots, err := identity.ReadCertificates(l.path(identity.BundleFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the trust bundle: %w", err)
	}
	b := &view.Bundle{Domains: []view.TrustDomain{{Name: string(domain), Roots: roots}}}
	compiled, err := compileBundle(b)
	if err != nil {
		return fmt.Errorf("read the trust bundle %s: %w", l.path(identity.BundleFile), err)
	}
	l.bundle = b
	l.credentials.SetBundle(compiled)
	return nil
}

// storeRoots writes the roots of the proxy's own trust domain.
func (l *Live) storeRoots(b *view.Bundle) error {
	s := l.credentials.SVID()
	if l.config.DataDir == "" || l.config.EphemeralKey || s == nil {
		return nil
	}
	for _, d := range b.Domains {
		if d.Name == string(s.ID.TrustDomain) {
			return identity.WriteCertificates(l.path(identity.BundleFile), d.Roots)
		}
	}
	return nil
}

// loadSVID takes the certificate from the data directory, an expired one too.
func (l *Live) loadSVID() error {
	if l.config.DataDir == "" || l.config.EphemeralKey {
		return nil
	}
	s, err := identity.ReadSVID(l.path(chainFile), l.path(keyFile))
	if err != nil {
		// A crash between the writes of a renewal leaves the new key beside
		// the new chain.
		if next, nextErr := identity.ReadSVID(l.path(chainFile), l.path(nextKeyFile)); nextErr == nil {
			if err := os.Rename(l.path(nextKeyFile), l.path(keyFile)); err != nil {
				return fmt.Errorf("finish the renewal of the certificate: %w", err)
			}
			s, err = next, nil
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil && l.config.JoinToken != "":
		l.log.Error("can't use the saved certificate; joining again with the token", "error", err)
		return nil
	case err != nil:
		return fmt.Errorf("read the proxy's certificate: %w; remove both files and join again with a new token", err)
	}
	l.useSVID(s)
	return l.loadRoots(s.ID.TrustDomain)
}

// certify gets a certificate and renews it for ever. It closes certified once
// there is one that hasn't expired.
func (l *Live) certify(ctx context.Context, certified chan<- struct{}) error {
	usable := func() bool {
		s := l.credentials.SVID()
		return s != nil && l.config.now().Before(s.Leaf.NotAfter)
	}
	announced := false
	var b backoff
	// One from the disk is renewed at the half of its life as written.
	var from time.Time
	if s := l.credentials.SVID(); s != nil {
		from = s.Leaf.NotBefore
	}
	for {
		if !announced && usable() {
			announced = true
			close(certified)
		}
		if s := l.credentials.SVID(); s != nil {
			b = backoff{}
			when := renewal(s, from)
			l.mu.Lock()
			l.link.Renewal = when
			l.mu.Unlock()
			if !l.sleepUntil(ctx, when) {
				return nil
			}
		}
		for {
			err := l.renew(ctx)
			if ctx.Err() != nil {
				return nil
			}
			l.noteIdentity(err)
			if err == nil {
				from = l.config.now().Round(0)
				break
			}
			if errors.Is(err, errNoIdentity) && l.credentials.SVID() == nil {
				return err
			}
			limit := maxBackoff
			if s := l.credentials.SVID(); s != nil {
				limit = min(time.Minute, max(s.Life()/2/renewTries, minBackoff))
			}
			if !b.pause(ctx, limit) {
				return nil
			}
		}
	}
}

// renewal is when a certificate is renewed that is in use since from: at half of
// what was left of its life then, give or take a tenth, so that proxies that
// started together spread out. (Its own beginning says little: issuers set it
// back, for clocks that are behind.)
func renewal(s *identity.SVID, from time.Time) time.Time {
	half := s.Leaf.NotAfter.Sub(from) / 2
	jitter := time.Duration((mathrand.Float64() - 0.5) * 0.2 * float64(half))
	return from.Add(max(half+jitter, minRenewal))
}

// maxSpread bounds the time over which proxies spread the renewal that a change
// of the signing root asks of all of them at once.
const maxSpread = 10 * time.Second

// noteSigner has the certificate renewed when it is of another root than those
// that are issued now.
func (l *Live) noteSigner(b *view.Bundle) {
	if s := l.credentials.SVID(); s != nil && len(b.Signer) > 0 && !bytes.Equal(s.RootKeyID(), b.Signer) {
		wake(l.resign)
	}
}

// sleepUntil waits for a time of the wall clock, even if that is set, or for the
// signing root to change.
func (l *Live) sleepUntil(ctx context.Context, when time.Time) bool {
	for {
		// Round strips the monotonic reading.
		left := when.Sub(l.config.now().Round(0))
		if left <= 0 {
			return ctx.Err() == nil
		}
		t := time.NewTimer(min(left, clockCheck))
		select {
		case <-t.C:
		case <-l.resign:
			t.Stop()
			// Even with others, and not so late that it would end meanwhile.
			when = l.config.now().Round(0).Add(mathrand.N(min(maxSpread, max(left/2, time.Millisecond))))
		case <-ctx.Done():
			t.Stop()
			return false
		}
	}
}

// noteIdentity logs the first failure and the recovery.
func (l *Live) noteIdentity(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.link.IdentityError
	l.link.IdentityError = ""
	if err != nil {
		l.link.IdentityError = err.Error()
	}
	s := l.credentials.SVID()
	switch {
	case err == nil:
		l.log.Info("got a certificate", "identity", s.ID, "until", s.Leaf.NotAfter)
		if l.endSession != nil { // the control plane is to see it, and never to talk to one that ended
			l.endSession(errAgain)
		}
	case was == "" && s != nil:
		l.log.Warn("can't renew the certificate; the present one stays in use", "until", s.Leaf.NotAfter, "error", err)
	case was == "":
		l.log.Warn("can't get a certificate yet", "error", err)
	}
}

// renew gets a certificate for a new key, in the way that what the proxy has
// allows: with its certificate, with its expired one, with the join token.
func (l *Live) renew(ctx context.Context) error {
	key, err := identity.NewKey()
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return fmt.Errorf("make a certificate request: %w", err)
	}
	request := &control.CertifyRequest{CSR: csr}
	s := l.credentials.SVID()
	switch {
	case s != nil && l.config.now().Before(s.Leaf.NotAfter):
		config := l.credentials.ClientConfig(identity.ControlPlane(s.ID.TrustDomain), "h2")
		return l.ask(ctx, config, request, key)
	case s != nil:
		err := l.recover(ctx, s, request, key)
		if err == nil || l.config.JoinToken == "" || ctx.Err() != nil {
			return err
		}
		if joined := l.join(ctx, request, key); joined != nil {
			return fmt.Errorf("the certificate has expired: %w; and joining again: %w", err, joined)
		}
		return nil
	}
	return l.join(ctx, request, key)
}

// recover asks with an expired certificate, proving that the proxy has its key.
func (l *Live) recover(ctx context.Context, s *identity.SVID, request *control.CertifyRequest, key crypto.Signer) error {
	sum := sha256.Sum256(append([]byte(recoverLabel), request.CSR...))
	signature, err := s.Key().Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return fmt.Errorf("sign with the old key: %w", err)
	}
	r := *request
	r.ExpiredChain, r.RecoverySignature = s.Certificate.Certificate, signature
	config := l.credentials.AnonymousConfig(identity.ControlPlane(s.ID.TrustDomain), "h2")
	return l.ask(ctx, config, &r, key)
}

// join asks with the join token.
func (l *Live) join(ctx context.Context, request *control.CertifyRequest, key crypto.Signer) error {
	if l.config.JoinToken == "" {
		return fmt.Errorf("%w in %q and no join token: get one from the control plane and start the proxy with --join-token-file",
			errNoIdentity, l.config.DataDir)
	}
	token, err := identity.ParseJoinToken(l.config.JoinToken)
	if err != nil {
		return fmt.Errorf("%w: %w", errNoIdentity, err)
	}
	r := *request
	r.JoinToken = token.Reveal()
	err = l.ask(ctx, identity.PinnedConfig(token.Pin, l.config.now, "h2"), &r, key)
	if status, ok := errors.AsType[*rpc.StatusError](err); ok {
		switch status.Code {
		case rpc.Unauthenticated, rpc.PermissionDenied, rpc.InvalidArgument:
			return fmt.Errorf("%w: the control plane refused the join token: %s", errNoIdentity, status.Message)
		}
	}
	return err
}

// ask makes the request and takes the certificate into use.
func (l *Live) ask(ctx context.Context, config *tls.Config, request *control.CertifyRequest, key crypto.Signer) error {
	ctx, cancel := context.WithTimeout(ctx, certifyTimeout)
	defer cancel()
	conn, err := l.connect(ctx, config)
	if err != nil {
		return err
	}
	defer conn.Close()
	b, err := conn.Call(ctx, control.MethodCertify, control.EncodeCertifyRequest(request))
	if err != nil {
		return fmt.Errorf("ask for a certificate: %w", err)
	}
	response, err := control.DecodeCertifyResponse(b)
	if err != nil {
		return fmt.Errorf("the control plane's answer to the certificate request can't be read: %w", err)
	}
	s, err := identity.NewSVID(response.Chain, key)
	if err != nil {
		return fmt.Errorf("the control plane sent a certificate that can't be used: %w", err)
	}
	bundle, err := compileBundle(&response.Bundle)
	if err != nil {
		return fmt.Errorf("the control plane sent roots that can't be used: %w", err)
	}
	if _, err := bundle.Verify(chain(s), s.Leaf.NotBefore); err != nil {
		return fmt.Errorf("the control plane sent a certificate that its own roots don't vouch for: %w", err)
	}
	if err := l.storeSVID(s); err != nil {
		// In use all the same: a full disk must not end the identity. It is tried
		// again.
		wake(l.dirty)
		l.log.Error("can't save the new certificate; a restart would use the old one", "error", err)
	}
	l.useSVID(s)
	l.takeBundle(&response.Bundle, bundle)
	return nil
}

func chain(s *identity.SVID) []*x509.Certificate {
	list := []*x509.Certificate{s.Leaf}
	for _, der := range s.Certificate.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			list = append(list, c)
		}
	}
	return list
}

// takeBundle uses roots that came with a certificate, unless newer ones came on
// the conversation.
func (l *Live) takeBundle(b *view.Bundle, compiled *identity.Bundle) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bundle != nil && len(l.bundle.Domains) > 0 && l.bundle.Version > b.Version {
		return
	}
	l.bundle = b
	l.credentials.SetBundle(compiled)
	l.bundleChanged = true
	wake(l.dirty)
}

// saveRoots writes the roots when they changed: without them the proxy couldn't
// know its control plane after a restart with a broken state file.
func (l *Live) saveRoots() error {
	l.mu.Lock()
	b, changed := l.bundle, l.bundleChanged
	l.bundleChanged = false
	l.mu.Unlock()
	if b == nil || !changed {
		return nil
	}
	err := l.storeRoots(b)
	if err != nil {
		l.mu.Lock()
		l.bundleChanged = true
		l.mu.Unlock()
	}
	return err
}

// storeSVID writes the newest certificate.
func (l *Live) storeSVID(s *identity.SVID) error {
	l.mu.Lock()
	l.unsaved = s
	l.mu.Unlock()
	return l.saveSVID()
}

// saveSVID writes the certificate that isn't on disk yet, if there is one.
func (l *Live) saveSVID() error {
	l.storing.Lock()
	defer l.storing.Unlock()
	l.mu.Lock()
	s := l.unsaved
	l.mu.Unlock()
	if s == nil {
		return nil
	}
	if err := l.writeSVID(s); err != nil {
		return fmt.Errorf("write the certificate: %w", err)
	}
	l.mu.Lock()
	if l.unsaved == s {
		l.unsaved = nil
	}
	l.mu.Unlock()
	return nil
}

// writeSVID writes key and chain so that after a crash at any point the
// directory holds a chain and its key.
func (l *Live) writeSVID(s *identity.SVID) error {
	if l.config.DataDir == "" || l.config.EphemeralKey {
		return nil
	}
	if err := identity.WriteKey(l.path(nextKeyFile), s.Key()); err != nil {
		return err
	}
	if err := identity.WriteCertificates(l.path(chainFile), s.Certificate.Certificate); err != nil {
		return err
	}
	return os.Rename(l.path(nextKeyFile), l.path(keyFile))
}
