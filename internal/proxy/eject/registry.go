package eject

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/meter"
)

// maxServices bounds the services that have metrics of their own; the rest is
// counted as "other".
const maxServices = 1000

// Registry holds the services of one proxy. It is safe for concurrent use.
type Registry struct {
	mu       sync.Mutex
	services map[string]*Service
	hosts    map[netip.Addr]*host
}

// host is one address, with the endpoints at it.
type host struct {
	endpoints []*Endpoint
	last      netip.AddrPort // who timed out last
	at        int64          // and when
}

// New makes a registry without services.
func New() *Registry {
	return &Registry{services: make(map[string]*Service), hosts: make(map[netip.Addr]*host)}
}

// Service returns the state of a service port.
func (r *Registry) Service(key string) *Service {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.services[key]
	if s == nil {
		s = &Service{Key: key, registry: r, endpoints: make(map[name]*Endpoint)}
		s.policy.Store(policy.DefaultUpstream)
		r.services[key] = s
	}
	return s
}

// The lock of a service is taken before the registry's, never after.

func (r *Registry) host(e *Endpoint) {
	r.mu.Lock()
	defer r.mu.Unlock()
	addr := e.address.Addr()
	h := r.hosts[addr]
	if h == nil {
		h = &host{at: always}
		r.hosts[addr] = h
	}
	h.endpoints = append(h.endpoints, e)
}

func (r *Registry) unhost(e *Endpoint) {
	r.mu.Lock()
	defer r.mu.Unlock()
	addr := e.address.Addr()
	h := r.hosts[addr]
	if h == nil {
		return
	}
	h.endpoints = slices.DeleteFunc(h.endpoints, func(o *Endpoint) bool { return o == e })
	if len(h.endpoints) == 0 {
		delete(r.hosts, addr)
	}
}

// timedOut suspects all endpoints of an address when several of them time out at
// about the same time, or one does while they are suspect.
func (r *Registry) timedOut(e *Endpoint, now int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.hosts[e.address.Addr()]
	if h == nil {
		return
	}
	before, at := h.last, h.at
	h.last, h.at = e.address, now
	doubted := e.word.Load()&suspect != 0 && now < e.doubt.Load()
	if !doubted && (before == e.address || now-at > int64(together)) {
		return
	}
	for _, o := range h.endpoints {
		o.doubt.Store(now + int64(suspectFor))
		o.set(suspect)
		o.service.generation.Add(1)
	}
}

// answers says that an endpoint of an address has answered: the host lives.
func (r *Registry) answers(e *Endpoint) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.hosts[e.address.Addr()]
	if h == nil {
		return
	}
	h.at = always
	for _, o := range h.endpoints {
		o.clear(suspect)
		o.service.generation.Add(1)
	}
}

func (r *Registry) sorted() []*Service {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.SortedFunc(maps.Values(r.services), func(a, b *Service) int { return cmp.Compare(a.Key, b.Key) })
}

// The states of an endpoint.
const (
	Healthy = "healthy"
	Ejected = "ejected"
	Suspect = "suspect"
	// Unhealthy is what its health check says.
	Unhealthy = "unhealthy"
	// Mistaken is an endpoint at whose address another workload answers.
	Mistaken = "wrong_workload"
)

// State is an endpoint as the proxy sees it, for people.
type State struct {
	Service  string `json:"service"`
	Endpoint string `json:"endpoint"`
	Workload string `json:"workload,omitempty"`
	// State is Healthy, Ejected, Suspect, Unhealthy or Mistaken, Why the reason.
	State string `json:"state"`
	Why   string `json:"why,omitempty"`
	// Left is how long that lasts at least, in seconds; 0 when it isn't known.
	Left float64 `json:"seconds_left,omitempty"`
	// Failures are those in a row, Requests and SuccessRate (percent) of the
	// policy's Window, Ejections all since the proxy knows the endpoint.
	Failures    uint32  `json:"failures_in_a_row,omitempty"`
	Requests    uint32  `json:"requests"`
	SuccessRate float64 `json:"success_rate"`
	Ejections   uint64  `json:"ejections,omitempty"`
}

// States lists the endpoints, at most max.
func (r *Registry) States(now int64, max int) []State {
	list := []State{}
	for _, s := range r.sorted() {
		s.mu.Lock()
		s.total.turn(tickOf(&s.Policy().Ejection, now))
		endpoints := s.sortedEndpoints()
		for i, e := range endpoints {
			if i+1 < len(endpoints) && endpoints[i+1].address == e.address {
				continue // loops without traffic know it from before
			}
			if len(list) < max {
				list = append(list, e.state(now))
			}
		}
		s.mu.Unlock()
	}
	return list
}

// sortedEndpoints are in the order of their addresses, of one address the latest
// last.
func (s *Service) sortedEndpoints() []*Endpoint {
	return slices.SortedFunc(maps.Values(s.endpoints), func(a, b *Endpoint) int {
		return cmp.Or(a.address.Compare(b.address), cmp.Compare(a.order, b.order))
	})
}

// state describes the endpoint; the caller has the service's lock.
func (e *Endpoint) state(now int64) State {
	e.record.turn(e.service.total.tick)
	sum := e.record.sum()
	d := State{
		Service: e.service.Key, Endpoint: e.address.String(), Workload: e.workload,
		Failures: e.inARow(), Requests: sum.n(), SuccessRate: 100, Ejections: e.ejections,
	}
	if sum.n() > 0 {
		d.SuccessRate = sum.rate()
	}
	left := func(until int64) { d.Left = max(0, time.Duration(until-now).Seconds()) }
	switch d.State = e.kind(now); d.State {
	case Unhealthy:
		d.Why = e.why
	case Ejected:
		d.Why = e.reason.String()
		left(e.until.Load())
	case Suspect:
		d.Why = "endpoints of its address time out together"
		left(e.doubt.Load())
	}
	if d.State == Mistaken || d.State == Ejected && e.Mistaken() {
		if d.Why != "" {
			d.Why += "; "
		}
		d.Why += mistakenWhy
	}
	return d
}

func (e *Endpoint) kind(now int64) string {
	w := e.word.Load()
	switch {
	case w&unhealthy != 0:
		return Unhealthy
	case w&ejected != 0:
		return Ejected
	}
	if e.Mistaken() {
		return Mistaken
	}
	if _, yes := e.Suspect(now); yes {
		return Suspect
	}
	return Healthy
}

// Collect writes the metrics.
func (r *Registry) Collect(w *meter.Writer, now int64) {
	type figures struct {
		key       string
		ejections [reasons]uint64
		kinds     map[string]uint64
	}
	var all []*figures
	for _, s := range r.sorted() {
		s.mu.Lock()
		if len(s.endpoints) == 0 && s.ejections == [reasons]uint64{} {
			s.mu.Unlock()
			continue
		}
		if len(all) < maxServices {
			all = append(all, &figures{key: s.Key, kinds: map[string]uint64{}})
		} else {
			all[len(all)-1].key = "other"
		}
		f := all[len(all)-1]
		for i, n := range s.ejections {
			f.ejections[i] += n
		}
		for _, e := range s.endpoints {
			f.kinds[e.kind(now)]++
		}
		s.mu.Unlock()
	}
	w.Family("tulle_endpoint_ejections_total", meter.CounterKind, "Endpoints that were left out for a while, by reason.")
	for _, f := range all {
		for i, n := range f.ejections {
			if n > 0 {
				w.Count(n, "service", f.key, "reason", Reason(i).String())
			}
		}
	}
	w.Family("tulle_endpoints", meter.GaugeKind, "Endpoints that the proxy knows, by their state.")
	for _, f := range all {
		for _, kind := range []string{Healthy, Ejected, Suspect, Unhealthy, Mistaken} {
			w.Count(f.kinds[kind], "service", f.key, "state", kind)
		}
	}
}

// Held adds what exchanges and connections hold of the services' limits.
func (r *Registry) Held(held map[string]int) {
	for _, s := range r.sorted() {
		held["connections within limits"] += s.Connections.Held()
		held["requests within limits"] += s.Requests.Held()
		held["waiting within limits"] += s.Pending.Held()
	}
}
