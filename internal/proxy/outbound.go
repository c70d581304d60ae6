package proxy

import (
	"net/netip"

	"tulle.dev/tulle/internal/proxy/dial"
	"tulle.dev/tulle/internal/proxy/l4"
	"tulle.dev/tulle/internal/proxy/l7http"
	"tulle.dev/tulle/internal/proxy/live"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/proxy/poll"
	"tulle.dev/tulle/internal/proxy/sniff"
	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/h1"
)

// outbound is a Capture or an Explicit listener on one loop:
//
//	accept -> where to? -> which service is that? -> what is spoken?
//	HTTP:   -> the service's routes -> an endpoint, mutual TLS
//	opaque: -> an endpoint, mutual TLS; the server may have been heard already
//	not a service: -> the address itself, as if there were no mesh
type outbound struct {
	lane     *lane
	listener *live.Listener
}

func newOutbound(n *lane, l *live.Listener) *outbound { return &outbound{lane: n, listener: l} }

func (o *outbound) update(l *live.Listener) { o.listener = l }

func (o *outbound) accept(fd poll.FD, peer netip.AddrPort) {
	c := o.lane.receive(meter.Outbound, o.listener, "", fd, peer)
	if o.listener.Kind == view.Explicit {
		o.toService(c, o.listener.Destination)
		return
	}
	to, err := o.lane.loop.Original(fd)
	if err != nil || o.lane.proxy.own(to) {
		// Nobody redirected it: it was sent to the listener itself, and would be
		// again and again.
		c.refuse("proxy_loop_detected")
		return
	}
	o.toAddress(c, to)
}

// toAddress finds out which service has an address.
func (o *outbound) toAddress(c *incoming, to netip.AddrPort) {
	then := func() {
		h := o.lane.current().HostByAddr(to.Addr())
		if h == nil || h.Service == "" || !h.HasPort(to.Port()) {
			o.outside(c, to)
			return
		}
		o.toService(c, destinationKey(h.Service, to.Port()))
	}
	if o.lane.current().HostByAddr(to.Addr()) != nil {
		then()
		return
	}
	o.lane.lookup(then, live.HostKey(to.Addr().String()))
}

// toService finds out what is spoken on a service's port.
func (o *outbound) toService(c *incoming, key string) {
	c.about.service = key
	o.lane.destination(key, func(d *live.Destination) {
		var what spoken
		if d != nil {
			what = spoken{routed: d.Routes != nil, streams: d.Streams, known: d.ServerFirst, protocol: d.Protocol}
		}
		switch what.protocol {
		case view.HTTP, view.HTTP2:
			o.http(c, key, "http", sniff.Declared)
		case view.TCP:
			c.found("tcp", sniff.Declared)
			o.tcp(c, key, what.streams)
		default:
			o.meet(c, key, what)
		}
	})
}

// spoken is what is known of a service port before a connection is looked at.
type spoken struct {
	protocol view.Protocol
	routed   bool          // requests have routes
	streams  *live.Streams // where what isn't HTTP goes
	known    bool          // its server speaks first
}

// meet looks at what is spoken. What a server says never decides about a port
// whose requests have routes: it can't talk its way around them. Nor can it be
// asked when it takes the client's word to know which server that is.
func (o *outbound) meet(c *incoming, key string, what spoken) {
	m := meet{silence: clientSilence, learnt: what.known || o.lane.greets(key)}
	opaque := func() { o.tcp(c, key, what.streams) }
	server := key
	if s := what.streams; s != nil && s.ByName {
		server = ""
	} else if s != nil {
		server = o.lane.pick(s, nil)
		opaque = func() { c.to(server) }
	}
	if server != "" && !what.routed {
		m.server = func(then func(*dial.Cluster)) { o.lane.endpoints(meter.Outbound, server, then) }
	}
	c.meet(m, func(v verdict) {
		switch {
		case v.kind.HTTP():
			v.drop()
			o.http(c, key, v.kind.String(), v.how)
			return
		case what.routed && what.streams == nil && (v.how == sniff.Timeout || v.ended):
			o.http(c, key, "http", v.how) // for it to say that there was no request
			return
		case v.how == sniff.Server:
			o.lane.learn(key, GreetingKept)
		}
		c.found(opaqueName(v.kind), v.how)
		if v.early != nil {
			c.opaque(nil, v.early, l4.Options{})
			return
		}
		opaque()
	})
}

// opaqueName is what a connection that isn't HTTP is called.
func opaqueName(k sniff.Kind) string {
	if k == sniff.TLS {
		return "tls"
	}
	return "tcp"
}

func (o *outbound) http(c *incoming, key, protocol string, how sniff.How) {
	c.found(protocol, how)
	c.http(&described{o.lane.service(key), c.about}, nil)
}

func (o *outbound) tcp(c *incoming, key string, s *live.Streams) {
	if s != nil {
		c.stream(s)
		return
	}
	o.lane.endpoints(meter.Outbound, key, func(cluster *dial.Cluster) { c.opaque(cluster, nil, l4.Options{}) })
}

// described is a service's router with what is known of one connection.
type described struct {
	*service
	about
}

// service routes requests to one service port by the service's own routes. All
// connections of a loop to that port share it.
type service struct {
	lane        *lane
	key         string
	destination *live.Destination
	routes      routes
	own         *dial.Cluster // where everything goes when there are no routes
}

func (n *lane) service(key string) *service {
	s := n.services[key]
	if s == nil {
		s = &service{lane: n, key: key, own: n.cluster(meter.Outbound, key)}
		_, port, _ := live.SplitKey(key)
		s.routes = routes{lane: n, direction: meter.Outbound, scheme: "http", port: port, service: key}
		s.follow(n.current())
		n.services[key] = s
	}
	return s
}

// follow takes the service's newest routes.
func (s *service) follow(t *live.Table) {
	d := t.Destination(s.key)
	if d == s.destination {
		return
	}
	s.destination = d
	if d == nil {
		s.routes.follow(nil, nil)
		return
	}
	s.routes.follow(d.Routes, d.Policy)
}

// Route matches the request against the service's routes.
func (s *service) Route(x *l7http.Exchange) *l7http.Failure {
	if x.Request.Method == h1.CONNECT {
		return l7http.NotAProxy
	}
	s.lane.current()
	if f := s.routes.route(x, s.own); f != nil {
		return f
	}
	return s.lane.known(x)
}

// Unrouted counts a request that led nowhere.
func (s *service) Unrouted(f *l7http.Failure) {
	if f.Malformed {
		s.lane.shard.Malformed(meter.Outbound, f.Error)
		return
	}
	s.lane.shard.Error(meter.Outbound, s.key, f.Error)
}

// Local says that the clients are the program beside the proxy.
func (s *service) Local() {}
