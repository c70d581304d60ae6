package client

import (
	"context"
	"net/http"

	"tulle.dev/tulle/internal/explain"
)

// Explain asks what would become of a request.
func (c *Client) Explain(ctx context.Context, q explain.Question) (*explain.Answer, error) {
	out := new(explain.Answer)
	return out, c.json(ctx, http.MethodPost, "/tulle/v1/explain", q, out)
}
