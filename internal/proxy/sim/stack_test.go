package sim_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"time"

	"tulle.dev/tulle/internal/access"
	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy/sim"
	"tulle.dev/tulle/internal/route"
	"tulle.dev/tulle/internal/view"
)

// stack is policies of all kinds at once. What it lets fail isn't asked for: what
// is, is that each request has one answer or a clean cut, with nobody else's bytes,
// and that nothing is left over.
type stack struct {
	rand     *rand.Rand
	upstream *policy.Upstream
	inbound  *policy.Inbound
	mirrors  []route.Mirror
	filters  bool
	session  policy.Session
	changes  int // of access rules
}

const mirrorKey = "mirror.default:80"

// plantStack draws policies.
func (r *run) plantStack(rnd *rand.Rand) {
	s := &stack{rand: rnd}
	r.stack = s
	p := *policy.DefaultRequest
	if r.policy != nil {
		p = *r.policy
	}
	r.policy = &p
	one := func(n int) bool { return rnd.IntN(n) == 0 }
	share := func() policy.Share { return policy.Share(rnd.IntN(int(policy.All) + 1)) }
	for i := range rnd.IntN(4) {
		f := policy.Fault{Name: fmt.Sprintf("faultpolicy/default/f#%d", i), Share: share()}
		switch rnd.IntN(5) {
		case 0:
			f.Reset = true
		case 1:
			f.Status = []uint16{204, 304, 418, 503}[rnd.IntN(4)]
		}
		if one(2) {
			f.Delay = time.Duration(rnd.IntN(100)) * time.Millisecond
		}
		if one(2) {
			f.BytesPerSecond = 50_000 + rnd.Uint32N(1_000_000)
		}
		if one(5) {
			f.Until = sim.Epoch.Add(time.Duration(rnd.IntN(200)) * time.Millisecond)
		}
		if one(5) {
			f.When.Methods = []string{"GET"}
		}
		p.Faults = append(p.Faults, f)
	}
	limit := func(name string) (l []policy.RateLimit) {
		for i := range rnd.IntN(3) {
			n := policy.RateLimit{Name: fmt.Sprintf("ratelimitpolicy/default/%s#%d", name, i), Requests: 1 + rnd.Uint32N(40),
				Per: time.Duration(1+rnd.IntN(1000)) * time.Millisecond, Burst: rnd.Uint32N(5), Global: one(3), Shadow: one(4)}
			if one(2) {
				n.By = []policy.Descriptor{{Kind: policy.ByHeader, Name: "x-id"}, {Kind: policy.BySource}}[:1+rnd.IntN(2)]
			}
			l = append(l, n)
		}
		return l
	}
	p.Limits = limit("edge")
	u := *policy.DefaultUpstream
	s.upstream = &u
	u.Balance = policy.Balance{Algorithm: policy.Algorithm(rnd.IntN(6)), On: []policy.HashPart{{Kind: policy.HashHeader, Name: "x-id"}, {Kind: policy.HashSource}}}
	u.Ejection = policy.Ejection{Consecutive: 1 + rnd.Uint32N(3), SuccessRate: 80, MinRequests: 3, Window: time.Second, Latency: uint8(rnd.IntN(4)),
		Base: time.Duration(1+rnd.IntN(200)) * time.Millisecond, MaxBackoff: time.Second, Max: uint8(30 + rnd.IntN(71))}
	if one(3) {
		u.Limits = policy.Limits{Connections: rnd.Uint32N(5), Requests: rnd.Uint32N(6), Pending: rnd.Uint32N(4)}
	}
	if one(4) {
		u.SlowStart = time.Second
	}
	if s.session = (policy.Session{Kind: policy.SessionKind(rnd.IntN(3)), Name: "s"}); one(2) {
		u.Session, s.session = s.session, policy.Session{}
	}
	in := &policy.Inbound{Limits: limit("inbound")}
	s.inbound = in
	if one(2) {
		in.Overload = &policy.Overload{Min: 1 + rnd.Uint32N(2), Max: 1 + rnd.Uint32N(4), Tolerance: 200, Queue: time.Duration(rnd.IntN(60)) * time.Millisecond}
		if one(2) {
			in.Overload.Priority = []policy.Priority{{When: policy.Match{Methods: []string{"GET"}}, Level: 9}}
		}
	}
	for range rnd.IntN(3) {
		s.mirrors = append(s.mirrors, route.Mirror{Destination: mirrorKey, Share: share()})
	}
	s.filters = one(2)
	if one(2) {
		s.changes = 1 + rnd.IntN(5)
	}
	if one(2) && !r.drains {
		u.Health = &policy.HealthCheck{Kind: []policy.HealthKind{policy.HealthHTTP, policy.HealthTCP}[rnd.IntN(2)], Path: healthPath, Host: "check.example",
			Interval: time.Duration(10+rnd.IntN(200)) * time.Millisecond, Timeout: time.Duration(5+rnd.IntN(200)) * time.Millisecond,
			Unhealthy: uint8(1 + rnd.IntN(3)), Healthy: uint8(1 + rnd.IntN(2))}
	}
}

// healthPath is what health checks ask for.
const healthPath = "/healthz"

// endChecks has no endpoint's health asked for any more.
func (r *run) endChecks() {
	for _, n := range r.proxies {
		e := n.view.Endpoints[shopKey]
		if e == nil || e.Policy == nil || e.Policy.Health == nil || n.pollers[0].Vanished() {
			continue
		}
		v, same, p := *n.view, *e, *e.Policy
		p.Health = nil
		same.Policy = &p
		v.Endpoints = maps.Clone(v.Endpoints)
		v.Endpoints[shopKey] = &same
		if err := n.told.Replace(&v); err != nil {
			panic(err)
		}
	}
}

// apply puts the policies into a proxy's view.
func (s *stack) apply(r *run, v *view.View) {
	l := &v.Proxy.Listeners[0]
	if l.Kind == view.Inbound {
		l.Inbound = s.inbound
		return
	}
	v.Endpoints[shopKey].Policy = s.upstream
	if l.Kind != view.Edge || len(l.Routes.Hosts) == 0 {
		return
	}
	rule := &l.Routes.Hosts[0].Rules[0]
	rule.Session = s.session
	if s.filters {
		rule.Filters.Request = &route.Modifier{Set: []route.Value{{Name: "X-Set", Value: "1"}}, Remove: []string{"X-None"}}
		rule.Filters.Response = &route.Modifier{Add: []route.Value{{Name: "X-Added", Value: "1"}}}
	}
	if rule.Filters.Mirrors = s.mirrors; len(s.mirrors) == 0 {
		return
	}
	at := netip.AddrPortFrom(hostAddr(60), 8080)
	p := newProgram(r.world, "mirror", at.Addr())
	b := &backend{run: r, program: p, mirror: true}
	b.serve(at, b.accept)
	v.Destinations[mirrorKey] = &view.Destination{Key: mirrorKey, Protocol: view.HTTP}
	v.Endpoints[mirrorKey] = &view.Endpoints{Key: mirrorKey, List: []view.Endpoint{{Address: at}}}
}

// plantChanges plans when access rules change.
func (r *run) plantChanges() {
	if r.stack == nil {
		return
	}
	for range r.stack.changes {
		r.world.After(time.Duration(r.stack.rand.IntN(300))*time.Millisecond, r.changeAccess)
	}
}

// changeAccess gives a proxy of a program other rules.
func (r *run) changeAccess() {
	rnd := r.stack.rand
	n := r.proxies[rnd.IntN(len(r.proxies))]
	if n.view.Proxy.Listeners[0].Kind != view.Inbound || n == r.draining {
		return
	}
	v := *n.view
	v.Proxy.Listeners = append([]view.Listener(nil), v.Proxy.Listeners...)
	in := *r.stack.inbound
	spec := &access.Spec{Default: access.Action(rnd.IntN(2))}
	if rnd.IntN(2) == 0 {
		spec.Rules = []access.Rule{{Name: "accesspolicy/default/a#0", Action: access.Action(rnd.IntN(2)), Audit: rnd.IntN(4) == 0,
			To: []access.Operation{{Methods: []string{"GET", "PUT"}}}}}
	}
	if rnd.IntN(4) > 0 {
		in.Guard = &policy.Guard{Access: spec}
	}
	v.Proxy.Listeners[0].Inbound = &in
	r.world.Note("%s has other access rules", n.name)
	if err := n.told.Replace(&v); err != nil {
		panic(err)
	}
	n.view = &v
}

// leftOver says what exchanges still hold.
func (r *run) leftOver(n *node) {
	for what, held := range n.Held() {
		if held != 0 {
			r.violate("%s: %s is %d at the end", n.name, what, held)
		}
	}
}
