package api

import (
	"context"
	"net/http"
	"strings"
	"time"

	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/object"
	"tulle.dev/tulle/internal/control/operator"
	"tulle.dev/tulle/internal/explain"
	"tulle.dev/tulle/internal/telemetry"
)

// access answers POST /tulle/v1/access.
func (a *API) access(w http.ResponseWriter, r *http.Request) (any, error) {
	var q explain.AccessQuestion
	r.Body = http.MaxBytesReader(w, r.Body, maxQuestion)
	if err := readJSON(w, r, &q); err != nil {
		return nil, err
	}
	if err := withinReach(operator.Of(r.Context()), &q); err != nil {
		return nil, err
	}
	out, err := explain.Access(a.config.Mesh.Snapshot(), q)
	if err != nil {
		return nil, failure(http.StatusBadRequest, client.ReasonBadRequest, "%s", err)
	}
	return out, nil
}

// withinReach lets operators of some namespaces ask about the services and gateways
// of those.
func withinReach(w *operator.Who, q *explain.AccessQuestion) error {
	q.Within = func(namespace string) bool { return w.May(operator.View, namespace) == nil }
	about := q.To
	if q.Gateway != "" {
		about = q.Gateway
	}
	if about == "" {
		return nil // those that are within
	}
	about, _, _ = strings.Cut(about, ":")
	_, namespace, ok := strings.Cut(about, ".")
	if !ok {
		namespace = object.DefaultNamespace
	}
	return w.May(operator.View, namespace)
}

// adoptionSignals is how far traffic has come; telemetry/query's Engine has it.
type adoptionSignals interface {
	Adoption(ctx context.Context, window time.Duration) (telemetry.Adoption, error)
}

// adoption answers GET /tulle/v1/adoption.
func (a *API) adoption(_ http.ResponseWriter, r *http.Request) (any, error) {
	d, err := a.window(r)
	if err != nil {
		return nil, err
	}
	s, ok := a.config.Signals.(adoptionSignals)
	if !ok {
		return nil, failure(http.StatusServiceUnavailable, client.ReasonUnavailable, "this control plane keeps no metrics")
	}
	out, err := s.Adoption(r.Context(), d)
	return adoptionWithin(operator.Of(r.Context()), out), err
}
