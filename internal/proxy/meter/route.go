package meter

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"time"
)

// maxRoutes bounds the label sets of routes of the whole proxy; what comes over it
// is counted with route and backend "other".
const maxRoutes = 500

// RouteLabels name the requests that a rule of a route sent to one backend.
type RouteLabels struct {
	Direction Direction
	// Service is the destination that was asked for; empty at an edge.
	Service string
	// Route is the rule's name, "httproute/default/cart#0"; empty for requests that
	// no rule is for.
	Route string
	// Backend is the destination's key; empty where the rule answers itself.
	Backend string
}

// statusClasses are 1xx to 5xx and, at 0, no answer.
const statusClasses = 6

// Route is the handle of one series of a route in one shard. Its methods don't
// allocate and don't lock.
type Route struct {
	labels   RouteLabels
	classes  [statusClasses]Counter
	duration histogram
}

// Request counts an exchange that ended with a status after d.
func (r *Route) Request(status int, d time.Duration) {
	class := status / 100
	if class < 0 || class >= statusClasses {
		class = 0
	}
	r.classes[class].Add(1)
	r.duration.observe(d)
}

// Route returns the handle of a series, the same one for the same labels. It costs
// a map look-up: the caller keeps it beside the rule.
func (s *Shard) Route(l RouteLabels) *Route {
	if r := s.routes[l]; r != nil {
		return r
	}
	if !s.registry.admitRoute(l) {
		l.Route, l.Backend, l.Service = overflow, overflow, overflow
		if r := s.routes[l]; r != nil {
			return r
		}
	}
	r := &Route{labels: l}
	if s.routes == nil {
		s.routes = make(map[RouteLabels]*Route)
	}
	s.routes[l] = r
	s.mu.Lock()
	s.routeList = append(s.routeList, r)
	s.mu.Unlock()
	return r
}

func (r *Registry) admitRoute(l RouteLabels) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.routes[l]; ok {
		return true
	}
	if len(r.routes) >= maxRoutes {
		return false
	}
	if r.routes == nil {
		r.routes = make(map[RouteLabels]struct{})
	}
	r.routes[l] = struct{}{}
	return true
}

// routeTotal is one series of a route over all shards.
type routeTotal struct {
	labels  RouteLabels
	classes [statusClasses]uint64
	buckets [bounds + 1]uint64
	sum     uint64
}

func (t *routeTotal) pairs(more ...string) []string {
	return append([]string{"direction", t.labels.Direction.String(), "service", t.labels.Service, "route", t.labels.Route, "backend", t.labels.Backend}, more...)
}

func (r *Registry) sumRoutes() []*routeTotal {
	byLabels := make(map[RouteLabels]*routeTotal)
	for _, s := range r.shards {
		s.mu.Lock()
		list := s.routeList
		s.mu.Unlock()
		for _, h := range list {
			t := byLabels[h.labels]
			if t == nil {
				t = &routeTotal{labels: h.labels}
				byLabels[h.labels] = t
			}
			for i := range h.classes {
				t.classes[i] += h.classes[i].n.Load()
			}
			for i := range h.duration.buckets {
				t.buckets[i] += h.duration.buckets[i].n.Load()
			}
			t.sum += h.duration.sum.n.Load()
		}
	}
	return slices.SortedFunc(maps.Values(byLabels), func(a, b *routeTotal) int {
		return cmp.Or(cmp.Compare(a.labels.Direction, b.labels.Direction), cmp.Compare(a.labels.Service, b.labels.Service),
			cmp.Compare(a.labels.Route, b.labels.Route), cmp.Compare(a.labels.Backend, b.labels.Backend))
	})
}

// writeRoutes writes what rules did. Their durations have one bucket for each power
// of two: there may be many of them.
func (r *Registry) writeRoutes(w *Writer) {
	totals := r.sumRoutes()
	if len(totals) == 0 {
		return
	}
	w.Family("tulle_route_requests_total", CounterKind, "Requests that ended, by the rule and backend that they met and the class of the status.")
	for _, t := range totals {
		for i, n := range t.classes {
			if n > 0 {
				class := "none"
				if i > 0 {
					class = strconv.Itoa(i) + "xx"
				}
				w.Count(n, t.pairs("status", class)...)
			}
		}
	}
	w.Family("tulle_route_duration_seconds", HistogramKind, "Time from a request's head to the last byte of its response, by rule and backend.")
	for _, t := range totals {
		var cumulative uint64
		for i, n := range t.buckets {
			cumulative += n
			if i%2 == 0 || i == bounds {
				w.count("_bucket", cumulative, t.pairs("le", w.bound(i)))
			}
		}
		w.head("_sum", t.pairs())
		w.b = strconv.AppendFloat(w.b, float64(t.sum)/1e9, 'g', -1, 64)
		w.b = append(w.b, '\n')
		w.count("_count", cumulative, t.pairs())
	}
}
