package client

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// JWTSVIDRequest asks for a JWT-SVID. Who may use the API may ask for any identity's
// that it may get a certificate for; a workload that shows its certificate for its own.
type JWTSVIDRequest struct {
	// Identity is NAMESPACE/SERVICE-ACCOUNT or a SPIFFE id.
	Identity string `json:"identity"`
	// Audience is who the token is for, 1 to 16 texts.
	Audience []string `json:"audience"`
	// TTL is a duration from 30s to 1h; default 5m.
	TTL string `json:"ttl,omitempty"`
}

// JWTSVID is the answer.
type JWTSVID struct {
	Identity string    `json:"identity"`
	Token    string    `json:"token"`
	KeyID    string    `json:"keyID"`
	Expires  time.Time `json:"expires"`
}

// CreateJWTSVID asks for a token.
func (c *Client) CreateJWTSVID(ctx context.Context, r JWTSVIDRequest) (*JWTSVID, error) {
	out := new(JWTSVID)
	return out, c.json(ctx, http.MethodPost, "/tulle/v1/jwt-svids", r, out)
}

// Bundles are the trust bundles by which identities are believed.
type Bundles struct {
	// TrustDomain is the mesh's own.
	TrustDomain string `json:"trustDomain"`
	// Bundles are SPIFFE bundle documents by trust domain: the mesh's own and those
	// of the ones that it is federated with.
	Bundles map[string]json.RawMessage `json:"bundles"`
	// Denied are SPIFFE ids that are not believed all the same.
	Denied []string `json:"denied,omitempty"`
}

// Bundles returns the trust bundles.
func (c *Client) Bundles(ctx context.Context) (*Bundles, error) {
	out := new(Bundles)
	return out, c.json(ctx, http.MethodGet, "/tulle/v1/bundles", nil, out)
}
