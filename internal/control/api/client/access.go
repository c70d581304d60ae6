package client

import (
	"context"
	"net/http"
	"time"

	"tulle.dev/tulle/internal/explain"
	"tulle.dev/tulle/internal/telemetry"
)

// Access asks whether somebody may do something. Without a service in the question
// there is an answer for each port of each service.
func (c *Client) Access(ctx context.Context, q explain.AccessQuestion) ([]explain.AccessAnswer, error) {
	var out []explain.AccessAnswer
	return out, c.json(ctx, http.MethodPost, "/tulle/v1/access", q, &out)
}

// Adoption returns how far each service port has come; window 0 is the default, 1m.
func (c *Client) Adoption(ctx context.Context, w time.Duration) (*telemetry.Adoption, error) {
	out := new(telemetry.Adoption)
	return out, c.json(ctx, http.MethodGet, window("/tulle/v1/adoption", w), nil, out)
}
