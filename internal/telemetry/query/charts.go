package query

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"tulle.dev/tulle/internal/telemetry"
	"tulle.dev/tulle/internal/telemetry/tsdb"
)

// Bounds of charts.
const (
	// DefaultChartSpan is how far back a chart goes.
	DefaultChartSpan = 15 * time.Minute
	// MaxChartSpan is the farthest.
	MaxChartSpan = 24 * time.Hour

	chartPoints = 180             // about as many as a chart has room for
	minStep     = 5 * time.Second // two scrapes and a half
	minRate     = 15 * time.Second
)

// line is one expression of a chart. %s stands for the selector of the subject,
// without braces, and %w for the span that rates are taken over.
type line struct {
	name string
	expr string
	// scale multiplies the values (1 when zero): milliseconds from seconds.
	scale float64
	// by is the label that makes several lines of one expression.
	by string
}

// A service is seen by its own proxies, or by its callers' when it has none.
func seenBy(f string) string {
	return "(" + strings.ReplaceAll(f, "%d", `direction="inbound"`) + ") or (" + strings.ReplaceAll(f, "%d", `direction!~"inbound|mirror"`) + ")"
}

func quantile(q, selector string) string {
	return `histogram_quantile(` + q + `, sum by (le) (rate(tulle_request_duration_seconds_bucket{` + selector + `}[%w])))`
}

// charts by subject and name.
var charts = map[string]map[string][]line{
	"service": {
		"requests": {
			{name: "success", expr: seenBy(`sum(rate(tulle_requests_total{%s,%d,status!~"5.."}[%w])) or 0 * sum(rate(tulle_requests_total{%s,%d}[%w]))`)},
			{name: "failure", expr: seenBy(`sum(rate(tulle_requests_total{%s,%d,status=~"5.."}[%w])) or 0 * sum(rate(tulle_requests_total{%s,%d}[%w]))`)},
		},
		"success_rate": {
			{name: "success_rate", expr: seenBy(`sum(rate(tulle_requests_total{%s,%d,status!~"5.."}[%w])) / (sum(rate(tulle_requests_total{%s,%d}[%w])) > 0)`)},
		},
		"latency": {
			{name: "p50", expr: seenBy(quantile("0.5", "%s,%d")), scale: 1000},
			{name: "p95", expr: seenBy(quantile("0.95", "%s,%d")), scale: 1000},
			{name: "p99", expr: seenBy(quantile("0.99", "%s,%d")), scale: 1000},
		},
		"bytes": {
			{name: "received", expr: seenBy(`sum(rate(tulle_received_bytes_total{%s,%d}[%w]))`)},
			{name: "sent", expr: seenBy(`sum(rate(tulle_sent_bytes_total{%s,%d}[%w]))`)},
		},
		"connections": {
			{name: "open", expr: seenBy(`sum(tulle_connections_open{%s,%d})`)},
		},
	},
	"services": { // all services at once: lines by label "host", NAME.NAMESPACE
		"requests": {
			{name: "requests", by: "host", expr: `sum by (host) (label_replace(rate(tulle_requests_total{direction="inbound"}[%w]), "host", "$1", "service", "([^:]+).*"))` +
				` or sum by (host) (label_replace(rate(tulle_requests_total{direction!~"inbound|mirror"}[%w]), "host", "$1", "service", "([^:]+).*"))`},
		},
	},
	"proxy": {
		"requests": {
			{name: "requests", by: "direction", expr: `sum by (direction) (rate(tulle_requests_total{%s}[%w]))`},
		},
		"latency": {
			{name: "p50", expr: quantile("0.5", "%s"), scale: 1000},
			{name: "p95", expr: quantile("0.95", "%s"), scale: 1000},
			{name: "p99", expr: quantile("0.99", "%s"), scale: 1000},
		},
		"connections": {
			{name: "connections", by: "direction", expr: `sum by (direction) (tulle_connections_open{%s})`},
		},
		"memory": {
			{name: "resident", expr: `process_resident_memory_bytes{%s}`},
		},
		"cpu": {
			{name: "cpu", expr: `rate(process_cpu_seconds_total{%s}[%w])`},
		},
	},
}

// Chart computes the lines of a chart that ends now. A request that makes no
// sense gets a *telemetry.InvalidError.
func (e *Engine) Chart(ctx context.Context, r telemetry.Chart) (telemetry.Series, error) {
	lines := charts[r.Subject][r.Name]
	if lines == nil {
		return telemetry.Series{}, invalid("chart %q of a %q: want one of %s", r.Name, r.Subject, known())
	}
	if r.Span == 0 {
		r.Span = DefaultChartSpan
	}
	if r.Span < time.Minute || r.Span > MaxChartSpan {
		return telemetry.Series{}, invalid("range %s: want 1m to %s", tsdb.FormatDuration(r.Span), tsdb.FormatDuration(MaxChartSpan))
	}
	step := max(minStep, (r.Span / chartPoints).Truncate(time.Second))
	// Points lie on multiples of the step, so that the next answer agrees with
	// this one where they overlap.
	end := e.config.Now().Truncate(step)
	start := end.Add(-r.Span.Truncate(step))
	fill := strings.NewReplacer("%s", selector(r), "%w", tsdb.FormatDuration(max(minRate, 2*step)))

	out := telemetry.Series{Times: []float64{}, Lines: []telemetry.Line{}}
	for t := start; !t.After(end); t = t.Add(step) {
		out.Times = append(out.Times, float64(t.Unix()))
	}
	for _, l := range lines {
		v, err := e.config.DB.Range(ctx, fill.Replace(l.expr), start, end, step)
		if err != nil {
			return telemetry.Series{}, fmt.Errorf("chart %s: %w", r.Name, err)
		}
		for _, s := range v.Series {
			out.Lines = append(out.Lines, l.place(s, start, step, len(out.Times)))
		}
		if len(v.Series) == 0 && l.by == "" {
			out.Lines = append(out.Lines, telemetry.Line{Name: l.name, Values: make([]*float64, len(out.Times))})
		}
	}
	return out, nil
}

// place puts a series' points at their times; where it has none is null.
func (l line) place(s tsdb.Series, start time.Time, step time.Duration, n int) telemetry.Line {
	out := telemetry.Line{Name: l.name, Values: make([]*float64, n)}
	if l.by != "" {
		out.Name = s.Labels[l.by]
	}
	scale := l.scale
	if scale == 0 {
		scale = 1
	}
	for _, p := range s.Points {
		if i := int((p.T - start.UnixMilli()) / step.Milliseconds()); i >= 0 && i < n {
			out.Values[i] = number(p.V * scale)
		}
	}
	return out
}

// selector is the label matchers of a chart's subject.
func selector(c telemetry.Chart) string {
	switch c.Subject {
	case "service":
		return "service=~" + strconv.Quote(regexp.QuoteMeta(c.Of.String())+"(:.*)?")
	case "proxy":
		return "proxy=" + strconv.Quote(c.Of.Name) + ",namespace=" + strconv.Quote(c.Of.Namespace)
	}
	return ""
}

func known() string {
	var list []string
	for subject, of := range charts {
		for chart := range maps.Keys(of) {
			list = append(list, subject+"/"+chart)
		}
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

func invalid(format string, args ...any) error {
	return &telemetry.InvalidError{Reason: fmt.Sprintf(format, args...)}
}
