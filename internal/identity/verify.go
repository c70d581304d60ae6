package identity

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	// maxChain bounds the certificates of a peer's chain.
	maxChain = 8
	// maxSkew is how far a peer's clock may be off: a certificate is accepted
	// this much before and after its time, at most a tenth of its life.
	maxSkew = time.Minute
)

// Bundle holds the roots of each trust domain. It is immutable, but for what it
// remembers.
type Bundle struct {
	roots  map[TrustDomain][]*x509.Certificate
	pools  map[TrustDomain]*x509.CertPool
	denied map[ID]struct{}
	known  *verified // of these roots; denied ones too
}

// Deny returns the bundle with ids that are trusted no more, whatever certificate
// they present.
func (b *Bundle) Deny(ids []ID) *Bundle {
	c := *b
	c.denied = make(map[ID]struct{}, len(ids))
	for _, id := range ids {
		c.denied[id] = struct{}{}
	}
	return &c
}

// Denied reports whether an id is trusted no more.
func (b *Bundle) Denied(id ID) bool {
	if b == nil {
		return false
	}
	_, denied := b.denied[id]
	return denied
}

// Trusts reports whether an id can be proven now: its trust domain has roots, and it
// isn't denied.
func (b *Bundle) Trusts(id ID) bool {
	return b != nil && b.pools[id.TrustDomain] != nil && !b.Denied(id)
}

// AllDenied returns the ids that are trusted no more, in order.
func (b *Bundle) AllDenied() []ID {
	if b == nil {
		return nil
	}
	return slices.SortedFunc(maps.Keys(b.denied), func(x, y ID) int { return strings.Compare(x.String(), y.String()) })
}

// DeniedError says that a certificate is one of an identity that was denied.
type DeniedError struct{ ID ID }

func (e *DeniedError) Error() string {
	return "certificate of " + e.ID.String() + ": the identity is denied"
}

// DomainError says that a certificate is one of a trust domain that isn't trusted.
type DomainError struct{ ID ID }

func (e *DomainError) Error() string {
	return fmt.Sprintf("certificate of %s: trust domain %s is not trusted", e.ID, e.ID.TrustDomain)
}

// FormError says that a peer's chain has not the form that an X.509-SVID has.
type FormError struct{ Err error }

func (e *FormError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *FormError) Unwrap() error { return e.Err }

// NewBundle makes a bundle of DER certificates. Each must be a certificate
// authority's.
func NewBundle(roots map[TrustDomain][][]byte) (*Bundle, error) {
	b := &Bundle{
		roots: make(map[TrustDomain][]*x509.Certificate),
		pools: make(map[TrustDomain]*x509.CertPool),
		known: &verified{},
	}
	for domain, list := range roots {
		if err := checkTrustDomain(string(domain)); err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		for i, der := range list {
			c, err := x509.ParseCertificate(der)
			if err != nil {
				return nil, fmt.Errorf("trust domain %s: roots[%d]: %w", domain, i, err)
			}
			if !c.IsCA {
				return nil, fmt.Errorf("trust domain %s: roots[%d]: %q is not a certificate authority", domain, i, c.Subject)
			}
			pool.AddCert(c)
			b.roots[domain] = append(b.roots[domain], c)
		}
		b.pools[domain] = pool
	}
	return b, nil
}

// Roots returns the roots of a trust domain; the slice must not be changed.
func (b *Bundle) Roots(d TrustDomain) []*x509.Certificate {
	if b == nil {
		return nil
	}
	return b.roots[d]
}

// Domains returns the trust domains, in no order.
func (b *Bundle) Domains() []TrustDomain {
	if b == nil {
		return nil
	}
	var list []TrustDomain
	for d := range b.roots {
		list = append(list, d)
	}
	return list
}

// Verify checks a peer's chain, leaf first, against the roots of the trust
// domain that the leaf's own id names: a root of one domain can never vouch for
// an id of another (X.509-SVID specification, section 5).
func (b *Bundle) Verify(chain []*x509.Certificate, now time.Time) (ID, error) {
	id, err := checkChain(chain)
	if err != nil {
		return ID{}, &FormError{err}
	}
	if b == nil {
		return ID{}, fmt.Errorf("certificate of %s: there is no trust bundle yet", id)
	}
	pool := b.pools[id.TrustDomain]
	if pool == nil {
		return ID{}, &DomainError{id}
	}
	if b.Denied(id) {
		return ID{}, &DeniedError{id}
	}
	f := fingerprintOf(chain)
	if b.known.holds(f, now) {
		return id, nil
	}
	way, err := verifyChain(id, chain, pool, now)
	if err != nil {
		return id, err
	}
	b.known.add(f, way)
	return id, nil
}

// VerifyPinned is Verify before there is a bundle: the chain must end at a root
// that it contains and whose DER has the SHA-256 sum pin. It returns the root.
func VerifyPinned(chain []*x509.Certificate, pin [sha256.Size]byte, now time.Time) (ID, *x509.Certificate, error) {
	id, err := checkChain(chain)
	if err != nil {
		return ID{}, nil, err
	}
	for _, c := range chain[1:] {
		if sha256.Sum256(c.Raw) != pin {
			continue
		}
		pool := x509.NewCertPool()
		pool.AddCert(c)
		_, err := verifyChain(id, chain, pool, now)
		return id, c, err
	}
	return ID{}, nil, fmt.Errorf("certificate of %s: no root with the join token's fingerprint is in its chain; "+
		"is the token from another mesh?", id)
}

func checkChain(chain []*x509.Certificate) (ID, error) {
	switch {
	case len(chain) == 0:
		return ID{}, errors.New("the peer sent no certificate")
	case len(chain) > maxChain:
		return ID{}, fmt.Errorf("the peer sent %d certificates, want at most %d", len(chain), maxChain)
	}
	id, err := CheckLeaf(chain[0])
	if err != nil {
		return ID{}, err
	}
	for _, c := range chain[1:] {
		if err := checkSigner(c, id.TrustDomain); err != nil {
			return ID{}, fmt.Errorf("certificate of %s: %w", id, err)
		}
	}
	return id, nil
}

// checkSigner checks a signing certificate of a chain (X.509-SVID, 3.2, 4.1
// and 4.3): a CA that may sign, and if it has a SPIFFE id, one of the same trust
// domain without a path.
func checkSigner(c *x509.Certificate, domain TrustDomain) error {
	if !c.IsCA || c.KeyUsage&x509.KeyUsageCertSign == 0 {
		return fmt.Errorf("signer %q may not sign certificates", c.Subject)
	}
	for _, u := range c.URIs {
		if u.Scheme != "spiffe" {
			continue
		}
		if u.Path != "" || u.Host != string(domain) {
			return fmt.Errorf("signer %q is named %s, want spiffe://%s", c.Subject, u, domain)
		}
	}
	return nil
}

// verifyChain returns a way from the leaf to a root.
func verifyChain(id ID, chain []*x509.Certificate, roots *x509.CertPool, now time.Time) ([]*x509.Certificate, error) {
	intermediates := x509.NewCertPool()
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	leaf := chain[0]
	ways, err := leaf.Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: intermediates,
		CurrentTime:   withSkew(leaf, now),
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny}, // CheckLeaf looked
	})
	if err != nil {
		return nil, fmt.Errorf("certificate of %s: %w", id, err)
	}
	return ways[0], nil
}

// withSkew moves now into the certificate's time when it is off by little.
func withSkew(c *x509.Certificate, now time.Time) time.Time {
	skew := min(maxSkew, c.NotAfter.Sub(c.NotBefore)/10)
	if now.Before(c.NotBefore) && c.NotBefore.Sub(now) <= skew {
		return c.NotBefore
	}
	if now.After(c.NotAfter) && now.Sub(c.NotAfter) <= skew {
		return c.NotAfter
	}
	return now
}
