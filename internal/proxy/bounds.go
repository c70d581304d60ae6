package proxy

import (
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/h2"
	"tulle.dev/tulle/internal/proxy/l7http"
	"tulle.dev/tulle/internal/proxy/limit"
	"tulle.dev/tulle/internal/proxy/live"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/proxy/overload"
	"tulle.dev/tulle/internal/wire/control"
)

// bounds is what all loops of the proxy keep to together: the buckets of rate
// limits, and what its programs can do.
type bounds struct {
	book  *limit.Book
	stock h2.Stock // what waits for the peers of HTTP/2 connections

	mu    sync.Mutex
	gates map[string]*overload.Gate // by service port; as many as there are inbound listeners
}

func newBounds(l *live.Live, m *meter.Registry) *bounds {
	b := &bounds{gates: make(map[string]*overload.Gate)}
	b.book = limit.NewBook(l.Static(), l.KeptShare, func() { l.Share(sharer{b}) })
	m.Collect(b.collect)
	return b
}

// sharer is who asks for parts of limits that all proxies have together.
type sharer struct{ *bounds }

// Demand says what is needed.
func (s sharer) Demand(elapsed time.Duration) []control.LimitDemand {
	list := s.book.Demand(elapsed)
	out := make([]control.LimitDemand, len(list))
	for i, d := range list {
		out[i] = control.LimitDemand{Limit: d.Limit, Part: d.Part, Keyed: d.Keyed, Held: d.Held}
	}
	return out
}

// Take puts a part into force.
func (s sharer) Take(name string, part uint64) { s.book.Take(name, part) }

// gate is what keeps the program of a service port from being overloaded.
func (b *bounds) gate(destination string, p *policy.Overload, now time.Duration) *overload.Gate {
	b.mu.Lock()
	defer b.mu.Unlock()
	g := b.gates[destination]
	if g == nil {
		g = overload.New(p, now)
		b.gates[destination] = g
	}
	return g
}

// collect writes metrics.
func (b *bounds) collect(w *meter.Writer) {
	if over := b.book.Over(); len(over) > 0 {
		w.Family("tulle_rate_limit_overflow_total", meter.CounterKind, "Requests whose combination of values found no bucket of its own.")
		for _, o := range over {
			w.Count(o.Requests, "limit", o.Limit)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.gates) == 0 {
		return
	}
	services := slices.Sorted(maps.Keys(b.gates))
	w.Family("tulle_overload_limit", meter.GaugeKind, "Requests that the program is let work on at once.")
	for _, service := range services {
		w.Count(uint64(b.gates[service].Limit()), "service", service)
	}
	w.Family("tulle_overload_inflight", meter.GaugeKind, "Requests that the program works on.")
	for _, service := range services {
		w.Count(uint64(max(b.gates[service].Inflight(), 0)), "service", service)
	}
	w.Family("tulle_overload_latency_seconds", meter.GaugeKind, "How long the program takes without load, as far as is known.")
	for _, service := range services {
		w.Sample(b.gates[service].Base().Seconds(), "service", service)
	}
	w.Family("tulle_overload_refused_total", meter.CounterKind, "Requests that were refused because the program couldn't do them in time.")
	for _, service := range services {
		for level := range overload.Levels {
			if n := b.gates[service].RefusedAt(level); n > 0 || level == overload.DefaultLevel {
				w.Count(n, "service", service, "level", strconv.Itoa(level))
			}
		}
	}
}

// inboundBounds is what one loop keeps to for one service port.
type inboundBounds struct {
	told      *policy.Inbound
	limits    *limit.Set
	admission *l7http.Admission
}

// follow takes another policy; nil bounds nothing.
func (n *inboundBounds) follow(in *inbound, p *policy.Inbound) {
	if p == n.told {
		return
	}
	n.told = p
	n.limits = nil
	lane, key := in.lane, in.listener.Destination
	if p == nil || p.Overload == nil {
		n.admission = nil // those that wait go on as they began
	}
	if p == nil {
		return
	}
	now := lane.loop.Now()
	n.limits = lane.proxy.bounds.book.Compile(p.Limits, now, lane.shard, meter.Inbound, key)
	if p.Overload != nil {
		g := lane.proxy.bounds.gate(key, p.Overload, now)
		g.Update(p.Overload)
		if n.admission == nil || n.admission.Gate() != g {
			n.admission = lane.admission(g)
		}
	}
}

// admission is the lane's way through a gate.
func (n *lane) admission(g *overload.Gate) *l7http.Admission {
	a := n.admissions[g]
	if a == nil {
		a = n.http.NewAdmission(g)
		if n.admissions == nil {
			n.admissions = make(map[*overload.Gate]*l7http.Admission)
		}
		n.admissions[g] = a
	}
	return a
}
