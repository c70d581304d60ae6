package client

import (
	"context"
	"net/http"
	"time"
)

// Trust is which roots the mesh trusts, and where a change of them stands.
type Trust struct {
	TrustDomain string `json:"trustDomain"`
	// Version grows with each step of a change.
	Version uint64 `json:"version"`
	// Stage is steady, added (another root is trusted, the old one signs) or
	// switched (the new one signs, the old one is trusted still).
	Stage string `json:"stage"`
	// Back says that the change is on its way back.
	Back bool `json:"back,omitempty"`
	// Waiting counts the proxies that the next stage waits for.
	Waiting int          `json:"waiting"`
	Roots   []TrustRoot  `json:"roots"`
	Proxies []TrustProxy `json:"proxies"`
	// JWTKeys verify JWT-SVIDs, the oldest first; JWTIssued counts the tokens since
	// the control plane started.
	JWTKeys   []TrustJWTKey `json:"jwtKeys,omitempty"`
	JWTIssued uint64        `json:"jwtIssued,omitempty"`
}

// TrustJWTKey is one key of JWT-SVIDs.
type TrustJWTKey struct {
	// ID is the tokens' kid.
	ID string `json:"id"`
	// From is when it begins to sign, Until when it isn't believed any more.
	From  time.Time `json:"from"`
	Until time.Time `json:"until,omitzero"`
	// Signs says that tokens come from it now; Elsewhere that it is another control
	// plane's.
	Signs     bool `json:"signs"`
	Elsewhere bool `json:"elsewhere,omitempty"`
}

// TrustRoot is one trusted root.
type TrustRoot struct {
	SHA256    string    `json:"sha256"`
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
	// Signs says that certificates come from it now.
	Signs bool `json:"signs"`
}

// TrustProxy is how far one proxy has followed. A proxy that is away for longer
// than its certificate lives is not listed: nothing waits for it.
type TrustProxy struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	Gateway   bool   `json:"gateway,omitempty"`
	Connected bool   `json:"connected"`
	// Roots says that it has taken the newest roots, Certificate that its own is
	// of the root that signs.
	Roots              bool      `json:"roots"`
	Certificate        bool      `json:"certificate"`
	CertificateExpires time.Time `json:"certificateExpires"`
	// Waiting says what is waited for, or is empty.
	Waiting string `json:"waiting,omitempty"`
}

// TrustRequest asks for a change of the root.
type TrustRequest struct {
	Action string `json:"action"`
}

// The actions of a TrustRequest.
const (
	TrustRotate = "rotate"
	TrustBack   = "back"
)

// Trust says which roots the mesh trusts.
func (c *Client) Trust(ctx context.Context) (*Trust, error) {
	out := new(Trust)
	return out, c.json(ctx, http.MethodGet, "/tulle/v1/trust", nil, out)
}

// ChangeTrust begins a change of the root or turns it round. What goes on
// afterwards, Trust says.
func (c *Client) ChangeTrust(ctx context.Context, action string) (*Trust, error) {
	out := new(Trust)
	return out, c.json(ctx, http.MethodPost, "/tulle/v1/trust", TrustRequest{action}, out)
}
