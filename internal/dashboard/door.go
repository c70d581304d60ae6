package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/control/operator"
	"tulle.dev/tulle/internal/identity"
)

// This file is who may look. Without an Operator the loopback address is open, as
// on a laptop. With one, and from elsewhere, everybody says who they are: by a
// client certificate, a bearer token, or a session that begins with a login link or at
// an OpenID Connect provider's page (signin.go).

// Door knows operators and their sessions.
type Door struct {
	Book     *operator.Book
	Sessions *operator.Sessions
	// SignIn is by whose page operators may log in; nil is nobody's.
	SignIn *SignIn
	// LoggedIn is told of each login that succeeded; nil tells nobody. The request's
	// context has the operator.
	LoggedIn func(*http.Request)
}

// maxLogin bounds the body of a login, in bytes.
const maxLogin = 32 << 10

// errLogin says that somebody has to log in.
var errLogin = errors.New("log in: `tulle dashboard` prints a link")

// loopback is who looks at a mesh without operators, on its own machine.
var loopback = &operator.Who{Name: "this machine", How: "loopback", Role: v1alpha1.OperatorView}

// door wraps what wants to know who asks; open is a Door of nil.
func (d *Dashboard) door(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, err := d.config.Door.who(r)
		if err != nil {
			d.config.Door.refuse(w, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(operator.With(r.Context(), who)))
	})
}

func (d *Door) refuse(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, errLogin):
		w.Header().Set("WWW-Authenticate", "Bearer")
		fail(w, http.StatusUnauthorized, err.Error())
	case errors.As(err, new(*unprovenError)):
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		fail(w, http.StatusUnauthorized, err.Error())
	default:
		fail(w, http.StatusServiceUnavailable, "it can't be found out who you are: "+err.Error())
	}
}

// unprovenError says that what somebody brought proves nothing.
type unprovenError struct{ error }

// who says who asks. What is brought along counts, also where nobody had to say:
// a wrong token is an error everywhere.
func (d *Door) who(r *http.Request) (*operator.Who, error) {
	if d == nil {
		return loopback, nil
	}
	ctx := r.Context()
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		who, err := d.Book.Token(ctx, token)
		if err != nil {
			return nil, &unprovenError{err}
		}
		return who, nil
	}
	if c, err := r.Cookie(cookieName(r)); err == nil {
		who, err := d.Sessions.Who(ctx, c.Value)
		if err == nil || !errors.Is(err, operator.ErrUnknown) {
			return who, err
		}
	}
	if r.TLS != nil {
		if id := identity.Peer(*r.TLS); !id.IsZero() {
			who, err := d.Book.Certificate(ctx, id)
			if err == nil || !errors.Is(err, operator.ErrUnknown) {
				return who, err
			}
		}
	}
	if !fromLoopback(r) {
		return nil, errLogin
	}
	any, err := d.Book.Any(ctx)
	switch {
	case err != nil:
		return nil, err
	case any:
		return nil, errLogin
	}
	return loopback, nil
}

func fromLoopback(r *http.Request) bool {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && a.Addr().Unmap().IsLoopback()
}

// cookieName has the port in it: cookies know none, and two meshes of one machine
// have two sessions.
func cookieName(r *http.Request) string {
	_, port, err := net.SplitHostPort(r.Host)
	if err != nil {
		port = "default"
	}
	return "tulle-" + port
}

// cookie is a session's, of which scripts see nothing and other sites' requests
// have nothing.
func cookie(r *http.Request, secret string, seconds int) *http.Cookie {
	return &http.Cookie{Name: cookieName(r), Value: secret, Path: "/api", MaxAge: seconds, HttpOnly: true, SameSite: http.SameSiteStrictMode,
		// A reverse proxy says that the browser speaks TLS; one that lies keeps its own
		// users out.
		Secure: r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https"}
}

// login is what POST /api/login takes: a code of a link, or a token.
type login struct {
	Code  string `json:"code"`
	Token string `json:"token"`
}

// serveLogin begins a session.
func (d *Dashboard) serveLogin(w http.ResponseWriter, r *http.Request) {
	door := d.config.Door
	if door == nil {
		fail(w, http.StatusNotFound, "nobody logs in here")
		return
	}
	// A form of another page can't send this type, beside what the guard looks at.
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		fail(w, http.StatusUnsupportedMediaType, "want application/json")
		return
	}
	var l login
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxLogin))
	if err == nil {
		err = json.Unmarshal(body, &l)
	}
	if err != nil || (l.Code == "") == (l.Token == "") {
		fail(w, http.StatusBadRequest, "want a code or a token")
		return
	}
	found, err := door.find(r.Context(), l)
	if err != nil {
		d.config.Logger.LogAttrs(r.Context(), slog.LevelWarn, "dashboard: a login was refused", slog.String("from", r.RemoteAddr), slog.Any("error", err))
		door.refuse(w, err)
		return
	}
	r = d.enter(w, r, found)
	d.serveMe(w, r)
}

// enter begins a session, and returns the request as that operator's.
func (d *Dashboard) enter(w http.ResponseWriter, r *http.Request, found *operator.Who) *http.Request {
	door, who := d.config.Door, *found
	who.From = ""
	if a, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		who.From = a.Addr().Unmap().String()
	}
	if c, err := r.Cookie(cookieName(r)); err == nil {
		door.Sessions.End(c.Value)
	}
	http.SetCookie(w, cookie(r, door.Sessions.Begin(&who), int(operator.SessionLife.Seconds())))
	r = r.WithContext(operator.With(r.Context(), &who))
	d.config.Logger.LogAttrs(r.Context(), slog.LevelInfo, "dashboard: an operator logged in", slog.String("operator", who.Name), slog.String("by", who.How), slog.String("from", who.From))
	if door.LoggedIn != nil {
		door.LoggedIn(r)
	}
	return r
}

func (d *Door) find(ctx context.Context, l login) (*operator.Who, error) {
	who, err := (*operator.Who)(nil), error(nil)
	if l.Code != "" {
		who, err = d.Sessions.Redeem(ctx, l.Code)
	} else {
		who, err = d.Book.Token(ctx, l.Token)
	}
	if err != nil {
		return nil, &unprovenError{err}
	}
	return who, nil
}

// serveLogout ends the session.
func (d *Dashboard) serveLogout(w http.ResponseWriter, r *http.Request) {
	if c, err := r.Cookie(cookieName(r)); err == nil && d.config.Door != nil {
		d.config.Door.Sessions.End(c.Value)
	}
	http.SetCookie(w, cookie(r, "", -1))
	w.WriteHeader(http.StatusNoContent)
}

// me is who looks, as the pages show it.
type me struct {
	Name string `json:"name"`
	How  string `json:"how"`
	Role string `json:"role"`
	// Namespaces bound what is shown; empty is all.
	Namespaces []string `json:"namespaces"`
	// Session says that there is one, which can be ended.
	Session bool `json:"session"`
}

func (d *Dashboard) serveMe(w http.ResponseWriter, r *http.Request) {
	who := operator.Of(r.Context())
	out := me{Name: who.Name, How: who.How, Role: string(who.Role), Namespaces: who.Namespaces}
	if out.Namespaces == nil {
		out.Namespaces = []string{}
	}
	_, err := r.Cookie(cookieName(r))
	out.Session = err == nil && who.How != loopback.How || r.Method == http.MethodPost
	writeJSON(w, http.StatusOK, out)
}
