package api

import (
	"net/http"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/audit"
	"tulle.dev/tulle/internal/control/operator"
)

// logIn answers POST /tulle/v1/dashboard-logins.
func (a *API) logIn(_ http.ResponseWriter, r *http.Request) (any, error) {
	if a.config.Logins == nil {
		return nil, failure(http.StatusServiceUnavailable, client.ReasonUnavailable, "this control plane serves no dashboard (--dashboard none)")
	}
	l := a.config.Logins(operator.Of(r.Context()))
	a.record(r, audit.Entry{Action: "dashboard-link"}, nil)
	return l, nil
}

// LoggedIn writes down that an operator's browser was let in.
func (a *API) LoggedIn(r *http.Request) { a.record(r, audit.Entry{Action: "dashboard-login"}, nil) }
