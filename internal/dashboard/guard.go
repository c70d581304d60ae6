package dashboard

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// guard lets through only what the user's own browser, or a program on this
// machine, asks of this very site. Listening on loopback is not enough: a
// foreign page can make its name resolve to 127.0.0.1 (DNS rebinding) or send
// requests blindly (CSRF).
type guard struct {
	hosts []string
	next  http.Handler
}

// policy is the Content-Security-Policy of every answer: nothing from elsewhere,
// nothing inline, nothing framed.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func (g guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	switch {
	case !g.known(r.Host):
		fail(w, http.StatusMisdirectedRequest, "host "+clip(r.Host)+" is not this dashboard's; ask for localhost or 127.0.0.1, or name the host with --dashboard-host")
	case !g.sameOrigin(r):
		fail(w, http.StatusForbidden, "origin "+clip(r.Header.Get("Origin"))+" may not ask: only the dashboard's own pages may")
	default:
		g.next.ServeHTTP(w, r)
	}
}

// known reports whether a Host field, with or without a port, names this site.
func (g guard) known(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.ToLower(strings.Trim(name, "[]")), ".")
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return true
	}
	if address, err := netip.ParseAddr(name); err == nil && address.Unmap().IsLoopback() {
		return true
	}
	return slices.ContainsFunc(g.hosts, func(allowed string) bool { return strings.EqualFold(allowed, name) })
}

// sameOrigin reports whether no foreign page made the browser ask. Programs send
// neither field.
func (g guard) sameOrigin(r *http.Request) bool {
	if origin := r.Header.Get("Origin"); origin != "" {
		u, err := url.Parse(origin)
		return err == nil && strings.EqualFold(u.Host, r.Host) && (u.Scheme == "http" || u.Scheme == "https")
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
		return true
	}
	// A link on another page may lead here, but only to a page.
	return r.Method == http.MethodGet && r.Header.Get("Sec-Fetch-Mode") == "navigate" && !strings.HasPrefix(r.URL.Path, "/api/")
}

// clip quotes what a stranger sent, briefly.
func clip(s string) string {
	const most = 64
	if len(s) > most {
		s = s[:most] + "…"
	}
	return `"` + strings.Map(func(c rune) rune {
		if c < 0x20 || c == 0x7f {
			return -1
		}
		return c
	}, s) + `"`
}
