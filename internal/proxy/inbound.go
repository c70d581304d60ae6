package proxy

import (
	"crypto/tls"
	"net/netip"

	"tulle.dev/tulle/internal/identity"
	"tulle.dev/tulle/internal/proxy/dial"
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

// inbound is an Inbound listener on one loop:
//
//	accept -> TLS or plaintext? -> a proxy's, or the program's own? -> mutual TLS, who is it?
//	       -> HTTP or opaque? -> the program
type inbound struct {
	lane     *lane
	listener *live.Listener
	config   *tls.Config
	app      *dial.Cluster
	bounds   inboundBounds
	door     *guard.Door
	proofs   proofs
}

func newInbound(n *lane, l *live.Listener) *inbound {
	in := &inbound{lane: n, door: n.keeper.Door(meter.Inbound, l.Destination, true)}
	in.config = n.proxy.config.Live.Credentials().ServerConfig(nil, l7http.MuxALPN, l7http.ALPN, l4.ALPN)
	in.config.DynamicRecordSizingDisabled = true // the loop gathers what belongs together
	in.update(l)
	return in
}

func (in *inbound) update(l *live.Listener) {
	if in.listener == nil || in.listener.App != l.App || in.listener.Destination != l.Destination {
		in.app = dial.NewCluster(l.Destination, meter.Inbound, in.lane.shard)
		in.app.Budget = in.lane.proxy.budgets.Of(meter.Inbound, l.Destination)
		in.app.Update(&view.Endpoints{
			Key:  l.Destination,
			List: []view.Endpoint{{Address: l.App, Workload: "the program"}},
		})
		in.app.Failed = func(reason string) {
			switch reason {
			case "http_request_denied", "connection_limit_reached": // our doing, not the program's
			default:
				in.lane.proxy.config.Live.Suspect()
			}
		}
	}
	in.app.Protocol = l.Protocol
	in.listener = l
	in.bounds.follow(in, l.Inbound)
	in.lane.guarded(in.door, l)
	in.proofs.follow(in.lane, l.Authentication, meter.Inbound, l)
}

func (in *inbound) accept(fd poll.FD, peer netip.AddrPort) {
	c := in.lane.receive(meter.Inbound, in.listener, in.listener.Destination, fd, peer)
	// A proxy says soon that it wants TLS, and must be waited for even where the
	// program is known to speak first. A client from outside the mesh may wait
	// for the program.
	m := meet{silence: peerSilence}
	if in.listener.Plaintext && in.listener.Protocol != view.HTTP && in.listener.Protocol != view.HTTP2 {
		m.server = func(then func(*dial.Cluster)) { then(in.app) }
		m.preface = in.preface(c)
	}
	c.meet(m, func(v verdict) {
		switch {
		case v.kind == sniff.TLS && m.server != nil:
			v.drop()
			c.greet(func(peer bool) {
				if peer {
					in.secure(c)
				} else {
					in.plaintext(c, v) // to us: what is inside is the program's
				}
			})
		case v.kind == sniff.TLS:
			in.secure(c)
		case !in.listener.Plaintext && v.ended:
			c.close()
		case !in.listener.Plaintext:
			c.distrust(errPlaintext)
			c.conn.Abort()
			c.gone()
		default:
			in.plaintext(c, v)
		}
	})
}

// secure does the handshake with another proxy.
func (in *inbound) secure(c *incoming) {
	c.secure(in.config, func(s *mtls.Session) { in.authenticated(c, s) })
}

// authenticated goes on with a connection from another proxy: it has said what
// it carries.
func (in *inbound) authenticated(c *incoming, s *mtls.Session) {
	state := s.State()
	id := identity.Peer(state)
	c.about.peer = id.String()
	who := in.caller(c, id, state)
	if who.Barred() != "" { // since the handshake looked
		c.refuse("peer_identity_denied")
		return
	}
	series := in.series(who.Name(), meter.Mutual)
	switch p := state.NegotiatedProtocol; {
	case p != l4.ALPN && in.listener.SendProxy != view.ProxyNone:
		c.refuse("proxy_header_on_http") // its connections carry requests of many
	case p == l7http.ALPN:
		c.found("http1", sniff.Told)
		c.http(in.router(c, series, who), series)
	case p == l7http.MuxALPN:
		c.found("http2", sniff.Told)
		c.peerHTTP(in.router(c, series, who), series)
	case p == l4.ALPN:
		c.found("tcp", sniff.Told)
		if !c.enter(who) {
			return
		}
		c.opaque(in.app, nil, l4.Options{Series: series, Preface: in.preface(c), Greeted: in.greeted()})
	default:
		c.refuse("alpn_missing")
	}
}

// plaintext goes on with a connection from outside the mesh.
func (in *inbound) plaintext(c *incoming, v verdict) {
	series := in.series("", meter.None)
	who := in.caller(c, identity.ID{}, tls.ConnectionState{ServerName: c.serverName})
	switch p := in.listener.Protocol; {
	case p == view.HTTP, p == view.HTTP2:
		c.found("http", sniff.Declared)
	case p == view.Detect && v.kind.HTTP():
		c.found(v.kind.String(), v.how)
	default:
		if p == view.TCP {
			v.how = sniff.Declared
		}
		if v.how == sniff.Server {
			in.learn()
		}
		c.found("tcp", v.how)
		if !c.enter(who) {
			v.drop()
			return
		}
		c.opaque(in.app, v.early, l4.Options{Series: series, Preface: in.preface(c)})
		return
	}
	v.drop()
	c.http(in.router(c, series, who), series)
}

// greeted watches whether the program speaks first, where nobody has declared
// what it speaks and it isn't known yet.
func (in *inbound) greeted() func([]byte) {
	if in.listener.Protocol != view.Detect || in.lane.greets(in.listener.Destination) {
		return nil
	}
	return func(b []byte) {
		if sniff.DetectServer(b, true) == sniff.Opaque {
			in.learn()
		}
	}
}

// learn remembers that the program speaks first, and tells the control plane;
// it listens again, and tells again, before that forgets it.
func (in *inbound) learn() {
	in.lane.learn(in.listener.Destination, GreetingKept/2)
	in.lane.proxy.config.Live.Greets(in.listener.Destination)
}

func (in *inbound) series(peer string, t meter.TLS) *meter.Traffic {
	return in.lane.shard.Traffic(meter.Labels{
		Direction: meter.Inbound, Service: in.listener.Destination, Peer: peer, TLS: t,
	})
}

// inboundRouter sends the requests of one connection to the program, and counts
// them for the peer they came from.
type inboundRouter struct {
	*inbound
	series *meter.Traffic
	who    *guard.Caller
	uri    []byte // the client's SPIFFE id; empty outside the mesh
	about
}

// Route sends everything to the program.
func (r *inboundRouter) Route(x *l7http.Exchange) *l7http.Failure {
	if x.Request.Method == h1.CONNECT {
		return l7http.NotAProxy
	}
	x.Cluster, x.Series, x.Serving = r.app, r.series, true
	x.Caller, x.Limits, x.Admission = r.who.Name(), r.bounds.limits, r.bounds.admission
	x.Guard = r.who
	r.proofs.to(x)
	if len(r.uri) > 0 {
		x.Identify(r.uri)
	}
	return nil
}

// Unrouted counts a request that led nowhere.
func (r *inboundRouter) Unrouted(f *l7http.Failure) { r.lane.unrouted(meter.Inbound, f) }
