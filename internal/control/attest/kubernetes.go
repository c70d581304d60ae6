package attest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"tulle.dev/tulle/internal/identity"
)

// Audience is what a projected token must be for, and for nothing else.
const Audience = "tulle"

// Where a pod's own credentials are.
const (
	DefaultCA    = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
	DefaultToken = "/var/run/secrets/kubernetes.io/serviceaccount/token"
)

const (
	timeout   = 5 * time.Second
	maxAnswer = 256 << 10
	maxToken  = 16 << 10
	// Reviews at once, and in a second: whoever reaches the control plane's port
	// can have it ask, and the API server is somebody else's.
	maxReviews = 16
	maxRate    = 200
	maxBurst   = 1000

	reviews = "/apis/authentication.k8s.io/v1/tokenreviews"
	user    = "system:serviceaccount:"
)

// ErrRefused says that a proof isn't one: another try with it doesn't help.
var ErrRefused = errors.New("the service account token isn't valid here")

// Config says how to ask a Kubernetes API server.
type Config struct {
	// URL of the API server, https.
	URL string
	// CAFile has the roots of its certificate, TokenFile the token of an account
	// that may create tokenreviews (system:auth-delegator); it is read again each
	// time, for it is renewed.
	CAFile, TokenFile string
	// TrustDomain is that of the identities.
	TrustDomain identity.TrustDomain
}

// Kubernetes is an API server that is asked whose a token is. Safe for concurrent
// use; it starts nothing.
type Kubernetes struct {
	config Config
	http   *http.Client
	slots  chan struct{}
	limit  *rate.Limiter
}

// CheckURL says what is wrong with an API server's URL.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("%q: want https://HOST:PORT", text)
	}
	return nil
}

// NewKubernetes reads the roots; the API server isn't asked yet.
func NewKubernetes(c Config) (*Kubernetes, error) {
	if err := CheckURL(c.URL); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("the roots of the API server's certificate: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("the roots of the API server's certificate: %s has none", c.CAFile)
	}
	t := &http.Transport{DialContext: (&net.Dialer{Timeout: timeout}).DialContext, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: timeout, ResponseHeaderTimeout: timeout, MaxIdleConns: maxReviews, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: 64 << 10}
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Kubernetes{config: c, http: &http.Client{Transport: t, Timeout: timeout, CheckRedirect: stay},
		slots: make(chan struct{}, maxReviews), limit: rate.NewLimiter(maxRate, maxBurst)}, nil
}

// Close closes connections that are kept.
func (k *Kubernetes) Close() { k.http.CloseIdleConnections() }

// Attest returns whose a token is. ErrRefused when it is nobody's; other errors
// may go away.
func (k *Kubernetes) Attest(ctx context.Context, token string) (identity.ID, error) {
	// The form of a JWT (RFC 7519): what isn't one needn't be asked about.
	if len(token) > maxToken || strings.Count(token, ".") != 2 || strings.ContainsFunc(token, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return identity.ID{}, fmt.Errorf("%w: it has not the form of one", ErrRefused)
	}
	if !k.limit.Allow() {
		return identity.ID{}, errors.New("too many service account tokens are being asked about: try again")
	}
	select {
	case k.slots <- struct{}{}:
		defer func() { <-k.slots }()
	case <-ctx.Done():
		return identity.ID{}, fmt.Errorf("the Kubernetes API server is slow: %w", ctx.Err())
	}
	review, err := k.review(ctx, token)
	if err != nil {
		return identity.ID{}, fmt.Errorf("ask the Kubernetes API server: %w", err)
	}
	s := &review.Status
	switch {
	case !s.Authenticated:
		return identity.ID{}, ErrRefused
	case !slices.Contains(s.Audiences, Audience):
		// An API server that knows nothing of audiences returns none.
		return identity.ID{}, fmt.Errorf("%w: it is not for audience %q", ErrRefused, Audience)
	}
	account, ok := strings.CutPrefix(s.User.Username, user)
	namespace, name, found := strings.Cut(account, ":")
	if !ok || !found || strings.Contains(name, ":") {
		return identity.ID{}, fmt.Errorf("%w: it is not a service account's, but %.100q's", ErrRefused, s.User.Username)
	}
	id, err := identity.Parse(identity.ID{TrustDomain: k.config.TrustDomain, Namespace: namespace, ServiceAccount: name}.String())
	if err != nil {
		return identity.ID{}, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return id, nil
}

func (k *Kubernetes) review(ctx context.Context, token string) (*authenticationv1.TokenReview, error) {
	own, err := os.ReadFile(k.config.TokenFile)
	if err != nil {
		return nil, fmt.Errorf("our own token: %w", err)
	}
	body, err := json.Marshal(&authenticationv1.TokenReview{
		TypeMeta: metav1.TypeMeta{APIVersion: authenticationv1.SchemeGroupVersion.String(), Kind: "TokenReview"},
		Spec:     authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{Audience}},
	})
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(k.config.URL, "/")+reviews, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json")
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(own)))
	resp, err := k.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode == http.StatusForbidden || resp.StatusCode == http.StatusUnauthorized:
		return nil, fmt.Errorf("it answered %s: our own account must be allowed to create tokenreviews (system:auth-delegator)", resp.Status)
	case resp.StatusCode != http.StatusCreated && resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("it answered %s", resp.Status)
	case len(data) > maxAnswer:
		return nil, fmt.Errorf("its answer is larger than %d bytes", maxAnswer)
	}
	out := new(authenticationv1.TokenReview)
	if err := json.Unmarshal(data, out); err != nil {
		return nil, errors.New("its answer isn't a TokenReview")
	}
	if out.Kind != "TokenReview" {
		return nil, fmt.Errorf("its answer is a %.50q, not a TokenReview", out.Kind)
	}
	return out, nil
}
