package sim_test

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"time"

	"tulle.dev/tulle/internal/policy"
	"tulle.dev/tulle/internal/proxy"
	"tulle.dev/tulle/internal/proxy/live"
	"tulle.dev/tulle/internal/proxy/loop"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/proxy/poll"
	"tulle.dev/tulle/internal/proxy/sim"
	"tulle.dev/tulle/internal/view"
)

// run is one simulated run.
type run struct {
	seed       uint64
	world      *sim.World
	plan       *rand.Rand
	requests   []*request
	clients    []*client
	active     int
	proxies    []*node
	backends   []*backend
	streams    []*stream
	dead       int // the endpoint where nobody listens, or -1
	nuisances  bool
	vanishes   bool // a backend goes without a word: it can't say that it got all
	greets     bool // servers of streams speak first
	upgrades   bool // streams begin with an offer to upgrade
	violations []string
	draining   *node
	drained    time.Duration     // when the drain began
	peer       view.PeerProtocol // between proxies
	policy     *policy.Request   // of the first proxy's requests; nil is the default
	busy       bool              // backends answer 503 now and then
	timeout    time.Duration     // of the edge's route; 0 for none
	few        bool              // connections are allowed at a time
	drains     bool              // the proxy the clients talk to does
	faulty     bool              // backends do things wrong
	impatient  bool              // backends speak first where nobody else does
	stormy     bool              // the network does
	stack      *stack            // policies of all kinds; nil is none
}

// node is a proxy of the run.
type node struct {
	*proxy.Proxy
	name    string
	told    *live.Live
	view    *view.View
	pollers []*sim.Poller
	loops   []*loop.Loop
	ports   int
}

func (r *run) violate(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	r.world.Note("VIOLATION %s", s)
	if len(r.violations) < 10 {
		r.violations = append(r.violations, fmt.Sprintf("at %s: %s", r.world.Now(), s))
	}
}

// weather picks a network.
func weather(rnd *rand.Rand) sim.Weather {
	w := sim.Weather{
		Latency:  time.Duration(20+rnd.IntN(500)) * time.Microsecond,
		Jitter:   time.Duration(rnd.IntN(300)) * time.Microsecond,
		Segment:  64 << 10,
		Window:   []int{1 << 10, 16 << 10, 64 << 10, 256 << 10}[rnd.IntN(4)],
		Buffer:   []int{2 << 10, 16 << 10, 128 << 10}[rnd.IntN(3)],
		Lossy:    rnd.IntN(3) == 0,
		Spurious: rnd.IntN(10),
		Backlog:  64,
	}
	switch rnd.IntN(4) {
	case 0:
		w.Segment = 1 + rnd.IntN(64)
	case 1:
		w.Segment = 1460
	case 2:
		w.Latency, w.Jitter = time.Duration(rnd.IntN(40))*time.Millisecond, time.Duration(rnd.IntN(20))*time.Millisecond
	}
	if w.Segment < 200 { // or a run takes for ever
		w.Window, w.Buffer = max(w.Window, 16<<10), max(w.Buffer, 16<<10)
	}
	return w
}

// startProxy starts a proxy on a host of its own.
func (r *run) startProxy(name string, host netip.Addr, v *view.View, loops int) *node {
	n := &node{name: name, ports: len(v.Proxy.Listeners), view: v}
	if v.Proxy.Listeners[0].Kind != view.Inbound {
		v.Destinations[shopKey].Policy = r.policy
	}
	if r.stack != nil {
		r.stack.apply(r, v)
	}
	m := meter.New(loops, "sim")
	log := slog.New(slog.DiscardHandler)
	v.Proxy.Settings.PeerProtocol = r.peer
	if r.few && (name == "edge" || name == "web" || name == "inbound") {
		v.Proxy.Settings.MaxConnections = 2 // the others wait their turn
	}
	told, err := live.Static(v, "", log, m)
	if err != nil {
		panic(err)
	}
	n.told = told
	ca.issue(told.Credentials(), r.world, v.Proxy.Identity)
	n.Proxy, err = proxy.New(proxy.Config{
		Live: told, Meter: m, Log: log, Loops: loops, Seed: r.seed + 1, Steps: sim.Steps{World: r.world},
		Poller: func(int) (poll.Poller, error) {
			p := r.world.Poller(name, host)
			p.Lag = time.Duration(r.plan.IntN(100)) * time.Microsecond
			n.pollers = append(n.pollers, p)
			return p, nil
		},
	})
	if err != nil {
		panic(err)
	}
	if n.loops, err = n.Step(); err != nil {
		panic(err)
	}
	for i, p := range n.pollers {
		l := n.loops[i]
		p.Turn = func() { l.Turn(0) }
		p.Next = l.Next
		p.Sleep()
	}
	r.proxies = append(r.proxies, n)
	return n
}

// newRun plans a run.
func newRun(seed uint64, log io.Writer) *run {
	plan := rand.New(rand.NewPCG(seed, 1))
	r := &run{seed: seed, plan: plan}
	r.world = sim.New(seed, weather(plan), log)
	r.faulty = plan.IntN(3) == 0
	r.stormy = plan.IntN(4) == 0
	r.impatient = plan.IntN(3) == 0
	r.drains = plan.IntN(5) == 0
	if plan.IntN(6) == 0 {
		r.timeout = time.Duration(20+plan.IntN(300)) * time.Millisecond
	}
	r.few = plan.IntN(8) == 0
	if more := rand.New(rand.NewPCG(seed, 3)); more.IntN(2) == 0 {
		r.policy, r.busy = newPolicy(more), more.IntN(2) == 0
	}
	if more := rand.New(rand.NewPCG(seed, 7)); more.IntN(2) == 0 {
		r.plantStack(more)
	}
	r.peer = []view.PeerProtocol{view.PeerHTTP1, view.PeerHTTP2}[plan.IntN(2)]
	http := func(p *program, at netip.AddrPort) {
		b := &backend{run: r, program: p}
		b.serve(at, b.accept)
		r.backends = append(r.backends, b)
	}
	n := 1 + plan.IntN(3)
	switch kind := plan.IntN(10); kind {
	case 0, 1, 2: // client -> edge -> programs
		v := r.edgeView()
		r.backendsOf(v, n, false, http)
		r.startProxy("edge", hostAddr(1), v, 1+plan.IntN(2))
		r.plantClients("client", netip.MustParseAddr("10.0.2.1"), v.Proxy.Listeners[0].Address, "edge")
	case 3: // client -> edge -> mutual TLS -> sidecars -> programs
		v := r.edgeView()
		r.backendsOf(v, n, true, http)
		r.startProxy("edge", hostAddr(1), v, 1+plan.IntN(2))
		r.plantClients("client", netip.MustParseAddr("10.0.2.1"), v.Proxy.Listeners[0].Address, "edge")
	case 4, 5: // program -> sidecar -> mutual TLS -> sidecars -> programs
		v := sidecarView([]view.Protocol{view.HTTP, view.Detect}[plan.IntN(2)])
		r.backendsOf(v, n, true, http)
		r.startProxy("web", hostAddr(2), v, 1+plan.IntN(2))
		r.plantClients("client", hostAddr(2), []netip.AddrPort{v.Proxy.Listeners[0].Address, virtual}[plan.IntN(2)], "inbound0")
	case 6: // streams that begin with a request
		if r.stack == nil || rand.New(rand.NewPCG(seed, 11)).IntN(2) == 0 {
			r.stack, r.policy = nil, nil
		} else if h := r.stack.upstream.Health; h != nil {
			h.Kind = policy.HealthTCP // their programs answer nothing else
		}
		method, protocol := "GET", view.HTTP
		r.upgrades = plan.IntN(2) == 0
		if !r.upgrades {
			method, protocol = "CONNECT", view.TCP
		}
		v := sidecarView(protocol)
		to := v.Proxy.Listeners[0].Address
		if !r.upgrades {
			to = v.Proxy.Listeners[2].Address
		} else if plan.IntN(3) == 0 {
			v = r.edgeView()
			to = v.Proxy.Listeners[0].Address
		}
		r.backendsOf(v, n, plan.IntN(3) > 0, r.serveStreams)
		r.startProxy(v.Proxy.Name, to.Addr(), v, 1+plan.IntN(2))
		r.plantStreams(to.Addr(), to)
		for _, s := range r.streams {
			s.asks = asking(method, s.id)
		}
	case 9: // from outside the mesh to a sidecar, in plaintext
		in := base("inbound", view.Sidecar, shopID, view.Detect, view.Listener{
			Name: "in", Kind: view.Inbound, Address: netip.AddrPortFrom(hostAddr(20), 15443), Destination: shopKey,
			App: netip.AddrPortFrom(hostAddr(20), 8080), Plaintext: true,
		})
		l := &in.Proxy.Listeners[0]
		streams := plan.IntN(2) == 0
		if streams {
			r.stack = nil
		}
		if l.Protocol = []view.Protocol{view.Detect, view.HTTP}[plan.IntN(2)]; streams {
			l.Protocol = []view.Protocol{view.Detect, view.TCP}[plan.IntN(2)]
		}
		p := newProgram(r.world, "backend0", hostAddr(20))
		if streams {
			r.greets = plan.IntN(2) == 0
			r.serveStreams(p, l.App)
		} else {
			http(p, l.App)
		}
		r.startProxy("inbound", hostAddr(20), in, 1+plan.IntN(2))
		if streams {
			r.plantStreams(netip.MustParseAddr("10.0.2.1"), l.Address)
		} else {
			r.plantClients("client", netip.MustParseAddr("10.0.2.1"), l.Address, "backend0")
		}
	default: // the same with opaque streams, with or without mutual TLS
		r.stack, r.policy = nil, nil
		r.greets = plan.IntN(3) == 0
		v := sidecarView([]view.Protocol{view.TCP, view.Detect}[plan.IntN(2)])
		r.backendsOf(v, n, plan.IntN(3) > 0, r.serveStreams)
		r.startProxy("web", hostAddr(2), v, 1+plan.IntN(2))
		r.plantStreams(hostAddr(2), []netip.AddrPort{v.Proxy.Listeners[0].Address, virtual}[plan.IntN(2)])
	}
	r.plantNuisances()
	r.plantChanges()
	if r.drains {
		r.draining = r.proxies[len(r.proxies)-1]
		if plan.IntN(3) == 0 {
			r.draining = r.proxies[plan.IntN(len(r.proxies))]
		}
		r.world.After(time.Duration(plan.IntN(150))*time.Millisecond, func() {
			r.world.Note("%s drains", r.draining.name)
			r.draining.StepDrain()
			r.draining.ports = 0
			r.drained = r.world.Now()
		})
	}
	if plan.IntN(3) == 0 {
		for range 1 + plan.IntN(4) {
			r.world.After(time.Duration(plan.IntN(200))*time.Millisecond, r.move)
		}
	}
	return r
}

// move tells the first proxy that its endpoints are others: some of those it
// began with.
func (r *run) move() {
	first := r.proxies[len(r.proxies)-1]
	if r.drained > 0 && r.draining == first {
		return // it doesn't listen to that any more
	}
	v := *first.view
	some := &view.Endpoints{Key: shopKey, Policy: first.view.Endpoints[shopKey].Policy}
	alive := false
	for i, e := range first.view.Endpoints[shopKey].List {
		if r.plan.IntN(2) == 0 {
			some.List = append(some.List, e)
			alive = alive || i != r.dead
		}
	}
	if !alive {
		return
	}
	r.world.Note("%s is told of %d endpoints", first.name, len(some.List))
	v.Endpoints = maps.Clone(v.Endpoints)
	v.Endpoints[shopKey] = some
	if err := first.told.Replace(&v); err != nil {
		panic(err)
	}
}

// drainTime is what a drain may take: its connections rest for at most PoolIdle
// after their last answer.
const drainTime = proxy.DefaultDrainTimeout

// plantStreams plans opaque connections.
func (r *run) plantStreams(host netip.Addr, to netip.AddrPort) {
	p := newProgram(r.world, "client", host)
	p.Redirect[virtual] = netip.AddrPortFrom(hostAddr(2), 15001)
	for i := range 1 + r.plan.IntN(6) {
		s := r.planStream(i)
		r.streams = append(r.streams, s)
		r.active++
		r.world.After(time.Duration(r.plan.IntN(50))*time.Millisecond, func() { s.start(p, to) })
	}
	r.storm("web", "inbound0")
}

// storm plans what the network does wrong.
func (r *run) storm(a, b string) {
	if !r.stormy {
		return
	}
	for range 1 + r.plan.IntN(3) {
		r.world.After(time.Duration(r.plan.IntN(200))*time.Millisecond, r.world.BreakOne)
	}
	if r.vanishes = r.plan.IntN(4) == 0; r.vanishes {
		r.world.After(time.Duration(r.plan.IntN(150))*time.Millisecond, func() { r.world.Vanish("backend0") })
		r.world.After(time.Duration(r.plan.IntN(150))*time.Millisecond, func() { r.world.Vanish("inbound0") })
	}
	if r.plan.IntN(2) == 0 {
		r.world.After(time.Duration(r.plan.IntN(100))*time.Millisecond, func() {
			r.world.Partition(a, b, time.Duration(r.plan.IntN(4000))*time.Millisecond)
		})
	}
}

// plantClients plans the clients and their requests.
func (r *run) plantClients(name string, host netip.Addr, to netip.AddrPort, other string) {
	plan := r.plan
	p := newProgram(r.world, name, host)
	p.Redirect[virtual] = netip.AddrPortFrom(hostAddr(2), 15001)
	for range 1 + plan.IntN(5) {
		c := &client{run: r, program: p, to: to, pipeline: 1, leaves: -1}
		for range 1 + plan.IntN(8) {
			q := newRequest(plan, len(r.requests), r.faulty)
			if r.busy && plan.IntN(4) == 0 {
				q.busy = 1 + plan.IntN(3)
			}
			r.requests = append(r.requests, q)
			c.requests = append(c.requests, q)
		}
		if plan.IntN(4) == 0 {
			c.pipeline = 1 + plan.IntN(4)
		}
		c.dribbles = plan.IntN(5) == 0
		switch plan.IntN(12) {
		case 0, 1:
			c.late = time.Duration(plan.IntN(600)) * time.Millisecond
		case 2:
			c.late = impatience + time.Duration(plan.IntN(2000))*time.Millisecond
		}
		if r.faulty && plan.IntN(5) == 0 {
			c.leaves = plan.IntN(len(c.requests))
		}
		r.clients = append(r.clients, c)
		r.active++
		r.world.After(time.Duration(plan.IntN(50))*time.Millisecond, c.start)
	}
	r.storm(r.proxies[len(r.proxies)-1].name, []string{name, "backend0", other}[plan.IntN(3)])
}

// play lets the run happen and judges it.
func (r *run) play() {
	const steps = 3_000_000
	if !r.world.Run(10*time.Minute, steps, func() bool { return r.active == 0 }) {
		r.violate("it goes round in circles")
		return
	}
	if r.active > 0 {
		r.violate("%d clients are still waiting", r.active)
	}
	r.judge()
	r.endChecks()
	if r.drains {
		// What is under way ends; nothing keeps the proxy up.
		r.world.Run(max(r.world.Now(), r.drained)+drainTime, steps, nil)
		if n := r.draining; n.Connections() > 0 {
			r.violate("the drain has no end: %d connections", n.Connections())
		}
	}
	// Everything that may linger, rest or be idle has its time.
	if !r.world.Run(r.world.Now()+10*time.Minute, steps, nil) {
		r.violate("it goes round in circles after the end")
		return
	}
	for _, n := range r.proxies {
		if n.pollers[0].Vanished() {
			continue
		}
		r.leftOver(n)
		if c := n.Connections(); c != 0 {
			r.violate("%s still counts %d connections", n.name, c)
		}
		for i, l := range n.loops {
			if open := n.pollers[i].Open(); open != n.ports {
				r.violate("%s: %d descriptors are left over on loop %d", n.name, open-n.ports, i)
			}
			if l.Open() != n.ports {
				r.violate("%s: loop %d has %d sockets for %d listeners", n.name, i, l.Open(), n.ports)
			}
			if lent := l.Lent(); lent != 0 {
				r.violate("%s: %d buffers are left over on loop %d", n.name, lent, i)
			}
			if at := l.Next(); at != poll.Forever {
				r.violate("%s: a timer is left over on loop %d: %s", n.name, i, at-r.world.Now())
			}
		}
	}
}

// judge looks at what came of each request.
func (r *run) judge() {
	for _, s := range r.streams {
		s.judge()
	}
	for _, q := range r.requests {
		switch {
		case !q.done:
			r.violate("no outcome: %s", q)
		case !q.sent:
		case q.delivered > 1 && !q.idempotent() && !r.anyMethod():
			r.violate("delivered twice: %s", q)
		case q.delivered > r.mostTries():
			r.violate("delivered more often than %d times: %s", r.mostTries(), q)
		case q.status != 0 && !q.byProxy && q.delivered == 0:
			r.violate("an answer from nowhere: %s", q)
		case r.drains && q.delivered == 0 && q.failed == "connection refused":
		case r.innerDrain() && q.byProxy && q.delivered == 0:
			// Nobody told the first proxy, which is what its peers' knowing is for.
		case r.mayFail(q):
		case q.failed != "" && q.failed != "not answered before the connection ended" || q.byProxy:
			r.violate("failed for no reason: %s", q)
		}
	}
}

// innerDrain says that a proxy drains behind the one that the clients talk to.
func (r *run) innerDrain() bool { return r.drains && r.draining != r.proxies[len(r.proxies)-1] }

// anyMethod says that every request may be made twice.
func (r *run) anyMethod() bool { return r.policy != nil && r.policy.Retry.Any }

// mostTries is how often a request may reach backends.
func (r *run) mostTries() int {
	p := r.policy
	if p == nil {
		p = policy.DefaultRequest
	}
	n := 1 + int(p.Retry.Attempts) + int(p.Hedge.Max)
	if len(r.proxies) > 1 { // the last one may find connections closed, as always
		n *= 1 + int(policy.DefaultRequest.Retry.Attempts)
	}
	return n
}

// spares says that the policy lets requests fail that the default wouldn't.
func (r *run) spares() bool {
	p := r.policy
	return p != nil && (p.Try > 0 || p.StreamIdle > 0 || p.Retry.On&policy.Unsent == 0 || p.Retry.Attempts < 2 || p.Retry.Budget.Min < 10)
}

// mayFail says that a request may go without a good answer.
func (r *run) mayFail(q *request) bool {
	if r.stack != nil || r.stormy || r.timeout > 0 || q.fault != noFault || q.busy > 0 {
		return true
	}
	if r.spares() {
		return true
	}
	for _, c := range r.clients {
		for _, other := range c.requests {
			// What ends a connection ends what was pipelined behind it too.
			if other == q && c.leaves >= 0 {
				return true
			}
		}
	}
	if r.faulty {
		for _, c := range r.clients {
			seen := false
			for _, other := range c.requests {
				if other.fault != noFault {
					seen = true
				}
				if other == q && seen && c.pipeline > 1 {
					return true
				}
			}
		}
	}
	if !q.idempotent() || len(q.body) > 0 {
		// A backend that hangs up without a word may do so in the very moment
		// the request reaches it; one that could do harm twice, or that is no
		// longer all there, can't be sent again then.
		for _, other := range r.requests {
			silent := other.method == "HEAD" && other.answered == untilClose // closes unsaid
			if other.hangsUp || other.early || silent || other.fault != noFault {
				return true
			}
		}
	}
	return false
}
