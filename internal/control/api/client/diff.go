package client

import (
	"context"
	"encoding/json"
	"net/http"

	"tulle.dev/tulle/internal/explain"
)

// DiffRequest is POST /tulle/v1/diff: objects as they would be applied.
type DiffRequest struct {
	Objects []json.RawMessage `json:"objects"`
}

// Diff is what applying objects would change. Nothing is written.
type Diff struct {
	// Objects are in the order of the request.
	Objects []ObjectDiff `json:"objects"`
	// Effect is what becomes of requests.
	Effect explain.Effect `json:"effect"`
	// Statuses are the conditions that would change.
	Statuses []StatusDiff `json:"statuses,omitempty"`
}

// ObjectDiff is what would become of one object.
type ObjectDiff struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	// Action is "created", "configured" or "unchanged".
	Action string `json:"action"`
	// Before and After are the object without status and what the control plane
	// keeps in its metadata; Before is missing for a new one.
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after"`
}

// StatusDiff is a condition that would change.
type StatusDiff struct {
	// Object is "httproute default/cart", with the parent, target or listener it is about.
	Object  string `json:"object"`
	Type    string `json:"type"`
	True    bool   `json:"true"` // what it would be
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

// Diff asks what applying objects would change.
func (c *Client) Diff(ctx context.Context, objects [][]byte) (*Diff, error) {
	r := DiffRequest{}
	for _, o := range objects {
		r.Objects = append(r.Objects, o)
	}
	out := new(Diff)
	return out, c.json(ctx, http.MethodPost, "/tulle/v1/diff", r, out)
}
