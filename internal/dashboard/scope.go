package dashboard

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"

	"tulle.dev/tulle/internal/control/api"
	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/operator"
	"tulle.dev/tulle/internal/telemetry"
)

// This file is what an operator of some namespaces sees: those.

// whole answers what is about all namespaces to nobody who is for some.
func whole(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := operator.Of(r.Context()).May(operator.View, ""); err != nil {
			fail(w, http.StatusForbidden, err.Error())
			return
		}
		next.ServeHTTP(w, r)
	})
}

// within is nil when the caller may see a namespace.
func within(ctx context.Context, namespace string) error {
	if err := operator.Of(ctx).May(operator.View, namespace); err != nil {
		return &client.Status{Code: http.StatusForbidden, Reason: client.ReasonForbidden, Message: err.Error()}
	}
	return nil
}

// scopeKey is the same for all who see the same.
func scopeKey(w *operator.Who) string {
	if w.Whole() {
		return ""
	}
	list := slices.Clone(w.Namespaces)
	slices.Sort(list)
	return "," + strings.Join(list, ",")
}

// scopeSeries keeps the lines of the caller's services, which are named
// "cart.default".
func scopeSeries(w *operator.Who, s telemetry.Series) telemetry.Series {
	s.Lines = operator.Within(w, s.Lines, func(l *telemetry.Line) []string {
		_, namespace, _ := strings.Cut(l.Name, ".")
		return []string{namespace}
	})
	return s
}

// scope is the part of an overview that somebody sees.
func (o *overview) scope(w *operator.Who) *overview {
	if w.Whole() {
		return o
	}
	out := *o
	out.Services = operator.Within(w, o.Services, func(s *service) []string { return []string{s.Namespace} })
	out.Proxies = api.Proxies(w, o.Proxies)
	if o.Stat != nil {
		s := api.Stat(w, *o.Stat)
		out.Stat = &s
	}
	if o.Edges != nil {
		e := api.Edges(w, *o.Edges)
		out.Edges = &e
	}
	return &out
}

// event is one overview, as each kind of viewer sees it. Safe for concurrent use.
type event struct {
	whole *overview

	mu sync.Mutex
	as map[string][]byte // by scopeKey
}

// bytes is the event for a viewer; what was made for one is for all who see the
// same.
func (e *event) bytes(w *operator.Who) []byte {
	k := scopeKey(w)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.as[k] == nil {
		if e.as == nil {
			e.as = map[string][]byte{}
		}
		body, err := json.Marshal(e.whole.scope(w))
		if err != nil {
			body = []byte(`{"problems":["the overview can't be encoded"]}`)
		}
		e.as[k] = body
	}
	return e.as[k]
}
