package dashboard

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"

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
	if w.May(operator.View, "") == nil {
		return ""
	}
	list := slices.Clone(w.Namespaces)
	slices.Sort(list)
	return "," + strings.Join(list, ",")
}

func scopeStat(w *operator.Who, s telemetry.Stat) telemetry.Stat {
	s.Services = only(s.Services, func(v telemetry.Service) bool { return w.May(operator.View, v.Namespace) == nil })
	return s
}

// scopeEdges keeps the calls from and to the caller's namespaces.
func scopeEdges(w *operator.Who, e telemetry.Edges) telemetry.Edges {
	e.Edges = only(e.Edges, func(v telemetry.Edge) bool {
		return w.May(operator.View, v.From.Namespace) == nil || w.May(operator.View, v.To.Namespace) == nil
	})
	return e
}

// scopeSeries keeps the lines of the caller's services, which are named
// "cart.default".
func scopeSeries(w *operator.Who, s telemetry.Series) telemetry.Series {
	if w.May(operator.View, "") == nil {
		return s
	}
	s.Lines = only(s.Lines, func(l telemetry.Line) bool {
		_, namespace, ok := strings.Cut(l.Name, ".")
		return ok && w.May(operator.View, namespace) == nil
	})
	return s
}

// scopeReport keeps what was found, and tells no names of it.
func scopeReport(w *operator.Who, r *client.CheckReport) *client.CheckReport {
	if r == nil || w.May(operator.View, "") == nil {
		return r
	}
	out := *r
	out.Checks = slices.Clone(r.Checks)
	for i := range out.Checks {
		if c := &out.Checks[i]; c.Error != "" || c.Hint != "" {
			c.Error, c.Hint = "what it is may be told to operators of the whole mesh only", ""
		}
	}
	return &out
}

// scope is the part of an overview that somebody sees.
func (o *overview) scope(w *operator.Who) *overview {
	if w.May(operator.View, "") == nil {
		return o
	}
	out := *o
	out.Services = only(o.Services, func(s service) bool { return w.May(operator.View, s.Namespace) == nil })
	out.Proxies = only(o.Proxies, func(p client.Proxy) bool { return w.May(operator.View, p.Namespace) == nil })
	if o.Stat != nil {
		s := scopeStat(w, *o.Stat)
		out.Stat = &s
	}
	if o.Edges != nil {
		e := scopeEdges(w, *o.Edges)
		out.Edges = &e
	}
	return &out
}

// only returns a new list of some of a list, never nil.
func only[T any](list []T, keep func(T) bool) []T {
	out := []T{}
	for _, v := range list {
		if keep(v) {
			out = append(out, v)
		}
	}
	return out
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
