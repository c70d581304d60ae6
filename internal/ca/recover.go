package ca

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"tulle.dev/tulle/internal/identity"
)

// RecoveryWindow is how long after its end an SVID still proves who its
// workload is, together with its key.
const RecoveryWindow = 7 * 24 * time.Hour

// recoverPrefix keeps a recovery's signature apart from any other use of the key.
const recoverPrefix = "tulle-recover"

// ParseCSR reads a certificate request (PKCS #10, DER) and checks that its
// sender has the key. Only its public key is used.
func ParseCSR(der []byte) (*x509.CertificateRequest, error) {
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("the certificate request can't be read: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("the certificate request isn't signed with its own key: %w", err)
	}
	switch k := csr.PublicKey.(type) {
	case *ecdsa.PublicKey, ed25519.PublicKey:
	default:
		return nil, fmt.Errorf("the certificate request's key is a %T: want ECDSA or Ed25519", k)
	}
	return csr, nil
}

// Recover returns the id of an SVID that ended at most RecoveryWindow ago, when
// signature was made with its key over "tulle-recover" + csr (ECDSA: ASN.1 over
// SHA-256; Ed25519: over the message itself).
func (ca *CA) Recover(chain [][]byte, csr, signature []byte) (identity.ID, error) {
	var certs []*x509.Certificate
	for i, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return identity.ID{}, fmt.Errorf("expired_chain[%d]: %w", i, err)
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return identity.ID{}, errors.New("expired_chain is empty")
	}
	leaf, now := certs[0], ca.now()
	if gone := now.Sub(leaf.NotAfter); gone > RecoveryWindow {
		return identity.ID{}, fmt.Errorf("the certificate ended %s ago, at most %s are possible: a new join token is needed (tulle check says how)", gone.Truncate(time.Second), RecoveryWindow)
	}
	b, err := identity.NewBundle(map[identity.TrustDomain][][]byte{ca.domain: ca.Roots()})
	if err != nil {
		return identity.ID{}, err
	}
	at := leaf.NotAfter
	if now.Before(at) {
		at = now
	}
	id, err := b.Verify(certs, at)
	if err != nil {
		return identity.ID{}, err
	}
	message := append([]byte(recoverPrefix), csr...)
	valid := false
	switch k := leaf.PublicKey.(type) {
	case *ecdsa.PublicKey:
		sum := sha256.Sum256(message)
		valid = ecdsa.VerifyASN1(k, sum[:], signature)
	case ed25519.PublicKey:
		valid = ed25519.Verify(k, message, signature)
	}
	if !valid {
		return identity.ID{}, fmt.Errorf("the signature isn't one of %s's old key over this request", id)
	}
	return id, nil
}
