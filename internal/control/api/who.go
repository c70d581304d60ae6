package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/identity"
)

// Times of the API's HTTP servers.
const (
	HeadTimeout = 10 * time.Second
	IdleTimeout = 2 * time.Minute
)

func contextWithTimeout(r *http.Request, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.Context(), d)
}

type uidKey struct{}

// LocalContext is http.Server.ConnContext for a Unix socket: it notes who the peer is.
func LocalContext(ctx context.Context, c net.Conn) context.Context {
	if uid, ok := peerUID(c); ok {
		return context.WithValue(ctx, uidKey{}, uid)
	}
	return ctx
}

// Local lets in peers of this process's user, and root. The socket's mode 0600
// says the same; this holds where a file's mode was changed.
func Local(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		uid, ok := r.Context().Value(uidKey{}).(uint32)
		if !ok || uid != 0 && uid != uint32(os.Getuid()) {
			s := failure(http.StatusForbidden, client.ReasonForbidden, "the control socket is for the user that runs the control plane, and for root")
			answer(w, s.Code, s)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// AdminAccount is the service account, in namespace tulle, whose certificate
// may use the API over TLS.
const AdminAccount = "admin"

// Remote lets in requests over TLS with the bearer token of which tokenSum is
// the SHA-256 sum, or with an administrator's certificate. A workload's
// certificate is not enough.
func Remote(domain identity.TrustDomain, tokenSum [sha256.Size]byte, next http.Handler) http.Handler {
	admin := identity.ID{TrustDomain: domain, Namespace: "tulle", ServiceAccount: AdminAccount}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		sum := sha256.Sum256([]byte(token))
		switch {
		case r.TLS == nil:
		case bearer && subtle.ConstantTimeCompare(sum[:], tokenSum[:]) == 1:
			next.ServeHTTP(w, r)
			return
		case identity.Peer(*r.TLS) == admin:
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("WWW-Authenticate", "Bearer")
		s := failure(http.StatusUnauthorized, client.ReasonUnauthorized,
			"the control API wants the token in the control plane's api-token file (--token-file), or a certificate of %s", admin)
		answer(w, s.Code, s)
	})
}
