package proxy

import (
	"crypto/tls"
	"net/netip"

	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/proxy/guard"
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
//	opaque: -> an endpoint of its destination, or of a stream's route
//
// Where routes of streams are for names, the client's ClientHello is read first:
// a name that no certificate covers is passed through, TLS and all, and so is one
// that a listener without certificates covers more closely.
type edge struct {
	lane     *lane
	listener *live.Listener
	routes   routes
	config   *tls.Config // nil for a plaintext listener
	front    *l7http.Front
	door     *guard.Door
	proofs   proofs
}

func newEdge(n *lane, l *live.Listener) *edge {
	e := &edge{lane: n, door: n.keeper.Door(meter.Edge, l.Destination, false)}
	e.update(l)
	return e
}

func (e *edge) update(l *live.Listener) {
	e.listener = l
	e.lane.guarded(e.door, l)
	e.routes = routes{lane: e.lane, direction: meter.Edge, table: l.Routes, access: l.RouteAccess, scheme: "http", port: l.Address.Port()}
	e.proofs.follow(e.lane, l.Authentication, meter.Edge, l)
	e.routes.prove(l)
	e.config, e.front = nil, nil
	if len(l.Trusted) > 0 || l.TrustedHops > 0 {
		e.front = &l7http.Front{Networks: l.Trusted, Hops: int(l.TrustedHops)}
	}
	if l.Certificates != nil {
		e.routes.scheme = "https"
		e.config = &tls.Config{
			GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
				identity.Pause(hello)
				return l.Certificates.Get(hello)
			},
			MinVersion:                  tls.VersionTLS12,
			NextProtos:                  []string{"h2", "http/1.1"},
			DynamicRecordSizingDisabled: true,
		}
		if l.Protocol == view.TCP {
			e.config.NextProtos = nil
		}
	}
}

// Describe tells l7http what the listener is.
func (e *edge) Describe() l7http.About {
	return l7http.About{Direction: meter.Edge.String(), Listener: e.listener.Name}
}

func (e *edge) accept(fd poll.FD, peer netip.AddrPort) {
	l := e.listener
	if e.config == nil && l.Protocol != view.TCP && !l.AcceptProxy && l.Streams == nil {
		e.lane.http.Serve(fd, peer, e.visitor(peer, ""))
		return
	}
	c := e.lane.receive(meter.Edge, l, l.Destination, fd, peer)
	if l.AcceptProxy {
		c.introduced(func() { e.begin(c) })
		return
	}
	e.begin(c)
}

// begin goes on with a connection of which it is known whose it is.
func (e *edge) begin(c *incoming) {
	l := e.listener
	switch {
	case l.Streams != nil && l.Streams.ByName && e.config != nil:
		c.asked(func(name []byte) {
			if l.Certificates.For(name).Ends() {
				e.secure(c)
				return
			}
			c.found("tls", sniff.Client)
			if e.enter(c, name) {
				c.streamTo(l.Streams, name)
			}
		})
	case e.config != nil:
		e.secure(c)
	case l.Protocol == view.TCP && l.Streams != nil:
		c.found("tcp", sniff.Declared)
		e.named(c, l.Streams.ByName, func(name []byte) { c.streamTo(l.Streams, name) })
	case l.Protocol == view.TCP:
		c.found("tcp", sniff.Declared)
		e.named(c, false, func([]byte) { e.opaque(c) })
	default:
		c.http(e.visitor(c.conn.Peer(), ""), nil)
	}
}

// secure ends TLS here.
func (e *edge) secure(c *incoming) {
	l := e.listener
	c.secure(e.config, func(s *mtls.Session) {
		name := asciiLower(s.State().ServerName)
		switch {
		case l.Protocol == view.TCP && l.Streams != nil:
			c.found("tcp", sniff.Declared)
			if e.enter(c, name) {
				c.streamTo(l.Streams, name)
			}
		case l.Protocol == view.TCP:
			c.found("tcp", sniff.Declared)
			if e.enter(c, name) {
				e.opaque(c)
			}
		default:
			router := e.visitor(c.conn.Peer(), string(name))
			if served := l.Certificates.For(name); served != nil {
				router.listener = served.Listener
			}
			c.http(router, nil)
		}
	})
}

func (e *edge) opaque(c *incoming) {
	c.opaque(e.lane.cluster(meter.Edge, e.listener.Destination), nil, l4.Options{})
}

// visitor is the router of one connection. listener is the Gateway listener's for
// the server name that its client asked for.
type visitor struct {
	*edge
	who      guard.Caller
	listener string
}

// Route answers 421 to a request for what another listener of the port serves:
// the connection was made for another one's certificate and rules (RFC 9110,
// 15.5.20).
func (n *visitor) Route(x *l7http.Exchange) *l7http.Failure {
	if c := n.edge.listener.Certificates; c != nil && c.Several() {
		var lower [maxHostname]byte
		host, _ := h1.SplitAuthority(x.Request.Authority)
		if name, ok := appendLower(lower[:0], host); ok {
			if s := c.For(name); s != nil && s.Listener != n.listener {
				return l7http.Misdirected
			}
		}
	}
	x.Guard = &n.who
	n.proofs.to(x)
	return n.edge.Route(x)
}

// Route matches the request against the listener's table.
func (e *edge) Route(x *l7http.Exchange) *l7http.Failure {
	if x.Request.Method == h1.CONNECT {
		return l7http.NotAProxy
	}
	if x.Once(introduced) {
		x.Introduce(e.config != nil, e.front)
		x.Pace()
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
