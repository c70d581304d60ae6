package client

import (
	"context"
	"net/http"
	"time"
)

// DashboardLogin lets one browser in, once.
type DashboardLogin struct {
	// URL is where the dashboard is, with the code in its fragment; Path is the part
	// after its host, for who reaches it under another one.
	URL     string    `json:"url"`
	Path    string    `json:"path"`
	Expires time.Time `json:"expires"`
	// Operator is who the browser will be, in which role.
	Operator string `json:"operator"`
	Role     string `json:"role"`
}

// LogIn asks for a login link of the dashboard for whoever asks.
func (c *Client) LogIn(ctx context.Context) (*DashboardLogin, error) {
	out := new(DashboardLogin)
	return out, c.json(ctx, http.MethodPost, "/tulle/v1/dashboard-logins", nil, out)
}
