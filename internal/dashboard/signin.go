package dashboard

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"tulle.dev/tulle/internal/control/operator"
)

// This file is the way in by an OpenID Connect provider's own page: the authorization
// code flow with PKCE (RFC 6749, 7636, 9207; OpenID Connect Core 1.0, 3.1). The ID token
// that comes of it is judged as one that is brought along: an Operator must name its
// issuer, audience and claim.

const (
	// SignInPath begins it; the provider sends the browser back to SignInReturn.
	SignInPath   = "/login/start"
	SignInReturn = "/login/callback"

	// signInLife is how long somebody may take at the provider's page.
	signInLife = 10 * time.Minute
	// providerWait bounds one question to the provider, and maxProvider its answer in
	// bytes; a failure is remembered for providerRetry.
	providerWait  = 10 * time.Second
	maxProvider   = 1 << 20
	providerRetry = 5 * time.Second
	// maxReturn bounds what a browser brings back, in bytes.
	maxReturn = 8 << 10
	// maxRedirects bounds the provider's, maxSaid what is told of a failure, in
	// characters: errors have whole answers in them.
	maxRedirects = 3
	maxSaid      = 300
)

// SignIn is a provider by whose page operators log in. Safe for concurrent use; its
// exported fields don't change.
type SignIn struct {
	// Issuer and ClientID are what the provider and this dashboard are called;
	// ClientSecret is empty for a public client.
	Issuer, ClientID, ClientSecret string
	// Redirect is the address of SignInReturn as the provider knows it, to the letter.
	Redirect string
	// Scopes are asked for beside openid.
	Scopes []string
	// Client asks the provider; nil is one with bounds.
	Client *http.Client
	Now    func() time.Time

	once sync.Once
	key  []byte // of this process: what it sent away with comes back to it alone

	mu       sync.Mutex
	provider *oidc.Provider
	tried    time.Time
	failure  error
}

// CheckRedirect says what is wrong with an address to send browsers back to.
func CheckRedirect(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != SignInReturn {
		return fmt.Errorf("%q: want https://HOST%s", text, SignInReturn)
	}
	if private(u) {
		return nil
	}
	return fmt.Errorf("%q: want https, for a code that lets an operator in comes there (http on loopback only)", text)
}

// private says that nobody listens in on the way to a URL: TLS, or this machine.
func private(u *url.URL) bool {
	return u.Host != "" && (u.Scheme == "https" || u.Scheme == "http" && (guard{}).known(u.Host))
}

// checkProviderRedirect follows the provider where nobody listens in, and nowhere with
// a code and the client's secret.
func checkProviderRedirect(r *http.Request, via []*http.Request) error {
	switch {
	case len(via) > maxRedirects:
		return errors.New("too many redirects")
	case via[0].Method != http.MethodGet:
		return errors.New("a redirect where the code is to be taken back")
	case !private(r.URL):
		return fmt.Errorf("a redirect to %.200q, want https", r.URL.Redacted())
	}
	return nil
}

// checkEndpoints says what is wrong with where a provider has things sent.
func checkEndpoints(p *oidc.Provider) error {
	var says struct {
		Authorize string `json:"authorization_endpoint"`
		Token     string `json:"token_endpoint"`
		Keys      string `json:"jwks_uri"`
	}
	if err := p.Claims(&says); err != nil {
		return err
	}
	for _, text := range []string{says.Authorize, says.Token, says.Keys} {
		if u, err := url.Parse(text); err != nil || !private(u) {
			return fmt.Errorf("its discovery document names %.200q, want an https URL", text)
		}
	}
	return nil
}

// secured is the request as the browser made it: what comes back to an https address
// came over TLS, also where a reverse proxy doesn't say so.
func (s *SignIn) secured(r *http.Request) *http.Request {
	if strings.HasPrefix(s.Redirect, "https:") {
		r = r.Clone(r.Context())
		r.Header.Set("X-Forwarded-Proto", "https")
	}
	return r
}

func (s *SignIn) begin() {
	s.once.Do(func() {
		s.key = make([]byte, 32)
		rand.Read(s.key)
		if s.Client == nil {
			s.Client = &http.Client{Timeout: providerWait, Transport: &bounded{http.DefaultTransport}, CheckRedirect: checkProviderRedirect}
		}
		if s.Now == nil {
			s.Now = time.Now
		}
	})
}

// bounded cuts answers that are too long.
type bounded struct{ next http.RoundTripper }

func (b *bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(r)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxProvider)
	}
	return resp, err
}

// trip is one way to the provider and back. All of it comes of a secret that the
// browser has in a cookie, and of the key: nothing is kept here meanwhile.
type trip struct{ cookie, state, nonce, verifier string }

func (s *SignIn) trip(cookie string) trip {
	of := func(what string) string {
		h := hmac.New(sha256.New, s.key)
		h.Write([]byte(what + "\x00" + cookie))
		return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
	}
	return trip{cookie: cookie, state: of("state"), nonce: of("nonce"), verifier: of("verifier")}
}

func (s *SignIn) newTrip() trip {
	return s.trip(strconv.FormatInt(s.Now().Add(signInLife).Unix(), 10) + "." + rand.Text())
}

// over says that a trip took too long. Whoever changes the time in the cookie has
// another state.
func (t *trip) over(now time.Time) bool {
	ends, _, _ := strings.Cut(t.cookie, ".")
	n, err := strconv.ParseInt(ends, 10, 64)
	return err != nil || now.Unix() >= n
}

// ask finds out about the provider, once.
func (s *SignIn) ask() (*oidc.Provider, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.provider != nil || s.failure != nil && s.Now().Sub(s.tried) < providerRetry {
		return s.provider, s.failure
	}
	// The provider's keys are fetched with this context later, too.
	s.provider, s.failure = oidc.NewProvider(oidc.ClientContext(context.Background(), s.Client), s.Issuer)
	if s.failure == nil {
		s.failure = checkEndpoints(s.provider)
	}
	if s.failure != nil {
		s.provider = nil
	}
	s.tried = s.Now()
	return s.provider, s.failure
}

func (s *SignIn) config(p *oidc.Provider) *oauth2.Config {
	at := p.Endpoint()
	var says struct {
		Methods []string `json:"token_endpoint_auth_methods_supported"`
	}
	_ = p.Claims(&says) // what it doesn't say is client_secret_basic (Discovery, section 3)
	at.AuthStyle = oauth2.AuthStyleInHeader
	if s.ClientSecret == "" || len(says.Methods) > 0 && !slices.Contains(says.Methods, "client_secret_basic") {
		at.AuthStyle = oauth2.AuthStyleInParams
	}
	return &oauth2.Config{ClientID: s.ClientID, ClientSecret: s.ClientSecret, Endpoint: at, RedirectURL: s.Redirect,
		Scopes: append([]string{oidc.ScopeOpenID}, s.Scopes...)}
}

// tripCookie must come along from the provider's page, unlike a session's.
func tripCookie(r *http.Request, value string, seconds int) *http.Cookie {
	c := cookie(r, value, seconds)
	c.Name, c.Path, c.SameSite = c.Name+"-login", "/login", http.SameSiteLaxMode
	return c
}

// serveSignIn sends the browser to the provider.
func (d *Dashboard) serveSignIn(w http.ResponseWriter, r *http.Request) {
	s := d.config.Door.SignIn
	s.begin()
	p, err := s.ask()
	if err != nil {
		// Anybody may come here: why is for the log.
		d.refused(r, fmt.Errorf("the OpenID Connect provider can't be asked: %w", err))
		sayFailed(w, http.StatusServiceUnavailable, "the OpenID Connect provider can't be asked, and the control plane's log says why")
		return
	}
	r = s.secured(r)
	t := s.newTrip()
	http.SetCookie(w, tripCookie(r, t.cookie, int(signInLife.Seconds())))
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, s.config(p).AuthCodeURL(t.state, oidc.Nonce(t.nonce), oauth2.S256ChallengeOption(t.verifier)), http.StatusSeeOther)
}

// serveSignedIn takes the browser back, and begins a session.
func (d *Dashboard) serveSignedIn(w http.ResponseWriter, r *http.Request) {
	s := d.config.Door.SignIn
	s.begin()
	r = s.secured(r)
	w.Header().Set("Cache-Control", "no-store")
	http.SetCookie(w, tripCookie(r, "", -1)) // one way back for each way there
	raw, err := s.back(r)
	if err != nil {
		d.signInFailed(w, r, http.StatusForbidden, err)
		return
	}
	who, err := d.config.Door.Book.Token(r.Context(), raw)
	if errors.Is(err, operator.ErrUnknown) {
		err = errors.New("the provider knows you, and no Operator here has you in its oidc")
	}
	if err != nil {
		d.signInFailed(w, r, http.StatusForbidden, err)
		return
	}
	d.enter(w, r, who)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// back judges what the browser brings, and returns the ID token.
func (s *SignIn) back(r *http.Request) (string, error) {
	if len(r.URL.RawQuery) > maxReturn {
		return "", errors.New("the provider's answer is too long")
	}
	q := r.URL.Query()
	c, err := r.Cookie(tripCookie(r, "", 0).Name)
	if err != nil {
		return "", errors.New("this browser didn't begin to log in here, or did so more than ten minutes ago")
	}
	t := s.trip(c.Value)
	if len(q["state"]) != 1 || subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(t.state)) != 1 {
		return "", errors.New("this isn't the answer to how this browser began to log in")
	}
	switch {
	case t.over(s.Now()):
		return "", errors.New("that took longer than ten minutes")
	case q.Get("iss") != "" && q.Get("iss") != s.Issuer: // RFC 9207
		return "", errors.New("the answer is of another provider")
	case q.Get("error") != "":
		return "", fmt.Errorf("the provider says: %.100q %.200q", q.Get("error"), q.Get("error_description"))
	case q.Get("code") == "" || len(q["code"]) != 1:
		return "", errors.New("the provider's answer has no code")
	}
	p, err := s.ask()
	if err != nil {
		return "", err
	}
	var says struct {
		Names bool `json:"authorization_response_iss_parameter_supported"`
	}
	if _ = p.Claims(&says); says.Names && q.Get("iss") == "" { // RFC 9207, 2.4
		return "", errors.New("the answer doesn't say which provider's it is, as the provider's answers do")
	}
	ctx, cancel := context.WithTimeout(oidc.ClientContext(r.Context(), s.Client), providerWait)
	defer cancel()
	got, err := s.config(p).Exchange(ctx, q.Get("code"), oauth2.VerifierOption(t.verifier))
	var refused *oauth2.RetrieveError
	if errors.As(err, &refused) { // its text has the whole answer
		return "", fmt.Errorf("the provider doesn't take its code back: %.100q %.200q", refused.ErrorCode, refused.ErrorDescription)
	}
	if err != nil {
		return "", fmt.Errorf("the provider can't be asked for a token: %w", err)
	}
	raw, ok := got.Extra("id_token").(string)
	if !ok {
		return "", errors.New("the provider's answer has no ID token")
	}
	token, err := p.VerifierContext(ctx, &oidc.Config{ClientID: s.ClientID, Now: s.Now}).Verify(ctx, raw)
	if err != nil {
		return "", fmt.Errorf("the provider's ID token: %w", err)
	}
	if subtle.ConstantTimeCompare([]byte(token.Nonce), []byte(t.nonce)) != 1 {
		return "", errors.New("the provider's ID token is for another login (nonce)")
	}
	return raw, nil
}

func (d *Dashboard) signInFailed(w http.ResponseWriter, r *http.Request, code int, err error) {
	d.refused(r, err)
	sayFailed(w, code, fmt.Sprintf("%.*s", maxSaid, err))
}

func (d *Dashboard) refused(r *http.Request, err error) {
	d.config.Logger.LogAttrs(r.Context(), slog.LevelWarn, "dashboard: a login was refused", slog.String("from", r.RemoteAddr), slog.String("error", fmt.Sprintf("%.*s", maxSaid, err)))
}

func sayFailed(w http.ResponseWriter, code int, text string) {
	http.Error(w, "You aren't logged in: "+text+".\nBegin again at the dashboard's first page.", code)
}

// ways is how one can log in, for the page that asks who somebody is.
type ways struct {
	// SignIn is the provider's name where there is one, and where to begin.
	SignIn string `json:"signIn,omitempty"`
	At     string `json:"at,omitempty"`
}

func (d *Dashboard) serveWays(w http.ResponseWriter, _ *http.Request) {
	var out ways
	if door := d.config.Door; door != nil && door.SignIn != nil {
		out = ways{SignIn: door.SignIn.Issuer, At: SignInPath}
		if u, err := url.Parse(door.SignIn.Issuer); err == nil {
			out.SignIn = u.Host
		}
	}
	writeJSON(w, http.StatusOK, out)
}
