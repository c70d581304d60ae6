package api

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/audit"
	"tulle.dev/tulle/internal/control/operator"
	"tulle.dev/tulle/internal/identity"
)

// What workloads may ask.
const (
	jwtPath     = "/tulle/v1/jwt-svids"
	bundlesPath = "/tulle/v1/bundles"
)

// createJWTSVID answers POST /tulle/v1/jwt-svids. A workload gets a token for the
// identity that it has proven; an operator for those that it may hand out.
func (a *API) createJWTSVID(w http.ResponseWriter, r *http.Request) (any, error) {
	var req client.JWTSVIDRequest
	if err := readJSON(w, r, &req); err != nil {
		return nil, err
	}
	who := operator.Of(r.Context())
	if who.Workload.IsZero() {
		if err := a.mayGrant(r, req.Identity, nil); err != nil {
			return nil, err
		}
	} else if id, err := identity.Parse(req.Identity); err != nil || id != who.Workload {
		return nil, failure(http.StatusForbidden, client.ReasonForbidden, "%s gets JWT-SVIDs for itself alone, as its SPIFFE id", who.Workload)
	}
	t, err := a.config.Mesh.CreateJWTSVID(r.Context(), req)
	if a.minted.fresh(who.Name, &req, err != nil, time.Now()) {
		a.record(r, audit.Entry{Action: "jwt-svid", Name: req.Identity}, err)
	}
	return t, err
}

// mints says of which tokens there is an entry in the audit log. Programs ask again
// every few minutes: one entry an hour for the same asker, identity and audience, and one for a failure.
type mints struct {
	mu   sync.Mutex
	last map[string]time.Time
}

const (
	mintEvery = time.Hour
	maxMints  = 10_000
)

func (m *mints) fresh(who string, r *client.JWTSVIDRequest, failed bool, now time.Time) bool {
	audience := slices.Sorted(slices.Values(r.Audience))
	key := strconv.FormatBool(failed) + who + "\x00" + r.Identity + "\x00" + strings.Join(audience, "\x00")
	m.mu.Lock()
	defer m.mu.Unlock()
	if now.Sub(m.last[key]) < mintEvery {
		return false
	}
	if m.last == nil || len(m.last) >= maxMints {
		m.last = map[string]time.Time{}
	}
	m.last[key] = now
	return true
}
