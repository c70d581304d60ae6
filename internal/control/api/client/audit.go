package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// AuditEntry is one change that somebody made over the API.
type AuditEntry struct {
	Time time.Time `json:"time"`
	// Who made it, How that was proven, From where.
	Who  string `json:"who"`
	How  string `json:"how,omitempty"`
	From string `json:"from,omitempty"`
	// Action is apply, delete, join-token, certificate, jwt-svid, trust-rotate or trust-back.
	Action    string          `json:"action"`
	Kind      string          `json:"kind,omitempty"`
	Namespace string          `json:"namespace,omitempty"`
	Name      string          `json:"name,omitempty"`
	Revision  string          `json:"revision,omitempty"`
	Before    json.RawMessage `json:"before,omitempty"`
	After     json.RawMessage `json:"after,omitempty"`
	// Error says why it was refused.
	Error string `json:"error,omitempty"`
}

// AuditFilter narrows which changes are listed; empty parts don't.
type AuditFilter struct {
	Last                       int
	Who, Kind, Namespace, Name string
}

// Audit lists the last changes, the oldest first.
func (c *Client) Audit(ctx context.Context, f AuditFilter) ([]AuditEntry, error) {
	q := url.Values{}
	for k, v := range map[string]string{"who": f.Who, "kind": f.Kind, "namespace": f.Namespace, "name": f.Name} {
		if v != "" {
			q.Set(k, v)
		}
	}
	if f.Last > 0 {
		q.Set("last", strconv.Itoa(f.Last))
	}
	var out []AuditEntry
	return out, c.json(ctx, http.MethodGet, "/tulle/v1/audit?"+q.Encode(), nil, &out)
}
