package jwtsvid

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/cryptosigner"

	"tulle.dev/tulle/internal/ca"
	"tulle.dev/tulle/internal/control/store"
	"tulle.dev/tulle/internal/identity"
)

// Lives and bounds.
const (
	// DefaultTTL is a token's life, MinTTL and MaxTTL bound another one.
	DefaultTTL = 5 * time.Minute
	MinTTL     = 30 * time.Second
	MaxTTL     = time.Hour
	// Life is how long a key signs; Lead how long the next is published before it
	// does, and Trail how long one is published after another signs: what it signed
	// last has ended by then, by clocks five minutes late.
	Life  = 24 * time.Hour
	Lead  = 2 * time.Hour
	Trail = MaxTTL + 5*time.Minute
	// MaxAudiences bounds a token's audiences, MaxAudience one of them, in bytes.
	MaxAudiences = 16
	MaxAudience  = 1024
	// MaxKeys bounds the public keys of a mesh.
	MaxKeys = 64

	// soon is the least time for which a key is published before it signs, where
	// there are others already: programs hear of it within five seconds.
	soon = 15 * time.Second
	// newcomer is the same for the first key of another control plane.
	newcomer = time.Minute
	// look is how often it is looked whether something is to be done.
	look = 10 * time.Second
	// One identity may ask for issueBurst tokens at once and then for one each
	// issueEvery.
	issueBurst = 120
	issueEvery = time.Second / 4
)

// Config says what an Authority works with.
type Config struct {
	TrustDomain identity.TrustDomain
	// Issuer is the tokens' iss claim.
	Issuer string
	// Keys is where private keys lie; Held, when it isn't nil, lists those that are
	// with a signer, and then none are made here.
	Keys ca.Keys
	Held func(ctx context.Context) ([]Held, error)
	// File is where it is kept which keys there are; empty is nowhere.
	File string
	// Store is where public keys are for other control planes.
	Store store.Store
	// Notice is for how long those who follow our bundle must be able to see a key
	// before it signs when the keys are changed at once; nil for not at all.
	Notice func() time.Duration
	Now    func() time.Time
	Log    *slog.Logger
}

// Held is a key that a signer has.
type Held struct {
	Name   string
	Signer crypto.Signer // ECDSA P-256
}

// Key is one public key of the mesh.
type Key struct {
	// ID is the tokens' kid: the key's thumbprint (RFC 7638, SHA-256).
	ID     string
	Public *ecdsa.PublicKey
	// From is when it begins to sign; Until is when it isn't published any more, zero
	// while that isn't known of one of our own.
	From, Until time.Time
	// Own says that it is this control plane's, Signs that tokens come from it now.
	Own, Signs bool
}

// Authority issues JWT-SVIDs. Safe for concurrent use.
type Authority struct {
	config Config
	wake   chan struct{}

	// step is held while keys are made, published or dropped. Whoever holds it may
	// read what mu guards but others, and writes it with mu held too.
	step     sync.Mutex
	instance string
	number   int    // of the newest key made here
	told     []byte // what the store has of ours

	mu       sync.Mutex
	keys     []*key // oldest first; replaced, never written to
	others   map[string][]Key
	sequence int64
	issued   uint64
	failure  error // of the last step
	limits   ca.Limits
}

// Errors of Issue.
var (
	// ErrTooMany says that an identity asks for tokens too often.
	ErrTooMany = errors.New("too many JWT-SVIDs for one identity")
	// ErrNotReady says that there is no key yet that others know.
	ErrNotReady = errors.New("no JWT-SVID can be signed yet")
	// ErrInvalid says that there is no such token.
	ErrInvalid = errors.New("no such JWT-SVID")
)

// Token is a JWT-SVID.
type Token struct {
	Text    string // JWS, compact
	KeyID   string
	Expires time.Time
}

// claims are a token's (JWT-SVID, 3).
type claims struct {
	Issuer   string   `json:"iss,omitempty"`
	Subject  string   `json:"sub"`
	Audience []string `json:"aud"`
	Expires  int64    `json:"exp"`
	Issued   int64    `json:"iat"`
}

// CheckAudience says what is wrong with a token's audiences.
func CheckAudience(audience []string) error {
	if len(audience) == 0 {
		return fmt.Errorf("%w: the audience is missing: say who the token is for", ErrInvalid)
	}
	if len(audience) > MaxAudiences {
		return fmt.Errorf("%w: %d audiences: want at most %d", ErrInvalid, len(audience), MaxAudiences)
	}
	for i, a := range audience {
		if strings.TrimSpace(a) == "" || len(a) > MaxAudience || !utf8.ValidString(a) {
			return fmt.Errorf("%w: audience[%d]: want 1 to %d bytes of text", ErrInvalid, i, MaxAudience)
		}
	}
	return nil
}

// Issue signs a token for an identity. ttl 0 is DefaultTTL; it is bounded to
// MinTTL..MaxTTL.
func (a *Authority) Issue(id identity.ID, audience []string, ttl time.Duration) (*Token, error) {
	if err := CheckAudience(audience); err != nil {
		return nil, err
	}
	if id.TrustDomain != a.config.TrustDomain || id == identity.ControlPlane(id.TrustDomain) {
		return nil, fmt.Errorf("%w: %s gets none here", ErrInvalid, id)
	}
	if ttl == 0 {
		ttl = DefaultTTL
	}
	ttl = min(max(ttl, MinTTL), MaxTTL)
	now := a.config.Now()
	a.mu.Lock()
	allowed, k, why := a.limits.Allow(id, now), signing(a.keys, now), a.failure
	a.mu.Unlock()
	switch {
	case !allowed:
		return nil, fmt.Errorf("%w: %s, at most one in %s", ErrTooMany, id, issueEvery)
	case k == nil && why != nil:
		return nil, fmt.Errorf("%w: %w", ErrNotReady, why)
	case k == nil:
		return nil, fmt.Errorf("%w: the key is still being published", ErrNotReady)
	}
	t := &Token{KeyID: k.ID, Expires: now.Add(ttl).UTC().Truncate(time.Second)}
	payload, err := json.Marshal(claims{Issuer: a.config.Issuer, Subject: id.String(), Audience: audience, Expires: t.Expires.Unix(), Issued: now.Unix()})
	if err != nil {
		return nil, err
	}
	signed, err := k.signer.Sign(payload)
	if err != nil {
		return nil, fmt.Errorf("sign a JWT-SVID for %s: %w", id, err)
	}
	if t.Text, err = signed.CompactSerialize(); err != nil {
		return nil, err
	}
	a.mu.Lock()
	a.issued++
	a.mu.Unlock()
	return t, nil
}

// signing is the key that signs: the newest whose time has come, nil when there is
// none.
func signing(keys []*key, now time.Time) *key {
	for _, k := range slices.Backward(keys) {
		if k.signer != nil && k.Gone.IsZero() && !k.Published.IsZero() && !now.Before(k.From) {
			return k
		}
	}
	return nil
}

// Bundle returns the mesh's public keys, the oldest first, and a number that grows
// with each change of them.
func (a *Authority) Bundle() ([]Key, uint64) {
	now := a.config.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	by := signing(a.keys, now)
	var out []Key
	for i, k := range a.keys {
		out = append(out, Key{ID: k.ID, Public: k.public, From: k.From, Until: until(a.keys, i), Own: true, Signs: k == by})
	}
	for _, list := range a.others {
		for _, k := range list {
			if now.Before(k.Until) && !slices.ContainsFunc(out, func(o Key) bool { return o.ID == k.ID }) {
				out = append(out, k)
			}
		}
	}
	slices.SortFunc(out, func(a, b Key) int {
		if c := a.From.Compare(b.From); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out[max(0, len(out)-MaxKeys):], uint64(a.sequence)
}

// Issuer is the tokens' iss claim.
func (a *Authority) Issuer() string { return a.config.Issuer }

// Issued counts the tokens since the start.
func (a *Authority) Issued() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.issued
}

// Problem says why tokens can't be signed, or keys not be renewed; nil when all is
// well.
func (a *Authority) Problem() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.failure
}

// signerOf makes what signs tokens of a private key, which may be elsewhere.
func signerOf(private crypto.Signer, id string) (jose.Signer, error) {
	o := (&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", id)
	return jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: cryptosigner.Opaque(private)}, o)
}
