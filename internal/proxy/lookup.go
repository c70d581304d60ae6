package proxy

import (
	"tulle.dev/tulle/internal/proxy/dial"
	"tulle.dev/tulle/internal/proxy/l7http"
	"tulle.dev/tulle/internal/proxy/live"
	"tulle.dev/tulle/internal/proxy/meter"
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
