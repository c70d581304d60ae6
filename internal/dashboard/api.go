package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"tulle.dev/tulle/internal/control/api"
	"tulle.dev/tulle/internal/control/api/client"
	"tulle.dev/tulle/internal/control/operator"
	"tulle.dev/tulle/internal/telemetry"
)

func (d *Dashboard) serveOverview(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), gatherLimit)
	defer cancel()
	writeJSON(w, http.StatusOK, d.overview(ctx).scope(operator.Of(ctx)))
}

func (d *Dashboard) serveCheck(w http.ResponseWriter, r *http.Request) {
	answer(w, r, func(ctx context.Context) (any, error) {
		status, err := d.config.Mesh.Status(ctx)
		if err != nil {
			return nil, err
		}
		report, err := d.config.Mesh.Check(ctx)
		return map[string]any{"status": status, "report": api.Report(operator.Of(ctx), report)}, err
	})
}

func (d *Dashboard) serveStat(w http.ResponseWriter, r *http.Request) {
	answer(w, r, func(ctx context.Context) (any, error) {
		span, err := duration(r, "window", window)
		if err != nil {
			return nil, err
		}
		out, err := d.config.Signals.Stat(ctx, span)
		return api.Stat(operator.Of(ctx), out), err
	})
}

func (d *Dashboard) serveEdges(w http.ResponseWriter, r *http.Request) {
	answer(w, r, func(ctx context.Context) (any, error) {
		span, err := duration(r, "window", window)
		if err != nil {
			return nil, err
		}
		out, err := d.config.Signals.Edges(ctx, span)
		return api.Edges(operator.Of(ctx), out), err
	})
}

// serveService is one service: its ports with their endpoints, and its routes.
func (d *Dashboard) serveService(w http.ResponseWriter, r *http.Request) {
	answer(w, r, func(ctx context.Context) (any, error) {
		if err := within(ctx, r.PathValue("namespace")); err != nil {
			return nil, err
		}
		return d.config.Mesh.Endpoints(ctx, r.PathValue("name")+"."+r.PathValue("namespace"))
	})
}

// serveProxy is one proxy as the control plane sees it, and all it believes. A
// proxy that can't be asked is shown without.
func (d *Dashboard) serveProxy(w http.ResponseWriter, r *http.Request) {
	answer(w, r, func(ctx context.Context) (any, error) {
		namespace, name := r.PathValue("namespace"), r.PathValue("name")
		if err := within(ctx, namespace); err != nil {
			return nil, err
		}
		list, err := d.config.Mesh.Proxies(ctx)
		if err != nil {
			return nil, err
		}
		for _, p := range list {
			if p.Namespace != namespace || p.Name != name {
				continue
			}
			out := struct {
				Proxy   client.Proxy    `json:"proxy"`
				Dump    json.RawMessage `json:"dump,omitempty"`
				Problem string          `json:"problem,omitempty"`
			}{Proxy: p}
			if out.Dump, err = d.config.Mesh.ProxyDump(ctx, namespace, name); err != nil {
				out.Problem = err.Error()
			}
			return out, nil
		}
		return nil, &client.Status{Code: http.StatusNotFound, Reason: client.ReasonNotFound, Message: "no proxy " + name + " in namespace " + namespace + " has registered"}
	})
}

func (d *Dashboard) serveChart(w http.ResponseWriter, r *http.Request) {
	answer(w, r, func(ctx context.Context) (any, error) {
		span, err := duration(r, "range", 0)
		if err != nil {
			return nil, err
		}
		q := r.URL.Query()
		chart := telemetry.Chart{Subject: q.Get("subject"), Name: q.Get("chart"), Span: span, Of: telemetry.Peer{Name: q.Get("name"), Namespace: q.Get("namespace")}}
		all := chart.Subject == "services"
		if err := within(ctx, chart.Of.Namespace); err != nil && !all {
			return nil, err
		}
		out, err := d.config.Signals.Chart(ctx, chart)
		if err == nil && all {
			out = scopeSeries(operator.Of(ctx), out)
		}
		return out, err
	})
}

// duration reads a parameter such as "1m30s".
func duration(r *http.Request, name string, otherwise time.Duration) (time.Duration, error) {
	s := r.URL.Query().Get(name)
	if s == "" {
		return otherwise, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, &telemetry.InvalidError{Reason: name + " " + clip(s) + ": want a duration such as 30s, 1m or 1h"}
	}
	return d, nil
}

// answer runs one question within its time and writes what comes of it.
func answer(w http.ResponseWriter, r *http.Request, ask func(context.Context) (any, error)) {
	ctx, cancel := context.WithTimeout(r.Context(), answerLimit)
	defer cancel()
	data, err := ask(ctx)
	if err == nil {
		writeJSON(w, http.StatusOK, data)
		return
	}
	var status *client.Status
	var invalid *telemetry.InvalidError
	switch {
	case errors.As(err, &status) && status.Code >= 400:
		fail(w, status.Code, status.Error())
	case errors.As(err, &invalid):
		fail(w, http.StatusBadRequest, invalid.Error())
	case errors.Is(err, context.DeadlineExceeded):
		fail(w, http.StatusGatewayTimeout, "no answer within "+answerLimit.String())
	default:
		fail(w, http.StatusBadGateway, err.Error())
	}
}

func writeJSON(w http.ResponseWriter, code int, data any) {
	body, err := json.Marshal(data)
	if err != nil {
		code, body = http.StatusInternalServerError, []byte(`{"error":"the answer can't be encoded"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write(body)
}

// fail answers {"error": REASON}.
func fail(w http.ResponseWriter, code int, reason string) {
	writeJSON(w, code, map[string]string{"error": reason})
}
