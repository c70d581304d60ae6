package proxy

import (
	"context"
	"net"
	"net/netip"
	"time"

	"tulle.dev/tulle/internal/proxy/dial"
	"tulle.dev/tulle/internal/proxy/l7http"
	"tulle.dev/tulle/internal/proxy/live"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/view"
)

// This file is how a lane learns what it doesn't know yet. It never waits: what
// takes time runs elsewhere and is posted back.

// What an exchange asks for, each once (l7http.Exchange.Once).
const (
	askHost = 1 << iota
	askEndpoints
	askName
	introduced
)

// ask asks for resources and reports whether there is nothing to wait for;
// otherwise done is called later, from anywhere.
func (n *lane) ask(done func(), keys ...string) bool {
	return n.proxy.config.Live.Lookup(done, keys...)
}

// lookup asks for resources, and goes on with then on the loop.
func (n *lane) lookup(then func(), keys ...string) {
	if n.ask(func() { n.loop.Post(then) }, keys...) {
		then()
	}
}

// destination finds a service port; nil when the mesh doesn't know it.
func (n *lane) destination(key string, then func(*live.Destination)) {
	known := func() {
		d := n.current().Destination(key)
		if d != nil && d.Absent {
			d = nil
		}
		then(d)
	}
	if n.current().Destination(key) != nil {
		known()
		return
	}
	n.lookup(known, live.DestinationKey(key))
}

// endpoints finds where a service port is served.
func (n *lane) endpoints(d meter.Direction, key string, then func(*dial.Cluster)) {
	c := n.cluster(d, key)
	if c.Known() {
		then(c)
		return
	}
	n.lookup(func() {
		c.Update(n.current().Endpoints(key))
		then(c)
	}, live.EndpointsKey(key))
}

// known makes sure that an exchange's cluster has been told its endpoints.
func (n *lane) known(x *l7http.Exchange) *l7http.Failure {
	c := x.Cluster
	if c.Known() || !x.Once(askEndpoints) {
		return nil
	}
	if !n.ask(x.Resume(), live.EndpointsKey(c.Key)) {
		return l7http.Later
	}
	c.Update(n.current().Endpoints(c.Key))
	return nil
}

// passThrough is an address outside the mesh as a cluster of one.
func (n *lane) passThrough(to netip.AddrPort) *dial.Cluster {
	if c := n.passed[to]; c != nil {
		return c
	}
	if len(n.passed) >= maxPassThrough {
		n.forgetPassed()
	}
	c := dial.NewCluster("", meter.Outbound, n.shard)
	c.Update(&view.Endpoints{List: []view.Endpoint{{Address: to}}})
	n.passed[to] = c
	return c
}

// forgetPassed makes room; what is in use goes on with the cluster it has.
func (n *lane) forgetPassed() {
	for to, c := range n.passed {
		c.Update(&view.Endpoints{})
		delete(n.passed, to)
	}
}

// resolution is an answer of the DNS about a name outside the mesh.
type resolution struct {
	addr  netip.Addr // zero: there is no such name
	until time.Duration
}

const (
	// resolveTimeout bounds a DNS query, resolvedFor how long its answer is used.
	resolveTimeout = 5 * time.Second
	resolvedFor    = 5 * time.Second
	maxResolved    = 1024
)

// resolve sends an exchange to a name outside the mesh.
func (n *lane) resolve(x *l7http.Exchange, name string, port uint16) *l7http.Failure {
	if r, ok := n.resolved[name]; ok && n.loop.Now() < r.until {
		if !r.addr.IsValid() {
			return l7http.NoHost
		}
		x.Cluster = n.passThrough(netip.AddrPortFrom(r.addr, port))
		return nil
	}
	if !x.Once(askName) {
		return l7http.NoHost
	}
	resume := x.Resume()
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), resolveTimeout)
		defer cancel()
		var r resolution
		if addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name); err == nil && len(addrs) > 0 {
			r.addr = addrs[0].Unmap()
		}
		n.loop.Post(func() {
			if len(n.resolved) >= maxResolved {
				clear(n.resolved)
			}
			r.until = n.loop.Now() + resolvedFor
			n.resolved[name] = r
			resume()
		})
	}()
	return l7http.Later
}
