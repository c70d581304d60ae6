package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

// JoinToken lets a proxy ask for its first certificate. Its text form is
//
//	tulle-join.v1.PIN.ID.SECRET
//
// PIN is the base64url SHA-256 sum of the mesh's root certificate (DER), by
// which the proxy knows the control plane at first contact; ID (1 to 64 of a-z,
// 0-9 and -) is how the control plane finds the token and may be shown; SECRET
// is 32 random bytes, base64url. What a token grants, and until when, is kept
// by the control plane.
type JoinToken struct {
	Pin    [sha256.Size]byte
	ID     string
	Secret [32]byte
}

const (
	tokenPrefix = "tulle-join.v1."
	maxTokenID  = 64
)

// NewJoinToken makes a token with a random id and secret for the mesh whose
// root certificate is root (DER).
func NewJoinToken(root []byte) JoinToken {
	t := JoinToken{Pin: sha256.Sum256(root), ID: strings.ToLower(rand.Text()[:16])}
	rand.Read(t.Secret[:]) // never fails (crypto/rand)
	return t
}

// ParseJoinToken reads a token's text; white space around it is ignored. The
// error never contains the token.
func ParseJoinToken(s string) (JoinToken, error) {
	s = strings.TrimSpace(s)
	rest, ok := strings.CutPrefix(s, tokenPrefix)
	if !ok {
		return JoinToken{}, fmt.Errorf("join token: must begin with %q", tokenPrefix)
	}
	parts := strings.Split(rest, ".")
	if len(parts) != 3 {
		return JoinToken{}, errors.New("join token: want tulle-join.v1.PIN.ID.SECRET; was it cut off when it was copied?")
	}
	var t JoinToken
	if err := decodeToken(t.Pin[:], parts[0]); err != nil {
		return JoinToken{}, fmt.Errorf("join token: its root fingerprint %w", err)
	}
	if err := decodeToken(t.Secret[:], parts[2]); err != nil {
		return JoinToken{}, fmt.Errorf("join token: its secret %w; was it cut off when it was copied?", err)
	}
	t.ID = parts[1]
	if !validTokenID(t.ID) {
		return JoinToken{}, fmt.Errorf("join token: its id must be 1 to %d of a-z, 0-9 and -", maxTokenID)
	}
	return t, nil
}

func decodeToken(dst []byte, s string) error {
	if len(s) != base64.RawURLEncoding.EncodedLen(len(dst)) {
		return fmt.Errorf("must have %d characters", base64.RawURLEncoding.EncodedLen(len(dst)))
	}
	// Strict: one text form a token.
	if _, err := base64.RawURLEncoding.Strict().Decode(dst, []byte(s)); err != nil {
		return errors.New("is not base64url")
	}
	return nil
}

func validTokenID(id string) bool {
	if id == "" || len(id) > maxTokenID {
		return false
	}
	for _, c := range []byte(id) {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-') {
			return false
		}
	}
	return true
}

// Reveal returns the token's text, secret included.
func (t JoinToken) Reveal() string {
	e := base64.RawURLEncoding
	return tokenPrefix + e.EncodeToString(t.Pin[:]) + "." + t.ID + "." + e.EncodeToString(t.Secret[:])
}

// SecretSum is what the control plane keeps instead of the secret.
func (t JoinToken) SecretSum() [sha256.Size]byte { return sha256.Sum256(t.Secret[:]) }

// String leaves the secret out.
func (t JoinToken) String() string { return "join token " + t.ID }

// GoString leaves the secret out of %#v.
func (t JoinToken) GoString() string { return t.String() }

// LogValue leaves the secret out of logs.
func (t JoinToken) LogValue() slog.Value { return slog.StringValue(t.ID) }
