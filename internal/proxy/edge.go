package proxy

import (
	"crypto/tls"
	"net/netip"

	"tulle.dev/tulle/internal/proxy/l4"
	"tulle.dev/tulle/internal/proxy/l7http"
	"tulle.dev/tulle/internal/proxy/live"
	"tulle.dev/tulle/internal/proxy/meter"
	"tulle.dev/tulle/internal/proxy/mtls"
	"tulle.dev/tulle/internal/proxy/poll"
	"tulle.dev/tulle/internal/proxy/sniff"
	"tulle.dev/tulle/internal/view"
	"tulle.dev/tulle/internal/wire/h1"
)

// edge is an Edge listener on one loop:
//
//	accept -> TLS, when it has a certificate
//	HTTP:   -> the listener's own routes -> an endpoint, mutual TLS when it has an identity
//	opaque: -> an endpoint of its destination
type edge struct {
	lane     *lane
	listener *live.Listener
	routes   routes
	config   *tls.Config // nil for a plaintext listener
}

func newEdge(n *lane, l *live.Listener) *edge {
	e := &edge{lane: n}
	e.update(l)
	return e
}

func (e *edge) update(l *live.Listener) {
	e.listener = l
	e.routes = routes{lane: e.lane, direction: meter.Edge, table: l.Routes}
	e.config = nil
	if l.Certificate != nil {
		e.config = &tls.Config{
			Certificates:                []tls.Certificate{*l.Certificate},
			MinVersion:                  tls.VersionTLS12,
			NextProtos:                  []string{"h2", "http/1.1"},
			DynamicRecordSizingDisabled: true,
		}
		if l.Protocol == view.TCP {
			e.config.NextProtos = nil
		}
	}
}

func (e *edge) accept(fd poll.FD, peer netip.AddrPort) {
	if e.config == nil && e.listener.Protocol != view.TCP && !e.listener.AcceptProxy {
		e.lane.http.Serve(fd, peer, e)
		return
	}
	c := e.lane.receive(meter.Edge, e.listener.Destination, fd, peer)
	if e.listener.AcceptProxy {
		c.introduced(func() { e.begin(c) })
		return
	}
	e.begin(c)
}

// begin goes on with a connection of which it is known whose it is.
func (e *edge) begin(c *incoming) {
	if e.config == nil {
		e.open(c)
		return
	}
	c.secure(e.config, func(*mtls.Session) { e.open(c) })
}

func (e *edge) open(c *incoming) {
	if e.listener.Protocol == view.TCP {
		c.found("tcp", sniff.Declared)
		c.opaque(e.lane.cluster(meter.Edge, e.listener.Destination), nil, l4.Options{})
		return
	}
	c.http(e, nil)
}

// Route matches the request against the listener's table.
func (e *edge) Route(x *l7http.Exchange) *l7http.Failure {
	if x.Request.Method == h1.CONNECT {
		return l7http.NotAProxy
	}
	if x.Once(introduced) {
		x.Introduce(e.config != nil)
	}
	e.lane.current()
	if f := e.routes.route(x, nil); f != nil {
		return f
	}
	return e.lane.known(x)
}

// Unrouted counts a request that led nowhere.
func (e *edge) Unrouted(f *l7http.Failure) { e.lane.unrouted(meter.Edge, f) }

func (n *lane) unrouted(d meter.Direction, f *l7http.Failure) {
	if f.Malformed {
		n.shard.Malformed(d, f.Error)
		return
	}
	n.shard.Error(d, "", f.Error)
}
