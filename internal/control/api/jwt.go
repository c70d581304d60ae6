package api

import (
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"slices"
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

// mints says of which tokens there is an entry in the audit log: programs ask again
// every few minutes, and no workload may push others' entries out. In an hour there is
// one for the same asker, identity and audiences, for maxNoted of these, and one for
// a failure.
type mints struct {
	mu sync.Mutex
	of map[[sha256.Size]byte]*noted // by asker and identity
}

// noted is what there is an entry of.
type noted struct {
	since     time.Time
	failed    bool
	audiences map[[sha256.Size]byte]bool
}

const (
	mintEvery = time.Hour
	maxMints  = 10_000
	maxNoted  = 16
)

// sumOf is short, however long the parts are.
func sumOf(parts ...string) [sha256.Size]byte {
	data, _ := json.Marshal(parts) // strings always can be
	return sha256.Sum256(data)
}

func (m *mints) fresh(who string, r *client.JWTSVIDRequest, failed bool, now time.Time) bool {
	key := sumOf(who, r.Identity)
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.of[key]
	if n == nil || now.Sub(n.since) >= mintEvery {
		if m.of == nil || n == nil && len(m.of) >= maxMints {
			m.of = map[[sha256.Size]byte]*noted{}
		}
		n = &noted{since: now, audiences: map[[sha256.Size]byte]bool{}}
		m.of[key] = n
	}
	if failed {
		was := n.failed
		n.failed = true
		return !was
	}
	audience := sumOf(slices.Sorted(slices.Values(r.Audience))...)
	if n.audiences[audience] || len(n.audiences) >= maxNoted {
		return false
	}
	n.audiences[audience] = true
	return true
}
