package proxy

import (
	"bytes"

	"tulle.dev/tulle/internal/access"
	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/dial"
	"tulle.dev/tulle/internal/proxy/l7http"
	"tulle.dev/tulle/internal/proxy/live"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/route"
)

// routes is a route table on one loop, with what its rules and their backends are
// here: a request finds its cluster without looking up a string.
type routes struct {
	lane      *lane
	direction meter.Direction
	table     *route.Table
	places    []place         // by rule; empty until first used
	access    []*access.Table // by rule; nil where none has any
	proofs    []proofs        // likewise
	lookup    l7http.Lookup
	// scheme and port are how clients come here, for redirects; service is the
	// one they ask for, empty at an edge.
	scheme  string
	port    uint16
	service string
	series  *meter.Traffic // of what is answered without a backend
	missed  *meter.Route   // of what no rule is for
	// own goes with requests whose rule has no policy.
	own governed
}

// governed is a policy with what was made of it.
type governed struct {
	policy *policy.Request // nil is the default
	faults *l7http.Faults
}

func (r *routes) govern(p *policy.Request) governed {
	return governed{p, l7http.NewFaults(p, r.direction)}
}

// to lets the policy go with an exchange.
func (g *governed) to(x *l7http.Exchange) {
	if g.policy != nil {
		x.Policy, x.Faults = g.policy, g.faults
	}
}

// place is a rule here.
type place struct {
	made     bool
	filters  *l7http.Filters
	policy   governed
	backends []backend
	counted  *meter.Route // what is answered without a backend
}

// backend is one of a rule's.
type backend struct {
	cluster *dial.Cluster // nil when there is none
	filters *l7http.Filters
	// policy is the destination's, as table has it.
	policy  governed
	table   *live.Table
	counted *meter.Route
}

// follow takes another table, or none, and another policy for what it has none
// for.
func (r *routes) follow(t *route.Table, p *policy.Request) {
	r.table, r.places = t, nil
	r.own = r.govern(p)
}

// route sends the exchange where the table says. otherwise is where everything
// goes when there is no table.
func (r *routes) route(x *l7http.Exchange, otherwise *dial.Cluster) *l7http.Failure {
	if r.direction == meter.Outbound {
		x.Caller = r.lane.caller
	}
	if r.table == nil {
		if otherwise == nil {
			return l7http.NoRoute
		}
		x.Cluster = otherwise
		r.own.to(x)
		return nil
	}
	q := route.Request{Authority: x.Request.Authority, Path: x.Request.Path, Method: x.Request.MethodName, Fields: r.lookup.Of(&x.Request)}
	if i := bytes.IndexByte(q.Path, '?'); i >= 0 {
		q.Path, q.Query = q.Path[:i], q.Path[i+1:]
	}
	rule, match := r.table.Match(&q)
	if rule == nil {
		x.Routed = r.counted(&r.missed, "", "")
		return l7http.NoRoute
	}
	p := r.place(rule)
	scheme, port := r.scheme, r.port
	if s := x.FrontScheme(); s != "" {
		scheme, port = s, 0 // the client knows another port
	}
	drawn := -1
	if x.Rule == rule { // it has waited for what was to be known of that backend
		drawn = x.Backend
	}
	x.Rule, x.Backend, x.Timeout = rule, -1, rule.Timeout
	if r.access != nil {
		x.RouteAccess = r.access[rule.Index]
	}
	if r.proofs != nil {
		r.proofs[rule.Index].to(x)
	}
	x.Filters, x.Picked, x.Prefix, x.Routed = p.filters, nil, rule.Prefix(match), nil
	if p.filters != nil {
		if f := x.Divert(p.filters, &q, scheme, port); f != nil {
			x.Routed = r.counted(&p.counted, rule.Name, "")
			return r.diverted(x, f)
		}
	}
	i := p.sticky(x, rule)
	if i < 0 {
		i = drawn
	}
	if i < 0 {
		i = rule.Pick(r.lane.loop.Rand.Uint64())
	}
	if i < 0 || p.backends[i].cluster == nil {
		x.Routed = r.counted(&p.counted, rule.Name, "")
		return l7http.NoBackend
	}
	b := &p.backends[i]
	x.Backend, x.Picked, x.Cluster = i, b.filters, b.cluster
	x.Routed = r.counted(&b.counted, rule.Name, b.cluster.Key)
	switch {
	case p.policy.policy != nil:
		p.policy.to(x)
	case r.own.policy != nil:
		r.own.to(x)
	case r.direction == meter.Edge:
		r.settle(b).to(x)
	}
	if b.filters != nil {
		if f := x.Divert(b.filters, &q, scheme, port); f != nil {
			return f
		}
	}
	return nil
}

// sticky is the backend that the request's session is at, or -1.
func (p *place) sticky(x *l7http.Exchange, rule *route.Compiled) int {
	if rule.Session.Kind == policy.NoSession || len(p.backends) < 2 {
		return -1
	}
	token := x.SessionToken(&rule.Session)
	if token == 0 {
		return -1
	}
	for i := range p.backends {
		if c := p.backends[i].cluster; c != nil && rule.Backends[i].Weight > 0 && c.Serves(token) {
			return i
		}
	}
	return -1
}

// diverted counts what is answered without a backend.
func (r *routes) diverted(x *l7http.Exchange, f *l7http.Failure) *l7http.Failure {
	if r.series == nil {
		r.series = r.lane.shard.Traffic(meter.Labels{Direction: r.direction, Service: r.service})
	}
	x.Series = r.series
	return f
}

// prove takes over what a listener's rules say of tokens, and of who is asked.
func (r *routes) prove(l *live.Listener) {
	if l.RouteAuthentication == nil {
		return
	}
	r.proofs = make([]proofs, len(l.RouteAuthentication))
	for i, a := range l.RouteAuthentication {
		r.proofs[i].follow(r.lane, a, r.direction, l)
	}
}

// place gets a rule ready.
func (r *routes) place(rule *route.Compiled) *place {
	if r.places == nil {
		r.places = make([]place, len(r.table.Rules()))
	}
	p := &r.places[rule.Index]
	if p.made {
		return p
	}
	p.made = true
	p.filters = l7http.NewFilters(&rule.Filters, rule.CrossOrigin(-1), r.mirror)
	p.policy = r.govern(rule.Policy)
	p.backends = make([]backend, len(rule.Backends))
	for i := range rule.Backends {
		spec, b := &rule.Backends[i], &p.backends[i]
		if spec.Destination != "" {
			b.cluster = r.lane.cluster(r.direction, spec.Destination)
		}
		var cors *route.CrossOrigin
		if spec.Filters.CORS != nil {
			cors = rule.CrossOrigin(i)
		}
		b.filters = l7http.NewFilters(&spec.Filters, cors, r.mirror)
	}
	return p
}

// counted is where requests of a rule are counted; at keeps it.
func (r *routes) counted(at **meter.Route, rule, backend string) *meter.Route {
	if *at == nil {
		*at = r.lane.shard.Route(meter.RouteLabels{Direction: r.direction, Service: r.service, Route: rule, Backend: backend})
	}
	return *at
}

// settle is the policy of a backend's destination.
func (r *routes) settle(b *backend) *governed {
	if t := r.lane.table; b.table != t {
		b.table = t
		var p *policy.Request
		if d := t.Destination(b.cluster.Key); d != nil {
			p = d.Policy
		}
		if p != b.policy.policy {
			b.policy = r.govern(p)
		}
	}
	return &b.policy
}

// mirror is where copies of requests go: a cluster that shares nothing with the
// one that is asked for answers.
func (r *routes) mirror(destination string) (*dial.Cluster, l7http.Router) {
	c := r.lane.cluster(meter.Mirror, destination)
	return c, &mirror{r.lane, c}
}

// mirror routes copies of requests.
type mirror struct {
	lane    *lane
	cluster *dial.Cluster
}

// Route sends it to the one place it is for.
func (m *mirror) Route(x *l7http.Exchange) *l7http.Failure {
	m.lane.current()
	x.Cluster = m.cluster
	return m.lane.known(x)
}

// Unrouted counts a copy that led nowhere.
func (m *mirror) Unrouted(f *l7http.Failure) { m.lane.unrouted(meter.Mirror, f) }
