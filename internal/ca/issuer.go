package ca

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"slices"
	"time"

	"tulle.dev/tulle/internal/identity"
)

// This file is a CA whose issuing certificate was brought along and is renewed by
// somebody else. One that is of the same root takes the place of the present one at
// once. One that is of another goes through the stages of trust.go: its roots are
// trusted too, then it signs, then the old roots go.

// Issuer is an issuing certificate that was brought along.
type Issuer struct {
	Key crypto.Signer
	// Chain is its certificate, then what is between it and a root; DER, as Roots.
	Chain, Roots [][]byte
}

// given is an Issuer that was found good. Immutable.
type given struct {
	signer *signer
	domain identity.TrustDomain
	roots  []*x509.Certificate // the one that it is of first
}

// ErrAnotherRoot says that an issuing certificate is of another root, where that
// can't be changed.
var ErrAnotherRoot = errors.New("the issuing certificate is of other roots than the present one")

// ErrBusy says that one change of the roots isn't over.
var ErrBusy = errors.New("the change to the roots before isn't over")

// OpenIssuer makes a CA of an issuing certificate that was brought along. It isn't
// rotated here; Offer takes another one. Keys, when there are any, keep which roots
// are trusted.
func OpenIssuer(c Config, i Issuer) (*CA, error) {
	fill(&c)
	ca := &CA{keys: c.Keys, now: c.Now, log: c.Log, trust: trust{Version: 1}, limits: Limits{Burst: issueBurst, Every: issueEvery}}
	g, err := i.check(c.TrustDomain, ca.now())
	if err != nil {
		return nil, err
	}
	ca.domain, ca.given, ca.issuer, ca.roots, ca.brought = g.domain, g, g.signer, g.roots, true
	return ca, ca.recallRoots()
}

// check says what is wrong with an issuing certificate.
func (i *Issuer) check(wanted identity.TrustDomain, now time.Time) (*given, error) {
	s, err := loadSigner(i.Key, i.Chain)
	if err != nil {
		return nil, fmt.Errorf("the issuing certificate: %w", err)
	}
	g := &given{}
	if g.domain, err = domainFor(s.cert, wanted); err != nil {
		return nil, fmt.Errorf("the issuing certificate: %w", err)
	}
	if life := s.cert.NotAfter.Sub(s.cert.NotBefore); life < MaxTTL {
		return nil, fmt.Errorf("the issuing certificate %q is made for %s, and those that it issues for up to %s: give it a longer life", s.cert.Subject.CommonName, life, MaxTTL)
	}
	if !now.Before(s.cert.NotAfter) {
		return nil, fmt.Errorf("the issuing certificate %q ended on %s", s.cert.Subject.CommonName, s.cert.NotAfter.Format(time.DateTime))
	}
	pool, between := x509.NewCertPool(), x509.NewCertPool()
	for n, der := range i.Roots {
		root, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("roots[%d]: %w", n, err)
		}
		if !root.IsCA {
			return nil, fmt.Errorf("roots[%d]: %q is no certificate authority", n, root.Subject.CommonName)
		}
		pool.AddCert(root)
		g.roots = append(g.roots, root)
	}
	for _, der := range i.Chain[1:] {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("the issuing certificate's chain: %w", err)
		}
		between.AddCert(cert)
	}
	chains, err := s.cert.Verify(x509.VerifyOptions{Roots: pool, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return nil, fmt.Errorf("the issuing certificate is not of these roots: %w", reasonOf(err, g.domain))
	}
	// What join tokens pin, and what proxies compare, is the first of the roots.
	of := chains[0][len(chains[0])-1]
	at := slices.IndexFunc(g.roots, of.Equal)
	g.roots[0], g.roots[at] = g.roots[at], g.roots[0]
	// A root in the chain is of no use: who doesn't have it doesn't believe it.
	s.chain = slices.DeleteFunc(slices.Clone(s.chain), func(der []byte) bool {
		return slices.ContainsFunc(g.roots, func(r *x509.Certificate) bool { return bytes.Equal(r.Raw, der) })
	})
	g.signer = s
	return g, g.try(now)
}

// try issues a certificate and verifies it as everybody would: what a path length or
// a name constraint forbids is found out now, not by the workloads.
func (g *given) try(now time.Time) error {
	key, err := identity.NewKey()
	if err != nil {
		return err
	}
	id := identity.ControlPlane(g.domain)
	uri, err := url.Parse(id.String())
	if err != nil {
		return err
	}
	t := &x509.Certificate{URIs: []*url.URL{uri}, NotBefore: now, NotAfter: now.Add(MinTTL), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, t, g.signer.cert, key.Public(), g.signer.key)
	if err != nil {
		return fmt.Errorf("the issuing certificate: sign: %w", err)
	}
	var chain []*x509.Certificate
	for _, der := range append([][]byte{der}, g.signer.chain...) {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		chain = append(chain, c)
	}
	bundle, err := identity.NewBundle(map[identity.TrustDomain][][]byte{g.domain: raw(g.roots)})
	if err != nil {
		return err
	}
	if _, err := bundle.Verify(chain, now); err != nil {
		return fmt.Errorf("nobody would believe what the issuing certificate %q issues: %w", g.signer.cert.Subject.CommonName, reasonOf(err, g.domain))
	}
	return nil
}

// reasonOf says what of a certificate authority would have to be otherwise.
func reasonOf(err error, domain identity.TrustDomain) error {
	var invalid x509.CertificateInvalidError
	if !errors.As(err, &invalid) {
		return err
	}
	switch invalid.Reason {
	case x509.TooManyIntermediates:
		return fmt.Errorf("a certificate above it allows no certificate authority below (path length): want a path length that is one more, or none: %w", err)
	case x509.CANotAuthorizedForThisName, x509.UnconstrainedName, x509.NameConstraintsWithoutSANs, x509.CANotAuthorizedForExtKeyUsage:
		return fmt.Errorf("name constraints that don't permit spiffe://%s/…: want none for URIs, or one that permits %s: %w", domain, domain, err)
	}
	return err
}

func raw(list []*x509.Certificate) [][]byte {
	out := make([][]byte, len(list))
	for i, c := range list {
		out[i] = c.Raw
	}
	return out
}

// Brought says that the issuing certificate was brought along: its roots are not
// this CA's to change.
func (ca *CA) Brought() bool { return ca.brought }

// Offer takes another issuing certificate in place of the present one, and reports
// whether anything changed. One of another root only begins to (stage Added); where
// staged is false that is ErrAnotherRoot.
func (ca *CA) Offer(i Issuer, staged bool) (bool, error) {
	if !ca.brought {
		return false, errors.New("the CA has a root of its own, and makes issuing certificates itself")
	}
	g, err := i.check(ca.domain, ca.now())
	if err != nil {
		return false, err
	}
	ca.mu.Lock()
	defer ca.mu.Unlock()
	present := ca.given
	if ca.next != nil {
		present = ca.next
	}
	switch have := present.signer.cert; {
	case bytes.Equal(g.signer.cert.Raw, have.Raw) && sameRoots(g.roots, present.roots):
		return false, nil
	case g.signer.cert.NotAfter.Before(have.NotAfter) && g.signer.cert.NotAfter.Sub(ca.now()) < MaxTTL:
		return false, fmt.Errorf("the issuing certificate %q ends on %s, before certificates that it would issue, and the present one on %s",
			g.signer.cert.Subject.CommonName, g.signer.cert.NotAfter.Format(time.DateTime), have.NotAfter.Format(time.DateTime))
	case sameRoots(g.roots, present.roots) && g.roots[0].Equal(present.roots[0]):
		if ca.next != nil {
			ca.next = g
		} else {
			ca.given, ca.issuer = g, g.signer
		}
		ca.log.Info("the CA has another issuing certificate", "until", g.signer.cert.NotAfter)
		return true, nil
	case !staged:
		return false, ErrAnotherRoot
	case ca.stage() != Steady:
		return false, ErrBusy
	case len(g.roots[0].SubjectKeyId) == 0 || bytes.Equal(g.roots[0].SubjectKeyId, ca.roots[0].SubjectKeyId) && !bytes.Equal(g.roots[0].RawSubjectPublicKeyInfo, ca.roots[0].RawSubjectPublicKeyInfo):
		return false, fmt.Errorf("the root %q has no subject key identifier of its own, by which it is known whose certificates are of it", g.roots[0].Subject.CommonName)
	}
	if err := ca.setRoots(union(ca.given.roots, g.roots)); err != nil {
		return false, err
	}
	ca.next = g
	ca.log.Info("the CA's roots change", "version", ca.trust.Version, "stage", string(Added), "issuer", g.signer.cert.Subject.CommonName)
	return true, nil
}

// switchGiven lets the next issuing certificate sign.
func (ca *CA) switchGiven() error {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	if ca.next == nil {
		return fmt.Errorf("the change of the root is at stage %s, want %s", ca.stage(), Added)
	}
	if err := ca.setRoots(union(ca.next.roots, ca.given.roots)); err != nil {
		return err
	}
	ca.given, ca.issuer, ca.next, ca.leaving = ca.next, ca.next.signer, nil, true
	ca.log.Info("the CA's roots change", "version", ca.trust.Version, "stage", string(Switched))
	return nil
}

// finishGiven ends the trust in roots that weren't brought along.
func (ca *CA) finishGiven() error {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	if !ca.leaving {
		return fmt.Errorf("the change of the root is at stage %s, want %s", ca.stage(), Switched)
	}
	if err := ca.setRoots(ca.given.roots); err != nil {
		return err
	}
	ca.leaving = false
	ca.log.Info("the CA's roots changed", "version", ca.trust.Version)
	return nil
}

func sameRoots(a, b []*x509.Certificate) bool {
	return len(union(a, b)) == len(a) && len(union(b, a)) == len(b)
}

func union(a, b []*x509.Certificate) []*x509.Certificate {
	out := slices.Clone(a)
	for _, c := range b {
		if !slices.ContainsFunc(out, c.Equal) {
			out = append(out, c)
		}
	}
	return out
}

// givenName is the note in which the roots of an issuing certificate that was
// brought along are kept.
const givenName = "given"

type givenNote struct {
	Version uint64   `json:"version"`
	Roots   [][]byte `json:"roots"`
}

// setRoots changes what is trusted, once that is written down. The caller holds mu.
func (ca *CA) setRoots(roots []*x509.Certificate) error {
	version := ca.trust.Version + 1
	if err := ca.noteRoots(version, roots); err != nil {
		return err
	}
	ca.trust.Version, ca.roots = version, roots
	return nil
}

func (ca *CA) noteRoots(version uint64, roots []*x509.Certificate) error {
	if ca.keys == nil {
		return nil
	}
	data, err := json.Marshal(givenNote{Version: version, Roots: raw(roots)})
	if err == nil {
		err = ca.keys.SaveNote(givenName, data)
	}
	if err != nil {
		return fmt.Errorf("the list of the CA's roots: %w", err)
	}
	return nil
}

// recallRoots keeps the trust in roots that were brought along before: certificates
// of them are about.
func (ca *CA) recallRoots() error {
	if ca.keys == nil {
		return nil
	}
	data, err := ca.keys.LoadNote(givenName)
	if errors.Is(err, fs.ErrNotExist) {
		return ca.noteRoots(ca.trust.Version, ca.roots)
	}
	var note givenNote
	if err == nil {
		err = json.Unmarshal(data, &note)
	}
	if err != nil {
		return fmt.Errorf("the list of the CA's roots: %w", err)
	}
	var before []*x509.Certificate
	for i, der := range note.Roots {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("the list of the CA's roots: roots[%d]: %w", i, err)
		}
		if ca.now().Before(c.NotAfter) {
			before = append(before, c)
		}
	}
	ca.trust.Version = max(1, note.Version)
	all := union(ca.given.roots, before)
	if ca.leaving = len(all) > len(ca.given.roots); !ca.leaving && sameRoots(all, before) && len(before) > 0 && all[0].Equal(before[0]) {
		return nil
	}
	return ca.setRoots(all)
}
