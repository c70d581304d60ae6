package api

import (
	"context"
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

// Admin is the identity of AdminAccount.
func Admin(domain identity.TrustDomain) identity.ID {
	return identity.ID{TrustDomain: domain, Namespace: adminNamespace, ServiceAccount: AdminAccount}
}

// Remote lets in requests over TLS with a token or a certificate that the book
// knows. A workload's certificate is enough for its own JWT-SVIDs and the bundles,
// and for nothing else.
func Remote(book *operator.Book, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		var who *operator.Who
		err := operator.ErrUnknown
		switch {
		case r.TLS == nil:
		case bearer:
			who, err = book.Token(r.Context(), token)
		default:
			id := identity.Peer(*r.TLS)
			if who, err = book.Certificate(r.Context(), id); errors.Is(err, operator.ErrUnknown) && forWorkloads(r) && id.TrustDomain == book.Admin.TrustDomain {
				who, err = &operator.Who{Name: id.String(), How: "workload", Namespaces: []string{}, Workload: id}, nil
			}
		}
		if err == nil {
			who.From = from(r)
			next.ServeHTTP(w, r.WithContext(operator.With(r.Context(), who)))
			return
		}
		w.Header().Set("WWW-Authenticate", "Bearer")
		s := failure(http.StatusUnauthorized, client.ReasonUnauthorized, "%s", err)
		if errors.Is(err, operator.ErrUnknown) {
			s = failure(http.StatusUnauthorized, client.ReasonUnauthorized,
				"the control API wants an Operator's token or certificate, the token in the control plane's api-token file (--token-file), or a certificate of %s", book.Admin)
		}
		answer(w, s.Code, s)
	})
}

// forWorkloads says that a workload may ask that, about itself.
func forWorkloads(r *http.Request) bool {
	return r.Method == http.MethodPost && r.URL.Path == jwtPath || r.Method == http.MethodGet && r.URL.Path == bundlesPath
}
