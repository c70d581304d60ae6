package operator

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/identity"
)

const (
	// maxIssuers bounds the OpenID Connect issuers whose keys are held.
	maxIssuers = 32
	// maxAnswer bounds an issuer's answer in bytes.
	maxAnswer = 1 << 20
	// askIssuer bounds one question to an issuer.
	askIssuer = 5 * time.Second
)

// Book finds operators. Safe for concurrent use.
type Book struct {
	// Operators lists the mesh's Operator objects.
	Operators func(context.Context) ([]*v1alpha1.Operator, error)
	Now       func() time.Time
	// Holder is the SHA-256 sum of the control plane's own token, and Admin an identity
	// beside those of Operators: whoever has one of them may everything.
	Holder [sha256.Size]byte
	Admin  identity.ID

	mu        sync.Mutex
	providers map[string]*oidc.Provider
}

// ErrUnknown says that nobody with such a proof is known.
var ErrUnknown = errors.New("no Operator has this certificate or token")

// Certificate finds the operator with a certificate's identity, verified already.
func (b *Book) Certificate(ctx context.Context, id identity.ID) (*Who, error) {
	if !id.IsZero() && id == b.Admin {
		return &Who{Name: id.ServiceAccount, How: "certificate", Role: v1alpha1.OperatorAdmin}, nil
	}
	list, err := b.Operators(ctx)
	if err != nil {
		return nil, err
	}
	uri := id.String()
	for _, o := range list {
		for _, have := range o.Spec.Identities {
			if uri != "" && have == uri {
				return who(o, "certificate", uri), nil
			}
		}
	}
	return nil, ErrUnknown
}

// Token finds the operator with a bearer token: one of Tulle's own, or an OpenID
// Connect ID token.
func (b *Book) Token(ctx context.Context, token string) (*Who, error) {
	sum := sha256.Sum256([]byte(token))
	if subtle.ConstantTimeCompare(sum[:], b.Holder[:]) == 1 {
		return &Who{Name: "holder of the control plane's token", How: "token-file", Role: v1alpha1.OperatorAdmin}, nil
	}
	list, err := b.Operators(ctx)
	if err != nil {
		return nil, err
	}
	text := []byte(hex.EncodeToString(sum[:]))
	for _, o := range list {
		for _, t := range o.Spec.Tokens {
			if subtle.ConstantTimeCompare([]byte(strings.ToLower(t.SHA256)), text) != 1 {
				continue
			}
			if t.Expires != nil && !b.Now().Before(t.Expires.Time) {
				return nil, fmt.Errorf("the token of operator %s ended on %s", o.Name, t.Expires.Format(time.DateTime))
			}
			w := who(o, "token", string(text))
			if t.Expires != nil {
				w.until = t.Expires.Time
			}
			return w, nil
		}
	}
	if strings.Count(token, ".") == 2 {
		return b.openID(ctx, list, token)
	}
	return nil, ErrUnknown
}

// openID finds the operator of an ID token: of the issuer that it names, and
// verified with that one's keys.
func (b *Book) openID(ctx context.Context, list []*v1alpha1.Operator, token string) (*Who, error) {
	issuer := issuerOf(token)
	var last error
	for _, o := range list {
		for i := range o.Spec.OIDC {
			r := &o.Spec.OIDC[i]
			if r.Issuer != issuer {
				continue
			}
			claims, until, err := b.verify(ctx, r, token)
			if err != nil {
				last = err
				continue
			}
			if holds(claims, r.Claim, r.Values) {
				w := who(o, "oidc", ruleOf(r))
				w.until = until
				if sub, ok := claims["sub"].(string); ok {
					w.Name = fmt.Sprintf("%s (%.100q of %s)", o.Name, sub, r.Issuer)
				}
				return w, nil
			}
		}
	}
	if last != nil {
		return nil, fmt.Errorf("the OpenID Connect token: %.300s", last.Error()) // it may quote the issuer
	}
	return nil, ErrUnknown
}

// issuerOf reads whose a token says it is. Nothing of that is believed before it
// is verified with that issuer's keys.
func issuerOf(token string) string {
	parts := strings.Split(token, ".")
	var claims struct {
		Issuer string `json:"iss"`
	}
	if data, err := decodeSegment(parts[1]); err == nil {
		_ = json.Unmarshal(data, &claims)
	}
	return claims.Issuer
}

func (b *Book) verify(ctx context.Context, r *v1alpha1.OperatorOIDC, token string) (claims map[string]any, until time.Time, err error) {
	ctx, cancel := context.WithTimeout(oidc.ClientContext(ctx, asks), askIssuer)
	defer cancel()
	p, err := b.provider(ctx, r.Issuer)
	if err != nil {
		return nil, until, err
	}
	verified, err := p.VerifierContext(ctx, &oidc.Config{ClientID: r.Audience, Now: b.Now}).Verify(ctx, token)
	if err != nil {
		return nil, until, err
	}
	claims = map[string]any{}
	return claims, verified.Expiry, verified.Claims(&claims)
}

// asks is the client that issuers are asked with.
var asks = &http.Client{Transport: cut{}}

// cut ends answers that are too long.
type cut struct{}

func (cut) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err == nil {
		answer.Body = http.MaxBytesReader(nil, answer.Body, maxAnswer)
	}
	return answer, err
}

// ruleOf names what an Operator says of an issuer.
func ruleOf(r *v1alpha1.OperatorOIDC) string {
	return strings.Join(append([]string{r.Issuer, r.Audience, r.Claim}, r.Values...), "\n")
}

// Any says whether there are operators at all.
func (b *Book) Any(ctx context.Context) (bool, error) {
	list, err := b.Operators(ctx)
	return len(list) > 0, err
}

// Still says what somebody who was found earlier may now: ErrUnknown when the
// Operator is gone, or doesn't have what was shown any more.
func (b *Book) Still(ctx context.Context, w *Who) (*Who, error) {
	if !w.until.IsZero() && !b.Now().Before(w.until) {
		return nil, ErrUnknown
	}
	if w.operator == "" {
		return w, nil
	}
	list, err := b.Operators(ctx)
	if err != nil {
		return nil, err
	}
	for _, o := range list {
		if o.Name != w.operator || !b.has(o, w) {
			continue
		}
		now := who(o, w.How, w.proof)
		now.Name, now.From, now.until = w.Name, w.From, w.until
		return now, nil
	}
	return nil, ErrUnknown
}

// has says whether an operator has what somebody has shown.
func (b *Book) has(o *v1alpha1.Operator, w *Who) bool {
	switch w.How {
	case "certificate":
		return slices.Contains(o.Spec.Identities, w.proof)
	case "token":
		return slices.ContainsFunc(o.Spec.Tokens, func(t v1alpha1.OperatorToken) bool {
			return strings.ToLower(t.SHA256) == w.proof && (t.Expires == nil || b.Now().Before(t.Expires.Time))
		})
	case "oidc":
		return slices.ContainsFunc(o.Spec.OIDC, func(r v1alpha1.OperatorOIDC) bool { return ruleOf(&r) == w.proof })
	}
	return false
}

// provider finds out about an issuer once; its keys are fetched again by
// themselves when they change.
func (b *Book) provider(ctx context.Context, issuer string) (*oidc.Provider, error) {
	b.mu.Lock()
	p := b.providers[issuer]
	b.mu.Unlock()
	if p != nil {
		return p, nil
	}
	p, err := oidc.NewProvider(ctx, issuer)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.providers == nil || len(b.providers) >= maxIssuers {
		b.providers = map[string]*oidc.Provider{}
	}
	b.providers[issuer] = p
	return p, nil
}

// holds reports whether a claim is one of the values, or has one of them.
func holds(claims map[string]any, name string, values []string) bool {
	if name == "" {
		name = "sub"
	}
	is := func(v any) bool {
		s, ok := v.(string)
		if !ok {
			return false
		}
		for _, want := range values {
			if s == want {
				return true
			}
		}
		return false
	}
	list, ok := claims[name].([]any)
	if !ok {
		return is(claims[name])
	}
	for _, v := range list {
		if is(v) {
			return true
		}
	}
	return false
}

func who(o *v1alpha1.Operator, how, proof string) *Who {
	w := &Who{Name: o.Name, How: how, Role: o.Spec.Role, operator: o.Name, proof: proof}
	if len(o.Spec.Namespaces) > 0 {
		w.Namespaces = o.Spec.Namespaces
	}
	return w
}
