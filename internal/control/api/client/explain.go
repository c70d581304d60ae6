package client

import (
	"context"
	"net/http"
	"net/url"

	"tulle.dev/tulle/internal/explain"
)

// Explain asks what would become of a request.
func (c *Client) Explain(ctx context.Context, q explain.Question) (*explain.Answer, error) {
	out := new(explain.Answer)
	return out, c.json(ctx, http.MethodPost, "/tulle/v1/explain", q, out)
}

// ServicePolicies returns the values of policies in force for a service
// ("cart.default").
func (c *Client) ServicePolicies(ctx context.Context, service string) ([]explain.Effective, error) {
	var out []explain.Effective
	return out, c.json(ctx, http.MethodGet, "/tulle/v1/policies?service="+url.QueryEscape(service), nil, &out)
}

// RoutePolicies returns those for the rules of a route ("httproute/default/cart").
func (c *Client) RoutePolicies(ctx context.Context, route string) ([]explain.Effective, error) {
	var out []explain.Effective
	return out, c.json(ctx, http.MethodGet, "/tulle/v1/policies?route="+url.QueryEscape(route), nil, &out)
}
