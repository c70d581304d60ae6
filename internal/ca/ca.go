package ca

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/view"
)

// Lives and limits.
const (
	RootLife   = 10 * 365 * 24 * time.Hour
	IssuerLife = 90 * 24 * time.Hour
	// MaxTTL and MinTTL bound an SVID's life.
	MaxTTL = 24 * time.Hour
	MinTTL = time.Minute
	// backdate is how far in the past a certificate's time begins, for peers
	// whose clock is behind.
	backdate = time.Minute
	// signerBackdate is the same for signing certificates; it also lets the
	// clock of this machine step back that much.
	signerBackdate = 24 * time.Hour

	// One identity may ask for issueBurst certificates at once and then for one
	// each issueEvery.
	issueBurst = 60
	issueEvery = time.Second
)

// Names of the CA's key pairs.
const (
	rootName   = "root"
	issuerName = "issuer"
)

// Config says how to open a CA.
type Config struct {
	// TrustDomain of a CA that is made now; one that exists keeps its own, and
	// it is an error to ask for another. Empty takes the existing one's, or
	// mesh.local.
	TrustDomain identity.TrustDomain
	Keys        Keys
	// Root is a root that was brought along; nil takes the one that there is, or
	// makes one.
	Root *Given
	// Now is the clock; time.Now when nil.
	Now func() time.Time
	Log *slog.Logger
}

// signer is a certificate that signs, with its key. Immutable.
type signer struct {
	key   crypto.Signer
	cert  *x509.Certificate
	chain [][]byte // what goes after a leaf: cert and what is between it and a root
}

// CA issues certificates. Safe for concurrent use.
type CA struct {
	domain identity.TrustDomain
	keys   Keys
	now    func() time.Time
	log    *slog.Logger
	// brought says that the issuing certificate was brought along.
	brought bool

	mu     sync.Mutex
	trust  trust
	root   *signer             // signs; nil when only an issuing certificate was given
	roots  []*x509.Certificate // that are trusted, the signing one first; replaced, never written to
	issuer *signer
	// elsewhere says that root's key isn't among keys.
	elsewhere bool
	// given is the issuing certificate that was brought along, with its roots; nil
	// when root signs. next is to take its place once everybody trusts its roots;
	// leaving says that roots holds more than given's.
	given, next *given
	leaving     bool
	limits      Limits
}

// ErrTooMany says that an identity asks for certificates too often.
var ErrTooMany = errors.New("too many certificates for one identity")

func fill(c *Config) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}

// Open loads a CA from its keys, or makes root and issuing certificate when
// there are none.
func Open(c Config) (*CA, error) {
	fill(&c)
	ca := &CA{domain: c.TrustDomain, keys: c.Keys, now: c.Now, log: c.Log, limits: Limits{Burst: issueBurst, Every: issueEvery}}
	var err error
	if ca.trust, err = loadTrust(c.Keys); err != nil {
		return nil, err
	}
	if c.Root != nil {
		if err := ca.take(c.Root); err != nil {
			return nil, fmt.Errorf("the root that was brought along: %w", err)
		}
	}
	key, chain, err := c.Keys.Load(ca.trust.Signing)
	switch {
	case ca.elsewhere:
		err = nil
	case ca.trust.Elsewhere != "":
		return nil, fmt.Errorf("the CA's root is one whose key is with a signer: give --ca-root FILE and --ca-signer (SHA-256 of the certificate: %.16s…)", ca.trust.Elsewhere)
	case errors.Is(err, fs.ErrNotExist) && ca.trust.Version == 1:
		if ca.domain == "" {
			ca.domain = "mesh.local"
		}
		if ca.root, err = newSigner(ca.domain, "root", RootLife, 1, nil, ca.now()); err == nil {
			err = c.Keys.Save(rootName, ca.root.key, ca.root.chain)
		}
	case err == nil:
		ca.root, err = loadSigner(key, chain)
	}
	if err != nil {
		return nil, fmt.Errorf("the CA's root: %w", err)
	}
	domain, err := ca.nameOf(ca.root.cert)
	if err != nil {
		return nil, fmt.Errorf("the CA's root: %w", err)
	}
	if ca.domain != "" && ca.domain != domain {
		return nil, fmt.Errorf("the CA in the data directory was made for trust domain %s, not %s: a trust domain can't be changed; use another data directory for another mesh", domain, ca.domain)
	}
	ca.domain = domain
	ca.roots = []*x509.Certificate{ca.root.cert}
	if ca.trust.Also != "" {
		key, chain, err := c.Keys.Load(ca.trust.Also)
		if err != nil {
			return nil, fmt.Errorf("the CA's other root: %w", err)
		}
		also, err := loadSigner(key, chain)
		if err != nil {
			return nil, fmt.Errorf("the CA's other root: %w", err)
		}
		ca.roots = append(ca.roots, also.cert)
	}
	if now := ca.now(); now.After(ca.root.cert.NotAfter) {
		return nil, fmt.Errorf("the CA's root ended on %s, it is %s now: is this machine's clock right?", ca.root.cert.NotAfter.Format(time.DateOnly), now.Format(time.DateOnly))
	}
	key, chain, err = c.Keys.Load(issuerName)
	if err == nil {
		ca.issuer, err = loadSigner(key, chain)
		if err == nil {
			err = ca.issuer.cert.CheckSignatureFrom(ca.root.cert)
		}
		if err != nil {
			// It can be made again, unlike the root.
			ca.log.Warn("the CA's issuing certificate can't be used, making another", "error", err)
			ca.issuer = nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		ca.log.Warn("the CA's issuing certificate can't be read, making another", "error", err)
	}
	if err := ca.Rotate(); err != nil {
		return nil, err
	}
	return ca, nil
}

func newSigner(domain identity.TrustDomain, what string, life time.Duration, pathLen int, parent *signer, now time.Time) (*signer, error) {
	key, err := identity.NewKey()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "Tulle " + what + " of " + string(domain), Organization: []string{"Tulle"}},
		URIs:                  []*url.URL{{Scheme: "spiffe", Host: string(domain)}},
		NotBefore:             now.Add(-signerBackdate).UTC().Truncate(time.Second),
		NotAfter:              now.Add(life).UTC().Truncate(time.Second),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLen:            pathLen,
		MaxPathLenZero:        pathLen == 0,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	by, byKey := t, key
	if parent != nil {
		by, byKey = parent.cert, parent.key
		if t.NotBefore.Before(by.NotBefore) {
			t.NotBefore = by.NotBefore
		}
		if t.NotAfter.After(by.NotAfter) {
			t.NotAfter = by.NotAfter
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, by, key.Public(), byKey)
	if err != nil {
		return nil, err
	}
	return loadSigner(key, [][]byte{der})
}

func loadSigner(key crypto.Signer, chain [][]byte) (*signer, error) {
	if len(chain) == 0 {
		return nil, errors.New("there is no certificate")
	}
	cert, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, err
	}
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	switch {
	case !ok || !public.Equal(cert.PublicKey):
		return nil, fmt.Errorf("certificate %q is for another key", cert.Subject.CommonName)
	case !cert.IsCA || cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return nil, fmt.Errorf("certificate %q may not sign certificates: it is no certificate authority (basic constraints, key usage)", cert.Subject.CommonName)
	}
	return &signer{key: key, cert: cert, chain: chain}, nil
}

func domainOf(c *x509.Certificate) (identity.TrustDomain, error) {
	if len(c.URIs) != 1 || c.URIs[0].Scheme != "spiffe" || c.URIs[0].Path != "" {
		return "", fmt.Errorf("certificate %q doesn't name its trust domain: want one URI name, spiffe://TRUST-DOMAIN", c.Subject.CommonName)
	}
	return identity.ParseTrustDomain(c.URIs[0].Host)
}

// Rotate makes a new issuing certificate when the present one has lived two
// thirds of its life, or there is none.
func (ca *CA) Rotate() error {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	if ca.root == nil {
		return nil
	}
	now := ca.now()
	if i := ca.issuer; i != nil && now.Before(rotateAt(i.cert)) && !now.Before(i.cert.NotBefore) {
		return nil
	}
	next, err := newSigner(ca.domain, "issuer", IssuerLife, 0, ca.root, now)
	if err != nil {
		return fmt.Errorf("a new issuing certificate: %w", err)
	}
	if err := ca.keys.Save(issuerName, next.key, next.chain); err != nil {
		if ca.issuer == nil || now.After(ca.issuer.cert.NotAfter) {
			return fmt.Errorf("a new issuing certificate: %w", err)
		}
		ca.log.Warn("a new issuing certificate can't be kept, the present one stays", "error", err)
		return nil
	}
	if ca.issuer != nil {
		ca.log.Info("the CA has a new issuing certificate", "until", next.cert.NotAfter)
	}
	ca.issuer = next
	return nil
}

func rotateAt(c *x509.Certificate) time.Time {
	return c.NotAfter.Add(-IssuerLife / 3)
}

// Run rotates the issuing certificate in time, until the context ends.
func (ca *CA) Run(ctx context.Context) {
	t := time.NewTicker(time.Hour)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if err := ca.Rotate(); err != nil {
				ca.log.Error("the CA can't rotate", "error", err)
			}
		}
	}
}

// Issue signs a certificate for a public key and an id. ttl is bounded to
// MinTTL..MaxTTL and to the issuer's own end. ErrTooMany when the id asks too often.
func (ca *CA) Issue(public crypto.PublicKey, id identity.ID, ttl time.Duration) (chain [][]byte, err error) {
	return ca.IssueWorkload(public, id, "", ttl)
}

// IssueWorkload is Issue for the workload with a unique id, which the certificate
// tells; "" tells none.
func (ca *CA) IssueWorkload(public crypto.PublicKey, id identity.ID, unique string, ttl time.Duration) (chain [][]byte, err error) {
	if id.TrustDomain != ca.domain {
		return nil, fmt.Errorf("%s is not of trust domain %s", id, ca.domain)
	}
	uri, err := url.Parse(id.String())
	if err != nil {
		return nil, err
	}
	now := ca.now()
	ca.mu.Lock()
	issuer, root := ca.issuer, ca.root
	allowed := ca.limits.Allow(id, now)
	ca.mu.Unlock()
	if !allowed {
		return nil, fmt.Errorf("%w: %s, at most one in %s", ErrTooMany, id, issueEvery)
	}
	t := &x509.Certificate{
		Subject:               pkix.Name{SerialNumber: unique},
		URIs:                  []*url.URL{uri},
		NotBefore:             now.Add(-backdate).UTC().Truncate(time.Second),
		NotAfter:              now.Add(min(max(ttl, MinTTL), MaxTTL)).UTC().Truncate(time.Second),
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if t.NotBefore.Before(issuer.cert.NotBefore) {
		t.NotBefore = issuer.cert.NotBefore
	}
	if t.NotAfter.After(issuer.cert.NotAfter) {
		t.NotAfter = issuer.cert.NotAfter
	}
	if !t.NotBefore.Before(t.NotAfter) {
		return nil, fmt.Errorf("the issuing certificate is for %s to %s, it is %s now: is this machine's clock right?",
			issuer.cert.NotBefore.Format(time.DateTime), issuer.cert.NotAfter.Format(time.DateTime), now.UTC().Format(time.DateTime))
	}
	der, err := x509.CreateCertificate(rand.Reader, t, issuer.cert, public, issuer.key)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate for %s: %w", id, err)
	}
	chain = append([][]byte{der}, issuer.chain...)
	if issuer == root {
		chain = chain[:1]
	}
	return chain, nil
}

// TrustDomain is the trust domain whose ids it issues.
func (ca *CA) TrustDomain() identity.TrustDomain { return ca.domain }

// Roots returns the trust roots, DER.
func (ca *CA) Roots() [][]byte {
	ca.mu.Lock()
	roots := ca.roots
	ca.mu.Unlock()
	out := make([][]byte, len(roots))
	for i, r := range roots {
		out[i] = r.Raw
	}
	return out
}

// Bundle is the roots as proxies are told.
func (ca *CA) Bundle() view.Bundle {
	ca.mu.Lock()
	version, signer := ca.trust.Version, ca.roots[0].SubjectKeyId
	ca.mu.Unlock()
	return view.Bundle{Version: version, Signer: signer, Domains: []view.TrustDomain{{Name: string(ca.domain), Roots: ca.Roots()}}}
}

// Pin is the fingerprint of the signing root, as join tokens carry it.
func (ca *CA) Pin() [sha256.Size]byte { return sha256.Sum256(ca.Roots()[0]) }

// Ends says when the root and the issuing certificate end, and whether the
// latter is rotated here.
func (ca *CA) Ends() (root, issuer time.Time, rotated bool) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	return ca.roots[0].NotAfter, ca.issuer.cert.NotAfter, ca.root != nil
}
