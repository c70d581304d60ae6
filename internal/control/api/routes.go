package api

import (
	"context"
	"net/http"
	"time"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/operator"
	"tulle.dev/tulle/internal/telemetry"
)

// routeSignals are the figures of routes; telemetry/query's Engine has them.
type routeSignals interface {
	Routes(ctx context.Context, window time.Duration) (telemetry.Routes, error)
}

// routes answers GET /tulle/v1/routes.
func (a *API) routes(_ http.ResponseWriter, r *http.Request) (any, error) {
	d, err := a.window(r)
	if err != nil {
		return nil, err
	}
	s, ok := a.config.Signals.(routeSignals)
	if !ok {
		return nil, failure(http.StatusServiceUnavailable, client.ReasonUnavailable, "this control plane keeps no figures of routes")
	}
	out, err := s.Routes(r.Context(), d)
	return routesWithin(operator.Of(r.Context()), out), err
}
