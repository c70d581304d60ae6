package proxy

import (
	"net/netip"
	"slices"
	"time"

	"tulle.dev/tulle/internal/proxy/dial"
	"tulle.dev/tulle/internal/proxy/egress"
	"tulle.dev/tulle/internal/proxy/l7http"
	"tulle.dev/tulle/internal/proxy/live"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/h1"
)

// This file is how requests leave the mesh: whether they may, by what name or
// address, and where that leads. The proxy resolves the names itself; where the
// program wanted to connect to counts only where the policy has an address.

// call is one that leads out of the mesh.
type call struct {
	// name is what the program says, as it says it; it may be an address, or empty.
	name string
	// addr is that name when it is an address.
	addr netip.Addr
	port uint16
	// to is where the program itself wanted to connect to; zero when it told its
	// proxy the name alone.
	to netip.AddrPort
	// known are the addresses that the mesh has for the name, if it has any.
	known *live.Host
}

// target is the address that the call is for, should it have no name that counts.
func (c *call) target() netip.AddrPort {
	if c.to.IsValid() {
		return c.to
	}
	return netip.AddrPortFrom(c.addr.Unmap(), c.port)
}

// String is what the call is for, for people and as a label.
func (c *call) String() string {
	if c.name == "" {
		return c.target().Addr().String()
	}
	return c.name
}

// judged is what a policy has for a call.
type judged struct {
	place *egress.Place // nil: nothing
	name  string        // by which it is for it; empty: by the address
}

// judge looks a call up in the policy.
func judge(t *egress.Table, c *call) judged {
	if name, ok := egress.Name(c.name); ok && (!c.to.IsValid() || c.port == c.to.Port()) {
		if p := t.Place(name, c.port); p != nil {
			return judged{p, name}
		}
	}
	if to := c.target(); to.Addr().IsValid() {
		return judged{place: t.Address(to)}
	}
	return judged{}
}

// egress is the policy in force, nil for none.
func (n *lane) egress() *egress.Table {
	if p := n.current().Proxy; p != nil {
		return p.Egress
	}
	return nil
}

// allowed counts a call that may leave. What the policy has no place for has no
// name either.
func (n *lane) allowed(p *egress.Place) {
	name := ""
	if p != nil {
		name = p.Name
	}
	n.shard.Egress(name, meter.Allowed).Add(1)
}

// kept counts a call that may not leave, or that is let out because the policy
// only looks on. It reports whether it is to be refused.
func (n *lane) kept(t *egress.Table, to string, port uint16, why string) bool {
	decision := meter.Denied
	if t.Audit {
		decision = meter.Audit
	}
	n.shard.Egress(to, decision).Add(1)
	n.proxy.refusals.Outside(n.loop.Now(), to, port, why, t.Audit)
	return !t.Audit
}

// Why calls may not leave.
const (
	notNamed   = "no destination of the egress policy is for it"
	notKnown   = "the proxy's resolver doesn't know the name"
	notThere   = "the name leads to addresses inside, and no network of the egress policy has them"
	notReady   = "what its TLS needs isn't there: the policy's status says what"
	notOverTwo = "CONNECT over HTTP/2 can't be looked into: use HTTP/1.1"
	otherName  = "the ClientHello asks for a name that no destination of the egress policy is for, or hides it"
)

// leave sends an exchange out of the mesh, if it may, and tells by which exit if
// that is for a name.
func (n *lane) leave(x *l7http.Exchange, c call) (*l7http.Failure, *exit) {
	t := n.egress()
	if t == nil {
		return n.free(x, &c), nil
	}
	tunnel := x.Request.Method == h1.CONNECT
	j := judge(t, &c)
	switch {
	case j.place == nil && t.Allow:
		if f := n.free(x, &c); f != nil {
			return f, nil
		}
		n.allowed(nil)
		n.tunnels(x, &c)
		return nil, nil
	case j.place == nil:
		return n.keep(x, t, &c, notNamed), nil
	case j.place.Refused:
		return n.keep(x, t, &c, notReady), nil
	case j.name == "":
		n.allowed(j.place)
		x.Cluster = n.passThrough(c.target(), j.place.Label)
		n.tunnels(x, &c)
		return nil, nil
	case tunnel && x.HTTP2:
		return n.keep(x, t, &c, notOverTwo), nil
	}
	e, ok := n.exit(t, j, c.port, tunnel, func() func() { return x.Resume() })
	switch {
	case !ok && x.Once(askName):
		return l7http.Later, nil
	case ok && e.unknown && t.Audit:
		return n.keep(x, t, &c, notKnown), nil
	case !ok || e.unknown:
		return l7http.NoHost, nil
	case e.cluster == nil:
		return n.keep(x, t, &c, notThere), nil
	}
	e.counted.Add(1)
	x.Cluster = e.cluster
	if tunnel {
		x.Vet = n.vet(t, c.port)
	}
	n.tunnels(x, &c)
	return nil, e
}

// outing is a tunnel that leaves the mesh.
type outing struct {
	call call
	end  func()
}

// tunnels remembers what the exchange may become, for another policy to end.
func (n *lane) tunnels(x *l7http.Exchange, c *call) {
	if x.Request.Method != h1.CONNECT && len(x.Request.Upgrade) == 0 {
		return
	}
	o := &outing{call: *c}
	x.Tunnelled = func(end func()) func() {
		o.end = end
		n.outings[o] = struct{}{}
		return func() { delete(n.outings, o) }
	}
}

// keep refuses an exchange, unless the policy only looks on.
func (n *lane) keep(x *l7http.Exchange, t *egress.Table, c *call, why string) *l7http.Failure {
	if t.Audit {
		if f := n.free(x, c); f != nil {
			return f // it waits, or leads nowhere
		}
	}
	if n.kept(t, c.String(), c.port, why) {
		return x.NotOutside(why)
	}
	return nil
}

// free sends an exchange out as if there were no policy.
func (n *lane) free(x *l7http.Exchange, c *call) *l7http.Failure {
	switch {
	case c.to.IsValid():
		x.Cluster = n.passThrough(c.to, "")
		return nil
	case c.addr.IsValid():
		x.Cluster = n.passThrough(c.target(), "")
		return nil
	case c.known != nil && c.known.Service == "" && len(c.known.Addresses) > 0:
		x.Cluster = n.passThrough(netip.AddrPortFrom(c.known.Addresses[0], c.port), "")
		return nil
	}
	addrs, ok := n.addresses(c.name, func() func() { return x.Resume() })
	switch {
	case !ok && x.Once(askName):
		return l7http.Later
	case len(addrs) == 0:
		return l7http.NoHost
	}
	x.Cluster = n.passThrough(netip.AddrPortFrom(addrs[0], c.port), "")
	return nil
}

// exitKey is a name outside the mesh and how it is called: through a tunnel the
// program speaks TLS itself, should it.
type exitKey struct {
	name   string
	port   uint16
	tunnel bool
}

// exit is where a name outside the mesh leads to by the policy. It belongs to its
// lane.
type exit struct {
	table   *egress.Table
	place   *egress.Place
	cluster *dial.Cluster // nil: to nowhere that is allowed
	addrs   []netip.Addr
	unknown bool // there is no such name
	counted *meter.Counter
	until   time.Duration
}

// maxExits bounds the names of a lane.
const maxExits = 1024

// exit finds where a place's name leads to. It is false when that has to be asked
// first: then what resume returns is called once it is known.
func (n *lane) exit(t *egress.Table, j judged, port uint16, tunnel bool, resume func() func()) (*exit, bool) {
	k := exitKey{j.name, port, tunnel}
	e := n.exits[k]
	if e != nil && e.table == t && n.loop.Now() < e.until {
		return e, true
	}
	addrs, ok := n.addresses(j.name, resume)
	if !ok {
		return nil, false
	}
	var may []netip.Addr
	for _, a := range addrs {
		if t.Allow || egress.Public(a) || t.Address(netip.AddrPortFrom(a, port)) != nil {
			may = append(may, a)
		}
	}
	if e == nil || e.place != j.place {
		if e == nil && len(n.exits) >= maxExits {
			n.forgetExits()
		}
		if e != nil && e.cluster != nil {
			e.cluster.Update(&view.Endpoints{})
		}
		e = &exit{place: j.place, counted: n.shard.Egress(j.place.Name, meter.Allowed)}
		n.exits[k] = e
	}
	e.table, e.unknown, e.until = t, len(addrs) == 0, n.loop.Now()+resolvedFor
	slices.SortFunc(may, netip.Addr.Compare)
	switch {
	case len(may) == 0:
		if e.cluster != nil {
			e.cluster.Update(&view.Endpoints{})
		}
		e.cluster, e.addrs = nil, nil
	case e.cluster == nil || !slices.Equal(may, e.addrs):
		n.lead(e, k, may)
	}
	return e, true
}

// lead makes an exit lead to some addresses.
func (n *lane) lead(e *exit, k exitKey, addrs []netip.Addr) {
	e.addrs = addrs
	if e.cluster == nil {
		e.cluster = n.outsideCluster(e.place.Label)
		if e.place.TLS != nil && !k.tunnel {
			e.cluster.Foreign = newForeign(e.place, k.name, e.cluster)
		}
	}
	port := k.port
	if e.cluster.Foreign != nil && port == plainPort {
		port = securePort
	}
	told := &view.Endpoints{}
	for _, a := range addrs {
		told.List = append(told.List, view.Endpoint{Address: netip.AddrPortFrom(a, port)})
	}
	e.cluster.Update(told)
}

// A program that speaks HTTP to the port for that is understood to mean the one
// for TLS where the proxy speaks that.
const (
	plainPort  = 80
	securePort = 443
)

// forgetExits makes room; what is in use goes on with the cluster it has.
func (n *lane) forgetExits() {
	for k, e := range n.exits {
		if e.cluster != nil {
			e.cluster.Update(&view.Endpoints{})
		}
		e.until = 0
		delete(n.exits, k)
	}
}
