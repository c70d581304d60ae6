package identity

import "crypto/x509"

// Remembered is how many chains the bundle remembers.
func (b *Bundle) Remembered() int {
	b.known.mu.Lock()
	defer b.known.mu.Unlock()
	return len(b.known.recent) + len(b.known.older)
}

// MaxRemembered bounds them.
const MaxRemembered = maxVerified

// Remembers reports whether a chain is remembered.
func (b *Bundle) Remembers(chain []*x509.Certificate) bool {
	return b.known.holds(fingerprintOf(chain), chain[0].NotBefore)
}
