package join

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"tulle.dev/tulle/internal/control/store"
	"tulle.dev/tulle/internal/identity"
)

// Bounds.
const (
	DefaultTTL  = 10 * time.Minute
	MaxTTL      = 24 * time.Hour
	MaxServices = 100

	tokensPrefix = "/tulle/tokens/"
	grantsPrefix = "/tulle/grants/"
	attempts     = 8
)

// ErrRefused is why any token isn't taken: it never says whether the token
// exists.
var ErrRefused = errors.New("the join token is not valid: it was used already, it ended, or it is of another mesh; a new one is needed (`tulle check` says how)")

// record is a token as it is kept.
type record struct {
	Sum      string    `json:"sum"` // hex SHA-256 of the secret
	Identity string    `json:"identity"`
	Services []string  `json:"services,omitempty"`
	Expires  time.Time `json:"expires"`
}

// Grant is what an identity may do.
type Grant struct {
	Identity identity.ID
	// Services are those it may serve, "cart.default".
	Services []string
}

// Tokens makes and takes join tokens. Safe for concurrent use.
type Tokens struct {
	Store store.Store
	Now   func() time.Time
}

// Create makes a token that grants, valid for ttl (0: DefaultTTL).
func (t *Tokens) Create(ctx context.Context, root []byte, g Grant, ttl time.Duration) (identity.JoinToken, time.Time, error) {
	if ttl == 0 {
		ttl = DefaultTTL
	}
	if ttl < time.Second || ttl > MaxTTL {
		return identity.JoinToken{}, time.Time{}, fmt.Errorf("ttl %s: want 1s to %s", ttl, MaxTTL)
	}
	if len(g.Services) > MaxServices {
		return identity.JoinToken{}, time.Time{}, fmt.Errorf("%d services are too many: at most %d", len(g.Services), MaxServices)
	}
	token := identity.NewJoinToken(root)
	sum := token.SecretSum()
	expires := t.Now().Add(ttl).UTC()
	data, err := json.Marshal(record{Sum: hex.EncodeToString(sum[:]), Identity: g.Identity.String(), Services: g.Services, Expires: expires})
	if err != nil {
		return identity.JoinToken{}, time.Time{}, err
	}
	// The store forgets it a little after it ends.
	lease, err := t.Store.Grant(ctx, ttl+time.Minute)
	if err != nil {
		return identity.JoinToken{}, time.Time{}, err
	}
	if _, err := t.Store.Put(ctx, tokensPrefix+token.ID, data, 0, lease); err != nil {
		return identity.JoinToken{}, time.Time{}, err
	}
	return token, expires, nil
}

// Found is a token that was found and isn't used up yet.
type Found struct {
	Grant  Grant
	tokens *Tokens
	item   store.Item
}

// Find looks a token up: what it would grant, or ErrRefused.
func (t *Tokens) Find(ctx context.Context, text string) (*Found, error) {
	token, err := identity.ParseJoinToken(text)
	if err != nil {
		return nil, err
	}
	var r record
	it, err := t.Store.Get(ctx, tokensPrefix+token.ID)
	switch {
	case err == nil:
		if err := json.Unmarshal(it.Value, &r); err != nil {
			return nil, fmt.Errorf("the stored token can't be read: %w", err)
		}
	case !errors.Is(err, store.ErrNotFound):
		return nil, err
	}
	// Compared even when there is no such token, so that both take as long.
	sum := token.SecretSum()
	kept, _ := hex.DecodeString(r.Sum)
	if len(kept) != sha256.Size {
		kept = make([]byte, sha256.Size)
	}
	if subtle.ConstantTimeCompare(sum[:], kept) != 1 || it.Key == "" || t.Now().After(r.Expires) {
		return nil, ErrRefused
	}
	id, err := identity.Parse(r.Identity)
	if err != nil {
		return nil, err
	}
	return &Found{Grant{Identity: id, Services: r.Services}, t, it}, nil
}

// Use uses the token up: of several who try at the same time one succeeds, the
// others get ErrRefused. The grant is kept for the identity.
func (f *Found) Use(ctx context.Context) error {
	if _, err := f.tokens.Store.Delete(ctx, f.item.Key, f.item.Revision); err != nil {
		if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrConflict) {
			return ErrRefused
		}
		return err
	}
	return f.tokens.keep(ctx, f.Grant)
}

// Redeem is Find and Use.
func (t *Tokens) Redeem(ctx context.Context, text string) (Grant, error) {
	f, err := t.Find(ctx, text)
	if err != nil {
		return Grant{}, err
	}
	return f.Grant, f.Use(ctx)
}

func grantKey(id identity.ID) string {
	return grantsPrefix + string(id.TrustDomain) + "/" + id.Namespace + "/" + id.ServiceAccount
}

// keep adds services to what an identity may serve.
func (t *Tokens) keep(ctx context.Context, g Grant) error {
	key := grantKey(g.Identity)
	for range attempts {
		have, revision, err := t.services(ctx, g.Identity)
		if err != nil {
			return err
		}
		all := append(slices.Clone(have), g.Services...)
		slices.Sort(all)
		all = slices.Compact(all)
		if revision != 0 && slices.Equal(all, have) {
			return nil
		}
		data, err := json.Marshal(all)
		if err != nil {
			return err
		}
		_, err = t.Store.Put(ctx, key, data, revision, 0)
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("grant for %s: %w", g.Identity, store.ErrConflict)
}

func (t *Tokens) services(ctx context.Context, id identity.ID) ([]string, int64, error) {
	it, err := t.Store.Get(ctx, grantKey(id))
	if errors.Is(err, store.ErrNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	var out []string
	if err := json.Unmarshal(it.Value, &out); err != nil {
		return nil, 0, fmt.Errorf("grant for %s can't be read: %w", id, err)
	}
	return out, it.Revision, nil
}

// Services returns the services ("cart.default") an identity may serve.
func (t *Tokens) Services(ctx context.Context, id identity.ID) ([]string, error) {
	out, _, err := t.services(ctx, id)
	return out, err
}
