package query

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"time"

	"tulle.dev/tulle/internal/telemetry/tsdb"
)

// Bounds of the Prometheus API.
const (
	maxForm   = 1 << 20 // bytes of a POSTed form
	maxPoints = 11_000  // of one series in a range query, as Prometheus has it
	// statusClientClosed is what Prometheus answers when the client went.
	statusClientClosed = 499
)

// Handler serves the parts of Prometheus' HTTP API under /api/v1/ that Grafana
// needs of a data source of the type Prometheus: query, query_range, labels,
// label/NAME/values, series, metadata, format_query, status/buildinfo, and empty
// answers for rules, alerts and exemplars. Access is the caller's to check.
func (e *Engine) Handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(path string, answer func(*http.Request) (any, []string, error), methods ...string) {
		for _, method := range methods {
			mux.HandleFunc(method+" /api/v1/"+path, func(w http.ResponseWriter, r *http.Request) {
				r.Body = http.MaxBytesReader(w, r.Body, maxForm)
				if err := r.ParseForm(); err != nil {
					respond(w, nil, nil, bad("error parsing form values: %w", err))
					return
				}
				data, warnings, err := answer(r)
				respond(w, data, warnings, err)
			})
		}
	}
	handle("query", e.serveQuery, "GET", "POST")
	handle("query_range", e.serveRange, "GET", "POST")
	handle("format_query", e.serveFormat, "GET", "POST")
	handle("labels", e.serveLabels, "GET", "POST")
	handle("label/{name}/values", e.serveLabelValues, "GET")
	handle("series", e.serveSeries, "GET", "POST")
	handle("metadata", e.serveMetadata, "GET")
	handle("status/buildinfo", e.serveBuildInfo, "GET")
	handle("query_exemplars", always([]any{}), "GET", "POST")
	handle("rules", always(map[string]any{"groups": []any{}}), "GET")
	handle("alerts", always(map[string]any{"alerts": []any{}}), "GET")
	mux.HandleFunc("/api/v1/", func(w http.ResponseWriter, r *http.Request) {
		respond(w, nil, nil, &notFound{r.Method, r.URL.Path})
	})
	return mux
}

type notFound struct{ method, path string }

func (e *notFound) Error() string {
	return e.method + " " + e.path + " is not served; Tulle answers the part of the API that Grafana asks of a data source"
}

func always(data any) func(*http.Request) (any, []string, error) {
	return func(*http.Request) (any, []string, error) { return data, nil, nil }
}

type envelope struct {
	Status    string   `json:"status"`
	Data      any      `json:"data,omitempty"`
	ErrorType string   `json:"errorType,omitempty"`
	Error     string   `json:"error,omitempty"`
	Warnings  []string `json:"warnings,omitempty"`
	Infos     []string `json:"infos,omitempty"`
}

func respond(w http.ResponseWriter, data any, warnings []string, err error) {
	out := envelope{Status: "success", Data: data, Warnings: warnings}
	code := http.StatusOK
	if v, ok := data.(tsdb.Value); ok {
		out.Warnings, out.Infos = v.Warnings, v.Infos
	}
	if err != nil {
		out = envelope{Status: "error", Error: err.Error()}
		out.ErrorType, code = faultOf(err)
	}
	body, err := json.Marshal(out)
	if err != nil {
		code = http.StatusInternalServerError
		body = []byte(`{"status":"error","errorType":"internal","error":"the answer can't be encoded"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(body)
}

func faultOf(err error) (string, int) {
	var missing *notFound
	if errors.As(err, &missing) {
		return "not_found", http.StatusNotFound
	}
	var fault *tsdb.Error
	if !errors.As(err, &fault) {
		return string(tsdb.Internal), http.StatusInternalServerError
	}
	code := map[tsdb.Fault]int{
		tsdb.BadData:   http.StatusBadRequest,
		tsdb.Execution: http.StatusUnprocessableEntity,
		tsdb.Timeout:   http.StatusServiceUnavailable,
		tsdb.Canceled:  statusClientClosed,
		tsdb.Internal:  http.StatusInternalServerError,
	}[fault.Fault]
	return string(fault.Fault), code
}

// bad is an error of the asker.
func bad(format string, args ...any) error {
	return &tsdb.Error{Fault: tsdb.BadData, Err: fmt.Errorf(format, args...)}
}

func (e *Engine) serveQuery(r *http.Request) (any, []string, error) {
	at, err := timeParam(r, "time", e.config.Now())
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel, err := queryContext(r)
	if err != nil {
		return nil, nil, err
	}
	defer cancel()
	limit, err := limitParam(r)
	if err != nil {
		return nil, nil, err
	}
	v, err := e.config.DB.Instant(ctx, r.Form.Get("query"), at)
	return limited(v, limit), nil, err
}

func (e *Engine) serveRange(r *http.Request) (any, []string, error) {
	start, err := parseTime(r.Form.Get("start"))
	if err != nil {
		return nil, nil, bad("invalid parameter %q: %w", "start", err)
	}
	end, err := parseTime(r.Form.Get("end"))
	if err != nil {
		return nil, nil, bad("invalid parameter %q: %w", "end", err)
	}
	if end.Before(start) {
		return nil, nil, bad("invalid parameter %q: end timestamp must not be before start time", "end")
	}
	step, err := parseDuration(r.Form.Get("step"))
	if err != nil {
		return nil, nil, bad("invalid parameter %q: %w", "step", err)
	}
	if step <= 0 {
		return nil, nil, bad("invalid parameter %q: zero or negative query resolution step widths are not accepted. Try a positive integer", "step")
	}
	if end.Sub(start)/step > maxPoints {
		return nil, nil, bad("exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)")
	}
	limit, err := limitParam(r)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel, err := queryContext(r)
	if err != nil {
		return nil, nil, err
	}
	defer cancel()
	v, err := e.config.DB.Range(ctx, r.Form.Get("query"), start, end, step)
	return limited(v, limit), nil, err
}

// limited cuts an answer to a count of series, with a warning.
func limited(v tsdb.Value, limit int) tsdb.Value {
	if limit > 0 && (v.Kind == tsdb.Vector || v.Kind == tsdb.Matrix) && len(v.Series) > limit {
		v.Series = v.Series[:limit]
		v.Warnings = append(v.Warnings, "results truncated due to limit")
	}
	return v
}

func (e *Engine) serveFormat(r *http.Request) (any, []string, error) {
	text, err := e.config.DB.Format(r.Form.Get("query"))
	return text, nil, err
}

func (e *Engine) serveLabels(r *http.Request) (any, []string, error) {
	start, end, limit, err := e.span(r)
	if err != nil {
		return nil, nil, err
	}
	names, err := e.config.DB.LabelNames(r.Context(), start, end, r.Form["match[]"], limit)
	return names.List, names.Warnings, err
}

func (e *Engine) serveLabelValues(r *http.Request) (any, []string, error) {
	name := r.PathValue("name")
	if !tsdb.ValidLabelName(name) {
		return nil, nil, bad("invalid label name: %q", name)
	}
	start, end, limit, err := e.span(r)
	if err != nil {
		return nil, nil, err
	}
	names, err := e.config.DB.LabelValues(r.Context(), name, start, end, r.Form["match[]"], limit)
	return names.List, names.Warnings, err
}

func (e *Engine) serveSeries(r *http.Request) (any, []string, error) {
	if len(r.Form["match[]"]) == 0 {
		return nil, nil, bad("no match[] parameter provided")
	}
	start, end, limit, err := e.span(r)
	if err != nil {
		return nil, nil, err
	}
	list, warnings, err := e.config.DB.SeriesMatching(r.Context(), start, end, r.Form["match[]"], limit)
	return list, warnings, err
}

func (e *Engine) serveMetadata(r *http.Request) (any, []string, error) {
	limit := -1
	if s := r.Form.Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			return nil, nil, bad("limit must be a number")
		}
		limit = n
	}
	metric := r.Form.Get("metric")
	out := make(map[string][]tsdb.Family)
	for name, family := range e.config.DB.Families() {
		if limit >= 0 && len(out) >= limit {
			break
		}
		if metric == "" || metric == name {
			out[name] = []tsdb.Family{family}
		}
	}
	return out, nil, nil
}

// apiVersion is the Prometheus whose API this is: Grafana looks at it to know
// which parameters it may use.
const apiVersion = "3.16.0"

func (e *Engine) serveBuildInfo(*http.Request) (any, []string, error) {
	return map[string]string{
		"version": apiVersion, "revision": "tulle " + e.config.Version, "branch": "", "buildUser": "", "buildDate": "",
		"goVersion": runtime.Version(),
	}, nil, nil
}

func (e *Engine) span(r *http.Request) (start, end time.Time, limit int, err error) {
	if limit, err = limitParam(r); err != nil {
		return
	}
	if start, err = timeParam(r, "start", time.UnixMilli(0)); err != nil {
		return
	}
	if end, err = timeParam(r, "end", e.config.Now().Add(time.Hour)); err != nil {
		return
	}
	if end.Before(start) {
		err = bad("invalid parameter %q: end timestamp must not be before start time", "end")
	}
	return
}

func limitParam(r *http.Request) (int, error) {
	s := r.Form.Get("limit")
	if s == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, bad("invalid parameter %q: %w", "limit", err)
	}
	if n < 0 {
		return 0, bad("invalid parameter %q: limit must be non-negative", "limit")
	}
	return n, nil
}

// queryContext ends with the request or with its own parameter timeout.
func queryContext(r *http.Request) (context.Context, context.CancelFunc, error) {
	s := r.Form.Get("timeout")
	if s == "" {
		ctx, cancel := context.WithCancel(r.Context())
		return ctx, cancel, nil
	}
	d, err := parseDuration(s)
	if err != nil {
		return nil, nil, bad("invalid parameter %q: %w", "timeout", err)
	}
	if d <= 0 {
		return nil, nil, bad("invalid parameter %q: timeout must be positive, got %s", "timeout", d)
	}
	ctx, cancel := context.WithTimeout(r.Context(), d)
	return ctx, cancel, nil
}

func timeParam(r *http.Request, name string, otherwise time.Time) (time.Time, error) {
	s := r.Form.Get(name)
	if s == "" {
		return otherwise, nil
	}
	t, err := parseTime(s)
	if err != nil {
		return time.Time{}, bad("invalid parameter %q: %w", name, err)
	}
	return t, nil
}

// parseTime reads Unix seconds, with a fraction, or RFC 3339.
func parseTime(s string) (time.Time, error) {
	if v, err := strconv.ParseFloat(s, 64); err == nil && math.Abs(v) < 1<<43 {
		return time.UnixMilli(int64(math.Round(v * 1000))), nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, nil
	}
	return time.Time{}, fmt.Errorf("cannot parse %q to a valid timestamp", s)
}

// parseDuration reads seconds, with a fraction, or a duration such as "1m".
func parseDuration(s string) (time.Duration, error) {
	if v, err := strconv.ParseFloat(s, 64); err == nil {
		if ns := v * float64(time.Second); !math.IsNaN(ns) && math.Abs(ns) < math.MaxInt64 {
			return time.Duration(ns), nil
		}
		return 0, fmt.Errorf("cannot parse %q to a valid duration. It overflows int64", s)
	}
	if d, err := tsdb.ParseDuration(strings.TrimSpace(s)); err == nil {
		return d, nil
	}
	return 0, fmt.Errorf("cannot parse %q to a valid duration", s)
}
