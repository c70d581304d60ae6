package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"tulle.dev/tulle/internal/proxy/story"
)

// Stories is GET /tulle/v1/why: requests that went badly, as the proxies tell them.
type Stories struct {
	// Stories are those of one request in the order in which it met the proxies,
	// or of the last requests, the latest first.
	Stories []Story `json:"stories"`
	// Silent are the proxies that couldn't be asked.
	Silent []Silent `json:"silent,omitempty"`
}

// Story is what one proxy tells of a request.
type Story struct {
	// Proxy is the workload or gateway, "web.default".
	Proxy string `json:"proxy"`
	story.Told
}

// Silent is a proxy that couldn't be asked, and why.
type Silent struct {
	Proxy string `json:"proxy"`
	Error string `json:"error"`
}

// Why returns what the proxies know of one request: by the id that its answer's
// tulle-id said, or by its x-request-id.
func (c *Client) Why(ctx context.Context, id string) (*Stories, error) {
	out := new(Stories)
	return out, c.json(ctx, http.MethodGet, "/tulle/v1/why/"+url.PathEscape(id), nil, out)
}

// WhyLast returns the last requests that went badly; service ("cart.default")
// narrows them, last 0 is 20.
func (c *Client) WhyLast(ctx context.Context, service string, last int) (*Stories, error) {
	q := url.Values{}
	if service != "" {
		q.Set("service", service)
	}
	if last > 0 {
		q.Set("last", strconv.Itoa(last))
	}
	out := new(Stories)
	return out, c.json(ctx, http.MethodGet, "/tulle/v1/why?"+q.Encode(), nil, out)
}
