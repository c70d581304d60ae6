package tsdb

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
)

// Fault is why a query has no answer, in the words of Prometheus' HTTP API.
type Fault string

// The faults.
const (
	BadData   Fault = "bad_data"  // the query makes no sense
	Execution Fault = "execution" // it failed while running
	Timeout   Fault = "timeout"
	Canceled  Fault = "canceled"
	Internal  Fault = "internal" // the database failed
)

// Error is a query's fault and what was wrong.
type Error struct {
	Fault Fault
	Err   error
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap gives the error beneath.
func (e *Error) Unwrap() error { return e.Err }

// Instant evaluates a PromQL expression at one time. Errors are *Error.
func (db *DB) Instant(ctx context.Context, expr string, at time.Time) (Value, error) {
	return db.run(ctx, func() (promql.Query, error) {
		return db.engine.NewInstantQuery(ctx, db.db, nil, expr, at)
	})
}

// Range evaluates a PromQL expression at start, start+step, … up to end.
// Errors are *Error.
func (db *DB) Range(ctx context.Context, expr string, start, end time.Time, step time.Duration) (Value, error) {
	return db.run(ctx, func() (promql.Query, error) {
		return db.engine.NewRangeQuery(ctx, db.db, nil, expr, start, end, step)
	})
}

func (db *DB) run(ctx context.Context, begin func() (promql.Query, error)) (Value, error) {
	select {
	case db.slots <- struct{}{}:
		defer func() { <-db.slots }()
	case <-ctx.Done():
		return Value{}, &Error{Canceled, ctx.Err()}
	}
	q, err := begin()
	if err != nil {
		return Value{}, &Error{BadData, fmt.Errorf("invalid parameter %q: %w", "query", err)}
	}
	defer q.Close()
	r := q.Exec(ctx)
	if r.Err != nil {
		return Value{}, &Error{faultOf(r.Err), r.Err}
	}
	v := convert(r.Value)
	v.Warnings, v.Infos = r.Warnings.AsStrings(q.String(), 10, 10)
	return v, nil
}

func faultOf(err error) Fault {
	var canceled promql.ErrQueryCanceled
	var timeout promql.ErrQueryTimeout
	var store promql.ErrStorage
	switch {
	case errors.As(err, &canceled), errors.Is(err, context.Canceled):
		return Canceled
	case errors.As(err, &timeout), errors.Is(err, context.DeadlineExceeded):
		return Timeout
	case errors.As(err, &store):
		return Internal
	}
	return Execution
}

// convert copies out of the engine's memory, which the query takes back.
func convert(v parser.Value) Value {
	switch v := v.(type) {
	case promql.Vector:
		out := Value{Kind: Vector, Series: make([]Series, 0, len(v))}
		for _, s := range v {
			if s.H == nil { // native histograms: Tulle stores none
				out.Series = append(out.Series, Series{s.Metric.Map(), []Point{{s.T, s.F}}})
			}
		}
		return out
	case promql.Matrix:
		out := Value{Kind: Matrix, Series: make([]Series, 0, len(v))}
		for _, s := range v {
			points := make([]Point, len(s.Floats))
			for i, p := range s.Floats {
				points[i] = Point{p.T, p.F}
			}
			out.Series = append(out.Series, Series{s.Metric.Map(), points})
		}
		return out
	case promql.Scalar:
		return Value{Kind: Scalar, Series: []Series{{nil, []Point{{v.T, v.V}}}}}
	case promql.String:
		return Value{Kind: Text, Text: v.V, Series: []Series{{nil, []Point{{T: v.T}}}}}
	}
	return Value{Kind: Vector}
}

// Quantiles reads quantiles (0 to 1) off a histogram's cumulative counts by their
// upper bounds, +Inf included, as PromQL's histogram_quantile does: spread evenly
// within a bucket. They are NaN without observations.
func Quantiles(cumulative map[float64]float64, quantiles ...float64) []float64 {
	buckets := make(promql.Buckets, 0, len(cumulative))
	for bound, n := range cumulative {
		buckets = append(buckets, promql.Bucket{UpperBound: bound, Count: n})
	}
	out := make([]float64, len(quantiles))
	for i, q := range quantiles {
		out[i], _, _, _, _, _ = promql.BucketQuantile(q, buckets)
	}
	return out
}

// Format writes a PromQL expression the standard way. Errors are *Error.
func (db *DB) Format(expr string) (string, error) {
	e, err := db.parser.ParseExpr(expr)
	if err != nil {
		return "", &Error{BadData, fmt.Errorf("invalid parameter %q: %w", "query", err)}
	}
	return e.Pretty(0), nil
}

// ParseDuration reads a duration as Prometheus writes it, such as "1m30s".
func ParseDuration(s string) (time.Duration, error) {
	d, err := model.ParseDuration(s)
	return time.Duration(d), err
}

// FormatDuration writes a duration as Prometheus does: "1m", not "1m0s".
func FormatDuration(d time.Duration) string { return model.Duration(d).String() }

// ValidLabelName reports whether a label may have this name.
func ValidLabelName(name string) bool { return model.UTF8Validation.IsValidLabelName(name) }

// Names is a list of strings, in order, with the store's warnings.
type Names struct {
	List     []string
	Warnings []string
}

// LabelNames lists the labels of series with samples between two times that
// match any of the selectors (all series when there are none), at most limit
// (no bound when 0). Errors are *Error.
func (db *DB) LabelNames(ctx context.Context, start, end time.Time, selectors []string, limit int) (Names, error) {
	return db.names(start, end, selectors, limit, func(q storage.Querier, m []*labels.Matcher) ([]string, annotations.Annotations, error) {
		return q.LabelNames(ctx, nil, m...)
	})
}

// LabelValues lists the values of one label, as LabelNames does.
func (db *DB) LabelValues(ctx context.Context, name string, start, end time.Time, selectors []string, limit int) (Names, error) {
	return db.names(start, end, selectors, limit, func(q storage.Querier, m []*labels.Matcher) ([]string, annotations.Annotations, error) {
		return q.LabelValues(ctx, name, nil, m...)
	})
}

func (db *DB) names(start, end time.Time, selectors []string, limit int,
	list func(storage.Querier, []*labels.Matcher) ([]string, annotations.Annotations, error),
) (Names, error) {
	sets, err := db.matchers(selectors)
	if err != nil {
		return Names{}, err
	}
	if len(sets) == 0 {
		sets = append(sets, nil)
	}
	q, err := db.db.Querier(start.UnixMilli(), end.UnixMilli())
	if err != nil {
		return Names{}, &Error{Internal, err}
	}
	defer q.Close()
	all := map[string]bool{}
	var out Names
	for _, m := range sets {
		names, notes, err := list(q, m)
		if err != nil {
			return Names{}, &Error{Execution, err}
		}
		w, _ := notes.AsStrings("", 10, 0)
		out.Warnings = append(out.Warnings, w...)
		for _, n := range names {
			all[n] = true
		}
	}
	out.List = slices.Sorted(maps.Keys(all))
	if out.List == nil {
		out.List = []string{}
	}
	if limit > 0 && len(out.List) > limit {
		out.List = out.List[:limit]
		out.Warnings = append(out.Warnings, "results truncated due to limit")
	}
	return out, nil
}

// maxSeriesListed bounds what SeriesMatching returns.
const maxSeriesListed = 100_000

// SeriesMatching lists the label sets of series with samples between two times
// that match any of the selectors, at most limit. Errors are *Error.
func (db *DB) SeriesMatching(ctx context.Context, start, end time.Time, selectors []string, limit int) ([]map[string]string, []string, error) {
	sets, err := db.matchers(selectors)
	if err != nil {
		return nil, nil, err
	}
	q, err := db.db.Querier(start.UnixMilli(), end.UnixMilli())
	if err != nil {
		return nil, nil, &Error{Internal, err}
	}
	defer q.Close()
	if limit <= 0 || limit > maxSeriesListed {
		limit = maxSeriesListed
	}
	hints := &storage.SelectHints{Start: start.UnixMilli(), End: end.UnixMilli(), Func: "series"}
	var chosen []storage.SeriesSet
	for _, m := range sets {
		chosen = append(chosen, q.Select(ctx, true, hints, m...))
	}
	merged := storage.NewMergeSeriesSet(chosen, 0, storage.ChainedSeriesMerge)
	list := []map[string]string{}
	for merged.Next() {
		if len(list) >= limit {
			return list, []string{"results truncated due to limit"}, nil
		}
		list = append(list, merged.At().Labels().Map())
	}
	if err := merged.Err(); err != nil {
		return nil, nil, &Error{Execution, err}
	}
	warnings, _ := merged.Warnings().AsStrings("", 10, 0)
	return list, warnings, nil
}

func (db *DB) matchers(selectors []string) ([][]*labels.Matcher, error) {
	sets, err := db.parser.ParseMetricSelectors(selectors)
	if err != nil {
		return nil, &Error{BadData, fmt.Errorf("invalid parameter %q: %w", "match[]", err)}
	}
	for _, set := range sets {
		if !slices.ContainsFunc(set, func(m *labels.Matcher) bool { return !m.Matches("") }) {
			return nil, &Error{BadData, errors.New("match[] must contain at least one non-empty matcher")}
		}
	}
	return sets, nil
}

// Families tells the type and help of the metrics that were scraped.
func (db *DB) Families() map[string]Family {
	db.mu.RLock()
	defer db.mu.RUnlock()
	return maps.Clone(db.families)
}
