package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"tulle.dev/tulle/api/v1alpha1"
	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/operator"
	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/peer"
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
	if uid, ok := peer.UID(c); ok {
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
		who := &operator.Who{Name: "uid " + strconv.Itoa(int(uid)), How: "socket", Role: v1alpha1.OperatorAdmin}
		next.ServeHTTP(w, r.WithContext(operator.With(r.Context(), who)))
	})
}

// AdminAccount is the service account, in namespace tulle, whose certificate
// may use the API over TLS.
const AdminAccount = "admin"

// adminNamespace has the identities of the control plane and of AdminAccount.
const adminNamespace = "tulle"

// Remote lets in requests over TLS with the bearer token of which tokenSum is
// the SHA-256 sum, with an administrator's certificate, or with what an Operator
// has. A workload's certificate is not enough.
func Remote(domain identity.TrustDomain, tokenSum [sha256.Size]byte, book *operator.Book, next http.Handler) http.Handler {
	admin := identity.ID{TrustDomain: domain, Namespace: adminNamespace, ServiceAccount: AdminAccount}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		sum := sha256.Sum256([]byte(token))
		var who *operator.Who
		err := operator.ErrUnknown
		switch {
		case r.TLS == nil:
		case bearer && subtle.ConstantTimeCompare(sum[:], tokenSum[:]) == 1:
			who = &operator.Who{Name: "holder of the control plane's token", How: "token-file", Role: v1alpha1.OperatorAdmin}
		case bearer:
			who, err = book.Token(r.Context(), token)
		case identity.Peer(*r.TLS) == admin:
			who = &operator.Who{Name: AdminAccount, How: "certificate", Role: v1alpha1.OperatorAdmin}
		default:
			who, err = book.Certificate(r.Context(), identity.Peer(*r.TLS))
		}
		if who != nil {
			who.From = from(r)
			next.ServeHTTP(w, r.WithContext(operator.With(r.Context(), who)))
			return
		}
		if !errors.Is(err, operator.ErrUnknown) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			s := failure(http.StatusUnauthorized, client.ReasonUnauthorized, "%s", err)
			answer(w, s.Code, s)
			return
		}
		w.Header().Set("WWW-Authenticate", "Bearer")
		s := failure(http.StatusUnauthorized, client.ReasonUnauthorized,
			"the control API wants an Operator's token or certificate, the token in the control plane's api-token file (--token-file), or a certificate of %s", admin)
		answer(w, s.Code, s)
	})
}
