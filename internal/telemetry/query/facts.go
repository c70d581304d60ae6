package query

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"tulle.dev/tulle/internal/telemetry"
	"tulle.dev/tulle/internal/telemetry/tsdb"
)

// facts is what the counters say about one window.
type facts struct {
	services map[telemetry.Peer]*service
	edges    map[pair]*tally
}

// pair is one caller and one service. A caller without a name is outside the mesh.
type pair struct{ from, to telemetry.Peer }

// The queries, with the window for %s. Copies of requests (mirrors) are nobody's
// traffic. `anchored` counts from the last sample
// before the window, without extrapolation: whole requests.
const (
	queryRequests = `sum by (direction, service, proxy, namespace, peer, tls, status) (increase(tulle_requests_total{direction!="mirror"}[%s] anchored))`
	queryOpened   = `sum by (direction, service, proxy, namespace, peer, tls) (increase(tulle_connections_total{protocol="tcp",direction!="mirror"}[%s] anchored))`
	queryReceived = `sum by (direction, service, proxy, namespace, peer) (increase(tulle_received_bytes_total{direction!="mirror"}[%s] anchored))`
	querySent     = `sum by (direction, service, proxy, namespace, peer) (increase(tulle_sent_bytes_total{direction!="mirror"}[%s] anchored))`
	// Open connections don't say what is spoken on them: those beside which
	// opaque TCP was counted are TCP, since a service port speaks one protocol.
	queryOpen = `sum by (direction, service, proxy, namespace, peer, tls) (tulle_connections_open and ignoring (protocol) tulle_connections_total{protocol="tcp"})`

	queryBuckets = `sum by (direction, service, proxy, namespace, peer, le) (increase(tulle_request_duration_seconds_bucket{direction!="mirror"}[%s] anchored))`

	// The samples that counting begins and ends with, of each service and
	// direction: how many seconds were counted. Where there is none before the
	// window (anchor), counting begins with the first in it.
	queryAnchor = `min by (direction, service) (timestamp({__name__=~"tulle_requests_total|tulle_connections_total"} offset %s))`
	queryFirst  = `min by (direction, service) (ts_of_first_over_time({__name__=~"tulle_requests_total|tulle_connections_total"}[%s]))`
	queryLast   = `max by (direction, service) (timestamp({__name__=~"tulle_requests_total|tulle_connections_total"}))`
)

// facts asks all of it at one time and adds it up.
func (e *Engine) facts(ctx context.Context, window time.Duration) (*facts, error) {
	if err := checkWindow(window); err != nil {
		return nil, err
	}
	now := e.config.Now()
	width := tsdb.FormatDuration(window)
	answers := map[string]*tsdb.Value{
		queryRequests: {}, queryOpened: {}, queryReceived: {}, querySent: {}, queryOpen: {},
		queryBuckets: {}, queryAnchor: {}, queryFirst: {}, queryLast: {},
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(2)
	for text, answer := range answers {
		expr := strings.Replace(text, "%s", width, 1)
		group.Go(func() (err error) {
			*answer, err = e.config.DB.Instant(groupCtx, expr, now)
			if err != nil {
				return fmt.Errorf("golden signals: %w", err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	f := &facts{services: make(map[telemetry.Peer]*service), edges: make(map[pair]*tally)}
	f.count(answers)
	f.latencies(answers)
	f.cover(answers, now, window)
	return f, nil
}

// tallies are where a series' value belongs: its service's side, and its edge.
// Inbound makes an edge only for callers without an identity: of the others,
// their own proxies tell.
func (f *facts) tallies(labels map[string]string) []*tally {
	to, ok := called(labels)
	if !ok {
		return nil
	}
	list := make([]*tally, 0, 2)
	s := new(service)
	if known := f.services[to]; known != nil {
		s = known
	} else if !outside(to) {
		f.services[to] = s
	}
	if labels["direction"] == "inbound" {
		list = append(list, &s.inbound)
		if labels["peer"] == "" {
			list = append(list, f.edge(pair{to: to}))
		}
	} else {
		list = append(list, &s.clients, f.edge(pair{telemetry.Peer{Name: labels["proxy"], Namespace: labels["namespace"]}, to}))
	}
	for _, t := range list {
		t.seen = true
	}
	return list
}

// elsewhere stands for all that is called outside the mesh and has no name there.
var elsewhere telemetry.Peer

// external begins the name of what is called outside the mesh, where an egress
// policy names it.
const external = "external/"

// outside reports whether a peer isn't part of the mesh. Those have no namespace.
func outside(p telemetry.Peer) bool {
	return p == elsewhere || p.Namespace == "" && strings.HasPrefix(p.Name, external)
}

// called is the service a series is about, or what is outside the mesh.
func called(labels map[string]string) (telemetry.Peer, bool) {
	if labels["direction"] == "outbound" {
		switch name := labels["service"]; {
		case name == "":
			return elsewhere, true
		case strings.HasPrefix(name, external):
			return telemetry.Peer{Name: name}, true
		}
	}
	return splitService(labels["service"])
}

func (f *facts) edge(k pair) *tally {
	t := f.edges[k]
	if t == nil {
		t = new(tally)
		f.edges[k] = t
	}
	return t
}

func (f *facts) count(answers map[string]*tsdb.Value) {
	add := func(query string, to func(t *tally, v float64, labels map[string]string)) {
		for _, s := range answers[query].Series {
			for _, t := range f.tallies(s.Labels) {
				to(t, s.Points[0].V, s.Labels)
			}
		}
	}
	add(queryRequests, func(t *tally, v float64, labels map[string]string) {
		t.http = true
		t.requests += v
		if strings.HasPrefix(labels["status"], "5") {
			t.failures += v
		} else if labels["tls"] == "mutual" {
			t.mutual += v
		}
	})
	connections := func(field func(t *tally) *float64) func(*tally, float64, map[string]string) {
		return func(t *tally, v float64, labels map[string]string) {
			*field(t) += v
			if labels["tls"] == "mutual" {
				t.mutualOpen += v
			}
		}
	}
	add(queryOpened, connections(func(t *tally) *float64 { return &t.connections }))
	add(queryOpen, connections(func(t *tally) *float64 { return &t.open }))
	add(queryReceived, func(t *tally, v float64, _ map[string]string) { t.received += v })
	add(querySent, func(t *tally, v float64, _ map[string]string) { t.sent += v })
}

// latencies adds up buckets per service and edge, all ports together, and reads
// percentiles off them.
func (f *facts) latencies(answers map[string]*tsdb.Value) {
	buckets := make(map[*tally]map[float64]float64)
	for _, s := range answers[queryBuckets].Series {
		le, err := strconv.ParseFloat(s.Labels["le"], 64)
		if err != nil {
			continue // not a histogram of ours
		}
		for _, t := range f.tallies(s.Labels) {
			if buckets[t] == nil {
				buckets[t] = make(map[float64]float64)
			}
			buckets[t][le] += s.Points[0].V
		}
	}
	for t, b := range buckets {
		q := tsdb.Quantiles(b, 0.5, 0.95, 0.99)
		t.latency = telemetry.Latency{P50: number(q[0] * 1000), P95: number(q[1] * 1000), P99: number(q[2] * 1000)}
	}
}

// cover finds how many seconds each service's counters were followed for, from
// the sample that counting begins with to the last. A service which began ten
// seconds ago shows its true rate, and rates don't waver with the scrapes.
func (f *facts) cover(answers map[string]*tsdb.Value, now time.Time, window time.Duration) {
	type side struct {
		to      telemetry.Peer
		inbound bool
	}
	times := func(query string, keep func(a, b float64) float64) map[side]float64 {
		out := map[side]float64{}
		for _, s := range answers[query].Series {
			if to, ok := called(s.Labels); ok {
				k := side{to, s.Labels["direction"] == "inbound"}
				if old, known := out[k]; known {
					out[k] = keep(old, s.Points[0].V)
				} else {
					out[k] = s.Points[0].V
				}
			}
		}
		return out
	}
	smaller := func(a, b float64) float64 { return min(a, b) }
	anchor, first := times(queryAnchor, smaller), times(queryFirst, smaller)
	last := times(queryLast, func(a, b float64) float64 { return max(a, b) })
	seconds := func(k side) float64 {
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
	for to, s := range f.services {
		s.inbound.seconds = seconds(side{to, true})
		s.clients.seconds = seconds(side{to, false})
	}
	for k, t := range f.edges {
		t.seconds = seconds(side{k.to, k.from == telemetry.Peer{}})
	}
}
