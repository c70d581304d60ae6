package query

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"tulle.dev/tulle/internal/telemetry"
	"tulle.dev/tulle/internal/telemetry/tsdb"
)

// The queries about routes, with the window for %s. Rates count from the first
// sample that a rule's counters have in the window, or the last before it.
const (
	queryRouteRequests = `sum by (direction, service, route, backend, status) (increase(tulle_route_requests_total{direction!="mirror"}[%s] anchored))`
	queryRouteBuckets  = `sum by (direction, service, route, backend, le) (increase(tulle_route_duration_seconds_bucket{direction!="mirror"}[%s] anchored))`
	queryRouteAnchor   = `min by (direction, service, route, backend) (timestamp(tulle_route_requests_total offset %s))`
	queryRouteFirst    = `min by (direction, service, route, backend) (ts_of_first_over_time(tulle_route_requests_total[%s]))`
	queryRouteLast     = `max by (direction, service, route, backend) (timestamp(tulle_route_requests_total))`
)

type routeKey struct{ direction, service, route, backend string }

func routeOf(labels map[string]string) routeKey {
	return routeKey{labels["direction"], labels["service"], labels["route"], labels["backend"]}
}

// Routes computes what each rule did over the window that ends now, by backend.
func (e *Engine) Routes(ctx context.Context, window time.Duration) (telemetry.Routes, error) {
	out := telemetry.Routes{Window: tsdb.FormatDuration(window), Routes: []telemetry.Route{}}
	if err := checkWindow(window); err != nil {
		return out, err
	}
	now := e.config.Now()
	width := tsdb.FormatDuration(window)
	answers := map[string]*tsdb.Value{queryRouteRequests: {}, queryRouteBuckets: {}, queryRouteAnchor: {}, queryRouteFirst: {}, queryRouteLast: {}}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(2)
	for text, answer := range answers {
		expr := strings.Replace(text, "%s", width, 1)
		group.Go(func() (err error) {
			if *answer, err = e.config.DB.Instant(groupCtx, expr, now); err != nil {
				return fmt.Errorf("figures of routes: %w", err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return out, err
	}
	out.Routes = routesOf(answers, now, window)
	return out, nil
}

func routesOf(answers map[string]*tsdb.Value, now time.Time, window time.Duration) []telemetry.Route {
	type figures struct {
		requests, failures float64
		buckets            map[float64]float64
	}
	all := map[routeKey]*figures{}
	at := func(labels map[string]string) *figures {
		k := routeOf(labels)
		if all[k] == nil {
			all[k] = &figures{buckets: map[float64]float64{}}
		}
		return all[k]
	}
	rules := map[routeKey]float64{} // requests of all backends
	for _, s := range answers[queryRouteRequests].Series {
		f, n := at(s.Labels), s.Points[0].V
		f.requests += n
		if s.Labels["status"] == "5xx" || s.Labels["status"] == "none" {
			f.failures += n
		}
		k := routeOf(s.Labels)
		k.backend = ""
		rules[k] += n
	}
	for _, s := range answers[queryRouteBuckets].Series {
		if le, err := strconv.ParseFloat(s.Labels["le"], 64); err == nil {
			at(s.Labels).buckets[le] += s.Points[0].V
		}
	}
	times := func(query string) map[routeKey]float64 {
		m := map[routeKey]float64{}
		for _, s := range answers[query].Series {
			m[routeOf(s.Labels)] = s.Points[0].V
		}
		return m
	}
	anchor, first, last := times(queryRouteAnchor), times(queryRouteFirst), times(queryRouteLast)
	list := []telemetry.Route{}
	for k, f := range all {
		r := telemetry.Route{Direction: k.direction, Service: k.service, Route: k.route, Backend: k.backend}
		if seconds := covered(k, anchor, first, last, now, window); seconds > 0 {
			r.RPS = number(f.requests / seconds)
		}
		if f.requests > 0 {
			r.SuccessRate = number((f.requests - f.failures) / f.requests)
			rule := k
			rule.backend = ""
			r.Share = number(f.requests / rules[rule])
		}
		q := tsdb.Quantiles(f.buckets, 0.5, 0.95, 0.99)
		r.Latency = telemetry.Latency{P50: number(q[0] * 1000), P95: number(q[1] * 1000), P99: number(q[2] * 1000)}
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b telemetry.Route) int {
		return cmp.Or(strings.Compare(a.Direction, b.Direction), strings.Compare(a.Service, b.Service), strings.Compare(a.Route, b.Route), strings.Compare(a.Backend, b.Backend))
	})
	return list
}

// covered is how many seconds of the window a series was followed for.
func covered(k routeKey, anchor, first, last map[routeKey]float64, now time.Time, window time.Duration) float64 {
	from, known := anchor[k]
	if !known {
		if from, known = first[k]; !known {
			return window.Seconds()
		}
	}
	to, known := last[k]
	if !known { // it ended within the window
		to = float64(now.UnixMilli()) / 1000
	}
	return max(to-from, 0)
}
